"""Small versions of the example, and the command line over them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle
from serving.bundle.writer import write_bundle
from serving.stores.folder import FolderStore
from serving.stores.store import Store

from training.__main__ import main

__all__ = ["Add", "ask", "small"]


class Add(Protocol):
    """Puts a version into a model's location, and makes it live."""

    def __call__(self, location: Store, version: str, *, live: bool = True) -> Bundle:
        """Return the bundle that was copied there."""


def small(manifest: Manifest, folder: Path, version: str, *, made: int | None = None) -> Bundle:
    """Write a version whose files hold its name, *made* in that second; v9 later than v1."""
    second = int(version[-1]) if made is None else made
    entry = msgspec.structs.replace(
        manifest, version=version, created_at=f"2026-11-24T02:33:{second:02}Z"
    )
    files = {name: version.encode() * 100 for name in ("model.joblib", "model.onnx")}
    return Bundle(FolderStore(write_bundle(folder, entry, files, promote=False)))


def ask(
    capsys: pytest.CaptureFixture[str], location: Store, *arguments: str
) -> tuple[int, list[str]]:
    """Run the command line on the model at *location*; its exit status, and its lines."""
    status = main([*arguments, "--store", str(location)])
    written = capsys.readouterr()
    return status, (written.out + written.err).splitlines()

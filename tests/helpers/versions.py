"""Small versions of the example, and the command line over them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.writer import write_bundle
from serving.stores.folder import FolderStore
from serving.stores.store import Store

from training.__main__ import main

__all__ = ["Add", "another", "ask", "small", "versions_of"]


class Add(Protocol):
    """Adds a version to a model's location, and makes it live."""

    def __call__(self, location: Store, version: str, *, live: bool = True) -> Bundle:
        """Return the bundle that was copied there."""


def small(manifest: Manifest, folder: Path, version: str, *, made: int | None = None) -> Bundle:
    """Write a version whose files contain its name; *made* is its second, or its number."""
    second = int(version[-1]) if made is None else made
    entry = msgspec.structs.replace(
        manifest, version=version, created_at=f"2026-11-24T02:33:{second:02}Z"
    )
    files = {name: version.encode() * 100 for name in ("model.joblib", "model.onnx")}
    return Bundle(FolderStore(write_bundle(folder, entry, files, promote=False)))


def ask(
    capsys: pytest.CaptureFixture[str], location: Store, *arguments: str
) -> tuple[int, list[str]]:
    """Run the command line on the model at *location*; return its exit status and its lines."""
    status = main([*arguments, "--store", str(location)])
    written = capsys.readouterr()
    return status, (written.out + written.err).splitlines()


def another(credit: Path, folder: Path, version: str) -> Path:
    """Copy the example under another version; return the folder of the new bundle."""
    bundle = open_bundle(FolderStore(credit))
    manifest = msgspec.structs.replace(bundle.manifest, version=version)
    return write_bundle(folder, manifest, {n: bundle.read(n) for n in manifest.files})


def versions_of(credit: Path, folder: Path, names: list[str]) -> Path:
    """Copy the example under other versions; return the model's folder."""
    original = credit / (credit / "latest").read_text().strip()
    for name in names:
        shutil.copytree(original, folder / name)
        manifest = json.loads((folder / name / "manifest.json").read_text())
        (folder / name / "manifest.json").write_text(json.dumps(manifest | {"version": name}))
    (folder / "latest").write_text(names[0])
    return folder

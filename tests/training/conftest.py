"""What several tests share: a command in an empty folder, and small versions in a location."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.writer import copy_bundle
from serving.stores.folder import FolderStore
from serving.stores.store import Store

from tests.helpers.command import Run
from tests.helpers.versions import Add, small
from training.__main__ import main
from training.registry.location import find_live
from training.registry.promote import make_live


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Give a function that runs a command in an empty folder; it returns status and lines."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, list[str]]:
        importlib.invalidate_caches()
        status = main(arguments)
        written = capsys.readouterr()
        assert "Traceback" not in written.err
        return status, (written.out + written.err).splitlines()

    return run


@pytest.fixture
def add(credit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """Give a function that adds a small version to a model's location and makes it live."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # main() changes sys.path
    manifest = open_bundle(FolderStore(credit)).manifest

    def add(location: Store, version: str, *, live: bool = True) -> Bundle:
        bundle = small(manifest, tmp_path / "small", version)
        copy_bundle(bundle, location.at(version), lambda *_: None)
        if live:
            make_live(location, version, find_live(location))
        return bundle

    return add

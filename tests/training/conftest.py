"""What the tests over versions share: how a small one comes into a place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from serving.bundle import Bundle, copy_bundle, open_bundle
from serving.folder import FolderStore
from serving.store import Store

from tests.training.versions import Add, small
from training.place import find_live
from training.promote import make_live


@pytest.fixture
def add(credit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """Give a function that puts a small version into a model's place, and makes it live."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # main() adds to it
    manifest = open_bundle(FolderStore(credit)).manifest

    def add(place: Store, version: str, *, live: bool = True) -> Bundle:
        bundle = small(manifest, tmp_path / "small", version)
        copy_bundle(bundle, place.at(version), lambda *_: None)
        if live:
            make_live(place, version, find_live(place))
        return bundle

    return add

"""Fixtures of the tests over versions: how a small version is added to a location."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.writer import copy_bundle
from serving.stores.folder import FolderStore
from serving.stores.store import Store

from tests.helpers.versions import Add, small
from training.registry.location import find_live
from training.registry.promote import make_live


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

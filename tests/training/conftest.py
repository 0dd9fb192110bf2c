"""What the tests over versions share: an empty place for a model in each store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.bundle import Bundle, copy_bundle, open_bundle
from serving.folder import FolderStore
from serving.store import Store, open_store

from tests.stores import Place, azure
from tests.training.versions import Add, small
from training.place import find_live
from training.promote import make_live


@pytest.fixture(scope="session")
def azurite() -> Iterator[Place]:
    """Run one azurite; each test has a prefix of its own."""
    with azure() as place:
        yield place


@pytest.fixture(params=["folder", "s3", "az"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Give an empty place for a model, in each store that lists: Google's emulator does not."""
    if request.param == "folder":
        return FolderStore(tmp_path / "models" / "credit")
    if request.param == "s3":
        found = request.getfixturevalue("bucket").place
    else:
        found = request.getfixturevalue("azurite")
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(found.uri, timeout=10).at(request.node.name.replace("[", "-").strip("]"))


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

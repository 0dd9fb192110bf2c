"""What several tests share: the example's bundle, trained once as a user trains it; stores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.stores.folder import FolderStore
from serving.stores.location import open_store
from serving.stores.store import Store

from tests.helpers.servers import ROOT, Server
from tests.helpers.stores import Bucket, Location, azure, s3


@pytest.fixture(scope="session")
def credit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the example with the real command; the model's folder, with `latest` in it."""
    models = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-m", "training", "train", "--models", str(models)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return models / "credit"


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """Run an S3 for the whole session; each test makes its own bucket."""
    with s3() as server:
        yield server


@pytest.fixture
def bucket(moto: Server) -> Iterator[Bucket]:
    """Yield an empty bucket, behind a proxy that can fail."""
    bucket = Bucket(moto)
    bucket.proxy.start()
    yield bucket
    bucket.proxy.stop()


@pytest.fixture(scope="session")
def azurite() -> Iterator[Location]:
    """Run one azurite; each test has a prefix of its own."""
    with azure() as location:
        yield location


@pytest.fixture(params=["folder", "s3", "az"])
def location(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Store:
    """Give an empty location, in each store that can be written to and lists, in turn."""
    if request.param == "folder":
        return FolderStore(tmp_path / "models" / "credit")
    if request.param == "s3":
        found = request.getfixturevalue("bucket").location
    else:
        found = request.getfixturevalue("azurite")
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(found.uri, timeout=10).at(request.node.name.replace("[", "-").strip("]"))

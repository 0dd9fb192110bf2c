"""What several tests share: the example's bundle, trained once as a user trains it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT, Server
from tests.stores import Bucket, s3


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

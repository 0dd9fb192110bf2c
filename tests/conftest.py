"""Fixtures of all tests: the example's bundle, the stores, and the option `--no-processes`."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving.stores.folder import FolderStore
from serving.stores.location import open_store
from serving.stores.store import Store

from tests.helpers.kept import kept
from tests.helpers.servers import ROOT, Server
from tests.helpers.stores import Bucket, GoogleBucket, Location, azure, s3

# Two workers of pytest-xdist share two cores, so OpenMP's threads would block one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

#: Python's own audit events for the start of a process.
_STARTS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
#: Short programs that libraries call while training; they are allowed.
_TOOLS = {"git"}
#: Whether processes may start: outside of tests, and in the fixture that trains the example.
_allowed = True


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make check`."""
    text = "skip every test that would start a process"
    parser.addoption("--no-processes", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Watch for new processes if the option is set, so that no test needs a mark for it."""
    if config.getoption("no_processes"):
        sys.addaudithook(_skip_at_a_process)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Collect no garbage while modules are imported; later leave out what they made."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, Any, Any]:
    """Allow no new process while a test and its fixtures run."""
    with _processes(False):
        return (yield)


def _skip_at_a_process(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _STARTS and not _allowed and arguments[0] not in _TOOLS:
        pytest.skip("starts a process")


@contextlib.contextmanager
def _processes(allowed: bool) -> Iterator[None]:
    global _allowed
    before, _allowed = _allowed, allowed
    yield
    _allowed = before


@pytest.fixture(scope="session")
def credit() -> Path:
    """Train the example with the real command; return the model's folder."""

    def train(folder: Path) -> None:
        command = [sys.executable, "-m", "training", "train", "--models", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    with _processes(True):
        return kept("example", ["requirements.txt", "training", "layer/python"], train) / "credit"


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """Run moto's S3 for the whole session; each test makes its own bucket."""
    with s3() as server:
        yield server


@pytest.fixture
def bucket(moto: Server) -> Iterator[Bucket]:
    """Yield an empty bucket, behind a proxy that can fail."""
    bucket = Bucket(moto)
    bucket.proxy.start()
    yield bucket
    bucket.proxy.stop()


@pytest.fixture
def google(moto: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleBucket]:
    """Yield an empty bucket of Google Cloud's, behind a proxy that can fail."""
    bucket = GoogleBucket(moto, tmp_path_factory.mktemp("google"))
    bucket.proxy.start()
    yield bucket
    bucket.proxy.stop()


@pytest.fixture(scope="session")
def azurite() -> Iterator[Location]:
    """Run one azurite; each test has its own prefix."""
    with azure() as location:
        yield location


@pytest.fixture(params=["folder", "s3", "gs", "az"])
def location(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Store:
    """Give an empty location in each store that can be written and listed, in turn."""
    if request.param == "folder":
        return FolderStore(tmp_path / "models" / "credit")
    if request.param == "az":
        found = request.getfixturevalue("azurite")
    else:
        found = request.getfixturevalue({"s3": "bucket", "gs": "google"}[request.param]).location
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(found.uri, timeout=10).at(request.node.name.replace("[", "-").strip("]"))

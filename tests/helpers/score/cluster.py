"""A Dask scheduler and workers, as processes that speak over TCP."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.helpers.servers import ROOT, clean_environment

__all__ = ["Cluster", "cluster"]

_PATH = os.pathsep.join([str(ROOT), str(ROOT / "layer" / "python")])


class Cluster(NamedTuple):
    """A scheduler's address, and its workers."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@contextlib.contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """Start a scheduler and *workers* on free ports; stop them afterwards."""
    file = folder / "scheduler.json"
    environment = {**clean_environment(), "PYTHONPATH": _PATH}
    host = ("--host", "127.0.0.1", "--no-dashboard")

    def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (folder / f"{module}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *host, *arguments],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
            )

    started = [start("dask_scheduler", "--port", "0", "--scheduler-file", str(file))]
    try:
        deadline = time.monotonic() + 60
        while not (file.exists() and file.read_text().endswith("}")):
            assert time.monotonic() < deadline, (folder / "dask_scheduler.log").read_text()
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        for n in range(workers):
            local = ("--local-directory", str(folder / f"worker-{n}"))
            started.append(start("dask_worker", address, "--no-nanny", "--nthreads", "1", *local))
        yield Cluster(address, started[1:])
    finally:
        for process in reversed(started):
            process.kill()
            process.wait(10)

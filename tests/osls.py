"""osls, as `make deploy-aws` runs it, but against the AWS of `tests.aws`."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.aws import KEYS
from tests.servers import ROOT

__all__ = ["osls", "package", "program"]


def program(name: str) -> str:
    """Return the path of a command line that npm installed; without it, skip the test."""
    path = ROOT / "tests" / "node" / "node_modules" / ".bin" / name
    if not path.exists():
        pytest.skip(f"{name} is not installed: make test does, or npm ci --prefix tests/node")
    return str(path)


def package(server: str, folder: Path, *options: str) -> Path:
    """
    Run `osls package` and return the folder of what it wrote.

    The layer is a stand-in, so that neither time nor its build matters here: a zip of one file.
    """
    layer = folder / "layer.zip"
    with zipfile.ZipFile(layer, "w") as archive:
        archive.writestr("python/stand_in.py", "")
    made = folder / "package"
    osls(server, "package", "--package", str(made), "--param", f"layer={layer}", *options)
    return made


def osls(server: str, *arguments: str) -> str:
    """
    Run osls against *server*, and return what it printed.

    Raises:
        RuntimeError: It failed; with what it printed.
    """
    run = subprocess.run(
        [program("osls"), *arguments],
        cwd=ROOT,
        env={**os.environ, **KEYS, "AWS_ENDPOINT_URL": server, "NODE_NO_WARNINGS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"osls {' '.join(arguments)} ended with {run.returncode}:\n{run.stdout}")
    return run.stdout

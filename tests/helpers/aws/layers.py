"""Builds layers with the real command, once per process, and unzips them as Lambda does."""

from __future__ import annotations

import atexit
import functools
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from layer.wheels import MACHINES, Target
from tests.helpers.servers import ROOT

__all__ = ["ARCH", "LAMBDA", "NATIVE", "NATIVE_SKLEARN", "build", "unzipped", "zipped"]

#: This machine's architecture, as Lambda names it.
ARCH = {machine: arch for arch, machine in MACHINES.items()}[platform.machine()]
NATIVE = Target(ARCH, "{}.{}".format(*sys.version_info), "onnx")
NATIVE_SKLEARN = NATIVE._replace(engine="sklearn")
#: What `make layer` makes.
LAMBDA = Target("arm64", "3.13", "onnx")

_folder = tempfile.TemporaryDirectory(prefix="layers-")
atexit.register(_folder.cleanup)


def build(target: Target, output: Path) -> str:
    """Run the command; return its output."""
    options = ["--arch", target.arch, "--python", target.python, "--engine", target.engine]
    run = subprocess.run(
        [sys.executable, "-m", "layer.build", *options, "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@functools.cache
def zipped(target: Target) -> Path:
    """Build the layer; return the zip."""
    output = Path(_folder.name, "-".join(target) + ".zip")
    build(target, output)
    return output


@functools.cache
def unzipped(target: Target) -> Path:
    """Build and unzip the layer; return the folder that Lambda puts on the path."""
    folder = Path(_folder.name, "-".join(target))
    with zipfile.ZipFile(zipped(target)) as archive:
        archive.extractall(folder)
    return folder / "python"

"""Builds layers with the real command, and unzips them as Lambda does."""

from __future__ import annotations

import functools
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

from layer.wheels import MACHINES, Target
from tests.helpers.kept import kept
from tests.helpers.servers import ROOT

__all__ = ["ARCH", "LAMBDA", "NATIVE", "NATIVE_SKLEARN", "build", "unzipped", "zipped"]

#: This machine's architecture, as Lambda names it.
ARCH = {machine: arch for arch, machine in MACHINES.items()}[platform.machine()]
NATIVE = Target(ARCH, "{}.{}".format(*sys.version_info), "onnx")
NATIVE_SKLEARN = NATIVE._replace(engine="sklearn")
#: What `make layer` makes.
LAMBDA = Target("arm64", "3.13", "onnx")


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
    return _made(target) / "layer.zip"


@functools.cache
def unzipped(target: Target) -> Path:
    """Build and unzip the layer; return the folder that Lambda puts on the path."""
    return _made(target) / "python"


def _made(target: Target) -> Path:
    def make(folder: Path) -> None:
        build(target, folder / "layer.zip")
        with zipfile.ZipFile(folder / "layer.zip") as archive:
            archive.extractall(folder)

    return kept("-".join(["layer", *target]), ["layer", "requirements.txt"], make)

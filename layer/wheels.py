"""Installs pinned wheels for Lambda's platform, on any machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

from packaging.utils import canonicalize_name

__all__ = ["MACHINES", "UV", "BuildError", "Target", "install", "read_pins", "run"]

HERE = Path(__file__).resolve().parent
UV = (sys.executable, "-m", "uv")
MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}


class BuildError(Exception):
    """The layer cannot be built. The sentence says why."""


class Target(NamedTuple):
    """The platform and the engine of a layer."""

    arch: str  # as Lambda names it: arm64 or x86_64
    python: str  # such as 3.13
    engine: str  # onnx or sklearn

    @property
    def machine(self) -> str:
        """The architecture as wheels and file names have it."""
        return MACHINES[self.arch]


def read_pins() -> dict[str, str]:
    """Return the pinned requirement (name==version) of each package, by its canonical name."""
    files = (HERE.parent / "requirements.txt", HERE.parent / "training" / "requirements.txt")
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    return {canonicalize_name(line.split("==")[0]): line for line in lines if "==" in line}


def install(target: Target, pins: dict[str, str], folder: Path) -> None:
    """
    Install what `serving` requires for *target*, at the versions of *pins*, into *folder*.

    Raises:
        BuildError: A package is not pinned, or has no wheel for the target.
    """
    options = [
        *("--quiet", "--link-mode=copy", "--only-binary=:all:", "--constraints=-"),
        # Lambda runs Python 3.12 and later on Amazon Linux 2023, which has glibc 2.34.
        *(
            f"--python-platform={target.machine}-manylinux_2_34",
            f"--python-version={target.python}",
        ),
        *(f"--target={folder}", f"--requirements={HERE / 'pyproject.toml'}"),
        *(["--extra=sklearn"] if target.engine == "sklearn" else []),
    ]
    run([*UV, "pip", "install", *options], "\n".join(pins.values()))
    found = {canonicalize_name(wheel.name) for wheel in distributions(path=[str(folder)])}
    if missing := found - pins.keys():
        raise BuildError(f"no requirements file pins {', '.join(sorted(missing))}.")


def run(command: Sequence[str | Path], given: str = "") -> str:
    """
    Run *command* with *given* as its standard input, and return its output.

    Raises:
        BuildError: It failed. The sentence holds what it printed.
    """
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        shown = " ".join(map(str, command[:5]))
        raise BuildError(f"{shown} … failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout

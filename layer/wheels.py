"""Installs pinned wheels for Lambda's platform, on any machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Container
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["MACHINES", "BuildError", "Target", "install", "read_pins", "roots"]

#: Lambda runs Python 3.12 and later on Amazon Linux 2023, which has glibc 2.34.
GLIBC_MINOR = 34
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

    @property
    def cpython(self) -> str:
        """The version as in ABI tags, such as 313."""
        return self.python.replace(".", "")

    @property
    def markers(self) -> dict[str, str]:
        """The environment markers of the target; pip would use this machine's."""
        return {
            "extra": "",
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def roots(engine: str, pyproject: Path) -> set[str]:
    """Return the names of the packages that `serving` requires for *engine*."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    names = [*project["dependencies"], *project["optional-dependencies"].get(engine, [])]
    found: set[str] = {canonicalize_name(Requirement(name).name) for name in names}
    # A layer has one engine.
    return found if engine == "onnx" else found - {"onnxruntime"}


def read_pins(*files: Path) -> dict[str, str]:
    """Return the versions by name from lines name==version; other lines are ignored."""
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    pairs = [line.split("==") for line in lines if "==" in line]
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def install(
    names: set[str], pins: dict[str, str], target: Target, folder: Path, unneeded: Container[str]
) -> None:
    """
    Install *names* and their requirements for *target* into *folder*, without those *unneeded*.

    Raises:
        BuildError: A package is not pinned, or has no wheel for the target.
    """
    with tempfile.TemporaryDirectory() as wheels:
        found: set[str] = set()
        while names:
            if missing := names - pins.keys():
                raise BuildError(f"no requirements file pins {', '.join(sorted(missing))}.")
            _pip("download", [f"--dest={wheels}", *_exact(names, pins)], target)
            found |= names
            required = _required(Path(wheels), target)
            names = {name for name in required - found if name not in unneeded}
        options = ["--no-index", f"--find-links={wheels}", "--no-compile", f"--target={folder}"]
        _pip("install", [*options, *_exact(found, pins)], target)


def _required(wheels: Path, target: Target) -> set[str]:
    needed: set[str] = set()
    for wheel in distributions(path=[str(path) for path in wheels.glob("*.whl")]):
        for requirement in map(Requirement, wheel.requires or []):
            if requirement.marker is None or requirement.marker.evaluate(target.markers):
                needed.add(canonicalize_name(requirement.name))
    return needed


def _exact(names: set[str], pins: dict[str, str]) -> list[str]:
    return [f"{name}=={pins[name]}" for name in sorted(names)]


def _pip(command: str, arguments: list[str], target: Target) -> None:
    # Newest first, which pip prefers; manylinux2014 includes the older names.
    platforms = [f"manylinux_2_{minor}_{target.machine}" for minor in range(GLIBC_MINOR, 16, -1)]
    platforms.append(f"manylinux2014_{target.machine}")
    options = [
        *("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"),
        *("--implementation=cp", f"--python-version={target.python}"),
        *(f"--platform={platform}" for platform in platforms),
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pip", command, *options, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        errors = [line for line in run.stderr.splitlines() if line.startswith("ERROR:")]
        raise BuildError(f"pip {command} failed. " + " ".join(errors or [run.stderr]))

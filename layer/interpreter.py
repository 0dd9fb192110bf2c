"""Compiles the layer with an interpreter of its Python version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import findpython

from layer.wheels import BuildError

__all__ = ["PYODIDE", "compile_layer"]

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "bytecode.py"
#: Releases of npm's pyodide (CPython in WebAssembly) by their Python version.
PYODIDE = {"3.12": "0.27.7", "3.13": "0.29.5", "3.14": "314.0.7"}

Command = Sequence[str | Path]


def compile_layer(folder: Path, python: str, kept: str, terse: Iterable[str]) -> str:
    """
    Compile *folder* for *python* with bytecode.py; return the name of the interpreter.

    Pyodide is preferred because it is pinned: every machine makes the same bytecode, while patch
    releases of a Python version may differ.

    Raises:
        BuildError: This machine has neither node and npm nor that Python version.
    """
    pinned = python in PYODIDE and shutil.which("node") and shutil.which("npm")
    command, name = _pyodide(python) if pinned else _local(python)
    _run([*command, python, folder, kept, *terse])
    return name


def _pyodide(python: str) -> tuple[Command, str]:
    """Return the command for pyodide, installed on first use, and its name."""
    release = PYODIDE[python]
    prefix = HERE / ".cache" / f"pyodide-{release}"
    package = prefix / "node_modules" / "pyodide"
    if not (package / "python_stdlib.zip").exists():
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        _run(["npm", "install", "--prefix", prefix, *options, f"pyodide@{release}"])
    return ["node", HERE / "bytecode.mjs", package, SCRIPT], f"pyodide {release}"


def _local(python: str) -> tuple[Command, str]:
    """Return the command for a local Python: this one, or one on the path, of pyenv or of uv."""
    if python == "{}.{}".format(*sys.version_info):
        executable, version = sys.executable, sys.version.split()[0]
    elif found := findpython.find(python, implementation="cpython"):
        executable, version = str(found.executable), str(found.version)
    else:
        raise BuildError(
            f"bytecode for Python {python} needs a Python {python} on the path"
            + (", or node and npm." if python in PYODIDE else ".")
        )
    return [executable, "-S", "-P", "-W", "ignore", SCRIPT], f"Python {version}"


def _run(command: Command) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        name = Path(command[0]).name
        raise BuildError(f"{name} failed:\n{(run.stderr or run.stdout).strip()}")

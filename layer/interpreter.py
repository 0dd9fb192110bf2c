"""Finds an interpreter of the layer's Python, and has it compile the layer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import findpython

from layer.wheels import BuildError

__all__ = ["compile_with_pyodide", "compile_with_python", "compile_layer"]

HERE = Path(__file__).resolve().parent
#: Releases of npm's pyodide, CPython in WebAssembly, by the Python that is in them.
PYODIDE = {"3.12": "0.27.7", "3.13": "0.29.5", "3.14": "314.0.7"}


def compile_layer(folder: Path, python: str, kept: str, terse: Iterable[str]) -> str:
    """
    Compile *folder* for *python*, and say with what; see bytecode.py for the rest.

    Pyodide comes first: it is pinned, so every machine makes the same bytecode, whereas patch
    releases of one Python differ in theirs.

    Raises:
        BuildError: There is neither node for it, nor such a Python.
    """
    if python in PYODIDE and shutil.which("node") and shutil.which("npm"):
        return compile_with_pyodide(folder, python, kept, terse)
    return compile_with_python(folder, python, kept, terse)


def compile_with_pyodide(folder: Path, python: str, kept: str, terse: Iterable[str]) -> str:
    """Compile with pyodide, installed by npm on first use."""
    release = PYODIDE[python]
    prefix = HERE / ".cache" / f"pyodide-{release}"
    package = prefix / "node_modules" / "pyodide"
    if not (package / "python_stdlib.zip").exists():
        install = ["npm", "install", "--prefix", prefix, "--ignore-scripts", f"pyodide@{release}"]
        _run([*install, "--no-audit", "--no-fund", "--loglevel=error"])
    _run(["node", HERE / "bytecode.mjs", package, HERE / "bytecode.py", python, folder, kept, *terse])
    return f"pyodide {release}"


def compile_with_python(folder: Path, python: str, kept: str, terse: Iterable[str]) -> str:
    """
    Compile with a Python of this machine: on the path, or made by pyenv, uv and their like.

    Raises:
        BuildError: There is none.
    """
    if python == "{}.{}".format(*sys.version_info):
        executable, version = sys.executable, sys.version.split()[0]
    elif found := findpython.find(python, implementation="cpython"):
        executable, version = str(found.executable), str(found.version)
    else:
        raise BuildError(
            f"bytecode for Python {python} needs node and npm, or a Python {python} on the path, "
            "and neither is here."
        )
    _run([executable, "-S", "-P", "-W", "ignore", HERE / "bytecode.py", python, folder, kept, *terse])
    return f"Python {version}"


def _run(command: list[str | Path]) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise BuildError(f"{Path(command[0]).name} failed:\n{run.stderr or run.stdout}")

"""Compiles the layer's folder for one Python version. Runs as a script, under that version.

The zip gives every file the same date, and `/opt` is read-only. Python would compile files whose
date differs again at every cold start, so the bytecode is hash-based and unchecked (PEP 552).
Libraries keep only their bytecode, the largest without docstrings and assertions. The package
*kept* also keeps its sources, so that tracebacks show its lines.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
from collections.abc import Container
from pathlib import Path

#: Lambda unpacks the layer here. Tracebacks show this path.
HOME = "/opt/python"
UNCHECKED_HASH = (0b01).to_bytes(4, "little")


def compile_folder(folder: Path, kept: str, terse: Container[str]) -> None:
    """Compile every source in *folder*; packages in *terse* as `python -OO` does."""
    # One process, in a fixed order: the bytes that marshal writes depend on earlier files.
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        source = path.read_bytes()
        package = name.parts[0]
        target = _cached(path) if package == kept else path.with_suffix(".pyc")
        target.parent.mkdir(exist_ok=True)
        filename = f"{HOME}/{name.as_posix()}"
        target.write_bytes(bytecode(source, filename, optimize=2 if package in terse else 0))
        if package != kept:
            path.unlink()


def bytecode(source: bytes, filename: str, *, optimize: int) -> bytes:
    """Return the content of a .pyc: the header of PEP 552, then the code."""
    code = compile(source, filename, "exec", dont_inherit=True, optimize=optimize)
    header = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + importlib.util.source_hash(source)
    return header + marshal.dumps(code)


def _cached(path: Path) -> Path:
    return path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"


if __name__ == "__main__":
    wanted, folder, kept, *terse = sys.argv[1:]
    if "{}.{}".format(*sys.version_info) != wanted or sys.version_info.releaselevel != "final":
        sys.exit(f"this is Python {sys.version}, and the layer is for {wanted}.")
    compile_folder(Path(folder), kept, terse)

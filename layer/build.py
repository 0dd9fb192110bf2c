"""Builds the AWS Lambda layer: python -m layer.build --arch arm64 --python 3.13 --engine onnx.

The layer holds wheels for Lambda's platform, without the files that trim.toml lists, as bytecode.
The same inputs give the same zip, byte for byte, on any machine.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import findpython
import pathspec
from rich.console import Console
from rich.table import Table

from layer.shared_objects import check_shared_objects
from layer.wheels import MACHINES, UV, BuildError, Target, install, read_pins, run

__all__ = ["assemble", "build", "compile_layer", "main", "write_zip"]

HERE = Path(__file__).resolve().parent
MIB = 1024 * 1024
#: Bytes unzipped, by engine. AWS allows 250 MiB for the code and all its layers.
BUDGETS = {"onnx": 110 * MIB, "sklearn": 215 * MIB}
#: Lambda unpacks the layer here. Tracebacks show this path.
HOME = "/opt/python"


def build(target: Target, output: Path, console: Console) -> None:
    """
    Write the layer's zip to *output*, and print the size of each package on *console*.

    Raises:
        BuildError: The layer cannot be built or is over its budget. *output* is unchanged.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        before, after = assemble(target, folder)
        console.print(_table(target, before, after))
        budget = BUDGETS[target.engine]
        if after.total() > budget:
            raise BuildError(
                f"the {target.engine} layer for {target.arch} is {after.total() / MIB:.1f} MiB "
                f"unzipped, over its budget of {budget // MIB}; the table shows what is in it."
            )
        write_zip(folder, output)
    console.print(f"{output}: {output.stat().st_size / MIB:.1f} MiB.")


def assemble(target: Target, folder: Path) -> tuple[Counter[str], Counter[str]]:
    """
    Build the layer's content in *folder*.

    Returns:
        Bytes by package in its wheel; bytes by package in the layer.

    Raises:
        BuildError: See `build`.
    """
    install(target, read_pins(), folder)
    shutil.copytree(HERE / "python" / "serving", folder / "serving")
    before = _sizes(folder)
    trim = tomllib.loads((HERE / "trim.toml").read_text("utf-8"))
    unneeded = pathspec.GitIgnoreSpec.from_lines([*trim["files"], *trim[target.engine]])
    for file in unneeded.match_files(_files(folder)):
        (folder / file).unlink()
    compile_layer(folder, target.python)
    check_shared_objects(folder, target)
    return before, _sizes(folder)


def compile_layer(folder: Path, python: str) -> None:
    """
    Compile *folder* for *python*, a version such as 3.13.

    Lambda's `/opt` is read-only, and the zip changes the files' dates. Python would compile them
    again at every cold start, so the bytecode is hash-based and unchecked (PEP 552). Libraries keep
    only their bytecode, as by `python -OO`; `serving` keeps its sources, which tracebacks show.

    Raises:
        BuildError: There is no such Python, or a file cannot be compiled.
    """
    serving = folder / "serving"
    compileall = [_interpreter(python), *("-I", "-W", "ignore", "-m", "compileall", "-q")]
    compileall += ["--invalidation-mode=unchecked-hash", "-s", str(folder), "-p", HOME]
    run([*compileall, serving])
    run([*compileall, "-b", "-o2", "-x", re.escape(f"{serving}/"), folder])
    for source in folder.rglob("*.py"):
        if serving not in source.parents:
            source.unlink()


def _interpreter(python: str) -> str:
    """Return the path of a *python*, which uv installs if this machine has none."""
    if found := findpython.find(python, implementation="cpython"):
        return str(found.executable)
    run([*UV, "python", "install", "--no-bin", python])
    return run([*UV, "python", "find", "--managed-python", python]).strip()


def write_zip(folder: Path, output: Path) -> None:
    """Zip *folder* as `python/`: files sorted by name, all with the same date and mode."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".part")
    with zipfile.ZipFile(partial, "w") as archive:
        for name in sorted(file.as_posix() for file in _files(folder)):
            entry = zipfile.ZipInfo(f"python/{name}")  # dated 1980
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    os.replace(partial, output)


def _files(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]


def _sizes(folder: Path) -> Counter[str]:
    """Count bytes by package: numpy, numpy.libs and numpy-2.4.6.dist-info are one."""
    sizes: Counter[str] = Counter()
    for file in _files(folder):
        sizes[re.split("[.-]", file.parts[0])[0]] += (folder / file).stat().st_size
    return sizes


def _table(target: Target, before: Counter[str], after: Counter[str]) -> Table:
    table = Table(title=f"Layer {target.engine}, {target.arch}, Python {target.python}: MiB")
    table.add_column("package")
    table.add_column("in the layer", justify="right")
    table.add_column("in its wheel", justify="right")
    for name, size in after.most_common():
        table.add_row(name, f"{size / MIB:.1f}", f"{before[name] / MIB:.1f}")
    table.add_row("all", f"{after.total() / MIB:.1f}", f"{before.total() / MIB:.1f}")
    return table


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and build the layer."""
    parser = argparse.ArgumentParser(prog="python -m layer.build", description=__doc__)
    parser.add_argument("--arch", choices=MACHINES, default="arm64")
    parser.add_argument("--python", default="3.13", help="Lambda's, such as 3.13")
    parser.add_argument("--engine", choices=BUDGETS, default="onnx")
    parser.add_argument("--output", type=Path, help="default: layer/dist/ENGINE-ARCH-PYTHON.zip")
    options = parser.parse_args(arguments)
    target = Target(options.arch, options.python, options.engine)
    console = Console()
    if target.python in ("3.10", "3.11"):
        console.print(
            f"Lambda runs Python {target.python} on Amazon Linux 2, whose glibc is too old for "
            "these wheels. Use this layer for tests only."
        )
    default = HERE / "dist" / f"{target.engine}-{target.arch}-{target.python}.zip"
    try:
        build(target, options.output or default, console)
    except BuildError as error:
        sys.exit(f"canoa: {error}")


if __name__ == "__main__":
    main()

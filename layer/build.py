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
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path, PurePath

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
#: The earliest date that a zip can hold. Nothing reads it.
DATE = (1980, 1, 1, 0, 0, 0)


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
    trim = tomllib.loads((HERE / "trim.toml").read_text("utf-8"))
    install(target, read_pins(), folder)
    shutil.copytree(HERE / "python" / "serving", folder / "serving")
    owners = _owners(folder)
    before = _sizes(folder, owners)
    _trim(folder, [*trim["files"], *trim.get(target.engine, ())])
    compile_layer(folder, target.python)
    _rewrite_records(folder)
    check_shared_objects(folder, target)
    return before, _sizes(folder, owners)


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
            entry = zipfile.ZipInfo(f"python/{name}", DATE)
            entry.create_system = 3  # Unix, on every machine
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, (folder / name).read_bytes())
    os.replace(partial, output)


def _files(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]


def _owners(folder: Path) -> dict[str, str]:
    """Return the distribution of each entry of *folder*."""
    return {
        _entry(file): distribution.name
        for distribution in distributions(path=[str(folder)])
        for file in distribution.files or []
    }


def _entry(file: PurePath) -> str:
    """Return the entry of the layer's folder that *file*, source or bytecode, belongs to."""
    return file.parts[0].removesuffix(".pyc").removesuffix(".py")


def _sizes(folder: Path, owners: dict[str, str]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for file in _files(folder):
        sizes[owners.get(_entry(file), _entry(file))] += (folder / file).stat().st_size
    return sizes


def _trim(folder: Path, patterns: Iterable[str]) -> None:
    spec = pathspec.GitIgnoreSpec.from_lines(patterns)
    for file in _files(folder):
        if spec.match_file(file):
            (folder / file).unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _rewrite_records(folder: Path) -> None:
    """Make each RECORD list the layer's files, since importlib.metadata reads it."""
    for record in folder.glob("*.dist-info/RECORD"):
        lines = []
        for line in record.read_text("utf-8").splitlines():
            name = line.split(",")[0]
            if (folder / name).is_file():
                lines.append(line)
            elif name.endswith(".py") and (folder / name).with_suffix(".pyc").is_file():
                lines.append(f"{name}c,,")
        record.write_text("\n".join(lines) + "\n", "utf-8")


def _table(target: Target, before: Counter[str], after: Counter[str]) -> Table:
    table = Table(title=f"Layer {target.engine}, {target.arch}, Python {target.python}: MiB")
    table.add_column("package")
    table.add_column("in the layer", justify="right")
    table.add_column("in its wheel", justify="right")
    rows = [(name, size, before[name]) for name, size in after.most_common()]
    for name, *sizes in [*rows, ("all", after.total(), before.total())]:
        table.add_row(name, *(f"{size / MIB:.1f}" for size in sizes))
    return table


def _version(text: str) -> str:
    if not re.fullmatch(r"3\.\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version such as 3.13")
    return text


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and build the layer."""
    parser = argparse.ArgumentParser(prog="python -m layer.build", description=__doc__)
    parser.add_argument("--arch", choices=MACHINES, default="arm64")
    parser.add_argument("--python", default="3.13", type=_version, help="Lambda's, such as 3.13")
    parser.add_argument("--engine", choices=BUDGETS, default="onnx")
    parser.add_argument("--output", type=Path, help="default: layer/dist/ENGINE-ARCH-PYTHON.zip")
    options = parser.parse_args(arguments)
    target = Target(options.arch, options.python, options.engine)
    console = Console()
    if tuple(map(int, target.python.split("."))) < (3, 12):
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

"""What the user sees: progress while it works, a table at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from serving.bundle import read_manifest
from serving.folder import FolderStore
from serving.manifest import Label, Manifest
from serving.signature import signer_of

__all__ = ["progress", "show_bundle", "transfer"]

_console = Console()


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that says what is being done: a spinner on a terminal, lines on a pipe."""
    if not _console.is_terminal:
        yield lambda text: _console.print(f"{text} …")
        return
    with _console.status("starting") as status:

        def report(text: str) -> None:
            status.update(f"{text} …")

        yield report


@contextlib.contextmanager
def transfer(total: int) -> Iterator[Callable[[str, int], None]]:
    """
    Yield a function that says what was done to how many bytes: a bar on a terminal, else lines.

    Args:
        total: Of the bytes that will be told.
    """
    if not _console.is_terminal:
        yield lambda text, size: _console.print(f"{text}, {size:,} bytes", soft_wrap=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=_console) as bar:
        task = bar.add_task("sending", total=total)
        yield lambda text, size: bar.update(task, description=text, advance=size)


def show_bundle(path: Path) -> None:
    """Print what came out: figures next to the baseline, the engine and why, the files."""
    _, manifest = read_manifest(FolderStore(path))
    held_out = manifest.metrics.get("held_out") or manifest.metrics.get("sample") or {}
    trivial = manifest.metrics.get("baseline", {})
    table = Table(title=f"{manifest.name} {manifest.version}", title_justify="left")
    table.add_column("figure")
    table.add_column("model", justify="right")
    table.add_column("trivial model", justify="right")
    for name, value in held_out.items():
        if isinstance(value, float):
            other = f"{trivial[name]:.4f}" if name in trivial else ""
            table.add_row(name, f"{value:.4f}", other)
    if validation := manifest.metrics.get("cross_validation"):
        figure = f"{validation['mean']:.4f} ± {validation['std']:.4f}"
        table.add_row(f"{validation['score']}, cross-validated", figure, "")
    for name, file in manifest.files.items():
        table.add_row(name, f"{file.size / 1e6:.1f} MB", "")
    _console.print(table)
    if "confusion" in held_out and manifest.classes is not None:
        _console.print(_confusion(manifest.classes, held_out["confusion"]))
    _console.print(_engine(manifest))
    signers = [signer for file in path.iterdir() if (signer := signer_of(file.name))]
    signed = f", signed by {', '.join(signers)}" if signers else ""
    _console.print(f"Written to {path}{signed}", soft_wrap=True)


def _confusion(classes: list[Label], counts: list[list[int]]) -> Table:
    table = Table(title="true class, and how often each was said", title_justify="left")
    table.add_column("")
    for label in classes[:12]:
        table.add_column(str(label), justify="right")
    for label, row in list(zip(classes, counts, strict=True))[:12]:
        table.add_row(str(label), *map(str, row[:12]))
    return table


def _engine(manifest: Manifest) -> str:
    engine, parity = manifest.engine, manifest.engine.parity
    if engine.name == "onnx" and parity and parity.max_difference is not None:
        return (
            f"Served from the graph: equal to the pipeline on {parity.rows:,} training rows and "
            f"{parity.perturbed_rows:,} around them (largest difference "
            f"{parity.max_difference:.1g}, allowed {parity.tolerance:g})."
        )
    return (
        f"Served by scikit-learn, because {engine.reason}. It is slower and opens a pickle: "
        "the server needs scikit-learn, joblib and pandas, and a signature or ALLOW_PICKLE=1."
    )

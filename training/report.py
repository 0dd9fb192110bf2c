"""What the user sees: progress while it works, a table at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, JustifyMethod
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from serving.bundle.manifest import Label, Manifest
from serving.bundle.reader import read_manifest
from serving.bundle.signature import signer_of
from serving.stores.folder import FolderStore

if TYPE_CHECKING:
    from training.registry.compare import Comparison

__all__ = ["figure", "progress", "say", "show_bundle", "show_table", "terminal_width", "transfer"]

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


def say(*lines: str) -> None:
    """Print sentences as they are, each on a line of its own."""
    for line in lines:
        _console.print(line, soft_wrap=True, markup=False, highlight=False)


def terminal_width() -> int | None:
    """Say how wide the terminal is; None on a pipe."""
    return _console.width if _console.is_terminal else None


def figure(value: float) -> str:
    """Write a figure for a table."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"


def show_table(
    headings: Mapping[str, JustifyMethod], rows: Sequence[Sequence[str]], *, bold: int | None = None
) -> None:
    """
    Print a table; on a pipe plain text, a row to a line whatever its length.

    Args:
        headings: And how each column is set.
        rows: Of cells, as they are.
        bold: The row that stands out.
    """
    terminal = _console.is_terminal
    table = Table(
        box=box.SIMPLE_HEAD if terminal else None,
        padding=(0, 1 if terminal else 2, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for heading, justify in headings.items():
        table.add_column(heading, justify=justify, no_wrap=not terminal or heading == "version")
    for i, row in enumerate(rows):
        table.add_row(*map(Text, row), style="bold" if i == bold else None)
    (_console if terminal else Console(width=10_000)).print(table)


def show_bundle(path: Path, comparison: Comparison | None = None) -> None:
    """
    Print what came out: figures next to the baseline, the engine and why, the files.

    Args:
        path: The bundle's folder.
        comparison: With the live model, if the two were compared; its figures are shown then.
    """
    _, manifest = read_manifest(FolderStore(path))
    held_out = manifest.metrics.get("held_out") or manifest.metrics.get("sample") or {}
    ours = held_out if comparison is None else comparison.figures
    others = {"trivial model": manifest.metrics.get("baseline", {})}
    if comparison is not None and comparison.live:
        others = {"live model": comparison.live, **others}
    table = Table(title=f"{manifest.name} {manifest.version}", title_justify="left")
    for heading in ("figure", "model", *others):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, value in ours.items():
        if isinstance(value, float):
            beside = [figure(other[name]) if name in other else "" for other in others.values()]
            table.add_row(name, figure(value), *beside)
    if validation := manifest.metrics.get("cross_validation"):
        mean = f"{validation['mean']:.4f} ± {validation['std']:.4f}"
        table.add_row(f"{validation['score']}, cross-validated", mean)
    for name, file in manifest.files.items():
        table.add_row(name, decimal(file.size))
    _console.print(table)
    if comparison is not None and comparison.left_out:
        say(f"{comparison.left_out:,} of the held-out rows left out: a model refuses them.")
    if "confusion" in ours and manifest.classes is not None:
        _console.print(_confusion(manifest.classes, ours["confusion"]))
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
    own = "".join(f", the module {name}" for name in engine.modules)
    return (
        f"Served by scikit-learn, because {engine.reason}. It is slower and opens a pickle: "
        f"the server needs scikit-learn, joblib and pandas{own}, and a signature or ALLOW_PICKLE=1."
    )

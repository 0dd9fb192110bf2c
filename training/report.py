"""Prints progress, sentences and tables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Console, JustifyMethod, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

__all__ = ["figure", "progress", "say", "show", "show_table", "terminal_width", "transfer"]

_console = Console()


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that reports the current step: a spinner on a terminal, lines on a pipe."""
    if not _console.is_terminal:
        yield lambda text: _console.print(f"{text} …")
        return
    with _console.status("starting") as status:
        yield lambda text: status.update(f"{text} …")


@contextlib.contextmanager
def transfer(total: int) -> Iterator[Callable[[str, int], None]]:
    """
    Yield a function that reports a step and its bytes: a bar on a terminal, lines on a pipe.

    Args:
        total: How many bytes there are.
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


def show(*things: RenderableType) -> None:
    """Print tables, and text that is wrapped to the terminal."""
    for thing in things:
        _console.print(thing)


def terminal_width() -> int | None:
    """Say how wide the terminal is; None on a pipe."""
    return _console.width if _console.is_terminal else None


def figure(value: float, ends: Sequence[float] | None = None) -> str:
    """Write a figure for a table, with half the width of its interval if its *ends* are given."""
    large = abs(value) >= 1000
    text = f"{value:,.1f}" if large else f"{value:.4f}"
    if ends is None:
        return text
    half = (ends[1] - ends[0]) / 2
    return f"{text} ±{half:,.1f}" if large else f"{text} ±{half:.3f}"


def show_table(
    headings: Mapping[str, JustifyMethod], rows: Sequence[Sequence[str]], *, bold: int | None = None
) -> None:
    """
    Print a table. On a pipe it is plain text, a line for each row, whatever its length.

    Args:
        headings: Of the columns, and how each is justified.
        rows: Of cells.
        bold: The row that is printed bold.
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

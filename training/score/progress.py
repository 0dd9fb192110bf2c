"""How far a run is: a bar on a terminal, lines on a pipe."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["progress"]

#: Between two lines on a pipe.
SECONDS = 2.0


@contextlib.contextmanager
def progress(size: int, tasks: int) -> Iterator[Callable[[int, int, int], None]]:
    """
    Yield a function that is told of each task that is done: its bytes, rows and errors.

    Args:
        size: Bytes of all tasks.
        tasks: How many there are.
    """
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    bar = Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
    started, said = time.monotonic(), 0.0
    done = read = rows = errors = 0

    def report(more_bytes: int, more_rows: int, more_errors: int) -> None:
        nonlocal said, done, read, rows, errors
        done, read = done + 1, read + more_bytes
        rows, errors = rows + more_rows, errors + more_errors
        now = time.monotonic() - started
        speed = rows / max(now, 1e-9)
        line = f"{done}/{tasks} tasks, {rows:,} rows, {speed:,.0f} rows/s, {errors:,} errors"
        bar.update(shown, completed=read, description=line)
        if bar.disable and (now - said >= SECONDS or done == tasks):
            said = now
            left = now * (size - read) / max(read, 1)
            console.print(f"{line}, {left:,.0f} s left", soft_wrap=True, highlight=False)

    with bar:
        shown = bar.add_task(f"0/{tasks} tasks", total=max(size, 1))
        yield report

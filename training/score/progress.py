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

_Report = Callable[[int, int, int], None]


@contextlib.contextmanager
def progress(size: int, tasks: int) -> Iterator[_Report]:
    """
    Yield a function that is told of each task that is done: its bytes, rows and errors.

    Args:
        size: Bytes of all tasks.
        tasks: How many there are.
    """
    console = Console()
    started, said = time.monotonic(), 0.0
    done = read = rows = errors = 0

    def line() -> str:
        speed = rows / max(time.monotonic() - started, 1e-9)
        return f"{done}/{tasks} tasks, {rows:,} rows, {speed:,.0f} rows/s, {errors:,} errors"

    def add(size_done: int, more_rows: int, more_errors: int) -> None:
        nonlocal done, read, rows, errors
        done, read = done + 1, read + size_done
        rows, errors = rows + more_rows, errors + more_errors

    if console.is_terminal:
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        with bar:
            shown = bar.add_task(line(), total=max(size, 1))

            def draw(size_done: int, more_rows: int, more_errors: int) -> None:
                add(size_done, more_rows, more_errors)
                bar.update(shown, completed=read, description=line())

            yield draw
        return

    def write(size_done: int, more_rows: int, more_errors: int) -> None:
        nonlocal said
        add(size_done, more_rows, more_errors)
        now = time.monotonic() - started
        if now - said >= SECONDS or done == tasks:
            said = now
            left = now * (size - read) / max(read, 1)
            console.print(f"{line()}, {left:,.0f} s left", soft_wrap=True, highlight=False)

    yield write

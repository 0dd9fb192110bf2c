"""Errors and warnings of the trainer: wrong input ends in one sentence and exit status 2."""

from __future__ import annotations

import contextlib
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

from serving.errors import CanoaError

__all__ = [
    "NOT_PROMOTED",
    "TrainingError",
    "blame",
    "describe",
    "on_interrupt",
    "short_warnings",
]

#: The exit status if a version is written and not live, or if there is no verdict.
NOT_PROMOTED = 3


class TrainingError(Exception):
    """The input cannot be trained on. The text says what was wrong and what would be right."""


@contextlib.contextmanager
def blame(what: str, file: str | None = None) -> Iterator[None]:
    """
    Turn any exception of the user's code or data into one sentence that starts with *what*.

    Args:
        what: The step that failed, such as "load_data() failed".
        file: The user's file. The sentence names the line that failed in it.

    Raises:
        TrainingError: The sentence.
    """
    try:
        yield
    except (TrainingError, CanoaError):
        raise
    except (Exception, SystemExit) as error:  # foreign code may raise anything
        raise TrainingError(f"{what}: {describe(error)}{_line(error, file)}.") from error


def describe(error: BaseException) -> str:
    """Return the error's class and the first line of its text, without a full stop."""
    lines = str(error).strip().splitlines()
    said = f": {lines[0].rstrip('.:')}" if lines else ""
    return f"{type(error).__name__}{said}"


@contextlib.contextmanager
def on_interrupt(what: str) -> Iterator[None]:
    """
    Make an interrupt say *what* it leaves behind.

    Raises:
        KeyboardInterrupt: With the text.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(*interrupt.args or (what,)) from None


def _line(error: BaseException, file: str | None) -> str:
    if isinstance(error, SyntaxError):
        return ""  # its own text names the line
    stack = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in stack if frame.filename == file]
    return f" ({Path(str(file)).name}, line {lines[-1]})" if lines else ""


@contextlib.contextmanager
def short_warnings() -> Iterator[None]:
    """Write each of Python's warnings once, as one line on standard error."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        line = f"{category.__name__}: {str(message).strip().partition(chr(10))[0]}"
        if line not in shown:
            print(f"training: {line}", file=sys.stderr)
        shown.add(line)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield

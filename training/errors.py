"""What the trainer says when its input is wrong: one sentence, and exit status 2."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

__all__ = ["TrainingError", "blame", "on_interrupt"]


class TrainingError(Exception):
    """The input cannot be trained on; the text says what was wrong and what would be right."""


@contextlib.contextmanager
def blame(what: str, file: str | None = None) -> Iterator[None]:
    """
    Turn whatever the user's own code or data raise into one sentence that starts with *what*.

    Args:
        what: What failed, such as "load_data() failed".
        file: The user's own; the line that failed in it is named.

    Raises:
        TrainingError: Says what was raised, and where.
    """
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:  # it is not our code: it may raise anything
        lines = str(error).strip().splitlines()
        said = f": {lines[0].rstrip('.:')}" if lines else ""
        raise TrainingError(
            f"{what}: {type(error).__name__}{said}{_place(error, file)}."
        ) from error


@contextlib.contextmanager
def on_interrupt(what: str) -> Iterator[None]:
    """
    Let an interrupt say *what* it leaves behind, where that is more than nothing.

    Raises:
        KeyboardInterrupt: With the text.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(*interrupt.args or (what,)) from None


def _place(error: BaseException, file: str | None) -> str:
    if isinstance(error, SyntaxError):
        return ""  # its own text says where
    stack = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in stack if frame.filename == file]
    return f" ({Path(str(file)).name}, line {lines[-1]})" if lines else ""

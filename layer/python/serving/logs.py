"""One JSON object a line on standard output. No feature value ever enters it."""

from __future__ import annotations

import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

from serving.settings import LEVELS, settings

__all__ = ["describe", "log"]


def log(level: str, message: str, **fields: Any) -> None:
    """Write one line, unless LOG_LEVEL silences *level*. Fields that are None are left out."""
    if LEVELS.index(level) < LEVELS.index(settings().log_level):
        return
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line: dict[str, Any] = {"time": now, "level": level, "message": message}
    line.update((name, value) for name, value in fields.items() if value is not None)
    # One write for the whole line, so that threads cannot cut into one another's.
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def describe(error: BaseException) -> dict[str, Any]:
    """
    Say where *error* arose, without its text: that may quote what a client sent.

    Returns:
        The class's name, and the stack as "file:line function", innermost last.
    """
    stack = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "stack": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack],
    }

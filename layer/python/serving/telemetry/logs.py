"""
Writes the log: one JSON object a line on standard output, never with a feature value.

No answer depends on it. A line that cannot be written is dropped and counted.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec

from serving.settings import LEVELS
from serving.telemetry.output import Output

__all__ = ["count_drops", "decorate_lines", "describe", "line_fields", "log", "set_level"]

_fields: ContextVar[dict[str, Any]] = ContextVar("fields", default={})  # noqa: B039  # never changed
_decorators: list[Callable[[dict[str, Any]], None]] = []
_silent_below = LEVELS.index("info")
_output = Output()
#: A signal's handler may log while its thread does.
_lock = threading.RLock()
#: Lines that were dropped and not reported yet.
_dropped = 0
_count_drop: Callable[[], object] | None = None


def set_level(level: str) -> None:
    """Silence lines below *level*, which is one of `LEVELS`."""
    global _silent_below
    _silent_below = LEVELS.index(level)


def log(level: str, message: str, **fields: Any) -> None:
    """
    Write one line, unless *level* is silenced. Fields that are None are left out.

    Raises nothing. It waits 50 ms at most for the log's reader.
    """
    global _dropped
    if LEVELS.index(level) < _silent_below:
        return
    line = {"level": level, "message": message, **_fields.get(), **fields}
    line = {name: value for name, value in line.items() if value is not None}
    for decorate in _decorators:
        decorate(line)
    encoded = _encode(line)
    with _lock:
        if _dropped and _output.write(_encode({**_DROPPED, "count": _dropped})):
            _dropped = 0
        if not _output.write(encoded):
            _dropped += 1
            if _count_drop:
                _count_drop()


_DROPPED = {"level": "warning", "message": "log lines were dropped"}


def count_drops(count: Callable[[], object]) -> None:
    """Have *count* called, in place of the one before, for each line that is dropped."""
    global _count_drop
    _count_drop = count


def _encode(line: dict[str, Any]) -> bytes:
    line = {"time": datetime.now(UTC), **line}
    try:
        return msgspec.json.encode(line) + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, for example
        plain = {name: _plain(value) for name, value in line.items()}
        return msgspec.json.encode(plain) + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, int | float | datetime):
        return value
    return str(value).encode(errors="replace").decode()


class line_fields:  # noqa: N801  # it is used as a function
    """Add *fields* to every line that is written within."""

    def __init__(self, **fields: Any) -> None:
        self._added = fields

    def __enter__(self) -> None:
        self._token = _fields.set({**_fields.get(), **self._added})

    def __exit__(self, *_: object) -> None:
        _fields.reset(self._token)


def decorate_lines(decorate: Callable[[dict[str, Any]], None]) -> None:
    """Have *decorate* change every line before it is written, as a platform needs it."""
    _decorators.append(decorate)


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

"""Turns records of Python's logging into our log lines: one form, one stream."""

from __future__ import annotations

import logging

from serving.telemetry.logs import describe, log

__all__ = ["LineHandler", "capture_libraries"]


class LineHandler(logging.Handler):
    """Writes records as lines. Of an exception it writes the place, not the text."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            fields = describe(error) if error else {}
            log(_level(record), record.getMessage(), logger=record.name, **fields)
        except Exception:  # like every handler: a line must never fail a request
            self.handleError(record)


def capture_libraries() -> None:
    """Write libraries' warnings and errors as lines, instead of to standard error."""
    root = logging.getLogger()
    if not any(isinstance(handler, LineHandler) for handler in root.handlers):
        root.addHandler(LineHandler())


def _level(record: logging.LogRecord) -> str:
    """Translate a level. A library's information is for debugging."""
    if record.levelno >= logging.ERROR:
        return "error"
    return "warning" if record.levelno >= logging.WARNING else "debug"

"""What libraries log by Python's own logging becomes lines of ours: one form, one stream."""

from __future__ import annotations

import logging

from serving.telemetry.logs import describe, log

__all__ = ["LineHandler", "capture_libraries"]


class LineHandler(logging.Handler):
    """Writes records as lines; of an exception where it arose, not its text."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            fields = describe(error) if error else {}
            log(_level(record), record.getMessage(), logger=record.name, **fields)
        except Exception:  # as every handler does: a line that fails must not fail a request
            self.handleError(record)


def capture_libraries() -> None:
    """Have every warning and error of a library, which would go to standard error, be a line."""
    root = logging.getLogger()
    if not any(isinstance(handler, LineHandler) for handler in root.handlers):
        root.addHandler(LineHandler())


def _level(record: logging.LogRecord) -> str:
    """Translate a level; what a library tells of its own doings is for who debugs."""
    if record.levelno >= logging.ERROR:
        return "error"
    return "warning" if record.levelno >= logging.WARNING else "debug"

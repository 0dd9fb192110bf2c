"""gunicorn's logger: writes its messages as our log lines, and keeps the reason of its stop.

Messages below "info" are never written, because they quote what clients sent.
"""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger

from serving.telemetry.library_logs import LineHandler, capture_libraries

__all__ = ["LineLogger"]


class LineLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Writes lines, and keeps why the server stops, which no hook of gunicorn gets."""

    def __init__(self, cfg: Any) -> None:
        #: The last signal, such as "SIGTERM", or why the server gives up.
        self.reason: str | None = None
        super().__init__(cfg)
        capture_libraries()

    def setup(self, cfg: Any) -> None:
        """Set the level, and the handlers."""
        super().setup(cfg)
        self.error_log.setLevel(max(self.loglevel, logging.INFO))

    def log_reason(self, message: str, args: tuple[object, ...]) -> None:
        """Keep the signal or the reason that *message* names, if any."""
        if message == "Handling signal: %s":
            self.reason = f"SIG{str(args[0]).upper()}"
        elif message == "Reason: %s":
            self.reason = str(args[0])

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Write a message about gunicorn's own work."""
        self.log_reason(msg, args)
        super().info(msg, *args, **kwargs)

    def error(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Write an error."""
        self.log_reason(msg, args)
        super().error(msg, *args, **kwargs)

    def _set_handler(self, log: logging.Logger, *_: Any, **__: Any) -> None:
        handler = LineHandler()
        handler._gunicorn = True  # type: ignore[attr-defined]  # marks it as its own
        log.addHandler(handler)

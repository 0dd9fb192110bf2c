"""gunicorn's logger: what it says becomes lines of ours, and the signal that ends it is kept.

Below "info" it is silenced whatever is asked for: there it quotes what clients sent.
"""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger

from serving.telemetry.library_logs import LineHandler, capture_libraries

__all__ = ["LineLogger"]


class LineLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Writes lines, and remembers why the server stops: no hook of gunicorn's is told."""

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
        """Keep a signal, or a reason, if *message* tells one."""
        if message == "Handling signal: %s":
            self.reason = f"SIG{str(args[0]).upper()}"
        elif message == "Reason: %s":
            self.reason = str(args[0])

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Write what gunicorn tells of its doings."""
        self.log_reason(msg, args)
        super().info(msg, *args, **kwargs)

    def error(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Write an error."""
        self.log_reason(msg, args)
        super().error(msg, *args, **kwargs)

    def _set_handler(self, log: logging.Logger, *_: Any, **__: Any) -> None:
        handler = LineHandler()
        handler._gunicorn = True  # type: ignore[attr-defined]  # so does it know its own again
        log.addHandler(handler)

"""The log lines at a process's start and stop."""

from __future__ import annotations

import sys
import time
from typing import Any

import serving
from serving.settings import Settings
from serving.telemetry.logs import log

__all__ = ["log_start", "log_stop"]

#: The settings that the log shows. Others may be secret.
_SAID = (
    "allow_pickle",
    "cors_origins",
    "log_level",
    "max_answer_bytes",
    "max_body_bytes",
    "max_instances",
    "model_refresh_seconds",
    "store_timeout_seconds",
)
_started = time.monotonic()


def log_start(platform: str, settings: Settings, **fields: Any) -> None:
    """Log what starts on which *platform*, and with which *settings*."""
    log(
        "info",
        "start",
        version=serving.__version__,
        python=".".join(map(str, sys.version_info[:3])),
        platform=platform,
        **fields,
        model_uri=settings.model_uri.partition("?")[0],  # a query may be a token
        settings={name: value for name in _SAID if (value := getattr(settings, name))},
    )


def log_stop(reason: str | None) -> None:
    """Log why the process stops, and how long it ran."""
    log("info", "stop", reason=reason, seconds=round(time.monotonic() - _started, 1))

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
        model_uri=_without_credentials(settings.model_uri),
        settings={name: value for name in _SAID if (value := getattr(settings, name))},
    )


def log_stop(reason: str | None) -> None:
    """Log why the process stops, and how long it ran."""
    log("info", "stop", reason=reason, seconds=round(time.monotonic() - _started, 1))


def _without_credentials(uri: str) -> str:
    """Remove a user name, a password and a query from *uri*."""
    scheme, separator, rest = uri.partition("?")[0].rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2] if scheme else host}{slash}{path}"

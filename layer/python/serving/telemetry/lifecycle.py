"""The lines at a process's start and at its stop: what runs, on what, how set, and how it ended."""

from __future__ import annotations

import sys
import time
from typing import Any

import serving
from serving.settings import Settings
from serving.telemetry.logs import log

__all__ = ["log_start", "log_stop"]

#: Settings that a reader of the log may know. What is not here is not written: it may be secret.
_SAID = (
    "allow_pickle",
    "cors_origins",
    "log_level",
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
    """Say why it stops, and how long it had run."""
    log("info", "stop", reason=reason, seconds=round(time.monotonic() - _started, 1))


def _without_credentials(uri: str) -> str:
    """Leave out what some write into an address: a name and a password, or a signed query."""
    scheme, separator, rest = uri.partition("?")[0].rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2] if scheme else host}{slash}{path}"

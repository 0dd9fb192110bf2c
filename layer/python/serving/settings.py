"""Every setting, read from the environment in this one place."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from serving.errors import SettingsError
from serving.store import is_location

__all__ = ["Settings", "read_settings", "settings"]

LEVELS = ("debug", "info", "warning", "error")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says, with defaults for what it does not. Field X is variable X."""

    model_uri: str = "models/credit"
    store_timeout_seconds: int = 5
    model_refresh_seconds: float | None = None
    max_body_bytes: int = 4 * 1024 * 1024
    max_instances: int = 10_000
    cors_origins: frozenset[str] = frozenset()
    log_level: str = "info"
    allow_pickle: bool = False
    function_target: str | None = None
    port: int = 8080
    web_concurrency: int = 2
    otel_exporter_otlp_endpoint: str | None = None


@functools.cache
def settings() -> Settings:
    """
    The settings of this process, read once.

    Raises:
        SystemExit: A value cannot be read. It stops the start, with a sentence and no traceback.
    """
    try:
        return read_settings(os.environ)
    except SettingsError as error:
        raise SystemExit(f"canoa: {error}") from None


def read_settings(environment: Mapping[str, str]) -> Settings:
    """
    Read settings from *environment*; a variable that is empty counts as unset.

    Raises:
        SettingsError: A value cannot be read; the sentence names the variable and the value.
    """
    readers: dict[str, Callable[[str], Any]] = {
        "MODEL_URI": _location,
        "STORE_TIMEOUT_SECONDS": _positive,
        "MODEL_REFRESH_SECONDS": _seconds,
        "MAX_BODY_BYTES": _positive,
        "MAX_INSTANCES": _positive,
        "CORS_ORIGINS": _origins,
        "LOG_LEVEL": _level,
        "ALLOW_PICKLE": _switch,
        "FUNCTION_TARGET": str,
        "PORT": _port,
        "WEB_CONCURRENCY": _positive,
        "OTEL_EXPORTER_OTLP_ENDPOINT": str,
    }
    values: dict[str, Any] = {}
    for name, read in readers.items():
        text = environment.get(name, "").strip()
        if not text:
            continue
        try:
            values[name.lower()] = read(text)
        except ValueError as error:
            raise SettingsError(f"{name} is {text!r}, but must be {error}.") from None
    return Settings(**values)


def _location(text: str) -> str:
    if not is_location(text):
        raise ValueError(
            "a folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
        )
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 1e6:
        raise ValueError("seconds, from 0.1")
    return seconds


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError("a port number from 0 to 65535")
    return int(text)


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def _level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise ValueError("one of " + ", ".join(LEVELS))
    return text.lower()


def _origins(text: str) -> frozenset[str]:
    origins = frozenset(origin.strip().rstrip("/") for origin in text.split(","))
    for origin in origins:
        scheme, separator, host = origin.partition("://")
        if origin != "*" and not (separator and scheme and host and "/" not in host):
            raise ValueError("* or origins such as https://example.com, separated by commas")
    return origins

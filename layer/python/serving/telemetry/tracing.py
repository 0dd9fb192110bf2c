"""Spans, if OpenTelemetry is configured and installed. Otherwise nothing is imported.

`OTEL_EXPORTER_OTLP_ENDPOINT` configures it. Its threads do not survive a fork, so every process
starts it by itself: at the first request, or when an adapter calls `start_telemetry`.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from serving.telemetry.logs import describe, log
from serving.telemetry.observers import observers

if TYPE_CHECKING:
    from serving.telemetry.opentelemetry import Telemetry

__all__ = [
    "configure_telemetry",
    "flush_telemetry",
    "request_span",
    "span",
    "start_telemetry",
    "stop_telemetry",
    "wants_telemetry",
]

_lock = threading.Lock()
_endpoint: str | None = None
_telemetry: Telemetry | None = None
_started = False
_NOTHING = contextlib.nullcontext()


def configure_telemetry(endpoint: str | None) -> None:
    """Send spans and metrics to *endpoint* once `start_telemetry` runs; None sends nothing."""
    global _endpoint
    _endpoint = endpoint


def span(name: str) -> AbstractContextManager[Any]:
    """Time a part of a request, within its span."""
    return _NOTHING if _telemetry is None else _telemetry.span(name)


def request_span(
    method: str, route: str | None, headers: Mapping[str, str]
) -> AbstractContextManager[Any]:
    """Time a request, within the span that its `traceparent` names."""
    if not _started:
        start_telemetry()
    return _NOTHING if _telemetry is None else _telemetry.request_span(method, route, headers)


@functools.cache
def wants_telemetry() -> bool:
    """Whether it is configured and installed. If it is only configured, the log says so once."""
    if _endpoint is None:
        return False
    from importlib.util import find_spec

    with contextlib.suppress(ModuleNotFoundError):  # of its parent
        if find_spec("opentelemetry.exporter.otlp.proto.http"):
            return True
    log(
        "warning",
        "no telemetry: OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed; "
        "pip install './layer[otel]'",
    )
    return False


def start_telemetry() -> None:
    """Start in this process. Never call it before a fork."""
    global _telemetry, _started
    with _lock:
        if not _started and wants_telemetry():
            try:
                from serving.telemetry.opentelemetry import Telemetry

                _telemetry = Telemetry()
                observers.append(_telemetry)
            except Exception as error:  # an OTEL_ variable cannot be read: serving goes on
                log("error", "no telemetry", **describe(error))
        _started = True


def flush_telemetry() -> None:
    """Send everything that is buffered, before the platform freezes the process."""
    if _telemetry is not None:
        _telemetry.flush()


def stop_telemetry() -> None:
    """Send everything that is buffered, and stop."""
    global _telemetry
    if _telemetry is not None:
        observers.remove(_telemetry)
        _telemetry.stop()
        _telemetry = None

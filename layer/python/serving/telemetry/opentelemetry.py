"""OpenTelemetry: spans and metrics of this process, sent by OTLP over HTTP.

OpenTelemetry's own variables (OTEL_…) configure it. No attribute holds what a client sent. The text
of an exception is not recorded, because it may quote the client.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode

import serving
from serving.telemetry.observers import Served

__all__ = ["Telemetry"]

#: How long a stop, and an invocation of a Lambda, waits for the collector.
SECONDS = 4.0
#: Seconds, as OpenTelemetry's conventions for HTTP advise.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_TRACE_HEADERS = ("traceparent", "tracestate")


class Telemetry:
    """Makes spans. As an observer it also counts."""

    def __init__(self) -> None:
        ours = {
            "service.name": "canoa",
            "service.version": serving.__version__,
            "service.instance.id": str(uuid.uuid4()),  # keeps the workers' counts apart
        }
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence.
        resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        self._spans = TracerProvider(resource=resource)
        self._spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._spans.get_tracer("canoa", serving.__version__)
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        self._metrics = MeterProvider([reader], resource=resource)
        meter = self._metrics.get_meter("canoa", serving.__version__)
        self._duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="How long a request took.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._rows = meter.create_counter(
            "canoa.rows", unit="{row}", description="Instances that were scored."
        )
        self._loads = meter.create_counter(
            "canoa.model.loads", unit="{load}", description="Models that were loaded or rejected."
        )

    def span(self, name: str) -> AbstractContextManager[Span]:
        """Time a part of the current request."""
        return self._tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False
        )

    def request_span(
        self, method: str, route: str | None, headers: Mapping[str, str]
    ) -> AbstractContextManager[Span]:
        """Time a request, within the span that *headers* name."""
        carrier = {name: sent for name in _TRACE_HEADERS if (sent := headers.get(name))}
        return self._tracer.start_as_current_span(
            f"{method} {route}" if route else method,
            context=extract(carrier),
            kind=SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        )

    def request_served(self, served: Served) -> None:
        """Record a request's outcome in its span and in the metrics."""
        attributes: dict[str, str | int] = {
            "http.request.method": "_OTHER" if served.method == "other" else served.method,
            "http.response.status_code": served.status,
            "url.scheme": "http",
        }
        if served.route:
            attributes["http.route"] = served.route
        failed = served.status >= 500
        if failed:
            attributes["error.type"] = served.error or str(served.status)
        self._duration.record(served.seconds, attributes)
        if served.rows:
            self._rows.add(served.rows)
        current = trace.get_current_span()
        current.set_attributes(attributes)
        if failed:
            current.set_status(StatusCode.ERROR)
        if served.rows is not None:
            current.set_attribute("canoa.rows", served.rows)
        if served.model_version:
            current.set_attribute("canoa.model.version", served.model_version)

    def model_loaded(self, name: str, version: str, engine: str) -> None:  # noqa: ARG002  # an observer
        """Count a load."""
        self._loads.add(1, {"outcome": "loaded", "canoa.model.version": version})

    def model_refused(self) -> None:
        """Count a rejected model."""
        self._loads.add(1, {"outcome": "refused"})

    def flush(self) -> None:
        """Send everything that is buffered."""
        _together(self._spans.force_flush, self._metrics.force_flush)

    def stop(self) -> None:
        """Send everything that is buffered, and stop."""
        _together(self._spans.shutdown, self._metrics.shutdown)


def _together(*calls: Callable[[], object]) -> None:
    """Run all *calls* at once with a deadline: a silent collector must not delay a stop."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS / len(threads))

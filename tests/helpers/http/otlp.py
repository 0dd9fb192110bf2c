"""A receiver of OpenTelemetry's protocol over HTTP, on loopback, in place of a collector."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Received", "attributes", "collector"]


class Received:
    """Everything that the receiver was sent."""

    def __init__(self) -> None:
        self.url = ""
        #: Resource attributes, which identify the process, with its spans or metrics.
        self.spans: list[tuple[dict[str, Any], Any]] = []
        self.metrics: list[tuple[dict[str, Any], Any]] = []
        #: The same, as text.
        self.text = ""

    def take(self, path: str, body: bytes) -> None:
        """Decode one message."""
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            self.text += str(traces)
            for resource in traces.resource_spans:
                of = attributes(resource.resource)
                self.spans += [(of, span) for scope in resource.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            metrics = ExportMetricsServiceRequest.FromString(body)
            self.text += str(metrics)
            for group in metrics.resource_metrics:
                of = attributes(group.resource)
                self.metrics += [
                    (of, one) for scope in group.scope_metrics for one in scope.metrics
                ]
        else:
            raise ValueError(path)


def attributes(holder: Any) -> dict[str, Any]:
    """Read the attributes of a span, a resource or a point."""
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes
    }


@contextmanager
def collector() -> Iterator[Received]:
    """Run a receiver."""
    received = Received()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            with lock:
                received.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

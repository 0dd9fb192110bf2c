"""GET /metrics under gunicorn, in Prometheus' text format; any worker reports the sum of all.

Each worker writes to its own files, in memory, and the worker that is asked adds up all files
(prometheus_client's multiprocess mode). The files are named by the worker's slot and not by its
process: a worker in a dead worker's slot continues its counts, and no files are added.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from functools import cache, partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from serving.telemetry.logs import count_drops
from serving.telemetry.observers import Served, observers

__all__ = ["Metrics", "SharedMetrics", "count_requests", "render_metrics"]

#: Seconds, from what one row takes to what a router waits for.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """What this process counts; an observer."""

    def __init__(self) -> None:
        #: Of one process alone; with several, their files are what is read.
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        self._requests = counter(
            "canoa_requests",
            "Requests that were answered; for unknown paths, route is none.",
            ["method", "route", "status"],
        )
        self._seconds = Histogram(
            "canoa_request_duration_seconds",
            "Seconds from a request's complete arrival to its answer.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._rows = counter("canoa_rows", "Instances that were scored.")
        self._loads = counter(
            "canoa_model_loads", "Models that were loaded or rejected.", ["outcome"]
        )
        self._serving = gauge(
            "canoa_model_workers",
            "How many workers serve this version.",
            ["name", "version", "engine"],
            multiprocess_mode="livesum",
        )
        self.starts = counter("canoa_worker_starts", "Workers that were started.")
        started = gauge(
            "canoa_start_time_seconds",
            "When the server started, in seconds since 1970.",
            multiprocess_mode="max",
        )
        self.dropped = counter("canoa_log_lines_dropped", "Log lines that could not be written.")
        self._labelled = cache(self._label)  # to label at every request would take twice the time
        self._served: Gauge | None = None
        self.serves = True
        for outcome in ("loaded", "refused"):
            self._loads.labels(outcome)
        started.set(time.time())

    def request_served(self, served: Served) -> None:
        """Count a request."""
        requests, seconds = self._labelled(served.method, served.route or "none", served.status)
        requests.inc()
        seconds.observe(served.seconds)
        if served.rows:
            self._rows.inc(served.rows)

    def _label(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(method, route, status), self._seconds.labels(route)

    def model_loaded(self, name: str, version: str, engine: str) -> None:
        """Count a load."""
        self._loads.labels("loaded").inc()
        if self.serves:
            self.model_served(name, version, engine)

    def model_served(self, name: str, version: str, engine: str) -> None:
        """Report the version that this process serves, and drop the one before."""
        if self._served:
            self._served.set(0)
        self._served = self._serving.labels(name, version, engine)
        self._served.set(1)

    def model_refused(self) -> None:
        """Count a rejected model."""
        self._loads.labels("refused").inc()


class SharedMetrics:
    """Has processes that are forked from this one count together, until it is ended."""

    def __init__(self) -> None:
        # In memory: writing to a mapped file on a full disk would kill the process.
        memory = Path("/dev/shm")  # noqa: S108  # for a folder of our own in it
        folder = memory if os.access(memory, os.W_OK) else None
        self._folder = tempfile.mkdtemp(prefix="canoa-metrics-", dir=folder)
        self._slot = "master"
        os.environ[_FOLDER] = self._folder
        values.ValueClass = values.MultiProcessValue(lambda: self._slot)  # type: ignore[no-untyped-call]  # it has no types
        self.metrics = Metrics()
        self.metrics.serves = False
        _count_with(self.metrics)

    def begin_worker(self, slot: int) -> None:
        """Count, in a forked process, for this *slot*; the one there before must be dead."""
        self._slot = str(slot)
        self.metrics.serves = True
        self.metrics.starts.inc()

    def end_worker(self, slot: int) -> None:
        """Remove the values that count only while a worker lives."""
        mark_process_dead(slot)  # type: ignore[no-untyped-call]  # it has no types

    def end(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._folder, ignore_errors=True)


_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def render_metrics() -> tuple[bytes, str]:
    """Return all counts in Prometheus' text form, and the media type."""
    registry = count_requests().registry
    if _FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def count_requests() -> Metrics:
    """Start to count in this process alone, unless `SharedMetrics` counts already."""
    counting = [observer for observer in observers if isinstance(observer, Metrics)]
    return counting[0] if counting else _count_with(Metrics())


def _count_with(metrics: Metrics) -> Metrics:
    count_drops(metrics.dropped.inc)
    observers[:] = [other for other in observers if not isinstance(other, Metrics)] + [metrics]
    return metrics

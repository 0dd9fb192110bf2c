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
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from serving.telemetry.logs import count_drops
from serving.telemetry.observers import Served, observers

__all__ = ["Metrics", "count_requests", "render_metrics", "share_metrics"]

#: Seconds, from what one row takes to what a router waits for.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """What this process counts; an observer."""

    def __init__(self) -> None:
        #: Of one process alone; with several, their files are what is read.
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "canoa_requests",
            "Requests that were answered; for unknown paths, route is none.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "canoa_request_duration_seconds",
            "Seconds from a request's complete arrival to its answer.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._rows = Counter("canoa_rows", "Instances that were scored.", registry=self.registry)
        self._loads = Counter(
            "canoa_model_loads",
            "Models that were loaded or rejected.",
            ["outcome"],
            registry=self.registry,
        )
        self._serving = Gauge(
            "canoa_model_workers",
            "How many workers serve this version.",
            ["name", "version", "engine"],
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._starts = Counter(
            "canoa_worker_starts", "Workers that were started.", registry=self.registry
        )
        self._started = Gauge(
            "canoa_start_time_seconds",
            "When the server started, in seconds since 1970.",
            registry=self.registry,
            multiprocess_mode="max",
        )
        self._dropped = Counter(
            "canoa_log_lines_dropped",
            "Log lines that could not be written.",
            registry=self.registry,
        )
        self._children: dict[tuple[str, str | None, int], tuple[Counter, Histogram]] = {}
        self._served: Gauge | None = None
        self.serves = True
        for outcome in ("loaded", "refused"):
            self._loads.labels(outcome)
        self._started.set(time.time())

    def worker_started(self) -> None:
        """Count a worker."""
        self._starts.inc()

    def request_served(self, served: Served) -> None:
        """Count a request."""
        key = served[:3]
        children = self._children.get(key)
        if children is None:
            method, route, status = key
            children = (
                self._requests.labels(method, route or "none", str(status)),
                self._seconds.labels(route or "none"),
            )
            self._children[key] = children
        children[0].inc()
        children[1].observe(served.seconds)
        if served.rows:
            self._rows.inc(served.rows)

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

    def log_line_dropped(self) -> None:
        """Count a line of the log that could not be written."""
        self._dropped.inc()


class share_metrics:  # noqa: N801  # it is used as a function
    """Have processes that are forked from this one count together, until it is ended."""

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
        self.metrics.worker_started()

    def end_worker(self, slot: int) -> None:
        """Remove the values that count only while a worker lives."""
        mark_process_dead(slot)  # type: ignore[no-untyped-call]  # it has no types

    def end(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._folder, ignore_errors=True)


_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def render_metrics() -> tuple[bytes, str]:
    """Return all counts in Prometheus' text form, and the media type."""
    counted = count_requests()
    registry = counted.registry
    if _FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def count_requests() -> Metrics:
    """Start to count in this process alone, unless `share_metrics` counts already."""
    for observer in observers:
        if isinstance(observer, Metrics):
            return observer
    metrics = Metrics()
    _count_with(metrics)
    return metrics


def _count_with(metrics: Metrics) -> None:
    count_drops(metrics.log_line_dropped)
    observers[:] = [other for other in observers if not isinstance(other, Metrics)] + [metrics]

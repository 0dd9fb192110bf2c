"""gunicorn's settings: `gunicorn --config python:serving.adapters.gunicorn …`.

Every name here but the imported ones is a setting of gunicorn's, or a hook.
"""

from __future__ import annotations

import gc as _gc
import os as _os
import signal as _signal
from contextlib import suppress as _suppress
from typing import Any

from gunicorn import __version__ as _gunicorn_version

from serving.adapters.malloc import give_back_memory as _give_back_memory
from serving.errors import ModelUnavailable
from serving.process import process as _process
from serving.telemetry.lifecycle import log_start as _log_start
from serving.telemetry.lifecycle import log_stop as _log_stop
from serving.telemetry.metrics import share_metrics as _share_metrics
from serving.telemetry.tracing import start_telemetry as _start_telemetry
from serving.telemetry.tracing import stop_telemetry as _stop_telemetry
from serving.telemetry.tracing import wants_telemetry as _wants_telemetry

bind = f"0.0.0.0:{_process().settings.port}"
workers = _process().settings.web_concurrency
# Few threads: a request keeps a core busy, and comes to a thread whole.
worker_class = "serving.adapters.gunicorn_worker.BufferingWorker"
threads = 4
worker_connections = 4000
backlog = 2048
keepalive = 75  # longer than a router's, so that it is never we who close a connection in use
# The app and the model are loaded before the fork, and their memory is shared.
preload_app = True
graceful_timeout = 25  # Heroku kills 30 s after SIGTERM
accesslog = None  # every function writes its own line
logger_class = "serving.adapters.gunicorn_log.LineLogger"
control_socket_disable = True

_metrics: _share_metrics


def on_starting(_: Any) -> None:
    """Set what all processes inherit."""
    _give_back_memory()


def when_ready(server: Any) -> None:
    """Load the model in the master, once the socket already takes requests."""
    _log_start(
        f"gunicorn {_gunicorn_version}",
        _process().settings,
        address=", ".join(map(str, server.LISTENERS)),
        workers=server.num_workers,
        threads=server.cfg.threads,
    )
    global _metrics
    _metrics = _share_metrics()
    _os.register_at_fork(after_in_parent=_heed_sigterm)
    _wants_telemetry()  # if it cannot be had, that is said once and not by every worker
    _process().model.share()
    # Nothing that is loaded by now is garbage; collections need not look at it, or unshare it.
    _gc.freeze()


def on_reload(_: Any) -> None:
    """Load the live model anew, at SIGHUP: gunicorn forks new workers next, and ends the old."""
    _process().model.share()


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker the first slot that is free: it counts where a dead one left off."""
    taken = {other.slot for other in server.WORKERS.values()}
    worker.slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
    # Until it has its own handlers the worker has the master's, which would swallow a SIGTERM.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGTERM})


def post_worker_init(worker: Any) -> None:
    """Load in the worker what could not be shared, and keep it fresh."""
    _heed_sigterm()
    _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)  # the master's, though a group may be sent it
    _metrics.begin_worker(worker.slot)
    _start_telemetry()
    # A failure is said in the log, and the first request tries again.
    with _suppress(ModelUnavailable):
        manifest = _process().model.get().manifest
        _metrics.metrics.model_served(manifest.name, manifest.version, manifest.engine.name)
        # Who takes a dead worker's slot has the master's model, which may be old by now.
        if worker.age > workers and _process().settings.model_refresh_seconds:
            _process().model.renew()
    _process().model.keep_fresh()


def worker_exit(_: Any, _worker: Any) -> None:
    """Send what the worker has not sent yet."""
    _stop_telemetry()


def child_exit(_: Any, worker: Any) -> None:
    """Have the dead worker count no more among those that live."""
    _metrics.end_worker(worker.slot)


def on_exit(server: Any) -> None:
    """Clear up, and say that it is over."""
    _metrics.end()
    _log_stop(server.log.reason)


def _heed_sigterm() -> None:
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {_signal.SIGTERM})

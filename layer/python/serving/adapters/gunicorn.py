"""gunicorn's settings: `gunicorn --config python:serving.adapters.gunicorn …`.

gunicorn manages the processes. Each worker runs uvicorn's event loop, with the Flask app behind a
bridge. Every public name here, but for imported ones, is a setting or a hook of gunicorn.
"""

from __future__ import annotations

import gc as _gc
import logging as _logging
import os as _os
import resource as _resource
import signal as _signal
import socket as _socket
import sys as _sys
from contextlib import suppress as _suppress
from typing import Any

from gunicorn import __version__ as _gunicorn_version
from uvicorn_worker import UvicornWorker as _UvicornWorker

from serving.adapters.gunicorn_bridge import Bridge as _Bridge
from serving.adapters.gunicorn_connection import Connection as _Connection
from serving.adapters.malloc import give_back_memory as _give_back_memory
from serving.errors import ModelUnavailable
from serving.process import process as _process
from serving.settings import platform as _platform
from serving.telemetry.lifecycle import log_start as _log_start
from serving.telemetry.lifecycle import log_stop as _log_stop
from serving.telemetry.metrics import SharedMetrics as _SharedMetrics
from serving.telemetry.tracing import start_telemetry as _start_telemetry
from serving.telemetry.tracing import stop_telemetry as _stop_telemetry
from serving.telemetry.tracing import wants_telemetry as _wants_telemetry


class _Worker(_UvicornWorker):  # type: ignore[misc]  # gunicorn has no types
    """uvicorn's worker, configured. The app reads a proxy's headers itself."""

    CONFIG_KWARGS = {  # noqa: RUF012  # uvicorn-worker's own form
        "loop": "uvloop",
        "http": _Connection,
        "ws": "none",
        "lifespan": "on",
        "proxy_headers": False,
        "server_header": False,
        "timeout_graceful_shutdown": 23,
    }


def _addresses() -> list[str]:
    """Return where to listen: HOST, or else every address on a cloud and loopback on a laptop."""
    ours = _process().settings
    if ours.host:
        hosts = [ours.host]
    elif _platform(_os.environ):
        hosts = ["::"] if _can_bind("::") else ["0.0.0.0"]  # noqa: S104  # a router calls it
    else:
        hosts = ["127.0.0.1", *(["::1"] if _can_bind("::1") else [])]
    return [f"[{host}]:{ours.port}" if ":" in host else f"{host}:{ours.port}" for host in hosts]


def _can_bind(host: str) -> bool:
    """Whether this machine has IPv6; for all addresses, whether IPv4 arrives there too."""
    with _suppress(OSError), _socket.socket(_socket.AF_INET6) as probe:
        probe.bind((host, 0))
        alone = probe.getsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY)
        return host != "::" or not alone
    return False


bind = _addresses()
workers = _process().settings.web_concurrency
worker_class = _Worker
threads = 4  # few: a request keeps a core busy
worker_connections = 2000
backlog = 2048
keepalive = 75  # longer than a router's, so that the server never closes a connection in use
# The app and the model are loaded before the fork, so that workers share their memory.
preload_app = True
graceful_timeout = 25  # Heroku kills 30 s after SIGTERM
accesslog = None  # every function writes its own line
logger_class = "serving.adapters.gunicorn_log.LineLogger"
control_socket_disable = True
# The root may be read-only, and a full disk must not stop a worker.
worker_tmp_dir = "/dev/shm" if _os.access("/dev/shm", _os.W_OK) else None  # noqa: S108  # in memory

_metrics: _SharedMetrics


def on_starting(_: Any) -> None:
    """Set what all processes inherit."""
    _give_back_memory()
    _, most = _resource.getrlimit(_resource.RLIMIT_NOFILE)
    with _suppress(OSError, ValueError):
        _resource.setrlimit(_resource.RLIMIT_NOFILE, (most, most))


def when_ready(server: Any) -> None:
    """Load the model in the master, once the sockets already take requests."""
    for listener in server.LISTENERS:
        # A small buffer in the kernel, so that `Connection` can count the unread answers.
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 128 * 1024)
    _log_start(
        f"gunicorn {_gunicorn_version}",
        _process().settings,
        address=", ".join(map(str, server.LISTENERS)),
        workers=server.num_workers,
        threads=server.cfg.threads,
    )
    global _metrics
    _metrics = _SharedMetrics()
    _os.register_at_fork(after_in_parent=_heed_sigterm)
    _wants_telemetry()  # if it is not installed, that is logged once and not by every worker
    _listen(server)
    _process().model.share()
    # Objects loaded by now are not garbage. Frozen, they stay in memory that workers share.
    _gc.freeze()


def on_reload(server: Any) -> None:
    """At SIGHUP, load the live model again. gunicorn then forks new workers and ends the old."""
    _listen(server)
    _process().model.share()


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker the first free slot, in which it continues a dead worker's counts."""
    taken = {other.slot for other in server.WORKERS.values()}
    worker.slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
    # Until it has its own handlers the worker has the master's, which would swallow a SIGTERM.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGTERM})


def post_worker_init(worker: Any) -> None:
    """Wrap the app for uvicorn, load in the worker what could not be shared, and keep it fresh."""
    # uvicorn raises the signal again once it has stopped; only a normal end runs worker_exit.
    for stop in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(stop, lambda *_: _sys.exit(0))
    _heed_sigterm()
    _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)  # for the master, but a whole group gets it
    files, _ = _resource.getrlimit(_resource.RLIMIT_NOFILE)
    _Connection.most = min(worker.cfg.worker_connections, max(16, files - _OTHER_FILES))
    # Below, uvicorn logs a line or two for every bad request and every offer of HTTP/2.
    _logging.getLogger("uvicorn.error").setLevel(_logging.ERROR)
    worker.wsgi = _Bridge(
        worker.wsgi, threads=worker.cfg.threads, max_body_bytes=_process().settings.max_body_bytes
    )
    _metrics.begin_worker(worker.slot)
    _start_telemetry()
    # A failure is logged, and the first request tries again.
    with _suppress(ModelUnavailable):
        manifest = _process().model.get().manifest
        _metrics.metrics.model_served(manifest.name, manifest.version, manifest.engine.name)
        # The worker got the master's model, which may be old by now.
        if worker.age > workers and _process().settings.model_refresh_seconds:
            _process().model.renew()
    _process().model.keep_fresh()


#: Files that a worker opens beside its connections: models, logs, pipes, stores.
_OTHER_FILES = 200


def worker_exit(_: Any, _worker: Any) -> None:
    """Send what the worker has not sent yet."""
    _stop_telemetry()


def child_exit(_: Any, worker: Any) -> None:
    """Remove the dead worker from the count of live workers."""
    _metrics.end_worker(worker.slot)


def on_exit(server: Any) -> None:
    """Clear up, and log the stop."""
    _metrics.end()
    _log_stop(server.log.reason)


def _listen(server: Any) -> None:
    # The sockets are asked, since --bind, an older server's or systemd's come before `bind`.
    _process().listen(listener.getsockname() for listener in server.LISTENERS)


def _heed_sigterm() -> None:
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {_signal.SIGTERM})

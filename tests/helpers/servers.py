"""Starts real servers on a free port of 127.0.0.1, waits for them, and stops them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest
from serving.settings import Settings

__all__ = [
    "ROOT",
    "Server",
    "clean_environment",
    "emulator",
    "end_a_worker",
    "free_port",
    "lines",
    "opened",
    "program",
    "serving",
    "start",
    "wait_for",
    "workers",
]

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30
_FIRST_PORT = 10_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
#: A test run that starts at the same time most likely uses another part of the range.
_ports = (_FIRST_PORT + number % 1_000 for number in itertools.count(os.getpid()))


class Server(str):
    """A base URL, and the process behind it."""

    process: subprocess.Popen[bytes]
    log: Path

    def logged(self) -> str:
        """Return everything that the process has written so far."""
        return self.log.read_text("utf-8", "replace")


@contextlib.contextmanager
def serving(model_uri: Path | str, **environment: str) -> Iterator[Server]:
    """Run every function behind the Flask adapter, as the Procfile does on a dyno."""
    command = [
        *(sys.executable, "-m", "gunicorn", "--config", "python:serving.adapters.gunicorn"),
        "serving.adapters.flask:create_app()",
    ]
    # Loopback only: no other machine should reach a test's server.
    command[-1:-1] = ["--bind", "127.0.0.1:{port}"]
    with start(command, {"MODEL_URI": str(model_uri), **environment}) as server:
        yield server


@contextlib.contextmanager
def emulator(function: str, model_uri: Path | str, **environment: str) -> Iterator[Server]:
    """Run one function under functions-framework."""
    command = [
        *(sys.executable, "-m", "functions_framework", "--host", "127.0.0.1", "--port", "{port}"),
        *("--source", f"functions/{function}.py", "--target", function),
    ]
    with start(command, {"MODEL_URI": str(model_uri), **environment}) as server:
        yield server


@contextlib.contextmanager
def start(command: list[str], environment: dict[str, str], folder: Path = ROOT) -> Iterator[Server]:
    """
    Start *command* in *folder*, with `{port}` filled in, and yield when it takes connections.

    At the end it gets SIGTERM, and the rest of its process group is killed.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as temporary:
        log = Path(temporary) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [part.format(port=port) for part in command],
                cwd=folder,
                env={**clean_environment(), "PORT": str(port), **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(f"http://127.0.0.1:{port}")
        server.process, server.log = process, log
        try:
            _wait(server, port)
            yield server
        finally:
            _stop(process)


class Logging(Protocol):
    """A process that writes a log."""

    def logged(self) -> str:
        """Return everything that the process has written so far."""


def lines(process: Logging, message: str | None = None) -> list[dict[str, Any]]:
    """Decode the lines of the log: all of them, or those with this message."""
    decoded = [json.loads(line) for line in process.logged().splitlines() if line.startswith("{")]
    return [line for line in decoded if message in (None, line["message"])]


def wait_for(what: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until *what* returns True."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def program(name: str) -> str:
    """Return the path of a command that npm installed; skip the test if it is missing."""
    path = ROOT / "tests" / "node" / "node_modules" / ".bin" / name
    if not path.exists() and "CI" not in os.environ:  # CI must have it
        pytest.skip(f"{name} is not installed: make test installs it, if npm is there")
    return str(path)


def workers(server: Server) -> list[psutil.Process]:
    """List the server's workers."""
    return psutil.Process(server.process.pid).children()


def end_a_worker(server: Server, by: signal.Signals) -> None:
    """Send a signal to one of two workers, and wait until it is replaced."""
    victim = random.choice(workers(server))
    victim.send_signal(by)
    deadline = time.monotonic() + 30
    while victim.is_running() or len(workers(server)) < 2:
        assert time.monotonic() < deadline, "the worker was not replaced"
        time.sleep(0.05)


def free_port() -> int:
    """
    Return a free port of 127.0.0.1.

    It is below the kernel's ports for clients, and in a range of this pytest-xdist worker alone, so
    no other process takes it first.
    """
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_server(("127.0.0.1", next(_ports))) as probe,
        ):
            return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """Return the environment without settings, and without credentials of real stores."""
    ours = {name.upper() for name in Settings.__struct_fields__} | {"DYNO", "K_SERVICE"}
    others = ("ORT_", "OMP_", "OPENBLAS_", "MKL_", "AWS_", "AZURE_", "GOOGLE_", "OTEL_")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith(others)
    }


def opened(environment: Mapping[str, str]) -> dict[str, str]:
    """Open the API, which is closed on a cloud, unless *environment* configures access."""
    said = environment.keys() & {"AUTH", "API_KEYS", "JWT_ISSUER"}
    return {**environment} if said else {**environment, "AUTH": "none"}


def _wait(server: Server, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended during its start:\n{server.logged()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(
        f"the server accepted no connection within {START_SECONDS} s:\n{server.logged()}"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    # This stops the rest of its process group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

"""An answer never depends on the log: its reader may stall or exit, and its disk may be full."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.helpers.servers import ROOT, Server, start, wait_for

GUNICORN = [
    *(sys.executable, "-m", "gunicorn", "--config", "python:serving.adapters.gunicorn"),
    *("--bind", "127.0.0.1:{port}", "serving.adapters.flask:create_app()"),
]
ONE_FUNCTION = [
    *(sys.executable, "-m", "functions_framework", "--host", "127.0.0.1", "--port", "{port}"),
    *("--source", "functions/health.py", "--target", "health"),
]
DROPPED = "log lines were dropped"


class Reader:
    """The other end of a server's standard output, which reads only when told to."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._received = b""

    def read(self) -> list[dict[str, Any]]:
        """Read what has arrived, and return all whole lines so far."""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._descriptor, 65536):
                self._received += more
        return [json.loads(line) for line in self._received.split(b"\n")[:-1]]

    def shrink(self) -> None:
        """Shrink the pipe to two pages."""
        self.read()
        fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, 8192)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._descriptor)


@contextlib.contextmanager
def piped(command: list[str], folder: Path, model: Path, **more: str) -> Iterator[Any]:
    """Start *command* with its standard output in a pipe; yield the server and the reader."""
    fifo = folder / "stdout"
    os.mkfifo(fifo)
    reader = Reader(fifo)
    redirected = ["sh", "-c", 'exec "$@" > "$0"', str(fifo), *command]
    with start(redirected, {"MODEL_URI": str(model), **more}) as server:
        yield server, reader


def children(server: Server) -> set[int]:
    """Return the ids of the server's processes."""
    return {child.pid for child in psutil.Process(server.process.pid).children(recursive=True)}


def ask(server: Server, count: int) -> list[float]:
    """Send this many requests and check each answer; return the seconds that each took."""
    seconds = []
    with requests.Session() as session:
        for _ in range(count):
            started = time.perf_counter()
            assert session.get(f"{server}/health", timeout=10).status_code == 200
            seconds.append(time.perf_counter() - started)
    return seconds


@pytest.mark.parametrize("command", [GUNICORN, ONE_FUNCTION], ids=["gunicorn", "one function"])
def test_a_stalled_or_closed_reader_delays_no_answer(
    command: list[str], credit: Path, tmp_path: Path
) -> None:
    """Requests are answered in time by the same processes, and the lost lines are counted."""
    with piped(command, tmp_path, credit, WEB_CONCURRENCY="1") as (server, reader):
        ask(server, 20)
        pids = children(server)
        reader.shrink()
        stalled = ask(server, 200)
        before = reader.read()
        ask(server, 1)
        wait_for(lambda: len(reader.read()) == len(before) + 2)  # the report, and this request
        after = reader.read()
        if command is GUNICORN:
            metrics = requests.get(f"{server}/metrics", timeout=10).text
        reader.close()
        gone = ask(server, 50)
        assert children(server) == pids
        server.process.terminate()
        assert server.process.wait(30) == 0

    assert max(statistics.median(stalled), statistics.median(gone)) < 0.1
    assert sum(stalled) < 10
    [report] = [line for line in after[len(before) :] if line["message"] == DROPPED]
    assert report["level"] == "warning"
    answered = [line for line in after if line["message"] == "request"]
    assert len(answered) + report["count"] == 221
    assert report["count"] > 100
    if command is GUNICORN:
        assert f"canoa_log_lines_dropped_total {report['count']}.0" in metrics


@pytest.mark.parametrize("command", [GUNICORN, ONE_FUNCTION], ids=["gunicorn", "one function"])
def test_a_full_disk_stops_no_answer(command: list[str], credit: Path) -> None:
    """If the log cannot be written, requests are still answered."""
    redirected = ["sh", "-c", 'exec "$@" > /dev/full', "sh", *command]
    with start(redirected, {"MODEL_URI": str(credit), "WEB_CONCURRENCY": "1"}) as server:
        ask(server, 5)
        pids = children(server)
        ask(server, 50)
        assert children(server) == pids
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert server.logged().count("Traceback") == 0


def python(script: str, **options: Any) -> subprocess.Popen[bytes]:
    """Run *script* in a process that can log."""
    path = {"PYTHONPATH": str(ROOT / "layer" / "python")}
    script = "from serving.telemetry.logs import log\n" + script
    return subprocess.Popen([sys.executable, "-c", script], env=path, **options)


def test_a_slow_reader_gets_every_line() -> None:
    """A slow reader gets every line whole, also long ones."""
    script = "for n in range(300): log('info', 'line', n=n, text='x' * 9000)"
    received = b""
    with python(script, stdout=subprocess.PIPE) as process:
        assert process.stdout
        while more := os.read(process.stdout.fileno(), 20_000):
            time.sleep(0.002)
            received += more

    assert process.returncode == 0
    assert [json.loads(line)["n"] for line in received.splitlines()] == [*range(300)]


def test_a_log_file_is_appended_to(tmp_path: Path) -> None:
    """The earlier content of a redirected file is kept."""
    file = tmp_path / "log"
    with file.open("wb") as output:
        output.write(b"before\n")
        output.flush()
        assert python("log('info', 'after')", stdout=output).wait(10) == 0

    before, after = file.read_bytes().splitlines()
    assert before == b"before"
    assert json.loads(after)["message"] == "after"


def test_a_cut_line_is_completed(tmp_path: Path) -> None:
    """If the disk fills in the middle of a line and has room later, all lines are whole."""
    script = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
for n in range(30): log("info", "line", n=n)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
log("info", "line", n=30)
"""
    file = tmp_path / "log"
    with file.open("wb") as output:
        assert python(script, stdout=output).wait(10) == 0
    found = [json.loads(line) for line in file.read_text().splitlines()]
    numbers = [line.get("n") for line in found]

    assert numbers == [*range(len(found) - 2), None, 30]
    assert found[-2]["message"] == DROPPED
    assert len(found) - 2 + found[-2]["count"] == 30


def test_an_unread_socket_blocks_no_writer() -> None:
    """A stalled socket reader, such as systemd's journal, loses lines and blocks no writer."""
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        script = "for n in range(5000): log('info', 'line', n=n, text='x' * 1000)"
        process = python(script, stdout=theirs)
        assert process.wait(20) == 0
        assert os.get_blocking(theirs.fileno())
        ours.setblocking(False)
        first = ours.recv(65536).split(b"\n")[0]

    assert json.loads(first)["n"] == 0


@pytest.mark.parametrize("close", ["os.close(1)", "sys.stdout = None"])
def test_without_standard_output(close: str) -> None:
    """A process without standard output logs nothing, and runs on."""
    process = python(f"import os, sys; {close}; log('info', 'line')", stderr=subprocess.PIPE)

    assert process.communicate(timeout=10)[1] == b""
    assert process.returncode == 0


def test_no_line_is_written_to_another_file_on_descriptor_1(tmp_path: Path) -> None:
    """If standard output is closed at the start, lines are dropped and counted."""
    file = tmp_path / "model"
    script = f"""
import os
from serving.telemetry.logs import count_drops, log
dropped = []
count_drops(lambda: dropped.append(1))
assert os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT) == 1
log("info", "line")
log("info", "line")
assert len(dropped) == 2
"""
    path = {"PYTHONPATH": str(ROOT / "layer" / "python")}
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", script]
    run = subprocess.run(closed, stderr=subprocess.PIPE, timeout=20, env=path, check=False)

    assert (run.returncode, run.stderr) == (0, b"")
    assert file.read_bytes() == b""

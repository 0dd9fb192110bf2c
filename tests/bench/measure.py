"""The measurements; each returns seconds, bytes or requests per second for each server."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import psutil

from tests.bench.servers import Starter
from tests.helpers.servers import Server

__all__ = ["cold_start", "connect", "in_process", "latency", "memory", "post", "throughput"]

HEADERS = {"Content-Type": "application/json"}


def cold_start(starters: dict[str, Starter], body: bytes, rounds: int) -> dict[str, float]:
    """Return median seconds from the start to the first correct answer, rounds interleaved."""
    found: dict[str, list[float]] = {name: [] for name in starters}
    for turn in range(rounds + 1):
        for name, run in starters.items():
            began = time.perf_counter()
            with run() as server:
                _first_answer(server, body)
                if turn:  # the first round writes bytecode and warms the page cache
                    found[name].append(time.perf_counter() - began)
    return {name: median(times) for name, times in found.items()}


def latency(servers: dict[str, Server], body: bytes, folder: Path, turns: int) -> dict[str, float]:
    """Return the median of the turns' median seconds per request, on one connection, by wrk."""

    def read(output: str) -> float:
        [line] = [line for line in output.splitlines() if line.strip().startswith("50%")]
        figure = line.split()[1]
        unit = next(unit for unit in ("us", "ms", "s") if figure.endswith(unit))
        return float(figure.removesuffix(unit)) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]

    return _wrk(servers, body, folder, ["-c1", "-d2", "--latency"], read, median, turns)


def throughput(
    servers: dict[str, Server], body: bytes, folder: Path, turns: int
) -> dict[str, float]:
    """
    Return requests per second at concurrency 16, by wrk, in each server's best turn.

    In some turns all connections go to one of the two workers, which halves the rate. That is
    chance, so a median would not compare the servers.
    """

    def read(output: str) -> float:
        [line] = [line for line in output.splitlines() if line.startswith("Requests/sec")]
        return float(line.split()[1])

    return _wrk(servers, body, folder, ["-c16", "-d4"], read, max, turns)


def _wrk(  # noqa: PLR0917  # all are needed
    servers: dict[str, Server],
    body: bytes,
    folder: Path,
    options: list[str],
    read: Callable[[str], float],
    settle: Callable[[list[float]], float],
    turns: int,
) -> dict[str, float]:
    """Run wrk, turns interleaved; an answer other than 2xx is an error."""
    script = folder / "post.lua"
    script.write_text(
        "wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\n"
        f"wrk.body = [==[{body.decode()}]==]\n"
    )
    found: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(turns):
        for name, server in servers.items():
            command = ["wrk", "-t1", *options, "-s", str(script), f"{server}/v0/predict"]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            if "Non-2xx" in run.stdout or "Socket errors" in run.stdout:
                raise RuntimeError(f"{name} answered with errors:\n{run.stdout}")
            found[name].append(read(run.stdout))
    return {name: settle(values) for name, values in found.items()}


def memory(server: Server) -> float:
    """Return the proportional set size of all processes in bytes."""
    master = psutil.Process(server.process.pid)
    tree = [master, *master.children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in tree))


def in_process(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return median seconds per call, turns interleaved."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - began)
    return {name: _median(times) for name, times in found.items()}


def _median(times: Sequence[float]) -> float:
    return median(times[len(times) // 10 :])  # the first tenth warms up


def connect(server: Server) -> http.client.HTTPConnection:
    """Return a connection that stays open."""
    return http.client.HTTPConnection(server.removeprefix("http://"), timeout=60)


def post(connection: http.client.HTTPConnection, body: bytes) -> bytes:
    """Ask for predictions; raise if there are none."""
    connection.request("POST", "/v0/predict", body, HEADERS)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"answered {answer.status}: {content[:300]!r}")
    return content


def _first_answer(server: Server, body: bytes) -> None:
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            post(connect(server), body)
            return
        time.sleep(0.005)

"""A client that sends on a timetable, and counts latency from each request's planned time.

So a delay counts, whether the server or this client causes it. wrk2 works like this, but is in no
package registry. autocannon sends a burst at the beginning of each second, and wrk sends the next
request only after an answer; both make a slow server look faster.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from typing import NamedTuple, cast

from tests.helpers.servers import Server

__all__ = ["Figures", "send_at"]

CONNECTIONS = 64


class Figures(NamedTuple):
    """The result of a run."""

    #: Seconds from the planned time of a request to its answer, sorted.
    took: list[float]
    #: Requests without a correct answer, by error.
    errors: Counter[str]
    #: Answers per second.
    throughput: float

    def at(self, share: float) -> float:
        """Return this quantile, in seconds."""
        return self.took[min(int(len(self.took) * share), len(self.took) - 1)]


def send_at(server: Server, body: bytes, *, rate: float, seconds: float) -> Figures:
    """Send *rate* requests per second, evenly, on kept connections."""
    return asyncio.run(_Timetable(server, body).run(rate, seconds))


class _Timetable:
    def __init__(self, server: Server, body: bytes) -> None:
        host, _, port = server.removeprefix("http://").partition(":")
        self._address = host, int(port)
        head = (
            f"POST /v0/predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body
        self.errors: Counter[str] = Counter()
        self.took: list[float] = []
        self._free: deque[_Connection] = deque()
        self._due: deque[float] = deque()

    async def run(self, rate: float, seconds: float) -> Figures:
        for _ in range(CONNECTIONS):
            await self.connect()
        began = time.perf_counter()
        sent = 0
        while sent < rate * seconds:
            now = time.perf_counter()
            while began + sent / rate <= now and sent < rate * seconds:
                self._due.append(began + sent / rate)
                sent += 1
            self._send()
            await asyncio.sleep(0.0005)
        deadline = time.perf_counter() + 30
        while len(self.took) + self.errors.total() < sent and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        ended = time.perf_counter()
        if missing := sent - len(self.took) - self.errors.total():
            self.errors["no answer"] += missing
        return Figures(sorted(self.took), self.errors, len(self.took) / (ended - began))

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Connection(self), *self._address)

    def is_free(self, connection: _Connection) -> None:
        self._free.append(connection)
        self._send()

    def _send(self) -> None:
        while self._due and self._free:
            connection = self._free.popleft()
            if connection.is_open():
                connection.send(self._due.popleft())


class _Connection(asyncio.Protocol):
    def __init__(self, timetable: _Timetable) -> None:
        self._timetable = timetable
        self._due: float | None = None
        self._came = b""

    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def send(self, due: float) -> None:
        self._due, self._came = due, b""
        self._transport.write(self._timetable.request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timetable.is_free(self)

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, end, body = self._came.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if not end or len(body) < length or self._due is None:
            return
        if head.startswith(b"HTTP/1.1 200 "):
            self._timetable.took.append(time.perf_counter() - self._due)
        else:
            self._timetable.errors[head.split(b"\r\n")[0].decode()] += 1
        self._due = None
        if b"connection: close" in head.lower():
            self._transport.close()
        else:
            self._timetable.is_free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due is not None:
            self._timetable.errors[type(exc).__name__ if exc else "closed"] += 1
        self._again = asyncio.get_running_loop().create_task(self._timetable.connect())

"""gunicorn's threaded worker, changed in one thing: a thread gets a request once it has come whole.

gunicorn gives a connection to a thread as soon as it is open, and there it waits for bytes; a few
slow clients, or idle ones, then stop the worker. Here the worker's main loop collects the bytes.
What gunicorn cannot read as HTTP is answered in our form, and without quoting it.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn

from gunicorn.http import errors as http
from gunicorn.workers.gthread import TConn, ThreadWorker

from serving.adapters.arrival import HEAD_BYTES, Arrival
from serving.endpoint import respond
from serving.errors import (
    BadRequest,
    HeadersTooLarge,
    Problem,
    RequestTimeout,
    TooLarge,
    UriTooLong,
)
from serving.logs import describe, log
from serving.settings import settings

__all__ = ["BufferingWorker"]

#: How long a request may take to come whole; and an answer, to be taken without any progress.
ARRIVAL_SECONDS = 20
#: How long a connection that we end stays open for what its client still sends: closed at once, it
#: would lose the answer (RFC 9112, section 9.6).
LINGER_SECONDS = 2
#: What a worker holds of requests that have not come whole; beyond it, who sends more is cut off.
HELD_BYTES = 64 * 1024 * 1024


class _Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection, and what has come of its next request."""

    def __init__(self, worker: BufferingWorker, *args: Any) -> None:
        super().__init__(*args)
        self._worker = worker
        self.arrival = Arrival(settings().max_body_bytes)

    def close(self, graceful: bool = False) -> None:
        """Close it; with *graceful* not at once, and, unlike gunicorn, without waiting for that."""
        if graceful:
            self._worker.linger(self)
        else:
            super().close()


class BufferingWorker(ThreadWorker):  # type: ignore[misc]
    """Threads for work, and one loop for all that is slow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Connections whose request has not come whole, and connections that are closing; by age.
        self._arriving: dict[_Connection, None] = {}
        self._lingering: dict[_Connection, None] = {}
        self._held = 0

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, and wait for its first request."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        # A thread that reads or writes all the same never waits for ever.
        seconds = struct.pack("ll", ARRIVAL_SECONDS, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        self.nr_conns += 1
        conn = _Connection(self, self.cfg, client, address, listener.getsockname())
        self.poller.register(client, selectors.EVENT_READ, partial(self._receive, conn))
        self._await(conn)

    def on_client_socket_readable(self, conn: _Connection, client: socket.socket) -> None:
        """Take the next request of a connection that was kept alive."""
        self.keepalived_conns.remove(conn)
        self.poller.modify(client, selectors.EVENT_READ, partial(self._receive, conn))
        self._await(conn)
        self._receive(conn, client)

    def handle(self, conn: _Connection) -> Any:
        """Answer a request, in a thread."""
        conn.init()
        conn.parser.unreader.unread(bytes(conn.arrival.received))
        conn.arrival.received.clear()
        conn.data_ready = True
        return super().handle(conn)

    def murder_pending(self) -> None:
        """Close what has not come in time; and once we are to stop, what has not begun to."""
        super().murder_pending()
        now = time.monotonic()
        for conn in list(self._arriving):
            if conn.timeout <= now and conn.arrival.received:
                self._refuse(conn, RequestTimeout("The request did not come whole in time."))
            elif conn.timeout <= now or not (self.alive or conn.arrival.received):
                self._drop(conn)
            elif self.alive:
                break
        for conn in list(self._lingering):
            if conn.timeout > now and self.alive:
                break
            self._end(conn)

    def handle_error(self, _req: Any, client: socket.socket, _addr: Any, exc: Exception) -> None:
        """Answer what is no HTTP, in our form; gunicorn's own page would quote it."""
        if isinstance(exc, http.LimitRequestLine):
            problem: Problem = UriTooLong("The request line is too long.")
        elif isinstance(exc, http.LimitRequestHeaders):
            problem = HeadersTooLarge("The headers are too many, or too long.")
        elif isinstance(exc, http.ParseException):
            problem = BadRequest("The request is not valid HTTP/1.1.")
        else:
            log("error", "a request could not be handled", **describe(exc))
            return
        _send(client, problem)

    def linger(self, conn: _Connection) -> None:
        """Send no more, and throw away what still comes, for a while."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            conn.close()
            return
        conn.timeout = time.monotonic() + LINGER_SECONDS
        self._lingering[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._throw_away, conn))

    def _throw_away(self, conn: _Connection, client: socket.socket) -> None:
        if not _receive(client):
            self._end(conn)

    def _end(self, conn: _Connection) -> None:
        del self._lingering[conn]
        self.poller.unregister(conn.sock)
        conn.close()

    def _await(self, conn: _Connection) -> None:
        conn.timeout = time.monotonic() + ARRIVAL_SECONDS
        conn.arrival = Arrival(settings().max_body_bytes)
        self._arriving[conn] = None

    def _receive(self, conn: _Connection, client: socket.socket) -> None:
        came = _receive(client)
        arrival = conn.arrival
        if came is None or not (came or arrival.received):
            self._drop(conn)
            return
        self._held += len(came)
        try:
            whole = arrival.add(came)
        except (HeadersTooLarge, TooLarge) as problem:
            self._refuse(conn, problem)
            return
        # Cut short is whole too: nothing more will come.
        if whole or not came:
            self._forget(conn)
            self.enqueue_req(conn)
        elif self._held > HELD_BYTES:
            log("warning", "too much is held of requests that are not whole", bytes=self._held)
            self._drop(conn)
        elif arrival.asks_to_go_on:
            arrival.asks_to_go_on = False
            client.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _forget(self, conn: _Connection) -> None:
        """Wait for its request no more."""
        self.poller.unregister(conn.sock)
        del self._arriving[conn]
        self._held -= len(conn.arrival.received)

    def _drop(self, conn: _Connection, *, graceful: bool = False) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close(graceful)

    def _refuse(self, conn: _Connection, problem: Problem) -> None:
        _send(conn.sock, problem)
        self._drop(conn, graceful=True)


def _receive(client: socket.socket) -> bytes | None:
    """Take what has come: nothing at its end, None after an error."""
    try:
        return client.recv(HEAD_BYTES)
    except OSError:
        return None


class _Unread:
    """A request that was not read."""

    method = path = ""
    headers: Mapping[str, str] = {}
    args: Mapping[str, str] = {}

    def get_data(self) -> bytes:
        """Return nothing."""
        return b""


def _send(client: socket.socket, problem: Problem) -> None:
    """Write an answer, if the socket takes it at once; the connection ends with it."""

    def refuse(_: object) -> NoReturn:
        raise problem

    body, _, headers = respond(_Unread(), refuse, None)
    fields = {**headers, "Content-Length": len(body), "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"HTTP/1.1 {problem.status} {problem.title}\r\n{lines}\r\n"
    try:
        client.setblocking(False)
        client.send(head.encode("latin-1") + body)
    except OSError:
        return

"""gunicorn's threaded worker, changed in two things: when a thread is given work, and how it stops.

gunicorn gives a connection to a thread as soon as it is open, and there it waits for bytes; a few
slow clients, or idle ones, then stop the worker. Here the worker's main loop collects the bytes,
and a thread gets a request that has come whole. What gunicorn cannot read as HTTP is answered in
our form, and without quoting it.

A worker that is to stop goes on accepting for as long as it keeps kept-alive connections open. So
nobody whom it has accepted, or whom no other worker will accept, is left without an answer.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import time
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from serving.adapters.arrival import HEAD_BYTES, Arrival
from serving.adapters.gunicorn_refusals import problem_of, send_problem
from serving.errors import HeadersTooLarge, Overloaded, Problem, RequestTimeout, TooLarge
from serving.process import process
from serving.telemetry.logs import describe, log

__all__ = ["BufferingWorker"]

#: How long a request may take to come whole; and an answer, to be taken without any progress.
ARRIVAL_SECONDS = 20
#: How long a connection that we end stays open for what its client still sends: closed at once, it
#: would lose the answer (RFC 9112, section 9.6).
LINGER_SECONDS = 2
#: How many bodies of the largest size a worker holds that have not come whole, and as many again
#: that wait for their answer. Beyond it somebody is told to come again.
HELD_BODIES = 8


class _Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection, and what has come of its next request."""

    def __init__(self, worker: BufferingWorker, *args: Any) -> None:
        super().__init__(*args)
        self._worker = worker
        self.arrival = Arrival(process().settings.max_body_bytes)
        #: The bytes of the request that waits for its answer.
        self.queued = 0

    def close(self, graceful: bool = False) -> None:
        """Close it; with *graceful* not at once, and, unlike gunicorn, without waiting for that."""
        if graceful:
            self._worker.linger(self)
        else:
            super().close()


class BufferingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Threads for work, and one loop for all that is slow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Connections whose request has not come whole, and connections that are closing; by age.
        self._arriving: dict[_Connection, None] = {}
        self._lingering: dict[_Connection, None] = {}
        #: Bytes of requests that have not come whole, and of those that wait for their answer.
        self._held = self._queued = 0
        self._room = HELD_BODIES * (process().settings.max_body_bytes + HEAD_BYTES)
        #: Until when a worker that is to stop accepts.
        self._accepts_until = float("inf")

    def accept(self, listener: socket.socket) -> bool:
        """Accept a connection, if one is there, and wait for its first request."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return False
        # A thread that reads or writes all the same never waits for ever.
        seconds = struct.pack("ll", ARRIVAL_SECONDS, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        self.nr_conns += 1
        conn = _Connection(self, self.cfg, client, address, listener.getsockname())
        self.poller.register(client, selectors.EVENT_READ, partial(self._receive, conn))
        self._await(conn)
        return True

    def on_client_socket_readable(self, conn: _Connection, client: socket.socket) -> None:
        """Take the next request of a connection that was kept alive."""
        self.keepalived_conns.remove(conn)
        self.poller.modify(client, selectors.EVENT_READ, partial(self._receive, conn))
        self._await(conn)
        self._receive(conn, client)

    def handle(self, conn: _Connection) -> Any:
        """Answer a request, in a thread."""
        conn.init()
        conn.parser.unreader.unread(conn.arrival.received)
        conn.arrival.received = bytearray()
        conn.data_ready = True
        return super().handle(conn)

    def finish_request(self, conn: _Connection, done: Future[Any]) -> None:
        """Wait for the connection's next request, of which a part may have come with the last."""
        self._queued -= conn.queued
        conn.queued = 0
        kept = not (done.cancelled() or done.exception()) and done.result()
        rest = conn.parser.unreader.take_buffered() if kept else b""
        if not rest:
            super().finish_request(conn, done)
            return
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))
        self._await(conn)
        self._take(conn, rest)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept or not; when the worker is to stop, whoever waits by now, and for a while more."""
        if enabled or self.alive:
            super().set_accept_enabled(enabled)
            return
        self._accepts_until = time.monotonic() + STOP_KEEPALIVE_LINGER
        for conn in self._arriving:
            if not conn.arrival.received:
                conn.timeout = min(conn.timeout, self._accepts_until)
        self._accept_all()

    def murder_pending(self) -> None:
        """Close what has not come in time, what has lingered, and, in a stop, the door."""
        super().murder_pending()
        now = time.monotonic()
        for conn in list(self._arriving):
            # In a stop they are not in the order of their time.
            if conn.timeout > now and self.alive:
                break
            if conn.timeout <= now and conn.arrival.received:
                self._refuse(conn, RequestTimeout("The request did not come whole in time."))
            elif conn.timeout <= now:
                self._drop(conn)
        for conn in list(self._lingering):
            if conn.timeout > now:
                break
            self._end(conn)
        if not self.alive and self._accepting:
            # The last look is as close to the end as it can be.
            self._accept_all()
            if now > self._accepts_until:
                super().set_accept_enabled(False)
                for listener in self.sockets:
                    listener.close()

    def handle_error(self, _req: Any, client: socket.socket, _addr: Any, exc: Exception) -> None:
        """Answer what is no HTTP, in our form; gunicorn's own page would quote it."""
        if problem := problem_of(exc):
            send_problem(client, problem)
        else:
            log("error", "a request could not be handled", **describe(exc))

    def linger(self, conn: _Connection) -> None:
        """Send no more, and throw away what still comes, for a while."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            conn.close()
            return
        self.nr_conns += 1  # it is open, and a stop waits for it
        conn.timeout = time.monotonic() + LINGER_SECONDS
        self._lingering[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._throw_away, conn))

    def _throw_away(self, conn: _Connection, client: socket.socket) -> None:
        if not _receive(client):
            self._end(conn)

    def _end(self, conn: _Connection) -> None:
        del self._lingering[conn]
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def _accept_all(self) -> None:
        for listener in self.sockets if self._accepting else ():
            while self.accept(listener):
                pass

    def _await(self, conn: _Connection) -> None:
        seconds = ARRIVAL_SECONDS if self.alive else STOP_KEEPALIVE_LINGER
        conn.timeout = time.monotonic() + seconds
        conn.arrival = Arrival(process().settings.max_body_bytes)
        self._arriving[conn] = None

    def _receive(self, conn: _Connection, client: socket.socket) -> None:
        if conn not in self._arriving:
            return  # it was told to come again, for another's sake
        came = _receive(client)
        if came is None or not (came or conn.arrival.received):
            self._drop(conn)
        else:
            self._take(conn, came)

    def _take(self, conn: _Connection, came: bytes) -> None:
        arrival = conn.arrival
        if not (self.alive or arrival.received):
            conn.timeout = time.monotonic() + ARRIVAL_SECONDS
        self._held += len(came)
        try:
            whole = arrival.add(came)
        except (HeadersTooLarge, TooLarge) as problem:
            self._refuse(conn, problem)
            return
        # Cut short is whole too: nothing more will come.
        if whole or not came:
            self._enqueue(conn)
        elif self._held > self._room:
            # Who has taken longest makes room for the others.
            oldest = next(conn for conn in self._arriving if conn.arrival.received)
            self._refuse(oldest, Overloaded(_BUSY, headers=_LATER))
        elif arrival.asks_to_go_on:
            arrival.asks_to_go_on = False
            conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _enqueue(self, conn: _Connection) -> None:
        size = len(conn.arrival.received)
        if self._queued and self._queued + size > self._room:
            self._refuse(conn, Overloaded(_BUSY, headers=_LATER))
            return
        self._forget(conn)
        self._queued += size
        conn.queued = size
        self.enqueue_req(conn)

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
        send_problem(conn.sock, problem)
        self._drop(conn, graceful=True)


_BUSY = "More is being sent than there is room for."
_LATER = {"Retry-After": "1"}


def _receive(client: socket.socket) -> bytes | None:
    """Take what has come: nothing at its end, None after an error."""
    try:
        return client.recv(HEAD_BYTES)
    except OSError:
        return None

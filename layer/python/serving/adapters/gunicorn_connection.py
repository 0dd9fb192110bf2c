"""A client's connection: uvicorn's protocol, with the bounds that it lacks.

It overrides callbacks of asyncio and of httptools, and two methods of uvicorn's protocol. It uses
nothing private.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.errors import (
    BadRequest,
    HeadersTooLarge,
    MethodNotAllowed,
    Problem,
    RequestTimeout,
    UriTooLong,
)

__all__ = ["Connection"]

#: A head must be complete within this time. It has at most this many bytes and headers, and its
#: target at most this many bytes.
HEAD_SECONDS = 20
HEAD_BYTES, MAX_HEADERS, TARGET_BYTES = 32 * 1024, 100, 4094
#: A client must read an answer within this time. A worker holds this many bytes, and one answer.
ANSWER_SECONDS = 20
ANSWER_BYTES = 16 * 1024 * 1024
#: A stopping worker waits this long for requests on open connections.
STOP_SECONDS = 2
#: At most this many pipelined requests may wait on one connection; it is closed if more are sent.
#: While more than this many bytes of them wait, the server reads no more.
PIPELINE, PIPELINE_BYTES = 16, 32 * 1024


class Connection(HttpToolsProtocol):
    """A connection with bounds on time, memory and number."""

    #: How many connections a worker keeps open.
    most: ClassVar[int] = 1000
    #: Open connections: the one whose last request began first comes first.
    open: ClassVar[dict[Connection, None]] = {}
    #: Connections whose client has not read its answer yet, oldest first.
    untaken: ClassVar[dict[Connection, asyncio.TimerHandle]] = {}

    #: Whether a head has begun and not ended, and when it must end.
    _in_head = False
    _head_timer: asyncio.TimerHandle | None = None
    #: Bytes since the last complete part of a request.
    _unread = 0
    #: Why no more requests are read.
    _problem: Problem | None = None
    #: Requests that may not be answered yet.
    _cycles: tuple[RequestResponseCycle, ...] = ()
    #: Whether the server stops.
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection; if there are too many, end the one of the oldest request."""
        super().connection_made(transport)
        self.flow = _Flow(self, transport)
        self.parser = _Parser(self)
        self._expect_head()
        self.open[self] = None
        if len(self.open) > self.most:
            oldest = next(iter(self.open))
            del self.open[oldest]
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        for cycle in self._cycles:  # uvicorn marks only the last one
            cycle.disconnected = True
        self.open.pop(self, None)
        self._stop_head_timer()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and reject a head that is too long."""
        if self._problem:
            return
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_BYTES:
            if self._in_head:
                self._reject(self._head_problem() or _headers_too_large())
            else:  # trailers, or a chunk's extension
                self.send_400_response("The request is too long around its body.")
        elif self._in_head and self._head_timer is None:
            self._expect_head()
        if self.is_full():
            self.flow.pause_reading()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a client that has closed only its sending side."""
        if self._in_head or self._is_idle() or self.cycle.more_body:
            return False
        self.leave()
        return True

    def on_message_begin(self) -> None:
        """Note a request."""
        if len(self.pipeline) >= PIPELINE and not self._problem:
            raise ValueError("too many requests at once")
        if self in self.open:
            self.open[self] = self.open.pop(self)
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start a request. One that offers another protocol is read again first."""
        if self.parser.should_upgrade():
            return
        self._in_head, self._unread = False, 0
        self._stop_head_timer()
        if problem := self._problem or self._head_problem() or self._host_problem():
            self.scope["state"]["problem"] = problem
            self.url = b"/"
        super().on_headers_complete()
        self._cycles = (*(one for one in self._cycles if not one.response_complete), self.cycle)
        if self._stopping:
            self.leave()

    def on_body(self, body: bytes) -> None:
        """Note a part of a body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note a whole request."""
        if self.parser.should_upgrade():
            return
        self._unread = 0
        super().on_message_complete()

    def decline(self, rest: bytes) -> None:
        """
        Read a request that offers another protocol as if it did not (RFC 9110, section 7.8).

        httptools reads no body behind such a head, and Java's HttpClient always makes the offer.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._reject(MethodNotAllowed("The server is not a proxy.", headers={"Allow": ""}))
            return
        headers = [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        lines = [b"%s %s HTTP/%s" % (method, self.url, version), *headers, b"", rest]
        self.parser = _Parser(self)
        self.parser.feed_data(b"\r\n".join(lines))

    def send_400_response(self, msg: str) -> None:
        """Reject bytes that are not HTTP. After a request, close once that one is answered."""
        if self._is_idle() or (self.cycle.more_body and not self.pipeline):
            super().send_400_response(msg)
        else:
            self.leave()

    def pause_writing(self) -> None:
        """Bound how long, and how much, answers wait for their clients."""
        super().pause_writing()
        waiting = sum(each.transport.get_write_buffer_size() for each in self.untaken)
        waiting += self.transport.get_write_buffer_size()
        for each in self.untaken:
            if waiting > ANSWER_BYTES:
                waiting -= each.transport.get_write_buffer_size()
                each.transport.abort()
        self.untaken[self] = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the client took its answer."""
        super().resume_writing()
        if timer := self.untaken.pop(self, None):
            timer.cancel()

    def shutdown(self) -> None:
        """Stop with the server: answer requests in flight, and those that soon follow."""
        self._stopping = True
        if self._is_idle():
            self.loop.call_later(STOP_SECONDS, self.leave)
        else:
            self.leave()

    def leave(self) -> None:
        """Close an idle connection at once, and a busy one after its answer."""
        super().shutdown()

    def is_full(self) -> bool:
        """Whether so many bytes of pipelined requests wait that no more are read."""
        waiting = sum(
            len(cycle.body) + sum(len(name) + len(value) for name, value in cycle.scope["headers"])
            for cycle, _ in self.pipeline
        )
        return waiting > PIPELINE_BYTES

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _head_problem(self) -> Problem | None:
        """Return the problem of an invalid head that the parser accepts."""
        if len(self.url) > TARGET_BYTES:
            return UriTooLong(f"The request target is longer than {TARGET_BYTES} bytes.")
        size = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.headers) > MAX_HEADERS or size > HEAD_BYTES:
            return _headers_too_large()
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            return BadRequest("The request is not valid HTTP/1.1.")
        return None

    def _host_problem(self) -> Problem | None:
        """Return the problem of a head without a Host, or with two (RFC 9112, section 3.2)."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts == 1 or (hosts == 0 and self.parser.get_http_version() == "1.0"):
            return None
        return BadRequest("Send one Host header.")

    def _reject(self, problem: Problem) -> None:
        """Read no more, and let the app answer *problem*."""
        self._problem = problem
        self.parser = _Parser(self)
        # In place of the head that cannot be read. What still comes counts as this one's body.
        self.parser.feed_data(b"LOCK / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end_head)

    def _end_head(self) -> None:
        if self._in_head:
            self._reject(RequestTimeout("The request did not arrive in time."))
        else:
            self.leave()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Parser(HttpRequestParser):
    """httptools' parser. It reads on behind a head that offers another protocol."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._decline = connection.decline

    def feed_data(self, data: Any) -> None:
        try:
            super().feed_data(data)
        except HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])


class _Flow(FlowControl):
    """uvicorn's flow control. It reads no more while many bytes of pipelined requests wait."""

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if not self._connection.is_full():
            super().resume_reading()


def _headers_too_large() -> Problem:
    return HeadersTooLarge(
        f"Send at most {MAX_HEADERS} headers, of {HEAD_BYTES // 1024} KiB in all."
    )

"""A client's connection: uvicorn's protocol, with the bounds that it lacks.

It overrides callbacks of asyncio and of httptools, and two methods of uvicorn's protocol. It uses
nothing private.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["Connection"]

#: A head must be complete after this time, and this many bytes.
HEAD_SECONDS = 20
HEAD_BYTES = 32 * 1024
#: A client must read an answer within this time. A worker holds this many bytes, and one answer.
ANSWER_SECONDS = 20
ANSWER_BYTES = 16 * 1024 * 1024
#: A stopping worker waits this long for requests on open connections.
STOP_SECONDS = 2
#: This many pipelined requests may wait on one connection.
PIPELINE = 16

_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


class Connection(HttpToolsProtocol):
    """A connection with bounds on time, memory and number."""

    #: How many connections a worker keeps open.
    most: ClassVar[int] = 1000
    #: Open connections: the one whose last request began first comes first.
    open: ClassVar[dict[Connection, None]] = {}
    #: Connections whose client has not read its answer yet, oldest first.
    untaken: ClassVar[dict[Connection, asyncio.TimerHandle]] = {}

    _head_timer: asyncio.TimerHandle | None = None
    #: Where the parser is: within a request, and there within its body.
    _in_request = _in_body = False
    #: Whether the server stops.
    _stopping = False
    #: Whether the current request offers another protocol, and whether all of it is pending.
    _offers = _can_read_again = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: What has come since the last complete part of a request.
        self._pending = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection; if there are too many, end the one of the oldest request."""
        super().connection_made(transport)
        self._expect_head()
        self.open[self] = None
        if len(self.open) > self.most:
            oldest = next(iter(self.open))
            del self.open[oldest]
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self.open.pop(self, None)
        self._stop_head_timer()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that never ends ends the connection."""
        if self.pipeline:  # several requests wait already: read no more
            self.leave()
            return
        if not self._in_request:
            self._can_read_again = True
        self._pending += data
        super().data_received(data)
        if self._offers:
            self._read_again()
        elif len(self._pending) > HEAD_BYTES:
            self.send_400_response("The head is too long.")
        elif self._in_request and not self._in_body and self._head_timer is None:
            self._expect_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a client that has closed only its sending side."""
        if self._in_request:
            return False
        self.leave()
        return True

    def on_message_begin(self) -> None:
        """Note a request."""
        if len(self.pipeline) >= PIPELINE:
            raise ValueError("too many requests at once")
        if self.open.pop(self, self) is None:
            self.open[self] = None
        self._in_request = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note a complete head. A request that offers another protocol is not started yet."""
        if self.parser.should_upgrade():
            self._offers = True
            return
        self._pending.clear()
        self._stop_head_timer()
        self._in_body = True
        super().on_headers_complete()
        if self._stopping:
            self.leave()

    def on_body(self, body: bytes) -> None:
        """Note a part of a body."""
        self._pending.clear()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note a whole request."""
        if self._offers:
            return
        self._pending.clear()
        self._in_request = self._in_body = self._can_read_again = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Reject bytes that are not HTTP. After a request, close once that one is answered."""
        if self._in_body or self._is_idle():
            super().send_400_response(msg)
        else:
            self.leave()

    def pause_writing(self) -> None:
        """Bound how long, and how much, answers wait for their clients."""
        super().pause_writing()
        if self not in self.untaken:
            abort = self.transport.abort
            self.untaken[self] = self.loop.call_later(ANSWER_SECONDS, abort)
        waiting = sum(each.transport.get_write_buffer_size() for each in self.untaken)
        for each in list(self.untaken):
            if waiting > ANSWER_BYTES and each is not self:
                waiting -= each.transport.get_write_buffer_size()
                each.transport.abort()

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

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _read_again(self) -> None:
        """
        Read a request that offers another protocol again without the offer (RFC 9110, section 7.8).

        httptools reads no body behind such a head, and Java's HttpClient makes the offer always.
        """
        self._offers = self._in_request = False
        head, end, rest = bytes(self._pending).partition(b"\r\n\r\n")
        self._pending.clear()
        head, found = _UPGRADE.subn(b"", head)
        if found and self._can_read_again:
            self.data_received(head + end + rest)
        else:  # CONNECT, or a request that came together with the end of another
            self.leave()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.leave)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

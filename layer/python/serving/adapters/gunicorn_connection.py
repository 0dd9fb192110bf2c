"""A client's connection: uvicorn's protocol, with the bounds that it lacks.

Overridden are asyncio's callbacks, httptools' callbacks, and `shutdown`, which uvicorn's server
calls. None of them is private.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["Connection"]

#: A head must be complete after this time, and this many bytes.
HEAD_SECONDS = 20
HEAD_BYTES = 32 * 1024
#: A client must take an answer within this time; so many bytes may wait for all clients.
ANSWER_SECONDS = 20
ANSWER_BYTES = 32 * 1024 * 1024
#: A worker that stops waits so long for requests on open connections.
STOP_SECONDS = 2
#: So many requests may wait behind another on one connection.
PIPELINE = 16


class Connection(HttpToolsProtocol):
    """A connection with bounds on time, memory and number."""

    #: How many connections a worker keeps open.
    most: ClassVar[int] = 1000
    #: Open connections: the one that has been silent longest comes first.
    open: ClassVar[dict[Connection, None]] = {}
    #: Connections whose client has not taken its answer yet, oldest first.
    untaken: ClassVar[dict[Connection, asyncio.TimerHandle]] = {}

    _head_timer: asyncio.TimerHandle | None = None
    #: Bytes that have come since the last complete part of a request.
    _pending = 0
    _whole = _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection; if there are too many, end the one that has been silent longest."""
        super().connection_made(transport)
        self._expect_head()
        self.open[self] = None
        if len(self.open) > self.most:
            oldest = next(iter(self.open))
            del self.open[oldest]
            oldest.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self.open.pop(self, None)
        self._stop_head_timer()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that never ends ends the connection."""
        if self.pipeline:  # more than one read holds is waiting: take no more
            self.leave()
            return
        if self.open.pop(self, self) is None:
            self.open[self] = None
        self._pending += len(data)
        super().data_received(data)
        if self._pending > HEAD_BYTES:
            self.send_400_response("The head is too long.")
        elif self._pending and self._head_timer is None:
            self._expect_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a client that has sent all it will, and still listens."""
        if self._whole:
            self.leave()
        return self._whole

    def on_message_begin(self) -> None:
        """Note a request."""
        if len(self.pipeline) >= PIPELINE:
            self.transport.abort()
            raise ValueError("too many requests at once")
        self._whole = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note a complete head."""
        self._pending = 0
        self._stop_head_timer()
        super().on_headers_complete()
        if self._stopping:
            self.leave()

    def on_body(self, body: bytes) -> None:
        """Note a part of a body."""
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note a whole request."""
        self._pending = 0
        self._whole = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Bound how long, and how much, answers wait for their clients."""
        super().pause_writing()
        if self not in self.untaken:
            abort = self.transport.abort
            self.untaken[self] = self.loop.call_later(ANSWER_SECONDS, abort)
        waiting = sum(each.transport.get_write_buffer_size() for each in self.untaken)
        for each in list(self.untaken):
            if waiting <= ANSWER_BYTES:
                break
            waiting -= each.transport.get_write_buffer_size()
            each.transport.abort()

    def resume_writing(self) -> None:
        """Note that the client took its answer."""
        super().resume_writing()
        if timer := self.untaken.pop(self, None):
            timer.cancel()

    def shutdown(self) -> None:
        """Stop with the server: answer what is under way, and what still comes for a while."""
        self._stopping = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(STOP_SECONDS, self.leave)
        else:
            self.leave()

    def leave(self) -> None:
        """Close an idle connection; otherwise close it behind the answer."""
        super().shutdown()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

"""Tells when an HTTP/1.1 request has come whole, from its bytes alone (RFC 9112, section 6).

It decides nothing but when the parser may start: what that makes of the bytes is its own affair,
and what looks wrong here counts as whole, so that the parser refuses it.
"""

from __future__ import annotations

import re

from serving.errors import HeadersTooLarge, TooLarge

__all__ = ["HEAD_BYTES", "Arrival"]

HEAD_BYTES = 64 * 1024

_FRAMING = re.compile(
    rb"\r\n(content-length|transfer-encoding):[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.I
)
_CONTINUE = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.I)
_CHUNK = re.compile(rb"([0-9a-f]+)[ \t]*(;[^\r\n]*)?\r\n", re.I)
_CHUNK_LINE = 1024


class Arrival:
    """
    What has come of one request.

    Attributes:
        received: The bytes.
        asks_to_go_on: Whether the head says that the client waits to be asked for the body.
    """

    def __init__(self, limit: int) -> None:
        """*limit* is of the body, in bytes."""
        self.received = bytearray()
        self.asks_to_go_on = False
        self._limit = limit
        #: Where the request ends, once the head has come; of a chunked one, as far as is known.
        self._end: int | None = None
        self._chunked = False

    def add(self, came: bytes) -> bool:
        """
        Add bytes, and tell whether the request is whole.

        Raises:
            HeadersTooLarge: Its head is more than HEAD_BYTES.
            TooLarge: Its chunks are more than the limit. (A length that says so is for the
                endpoint to refuse: it needs no more bytes for that.)
        """
        self.received += came
        if self._end is None:
            head = self.received.find(b"\r\n\r\n", 0, HEAD_BYTES + 4)
            if head < 0 and len(self.received) > HEAD_BYTES:
                raise HeadersTooLarge(f"At most {HEAD_BYTES} bytes are taken ahead of the body.")
            if head < 0:
                return False
            self._read_head(head)
        return self._chunks_are_whole() if self._chunked else self._length_has_come()

    def _read_head(self, head: int) -> None:
        text = bytes(self.received[: head + 2])
        self.asks_to_go_on = _CONTINUE.search(text) is not None
        self._end = head + 4
        match _FRAMING.findall(text):
            case [(name, value)] if name.lower() == b"content-length":
                length = int(value) if value.isdigit() and len(value) <= 18 else 0
                self._end += length if length <= self._limit else 0
            case [(_, value)]:
                self._chunked = value.lower() == b"chunked"

    def _length_has_come(self) -> bool:
        return self._end is None or len(self.received) >= self._end

    def _chunks_are_whole(self) -> bool:
        """Go from chunk to chunk as far as they have come."""
        end = self._end or 0
        while len(self.received) > end:
            found = _CHUNK.match(self.received, end, end + _CHUNK_LINE)
            if not found:
                # The line is cut, or wrong.
                return b"\n" in self.received[end:] or len(self.received) > end + _CHUNK_LINE
            size = int(found[1], 16)
            if size == 0:
                return self.received.find(b"\r\n\r\n", found.end() - 2) >= 0
            if max(size, found.end()) > self._limit + HEAD_BYTES:
                raise TooLarge(f"At most {self._limit} bytes are taken.")
            end = self._end = found.end() + size + 2
        return False

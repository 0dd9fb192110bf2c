"""Where the parts of a CSV file begin, and the bytes of one part as a file of its own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["find_cuts", "open_span"]

_BLOCK = 8 * 1024 * 1024
_QUOTE, _NEWLINE = b'"\n'
#: A quote after one of these opens a field, or is the second of two that mean one.
_BEFORE_QUOTE = np.frombuffer(b',\n\r"', np.uint8)


def find_cuts(stream: pa.NativeFile, rows: int) -> list[int] | None:
    """
    Read a CSV file once, and find the bytes where its parts begin.

    Args:
        stream: The file, from its beginning.
        rows: Lines in a part, at most. A line break in quotes ends no line.

    Returns:
        Where each part begins, the header not counted, and where the last one ends. None if the
        bytes do not show it: a quote within a field without quotes, a line that ends in a carriage
        return, or no line at all.
    """
    cuts: list[int] = []
    place = lines = returns = pairs = 0
    wanted, inside, last = 1, False, b"\n"
    while block := stream.read(_BLOCK):
        data = np.frombuffer(last + block, np.uint8)[1:]
        ends = np.flatnonzero(data == _NEWLINE)
        if (quotes := np.flatnonzero(data == _QUOTE)).size:
            before = np.frombuffer(last + block, np.uint8)[quotes[int(inside) :: 2]]
            if not np.isin(before, _BEFORE_QUOTE).all():
                return None
        if quotes.size or inside:
            ends = ends[(np.searchsorted(quotes, ends) + inside) % 2 == 0]
            inside ^= bool(quotes.size % 2)
        returns += block.count(b"\r")
        pairs += (last + block).count(b"\r\n")
        while wanted <= lines + len(ends):
            cuts.append(place + int(ends[wanted - lines - 1]) + 1)
            wanted += rows
        if not place and block.startswith((b"\r", b"\n")):
            return None  # the header is not the first line
        place, lines, last = place + len(block), lines + len(ends), block[-1:]
    if inside or returns != pairs or not cuts:
        return None
    if cuts[-1] < place or len(cuts) == 1:
        cuts.append(place)
    return cuts


def open_span(stream: pa.NativeFile, header: int, begin: int, stop: int) -> pa.NativeFile:
    """Open a part: the first *header* bytes of a file, and those from *begin* to *stop*."""
    parts = _Spans(stream, [(0, header), (begin, stop)])
    return pa.PythonFile(io.BufferedReader(parts, _BLOCK), mode="r")


class _Spans(io.RawIOBase):
    """Stretches of a file, one after the other."""

    def __init__(self, stream: pa.NativeFile, spans: list[tuple[int, int]]) -> None:
        self._stream = stream
        self._spans = spans

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._spans:
            begin, stop = self._spans.pop(0)
            self._stream.seek(begin)
            if found := self._stream.read(min(len(buffer), stop - begin)):
                self._spans.insert(0, (begin + len(found), stop))
                buffer[: len(found)] = found
                return len(found)
        return 0

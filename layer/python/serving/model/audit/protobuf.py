"""Reads protobuf's wire format: fields by number, with no schema, of bytes from anyone.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Reader", "WireError", "varints"]

#: One by one, at most; what comes in long runs is taken at once.
MAX_FIELDS = 4_000_000
#: A run is looked for where so many bytes are left, and for so many bytes at a time.
_LONG, _WINDOW = 128, 2**14
#: A message whose runs are shorter is read one by one: looking for each would take for ever.
_SHORT = 50
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK = 2**64 - 1


class WireError(ValueError):
    """The bytes are no protobuf message."""


class Reader:
    """The fields of one message, and of those within it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._bytes = np.frombuffer(data, np.uint8)
        self._left = MAX_FIELDS

    def fields(self, part: slice, *, runs: bool = False) -> Iterator[tuple[int, Any]]:
        """
        Yield each field in *part* of the data, in order, as its number and its value.

        A value is a whole number (of 64 bits, without a sign), a slice of the data where a string
        or a message is, or None for a fraction.

        Args:
            part: Where the message is.
            runs: Whether many numbers of one field that follow one another may come at once, as an
                array of int64, and many fractions as one None.

        Raises:
            WireError: It is cut short, or holds what no message does.
        """
        data, position, end = self.data, part.start, part.stop
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise WireError(f"it has more than {MAX_FIELDS} fields")
            start = position
            tag, position = data[position], position + 1
            if tag >= 0x80:
                tag, position = self._varint(start, end)
                if tag >= 2**32:  # other readers see its lower half only
                    raise WireError("it has a field with too large a number")
            kind = tag & 7
            value: Any
            if runs and end - start > _LONG and tag < 0x80 and kind in (_VARINT, _FIXED32):
                value, position, count = self._run(tag, start, end)
                runs = count >= _SHORT
            elif kind == _VARINT:
                value, position = self._varint(position, end)
            elif kind == _BYTES:
                length, position = self._varint(position, end)
                value, position = slice(position, position + length), position + length
            elif kind in (_FIXED32, _FIXED64):
                value, position = None, position + (4 if kind == _FIXED32 else 8)
            else:
                raise WireError(f"it has a field of kind {kind}")
            if position > end:
                raise WireError("it is cut short")
            yield tag >> 3, value

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """Read a number of seven bits a byte, lowest first; and the position after it."""
        data, value, shift = self.data, 0, 0
        while position < end:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & _MASK, position
            shift += 7
            if shift == 70:
                raise WireError("it has a number of more than 64 bits")
        raise WireError("it is cut short")

    def _run(self, tag: int, start: int, end: int) -> tuple[Any, int, int]:
        """Take all that follows with the same *tag*: the numbers, the place after, how many."""
        data = self._bytes[start : min(end, start + _WINDOW)]
        if tag & 7 == _FIXED32:
            count = _leading(data[: data.size // 5 * 5 : 5] == tag)
            value, size = None, 5 * count
        else:
            pairs = data[: data.size // 2 * 2].reshape(-1, 2)
            count = _leading((pairs[:, 0] == tag) & (pairs[:, 1] < 0x80))
            value, size = pairs[:count, 1].astype(np.int64), 2 * count
        if count < _SHORT and tag & 7 == _VARINT:
            starts, ends = _bounds(data)
            # Tag, number, tag, number, …
            half = starts.size // 2 * 2
            tags = starts[:half:2]
            count = _leading((data[tags] == tag) & (ends[:half:2] == tags))
            value = _decode(data, starts[1 : 2 * count : 2], ends[1 : 2 * count : 2])
            size = int(ends[2 * count - 1]) + 1 if count else 0
        if not count:
            raise WireError("it is cut short")
        return value, start + size, count


def varints(packed: bytes) -> npt.NDArray[np.int64]:
    """
    Read numbers that stand one after another, as a packed field has them.

    Raises:
        WireError: The last is cut short, or one has more than 64 bits.
    """
    data = np.frombuffer(packed, np.uint8)
    starts, ends = _bounds(data)
    if data.size and (not ends.size or ends[-1] != data.size - 1):
        raise WireError("it is cut short")
    return _decode(data, starts, ends)


def _bounds(data: npt.NDArray[np.uint8]) -> tuple[Any, Any]:
    """Find where each number starts and ends: with a byte below 128."""
    ends = np.flatnonzero(data < 0x80)
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    return starts, ends


def _decode(data: npt.NDArray[np.uint8], starts: Any, ends: Any) -> npt.NDArray[np.int64]:
    widths = ends - starts
    longest = int(widths.max(initial=0))
    if longest > 9:
        raise WireError("it has a number of more than 64 bits")
    values = data[starts].astype(np.uint64) & np.uint64(0x7F)
    for more in range(1, longest + 1):
        longer = np.flatnonzero(widths >= more)
        part = data[starts[longer] + more].astype(np.uint64) & np.uint64(0x7F)
        values[longer] |= part << np.uint64(7 * more)
    signed: npt.NDArray[np.int64] = values.view(np.int64)
    return signed


def _leading(flags: npt.NDArray[np.bool_]) -> int:
    """Count how many are true before the first that is not."""
    return int(flags.size if flags.all() else flags.argmin())

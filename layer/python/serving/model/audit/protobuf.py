"""Reads protobuf's wire format, from untrusted bytes: fields by number, without a schema.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Reader", "WireError", "varints"]

#: The most fields that are read one by one. Long runs are read at once.
MAX_FIELDS = 4_000_000
#: Bytes: a run is searched where more than _LONG are left, in at most _WINDOW at a time.
_LONG, _WINDOW = 128, 2**14
#: Fields: where a run is shorter, the rest of the message is read one by one, which is faster.
_SHORT = 50
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK = 2**64 - 1


class WireError(ValueError):
    """The bytes are not a protobuf message."""


class Reader:
    """Reads the fields of one message, and of the messages within it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._bytes = np.frombuffer(data, np.uint8)
        self._left = MAX_FIELDS

    def fields(self, part: slice, *, runs: bool = False) -> Iterator[tuple[int, Any]]:
        """
        Yield the number and the value of each field in *part* of the data, in order.

        A value is an unsigned integer of 64 bits, the slice of the data that holds a string or a
        message, or None for a floating-point number.

        Args:
            part: The message's bytes.
            runs: Whether consecutive integers of one field may be yielded as one array of int64,
                and consecutive floating-point numbers as one None.

        Raises:
            WireError: The message is cut short or malformed.
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
                if tag >= 2**32:  # other readers take its lower half
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
        """Return an integer of seven bits a byte, lowest first, and the position after it."""
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
        """Read all fields with the same *tag* in a row: values, the position after, the count."""
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
    Return the integers of a packed field, as an array of int64.

    Raises:
        WireError: The last one is cut short, or one has more than 64 bits.
    """
    data = np.frombuffer(packed, np.uint8)
    starts, ends = _bounds(data)
    if data.size and (not ends.size or ends[-1] != data.size - 1):
        raise WireError("it is cut short")
    return _decode(data, starts, ends)


def _bounds(data: npt.NDArray[np.uint8]) -> tuple[Any, Any]:
    """Return the first and the last position of each integer; the last byte is below 128."""
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
    """Count the flags before the first that is false."""
    return int(flags.size if flags.all() else flags.argmin())

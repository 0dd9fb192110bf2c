"""Rows around the training rows: what clients may send that training never saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from serving.bundle.manifest import Feature
from serving.model.engines import Columns
from serving.model.faults import magnitude

__all__ = ["apart", "beyond", "boundaries", "nudged", "perturbed"]

#: What trying may cost: values in all rows that are made at once.
CELLS = 1_000_000
#: How many jumps of an answer are looked for: each is halved sixty times.
JUMPS = 256

_STRANGE = ["", "nan", "None", "NaN", "null", "a category never seen", "é" * 1000, "ÉTÉ Straße"]
_FLOAT64 = np.finfo(np.float64)
_STRANGE_CODES = [0, -1, 7_654_321, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
_HOSTILE = [
    *("", " ", "a", "I", "a b c", "\t\n", "don't stop-word", "100% 3.14 1e9 007", "x_y __z"),
    *(
        "ÉTÉ Straße İstanbul ǅ ﬁn",
        "cafe\u0301 café naïve Ångström",
        "😀 👩‍👩‍👧 ok",
        "东京 日本語 한국어 ไทย",
    ),
    *("a" * 100_000, "free " * 20_000, "\x00 \u200b \ufeff null", "<b>&amp;</b>", "ΟΔΥΣΣΕΥΣ ς"),
]
_EXTREME = [
    *(0.0, -0.0, 1e-30, -1e-30, 1e-45, 1e30, -1e30, 1e39, -1e39),
    *(float(_FLOAT64.smallest_subnormal), float(_FLOAT64.max), float(_FLOAT64.min)),
]
_LARGE_WHOLE = [float(2**24 + n) for n in (-1, 0, 1, 2, 3)] + [float(2**31), float(2**53)]


def perturbed(
    columns: Columns,
    features: list[Feature],
    count: int,
    random: np.random.Generator,
    *,
    long: bool = True,
) -> tuple[list[list[Any]], list[int | None]]:
    """
    Draw *count* rows (at least some of every kind of change for every feature, up to CELLS).

    Half are a training row with one value changed: null, a category never seen, an extreme, a
    fraction, a value between two neighbours, a neighbouring number of float32 or of float64. The
    other half mix values of several rows. Texts of 100 kB are among them if *long*: some tokenizers
    take minutes over one.

    Returns:
        The rows, as columns; and for each row the place of the changed value, None if it is mixed.
    """
    rows = len(columns[0])
    changes = [
        (j, value)
        for j in range(len(features))
        for value in _values(columns[j], features[j], random)
        if long or not _is_long(value)
    ]
    most = max(count // 2, CELLS // len(features))
    if len(changes) > most:
        changes = [changes[i] for i in random.permutation(len(changes))[:most]]
    single = max(count // 2, len(changes))
    # Texts of 100 kB once each: they take longer than all others.
    again = [change for change in changes if not _is_long(change[1])] or changes
    changes += [again[n % len(again)] for n in range(single - len(changes))]
    picks = random.integers(rows, size=single)
    changed = [[column[i] for i in picks] for column in columns]
    for n in range(single):
        j, value = changes[n]
        changed[j][n] = value
    mixed = [
        [column[i] for i in random.integers(rows, size=count - count // 2)] for column in columns
    ]
    made = [
        [_clamp(value, feature) for value in (*a, *b)]
        for a, b, feature in zip(changed, mixed, features, strict=True)
    ]
    return made, [*(j for j, _ in changes), *[None] * (count - count // 2)]


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > 10_000


def beyond(columns: Columns, features: list[Feature]) -> npt.NDArray[np.bool_]:
    """Mark the rows, shape (n,), with a number a million times beyond all that training saw."""
    far = np.zeros(len(columns[0]), dtype=bool)
    for column, feature in zip(columns, features, strict=True):
        if feature.kind == "number":
            seen = max(abs(feature.minimum or 0.0), abs(feature.maximum or 0.0), 1.0)
            far |= np.abs(np.array(column, dtype=np.float64)) > 1e6 * seen
    return far


def _values(column: Any, feature: Feature, random: np.random.Generator) -> list[Any]:
    null = [None] if feature.nullable else []
    if feature.kind == "boolean":
        return [True, False, *null]
    if feature.kind == "text":
        some = random.choice(len(column), size=min(len(column), 20), replace=False)
        return [*_HOSTILE, *(_altered(column[i], random) for i in some), *null]
    if feature.kind == "category":
        strange: list[Any] = _STRANGE if feature.accepts_unseen else []
        if strange and feature.is_whole:
            strange = _STRANGE_CODES
        return [*(feature.categories or ()), *strange, *null]
    known = np.unique([value for value in column if value is not None])
    if not len(known):
        return [*_EXTREME, *null]
    some = random.choice(known, size=min(len(known), 20), replace=False)
    near = some.astype(np.float32)
    between = (known[:-1] + known[1:]) / 2
    return [
        *null,
        *_EXTREME,
        *_LARGE_WHOLE,
        float(known[0]),
        float(known[-1]),
        *np.nextafter(near, np.float32(np.inf)).tolist(),
        *np.nextafter(near, np.float32(-np.inf)).tolist(),
        *np.nextafter(some, np.inf).tolist(),
        *np.nextafter(some, -np.inf).tolist(),
        *(some + 0.5).tolist(),
        *(some + random.uniform(-1, 1, len(some))).tolist(),
        *random.choice(between, size=min(len(between), 20), replace=False).tolist(),
    ]


def _altered(text: str | None, random: np.random.Generator) -> str:
    """Mix up the words of a text, in another case."""
    words = (text or "").split()
    random.shuffle(words)
    return " ".join(words).swapcase() + "!"


def _clamp(value: Any, feature: Feature) -> Any:
    """Keep to the numbers that the server takes."""
    if not isinstance(value, float):
        return value
    limit = magnitude(feature)
    return min(max(value, -limit), limit)


def boundaries(
    columns: Columns,
    features: list[Feature],
    answer: Callable[[Columns], Any],
    tolerance: float,
    random: np.random.Generator,
) -> tuple[list[list[Any]], list[list[Any]]]:
    """
    Find where the pipeline's answer jumps by more than *tolerance*, by bisection over float64.

    *answer* gives shape (n, k) for n rows; *columns* are training rows to start from.

    Returns:
        Two sets of rows, pairwise equal but for one number: float64 neighbours on either side of
        a jump. Both are empty where there is none.
    """
    numbers = [j for j, f in enumerate(features) if f.kind == "number" and f.maximum is not None]
    if len(numbers) > JUMPS:
        numbers = sorted(random.choice(numbers, JUMPS, replace=False).tolist())
    tries = min(16, CELLS // (2 * len(features) * max(len(numbers), 1)))
    where = np.repeat(numbers, max(tries, 1)).astype(int)
    if not len(where):
        return [], []
    picks = random.integers(len(columns[0]), size=len(where))
    base = [[column[i] for i in picks] for column in columns]
    # Python's own integers: differences of these may take 65 bits.
    low = np.array([_ordinal(_draw(columns[j], random)) for j in where], dtype=object)
    high = np.array([_ordinal(_draw(columns[j], random)) for j in where], dtype=object)
    at_low = answer(_set(base, where, low))
    jumps: Any = np.abs(at_low - answer(_set(base, where, high))).max(axis=1) > tolerance
    if not jumps.any():
        return [], []
    jumps[np.flatnonzero(jumps)[JUMPS:]] = False
    base = [[value for value, jump in zip(column, jumps, strict=True) if jump] for column in base]
    where, low, high, at_low = where[jumps], low[jumps], high[jumps], at_low[jumps]
    while (np.abs(high - low) > 1).any():
        middle = (low + high) // 2
        same = np.abs(answer(_set(base, where, middle)) - at_low).max(axis=1) <= tolerance
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return _set(base, where, low), _set(base, where, high)


def apart(
    low: list[list[Any]], high: list[list[Any]], features: list[Feature], distance: float
) -> list[list[Any]]:
    """
    Move each pair of neighbours that `boundaries` found apart, and return the rows of both sides.

    *distance* is relative to the number itself or to the largest that training saw.
    """
    sides: tuple[list[list[Any]], list[list[Any]]] = ([], [])
    for a, b, feature in zip(low, high, features, strict=True):
        seen = max(abs(feature.minimum or 0.0), abs(feature.maximum or 0.0))
        for values, others, side in ((a, b, sides[0]), (b, a, sides[1])):
            side.append(
                [
                    value
                    if value == other or not isinstance(value, float)
                    else value + (1 if value > other else -1) * distance * max(abs(value), seen)
                    for value, other in zip(values, others, strict=True)
                ]
            )
    return [[*a, *b] for a, b in zip(*sides, strict=True)]


def nudged(columns: Columns, features: list[Feature], distance: float) -> list[list[Any]]:
    """Return one row again and again, each time with one of its numbers moved by *distance*."""
    moves = [
        (
            j,
            column[0]
            + sign * distance * max(abs(column[0]), abs(f.minimum or 0), abs(f.maximum or 0)),
        )
        for j, (column, f) in enumerate(zip(columns, features, strict=True))
        if isinstance(column[0], float)
        for sign in (-1, 1)
    ]
    rows = [list(column) * len(moves) for column in columns]
    for n, (j, value) in enumerate(moves):
        rows[j][n] = value
    return rows


def _draw(column: Any, random: np.random.Generator) -> float:
    while True:
        value = column[random.integers(len(column))]
        if value is not None:
            return float(value)


def _set(base: list[list[Any]], where: Any, ordinals: Any) -> list[list[Any]]:
    rows = [list(column) for column in base]
    for n, (j, ordinal) in enumerate(zip(where, ordinals, strict=True)):
        rows[j][n] = _number(ordinal)
    return rows


def _ordinal(value: float) -> int:
    """Number the float64s in order: neighbours differ by one (two's complement of the bits)."""
    bits = int(np.float64(value).view(np.int64))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFFFFFFFFFF)


def _number(ordinal: Any) -> float:
    size = float(np.array(abs(int(ordinal)), dtype=np.int64).view(np.float64))
    return size if ordinal >= 0 else -size

"""What runs a model. An engine knows one library, and nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, NamedTuple, Protocol

__all__ = ["Columns", "Engine", "Scores", "as_arrays", "bounded"]

#: One sequence of values per feature, in the manifest's order: float, bool, str or None each. An
#: array of numbers has NaN for None.
Columns = Sequence[Any]


class Scores(NamedTuple):
    """
    What an engine answers for n rows.

    `score` answers in lists of Python's own numbers: for one row numpy is slower. `score_arrays`
    answers in arrays of the same shapes.
    """

    #: Regression: n values. Classification: n indices into the manifest's classes.
    values: Any
    #: n rows of one for each class; None for regression, or where the classifier has none.
    probabilities: Any
    #: Of a model with several outputs: what it answers for each; the rest is empty then.
    outputs: list[Scores] | None = None

    @property
    def parts(self) -> list[Scores]:
        """The answers for each output, or the one answer there is."""
        return self.outputs or [self]


class Engine(Protocol):
    """Scores rows. Safe to call from several threads at once."""

    def score(self, columns: Columns) -> Scores:
        """Score n rows, n at least 1."""

    def score_arrays(self, columns: Columns) -> Scores:
        """Score n rows as `score` does, and answer in arrays."""


def as_arrays(scores: Scores) -> Scores:
    """Turn lists into arrays."""
    import numpy as np

    probabilities = scores.probabilities
    return Scores(
        np.asarray(scores.values),
        None if probabilities is None else np.asarray(probabilities, dtype=np.float64),
        None if scores.outputs is None else [as_arrays(part) for part in scores.outputs],
    )


def bounded(rows: list[list[float]]) -> list[list[float]]:
    """
    Clip probabilities that rounding moved out of [0, 1], and make their row add up to 1 again.

    Rows within the bounds, and rows that are not finite, stay as they are.

    Args:
        rows: Shape (n, classes).

    Raises:
        ValueError: A value is further from [0, 1] than rounding explains.
    """
    return [row if min(row) >= 0.0 and max(row) <= 1.0 else _clipped(row) for row in rows]


#: How far rounding in float32 may move a probability: the trees of a forest add up.
_ROUNDING = 1e-3


def _clipped(row: list[float]) -> list[float]:
    if not all(map(isfinite, row)):
        return row
    if min(row) < -_ROUNDING or max(row) > 1.0 + _ROUNDING:
        raise ValueError("the probabilities are outside [0, 1]")
    inside = [min(max(value, 0.0), 1.0) for value in row]
    total = sum(inside) or 1.0
    return [value / total for value in inside]

"""What runs a model. An engine knows one library, and nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

__all__ = ["Columns", "Engine", "Scores"]

#: One sequence of values per feature, in the manifest's order: float, bool, str or None each.
Columns = Sequence[Sequence[Any]]


class Scores(NamedTuple):
    """What an engine answers for n rows, in Python's own numbers: for one row numpy is slower."""

    #: Regression: n values. Classification: n indices into the manifest's classes.
    values: list[Any]
    #: n rows of one for each class; None for regression, or where the classifier has none.
    probabilities: list[list[float]] | None


class Engine(Protocol):
    """Scores rows. Safe to call from several threads at once."""

    def score(self, columns: Columns) -> Scores:
        """Score n rows, n at least 1."""

"""What runs a model. An engine knows one library, and nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Columns", "Engine", "Scores"]

#: One sequence of values per feature, in the manifest's order: float, bool, str or None each.
Columns = Sequence[Sequence[Any]]


class Scores(NamedTuple):
    """What an engine answers for n rows."""

    #: Regression: shape (n,). Classification: indices into the manifest's classes, shape (n,).
    values: npt.NDArray[Any]
    #: Shape (n, classes); None for regression, or where the classifier has none.
    probabilities: npt.NDArray[Any] | None


class Engine(Protocol):
    """Scores rows. Safe to call from several threads at once."""

    def score(self, columns: Columns) -> Scores:
        """Score n rows, n at least 1."""

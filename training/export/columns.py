"""What one step hands to the next: columns, and what is known of their values."""

from __future__ import annotations

from typing import NamedTuple

from serving.bundle.manifest import Feature

__all__ = ["Column", "Table", "held_in", "is_float32"]


class Column(NamedTuple):
    """One column of a table, and what is known of its values."""

    #: The tensor of shape (rows, width) that holds it; None for a feature as it is sent.
    source: str | None
    place: int
    #: Strings, with `MISSING` for null; otherwise float64, with NaN for null.
    text: bool = False
    #: Whole numbers of int64, which only encoders read.
    whole: bool = False
    #: Whether a value may be missing (NaN, or `MISSING`).
    gaps: bool = False
    #: Whether no value is ever infinite or beyond float32.
    small: bool = False
    #: The feature that it is computed from as `slope * x + offset`, if it is.
    feature: int | None = None
    slope: float = 1.0
    offset: float = 0.0
    #: numpy's name for what scikit-learn holds it in.
    dtype: str = "float64"


Table = list[Column]


def is_float32(feature: Feature) -> bool:
    """Whether training held *feature* in float32, and so rounded its numbers."""
    return feature.kind == "number" and feature.dtype in ("float32", "Float32")


def held_in(feature: Feature) -> str:
    """Return the dtype in which scikit-learn is given *feature*; pandas' own become float64."""
    numpys = feature.kind in ("number", "boolean") and feature.dtype[:1].islower()
    return feature.dtype if numpys and feature.dtype not in ("object", "category") else "float64"

"""What one step hands to the next: columns, and what is known of their values."""

from __future__ import annotations

from typing import Any, NamedTuple

from onnx import TensorProto
from serving.bundle.manifest import Feature, TextRule

__all__ = [
    "CannotCompileError",
    "Column",
    "Hashed",
    "Table",
    "check_written",
    "element_of",
    "held_in",
    "is_float32",
]


class CannotCompileError(Exception):
    """The pipeline has no graph. The text is the end of a sentence that names the step."""

    #: The fitted step that has no converter, as far as it is known.
    step: Any = None


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


class Hashed(Table):
    """Columns most of which are 0 in a row; it holds none where they are too many to write out."""

    def __init__(self, columns: Table, width: int, places: str, values: str) -> None:
        super().__init__(columns)
        self.width = width
        #: Tensors of shape (rows, longest): which columns are not 0, and what they hold.
        self.places, self.values = places, values


def is_float32(feature: Feature) -> bool:
    """Whether training held *feature* in float32, and so rounded its numbers."""
    return feature.kind == "number" and feature.dtype in ("float32", "Float32")


#: Lower-case dtypes that numpy does not have, or not for numbers.
_NOT_NUMPYS = ("object", "category", "boolean")


def held_in(feature: Feature) -> str:
    """Return the dtype in which scikit-learn is given *feature*; pandas' own become float64."""
    numpys = feature.kind in ("number", "boolean") and feature.dtype[:1].islower()
    return feature.dtype if numpys and feature.dtype not in _NOT_NUMPYS else "float64"


def element_of(feature: Feature, rule: TextRule | None) -> int:
    """Return ONNX's type of the input that holds *feature*, or what *rule* makes of its text."""
    if rule is not None and rule.hashes:
        return int(TensorProto.INT64)
    if feature.is_text:
        return int(TensorProto.STRING)
    if feature.is_whole and not feature.nullable:
        return int(TensorProto.INT64)
    return int(TensorProto.FLOAT if is_float32(feature) else TensorProto.DOUBLE)


def check_written(table: Table) -> None:
    """See that *table* is written out, column by column."""
    if isinstance(table, Hashed) and not table:
        raise CannotCompileError(
            f"the {table.width} columns of hashes are too many for it: set n_features=2**16 in the "
            "HashingVectorizer, or use a TfidfVectorizer"
        )

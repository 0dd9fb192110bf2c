"""Reads the schema from training data, and turns rows into what a client would send."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from msgspec.structs import replace
from serving.bundle.codec import is_field
from serving.bundle.manifest import Feature
from serving.model.engines import Columns

from training.errors import TrainingError
from training.fit.review.columns import about_dates

if TYPE_CHECKING:
    from training.export.contract import Use

__all__ = ["as_frame", "as_pandas", "check_text", "read_features", "take", "to_columns"]

#: pandas' own dtypes in place of pyarrow's, which the server need not have.
_OF_PYARROW = {"double": "Float64", "float": "Float32", "bool": "boolean", "large_string": "string"}


def as_pandas(data: Any) -> Any:
    """Turn polars' and texts into pandas', and a sparse matrix into an array; leave the rest."""
    if hasattr(data, "toarray"):
        return data.toarray()
    if type(data).__module__.partition(".")[0] == "polars":
        if hasattr(data, "columns"):
            return pd.DataFrame({name: data[name].to_numpy() for name in data.columns})
        return pd.Series(data.to_list(), name=data.name or None)
    plain = isinstance(data, list) or (isinstance(data, np.ndarray) and data.ndim == 1)
    return pd.Series(data) if plain and len(data) and isinstance(data[0], str) else data


def as_frame(data: Any) -> tuple[pd.DataFrame, bool]:
    """
    Return *data* as a DataFrame, and whether its columns had names; an array's become x0, x1 etc.

    Raises:
        TrainingError: It is no table, is empty, or has a name twice.
    """
    data = as_pandas(data)
    if isinstance(data, pd.Series):
        return as_frame(data.to_frame("text" if data.name is None else str(data.name)))
    named = isinstance(data, pd.DataFrame)
    if not named:
        array = np.asarray(data)
        if array.ndim != 2:
            found = f"have shape {array.shape}" if array.ndim else f"are a {type(data).__name__}"
            raise TrainingError(
                f"the features must be a table (a DataFrame or an array), but {found}."
            )
        data = pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])
    if data.empty:
        raise TrainingError("the data are empty: there must be rows and feature columns.")
    data = data.set_axis([str(name) for name in data.columns], axis="columns")
    if not data.columns.is_unique:
        twice = sorted(set(data.columns[data.columns.duplicated()]))
        raise TrainingError(f"column names must differ, but {', '.join(twice)} appears twice.")
    return data, named


def read_features(
    data: pd.DataFrame, uses: Sequence[Use] | None = None, *, ignored: Collection[str] = ()
) -> list[Feature]:
    """
    Describe the columns: kind, dtype, whether it has gaps, categories, range.

    Args:
        data: The rows.
        uses: What the pipeline does with each column, if there is a pipeline already.
        ignored: Columns that are left out; they may hold anything.

    Raises:
        TrainingError: A column holds what no client can send in JSON as one value.
    """
    check_text("the column names", data.columns)
    if strange := next((name for name in data.columns if not is_field(name)), None):
        raise TrainingError(
            f"the column name {strange!r} holds a quote, a backslash or a control character, which "
            "no JSON field is read by; rename it."
        )
    return [
        _read_feature(name, data[name], uses[i] if uses else None)
        for i, name in enumerate(data.columns)
        if name not in ignored
    ]


def to_columns(data: pd.DataFrame, features: list[Feature]) -> list[list[Any]]:
    """Turn a frame into columns of plain Python values, as the server decodes them from JSON."""
    return [_plain(data[feature.name], feature) for feature in features]


def _read_feature(name: str, column: pd.Series[Any], use: Use | None) -> Feature:
    known = column.dropna()
    dtype = _dtype(column)
    values = known.cat.categories.tolist() if dtype == "category" else None
    kind = _kind(name, known)
    gaps = column[column.isna()]
    none = dtype == "object" and len(gaps) > 0 and all(value is None for value in gaps)
    missing: Literal["NaN", "None"] = "None" if none else "NaN"
    feature = Feature(name=name, kind=kind, dtype=dtype, nullable=len(gaps) > 0, missing=missing)
    if kind == "boolean":
        return feature
    if kind == "category":
        encoded = use is None or use.categories is not None or dtype == "category"
        if not encoded or (use is not None and use.text):
            # Names and texts stay out of the manifest, unless an encoder enumerates them.
            return replace(feature, kind="text")
        if use is not None and use.categories and not (dtype == "category" and use.read):
            # What an encoder knows, and not what the dtype or the rows happen to list.
            values = [value for value in use.categories if isinstance(value, str)]
        categories = values if values is not None else sorted(set(known))
        if not all(isinstance(value, str) for value in categories):
            raise TrainingError(f"column {name} has categories that are not strings.")
        check_text(f"column {name}", categories)
        return replace(feature, categories=categories)
    if use is not None and _is_code(dtype, use):
        codes = use.categories
        if codes and max(codes) >= 2**63:
            raise TrainingError(
                f"column {name} holds the code {max(codes)}, and a request's integers end at "
                f'2**63 - 1: fit the pipeline on data.astype({{"{name}": str}}).'
            )
        return replace(feature, kind="category", nullable=False, missing="NaN", categories=codes)
    numbers = known.astype("float64")
    if not np.isfinite(numbers).all():
        raise TrainingError(f"column {name} holds infinity, which JSON cannot carry.")
    if len(numbers):
        feature = replace(feature, minimum=float(numbers.min()), maximum=float(numbers.max()))
    return replace(feature, categories=values)


def _dtype(column: pd.Series[Any]) -> str:
    name, pyarrow, _ = str(column.dtype).partition("[pyarrow]")
    if not pyarrow:
        return name
    return _OF_PYARROW.get(name, name.replace("uint", "UInt").replace("int", "Int"))


def _is_code(dtype: str, use: Use) -> bool:
    """Whether a column holds integers that encoders alone read, and enumerate."""
    if not use.categories or use.text or use.imputed or use.read:
        return False
    return dtype.startswith(("int", "uint")) and all(type(v) is int for v in use.categories)


def _kind(name: str, known: pd.Series[Any]) -> Literal["boolean", "category", "number"]:
    found = {type(value) for value in known.tolist()}
    if found and found <= {bool, np.bool_}:
        return "boolean"
    if found and found <= {str}:
        return "category"
    if all(issubclass(kind, int | float | np.number) and kind is not bool for kind in found):
        return "number"
    names = ", ".join(sorted(kind.__name__ for kind in found))
    if any(issubclass(kind, date) for kind in found):
        raise TrainingError(about_dates(name))
    if any(issubclass(kind, time | timedelta) for kind in found):
        raise TrainingError(
            f"column {name} holds {names}, which JSON has no type for: make numbers of it, such as "
            "seconds, before the pipeline."
        )
    text = f"column {name} holds {names}; a feature is all numbers, all booleans or all strings."
    if found == {Decimal}:
        text += f""" Fit the pipeline on data.astype({{"{name}": "float64"}})."""
    raise TrainingError(text)


def check_text(what: str, texts: Iterable[str]) -> None:
    """
    Check that *texts* can be sent as UTF-8.

    Raises:
        TrainingError: One holds half a surrogate pair, as text decoded by "surrogateescape" does.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TrainingError(f"{what} hold {text!r}, which is not Unicode text.") from error


def _plain(column: pd.Series[Any], feature: Feature) -> list[Any]:
    gaps = column.isna().tolist()
    convert: Any = {"number": float, "boolean": bool}.get(feature.kind, str)
    convert = int if feature.is_whole else convert
    return [
        None if gap else convert(value) for value, gap in zip(column.tolist(), gaps, strict=True)
    ]


def take(columns: Columns, rows: Any) -> list[list[Any]]:
    """Return the given *rows* (indices) of *columns*."""
    return [[column[i] for i in rows] for column in columns]

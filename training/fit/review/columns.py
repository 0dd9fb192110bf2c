"""Columns that look like ids, dates or row numbers, or that say nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["LEAST", "about_dates", "dated_columns", "review_columns"]

#: In fewer rows than this, that a column is constant or never the same says nothing.
LEAST = 50
#: A share of distinct strings that makes a column an id; and of a column that must look so.
_NEARLY_ALL = 0.95

_DATE = re.compile(
    r"\d{4}-\d\d?-\d\d?([T ]\d\d?:\d\d.*)?|\d\d?([./])\d\d?\2\d{2,4}( \d\d?:\d\d.*)?"
)
_ID = re.compile(r"(^|[\W_])(id|uuid|guid|key|index)$|[a-z]I[Dd]$", re.ASCII)
_ID_WORD = re.compile(r"^(id|uuid|guid|index)$", re.IGNORECASE)


def review_columns(frame: pd.DataFrame) -> Iterator[str]:
    """Yield a finding for each suspicious column of *frame*."""
    for name in frame.columns:
        known = frame[name].dropna()
        if re.fullmatch(r"Unnamed: \d+", name):
            yield (
                f"column {name!r} is the row number that to_csv() wrote: read the file with "
                "index_col=0, or drop the column."
            )
        elif known.nunique() < 2 and len(frame) >= LEAST:
            yield f"column {name!r} is constant: it says nothing, and clients must send it."
        elif pd.api.types.is_numeric_dtype(known.dtype):
            if _counts_rows(name, known):
                yield (
                    f"column {name!r} is an id or a row number: leave it out of the features "
                    f"(train keeps it for the split with --id {name!r})."
                )
        elif all(isinstance(value, str) for value in known.iloc[:1000]):
            yield from _strings(name, known)


def _counts_rows(name: str, known: pd.Series[Any]) -> bool:
    """Whether the values are all different, and are 1, 2, 3, … or are called an id."""
    if pd.api.types.is_bool_dtype(known.dtype) or len(known) < LEAST or not known.is_unique:
        return False
    values = known.to_numpy(dtype="float64")
    if not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        return False
    return bool(_named_id(name) or values.max() - values.min() == len(values) - 1)


def _named_id(name: str) -> bool:
    return bool(_ID.search(name) or _ID_WORD.search(name))


def about_dates(name: str) -> str:
    """Say what to do about a column of dates."""
    return (
        f"column {name!r} holds dates: JSON has no type for them, and as text tomorrow's is a "
        "category never seen. Make numbers of them, for training and in each request: "
        f'data["{name}"] = (pandas.to_datetime(data["{name}"]) - pandas.Timestamp("2020-01-01"))'
        ".dt.days"
    )


def dated_columns(frame: pd.DataFrame) -> list[str]:
    """Name the columns of text that looks like dates."""
    return [str(name) for name in frame.columns if _looks_dated(frame[name].dropna().unique())]


def _looks_dated(values: Any) -> bool:
    some = [value for value in values[:1000] if isinstance(value, str)]
    dates = sum(bool(_DATE.fullmatch(value.strip())) for value in some)
    return dates > 0 and dates >= _NEARLY_ALL * len(values[:1000])


def _strings(name: str, known: pd.Series[Any]) -> Iterator[str]:
    distinct = known.unique()
    if _looks_dated(distinct):
        yield about_dates(name)
    elif (
        len(known) >= LEAST
        and len(distinct) > _NEARLY_ALL * len(known)
        and not _is_prose(distinct[:1000])
    ):
        yield (
            f"column {name!r} holds a different text in nearly every row, as an id does: leave it "
            f"out of the features (train keeps it for the split with --id {name!r})."
        )


def _is_prose(texts: Any) -> bool:
    """Whether the texts have several words, so that a vectorizer can learn from them."""
    return bool(np.mean([len(str(text).split()) for text in texts]) >= 3)

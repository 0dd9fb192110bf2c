"""Scores rows in columns, without an object per row, with the same checks as for JSON.

Arrays find the values that may be wrong. Each of those then goes through the checks of
`serving.model.faults` and `serving.model.schema`, which decide and word the sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from serving.bundle.manifest import Feature
from serving.errors import InvalidInstances
from serving.model.faults import magnitude, value_faults
from serving.model.model import Model
from serving.model.schema import UNSEEN, judge_unseen, known_categories

__all__ = ["Column", "Scored", "score_columns"]

Array = npt.NDArray[Any]
_Predict = Callable[[Sequence[Array]], Mapping[str, Array]]


class Column(NamedTuple):
    """The values of one feature in n rows."""

    #: Shape (n,): floats or integers, booleans, or objects (strings).
    values: Array
    #: Shape (n,): where there is no value.
    missing: npt.NDArray[np.bool_]
    #: By row: values of another type, which `values` cannot hold.
    strays: Mapping[int, Any] = {}


class Scored(NamedTuple):
    """The results of n rows."""

    #: The model's answers by name, for the rows without an error, in order.
    answers: Mapping[str, Array]
    #: By row: why it got no answer.
    errors: dict[int, str]
    #: By row with an answer: its warnings.
    warnings: dict[int, str]
    #: By feature: how many of those rows have a category that training never saw.
    unseen: dict[str, int]


def score_columns(model: Model, columns: Sequence[Column]) -> Scored:
    """
    Score n rows, n at least 1. A row that HTTP rejects gets an error, the others an answer.

    Args:
        model: The model.
        columns: One for each feature, in the manifest's order.
    """
    features = model.manifest.features
    errors, unseen = _check(features, columns)
    rows = len(columns[0].missing)
    good = np.ones(rows, dtype=bool)
    good[list(errors)] = False
    arrays = [
        _to_engine(feature, column, good) for feature, column in zip(features, columns, strict=True)
    ]
    places = np.flatnonzero(good)
    parts = []
    for some, answer in _predict(model.predict_columns, arrays, places):
        if isinstance(answer, InvalidInstances):
            errors[int(some[0])] = answer.detail
        else:
            parts.append(answer)
    answers = (
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    )
    unseen = {row: names for row, names in unseen.items() if row not in errors}
    warnings = {row: "; ".join(f"{n}: {UNSEEN}" for n in names) for row, names in unseen.items()}
    return Scored(answers, errors, warnings, Counter(chain.from_iterable(unseen.values())))


def _predict(
    predict: _Predict, arrays: Sequence[Array], places: npt.NDArray[np.intp]
) -> Iterator[tuple[npt.NDArray[np.intp], Mapping[str, Array] | InvalidInstances]]:
    """Answer all rows at once; if that fails, halve them to isolate the rows without an answer."""
    if not len(places):
        return
    try:
        yield places, predict(arrays)
    except InvalidInstances as problem:
        if len(places) == 1:
            yield places, problem
            return
        half = len(places) // 2
        for some in (slice(None, half), slice(half, None)):
            yield from _predict(predict, [array[some] for array in arrays], places[some])


def _check(
    features: Sequence[Feature], columns: Sequence[Column]
) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Return the rows with faults and a sentence for each, and the categories never seen."""
    errors: dict[int, list[str]] = {}
    unseen: dict[int, list[str]] = {}
    for feature, column in zip(features, columns, strict=True):
        known = known_categories(feature)
        for row in np.flatnonzero(_doubtful(feature, column, known)).tolist():
            value = _value(column, row)
            faults = [fault.detail for fault in value_faults(value, (), feature)]
            if not faults and feature.kind == "category" and value not in known:
                answered, detail = judge_unseen(feature, value)
                if answered:
                    unseen.setdefault(row, []).append(feature.name)
                else:
                    faults = [detail]
            if faults:
                errors.setdefault(row, []).extend(f"{feature.name}: {text}" for text in faults)
    return {row: "; ".join(texts) for row, texts in errors.items()}, unseen


def _value(column: Column, row: int) -> Any:
    if row in column.strays:
        return column.strays[row]
    if column.missing[row]:
        return None
    value = column.values[row]
    return value.item() if isinstance(value, np.generic) else value


def _doubtful(feature: Feature, column: Column, known: frozenset[Any]) -> npt.NDArray[np.bool_]:
    """Find the values that may have a fault, or may be unseen categories. Some may be valid."""
    values, missing = column.values, column.missing
    doubtful = np.zeros(len(missing), dtype=bool) if feature.nullable else missing.copy()
    if feature.kind == "number":
        doubtful |= ~missing & ~(np.abs(values) <= magnitude(feature))
    elif feature.kind == "category":
        some = values.tolist()
        if not known.issuperset(some):
            doubtful |= ~missing & np.array([value not in known for value in some], dtype=bool)
    doubtful[list(column.strays)] = True
    return doubtful


def _to_engine(feature: Feature, column: Column, good: npt.NDArray[np.bool_]) -> Array:
    """Write the valid rows in an engine's form: NaN for a missing number, None otherwise."""
    values, missing = column.values, column.missing[good]
    if strays := {row: value for row, value in column.strays.items() if good[row]}:
        values = values.copy()
        values[list(strays)] = list(strays.values())
    values = values[good]
    if feature.kind == "number":
        numbers: Array = values.astype(np.float64)
        numbers[missing] = np.nan
        return numbers
    if feature.is_whole:
        whole = [
            None if gap else int(value)
            for value, gap in zip(values.tolist(), missing.tolist(), strict=True)
        ]
        return np.array(whole, dtype=object)
    objects: Array = values.astype(object)
    objects[missing] = None
    return objects

"""Steps that fill gaps, or mark them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from serving.model.schema import MISSING
from sklearn.impute import MissingIndicator, SimpleImputer

from training.export.converters import registry
from training.export.converters.numbers.scale import clip
from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Column, Graph, Table

__all__ = ["missing_indicator"]


@converts("transform", SimpleImputer)
def _simple_imputer(graph: Graph, imputer: Any, table: Table) -> Table:
    fills = np.asarray(imputer.statistics_)
    empty = np.array([_is_missing(fill) for fill in fills])
    kept = np.flatnonzero(~empty)
    made: Table = []
    start = 0
    for end in range(1, len(kept) + 1):
        if end < len(kept) and table[kept[end]].text == table[kept[start]].text:
            continue
        places = kept[start:end]
        made += _fill(graph, imputer.missing_values, [table[i] for i in places], fills[places])
        start = end
    if imputer.add_indicator:
        made += missing_indicator(graph, imputer.indicator_, table)
    return made


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value  # noqa: PLR0124


def _fill(graph: Graph, marker: Any, table: Table, fills: Any) -> Table:
    value = graph.matrix(table, exact=True)
    if not table[0].text:
        single = graph.is_single(table)
        numbers = fills.astype(np.float32 if single else np.float64).astype(np.float64)
        gap = _gaps(graph, marker, table)
        filled = graph.node("Where", gap, numbers, value)
        return graph.table(filled, table, gaps=not _is_missing(marker))
    if not all(isinstance(fill, str) for fill in fills):
        raise CannotCompileError(
            "only strings take the place of missing strings: set fill_value to one"
        )
    gap = _gaps(graph, marker, table)
    filled = graph.node("Where", gap, graph.constant(fills.reshape(1, -1), object), value)
    return [
        made._replace(gaps=not _sees(graph, marker, column))
        for made, column in zip(graph.table(filled, table, gaps=False), table, strict=True)
    ]


def _gaps(graph: Graph, marker: Any, table: Table) -> str:
    """Write which values are missing, shape (rows, columns), as booleans."""
    value = graph.matrix(table, exact=True)
    if table[0].text:
        if not _is_missing(marker):
            raise CannotCompileError(
                f"missing_values={marker!r} means text: clients send null for it instead"
            )
        equal = graph.node("Equal", value, graph.constant(np.array([[MISSING]], object), object))
        seen = np.array([_sees(graph, marker, column) for column in table])
        return str(equal if seen.all() else graph.node("And", equal, graph.constant(seen, bool)))
    if _is_missing(marker):
        return graph.node("IsNaN", value)
    return graph.node("Equal", value, float(marker))


def _sees(graph: Graph, marker: Any, column: Column) -> bool:
    """Whether *marker* is what stands for a missing text: scikit-learn tells None from NaN."""
    if column.feature is None or marker is pd.NA:
        return True
    feature = graph.features[column.feature]
    return feature.dtype != "object" or (marker is None) == (feature.missing == "None")


@converts("transform", MissingIndicator)
def missing_indicator(graph: Graph, indicator: Any, table: Table) -> Table:
    """Write a column of 0 and 1 for each feature that may be missing."""
    chosen: list[Column] = [table[i] for i in indicator.features_]
    made: Table = []
    for column in chosen:  # text and numbers are marked apart
        gap = graph.cast(_gaps(graph, indicator.missing_values, [column]))
        made += graph.computed(gap, 1, small=True, dtype="bool")
    if len({column.text for column in chosen}) == 1:
        gap = graph.cast(_gaps(graph, indicator.missing_values, chosen))
        made = graph.computed(gap, len(chosen), small=True, dtype="bool")
    return made


@converts("transform", "sklearn.impute._iterative.IterativeImputer")
def _iterative_imputer(graph: Graph, imputer: Any, table: Table) -> Table:
    if imputer.sample_posterior:
        raise CannotCompileError("sample_posterior=True answers by chance: leave it out")
    known = np.flatnonzero(~imputer._is_empty_feature | imputer.keep_empty_features).tolist()
    empty = imputer._is_empty_feature[known]
    gap = _gaps(graph, imputer.missing_values, [table[i] for i in known])
    gap = graph.node("And", gap, graph.constant(~empty, bool))
    made = list(registry.transform(graph, imputer.initial_imputer_, table))
    rounds = imputer.imputation_sequence_ if imputer.n_iter_ else []
    for place, others, estimator in rounds:
        found = registry.values(graph, estimator, [made[i] for i in others])
        bounds = (imputer._min_value[place], imputer._max_value[place])
        found = clip(graph, found, *(b if np.isfinite(b) else None for b in bounds))
        here = graph.columns(gap, int(place))
        before = graph.matrix([made[place]], exact=True)
        [made[place]] = graph.computed(graph.node("Where", here, found, before), 1)
    # A table of nothing but gaps would stay as filled at first: here each row is one of a table.
    filled = graph.computed(graph.matrix(made), len(known))
    if imputer.add_indicator:
        filled += missing_indicator(graph, imputer.indicator_, table)
    return filled

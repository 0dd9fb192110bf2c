"""Steps that fill gaps, or mark them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from serving.model.schema import MISSING
from sklearn.impute import MissingIndicator, SimpleImputer

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
        filled = graph.node("Where", gap, graph.constant(numbers), value)
        return graph.table(filled, table, gaps=not _is_missing(marker))
    if not all(isinstance(fill, str) for fill in fills):
        raise CannotCompileError(
            "only strings take the place of missing strings: set fill_value to one"
        )
    gap = _gaps(graph, marker, table)
    filled = graph.node("Where", gap, graph.constant(fills.reshape(1, -1), object), value)
    return graph.table(filled, table, gaps=not _is_missing(marker))


def _gaps(graph: Graph, marker: Any, table: Table) -> str:
    """Write which values are missing, shape (rows, columns), as booleans."""
    value = graph.matrix(table, exact=True)
    if table[0].text:
        if not _is_missing(marker):
            raise CannotCompileError(
                f"missing_values={marker!r} means text: clients send null for it instead"
            )
        return str(
            graph.node("Equal", value, graph.constant(np.array([[MISSING]], object), object))
        )
    if _is_missing(marker):
        return str(graph.node("IsNaN", value))
    return str(graph.node("Equal", value, graph.constant(float(marker))))


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

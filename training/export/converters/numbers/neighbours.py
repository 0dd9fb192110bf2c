"""The imputer that fills gaps from the nearest training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.impute import KNNImputer

from training.export.converters.numbers.impute import missing_indicator
from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Table

__all__ = ["nearness"]

#: How far beyond the largest number known a client may go, as a factor: further off, rounding
#: decides which rows are the nearest.
FAR = 1e3


@converts("transform", KNNImputer)
def _nearest(graph: Graph, imputer: Any, table: Table) -> Table:
    if imputer.missing_values == imputer.missing_values:  # NaN differs from itself
        raise CannotCompileError(
            f"missing_values={imputer.missing_values!r} has no converter: clients send null"
        )
    if not isinstance(imputer.metric, str) or callable(imputer.weights):
        raise CannotCompileError(
            "its metric or its weights are a function of your own: leave them at their defaults"
        )
    known = np.asarray(imputer._fit_X, np.float64)
    there = ~np.asarray(imputer._mask_fit_X)
    far = FAR * max(1.0, float(np.abs(known[there]).max(initial=0.0)))
    value = graph.finite(table, gaps=True, most=far)
    distances = ""
    made: Table = []
    for j in np.flatnonzero(imputer._valid_mask | imputer.keep_empty_features).tolist():
        column = graph.columns(value, j)
        if imputer._valid_mask[j]:
            distances = distances or _distances(graph, value, known, there)
            filling = _mean_of_nearest(graph, imputer, distances, known[:, j], there[:, j])
            empty = graph.node("IsNaN", column)
            filled = graph.node("Where", empty, filling, column)
        else:
            filled = graph.node("Where", graph.node("IsNaN", column), 0.0, column)
            filled = graph.node("Mul", filled, 0.0)
        made += graph.computed(filled, 1)
    if imputer.add_indicator:
        made += missing_indicator(graph, imputer.indicator_, table)
    return made


def _distances(graph: Graph, value: str, known: Any, there: Any) -> str:
    """
    Write the distance to each training row, (rows, known); infinity if there is none.

    It is computed in scikit-learn's order, whose rounding decides between rows almost as near.
    """
    graph.spread(len(known))
    missing = graph.node("IsNaN", value)
    absent, present = graph.cast(missing), graph.cast(graph.node("Not", missing))
    number = graph.node("Where", missing, 0.0, value)
    known = np.where(there, known, 0.0)
    squares, square = known * known, graph.node("Mul", number, number)
    product = graph.node("MatMul", number, known.T)
    total = graph.node("Mul", product, -2.0)
    own = graph.row_sums(square)
    total = graph.node("Add", graph.node("Add", total, own), squares.sum(axis=1)[None])
    total = graph.node("Max", total, 0.0)
    total = graph.node("Sub", total, graph.node("MatMul", square, ~there.T))
    total = graph.node("Sub", total, graph.node("MatMul", absent, squares.T))
    total = graph.node("Max", total, 0.0)
    compared = graph.node("MatMul", present, there.T)
    one, none = graph.constant(1.0), graph.node("Equal", compared, 0.0)
    mean = graph.node("Div", total, graph.node("Max", compared, one))
    scaled = graph.node("Sqrt", graph.node("Mul", mean, float(known.shape[1])))
    return graph.node("Where", none, np.inf, scaled)


def _mean_of_nearest(graph: Graph, imputer: Any, distances: str, numbers: Any, there: Any) -> str:
    """Write the mean of a column over the nearest rows that have it, shape (rows, 1)."""
    donors = np.flatnonzero(there)
    if len(donors) < len(numbers):
        distances = graph.columns(distances, *donors.tolist())
    count = graph.integers(min(imputer.n_neighbors, len(donors)))
    nearest, places = graph.outputs_of("TopK", distances, count, axis=1, largest=0, outputs=2)
    chosen = graph.node("Gather", numbers[donors], places)
    infinite = graph.node("Equal", nearest, np.inf)
    one, zero = graph.constant(1.0), graph.constant(0.0)
    if imputer.weights == "uniform":
        weights = graph.node("Where", infinite, zero, one)
    else:
        weights = nearness(graph, nearest)
    total = graph.node(
        "ReduceSum", graph.node("Mul", chosen, weights), graph.integers(1), keepdims=1
    )
    weight = graph.row_sums(weights)
    none = graph.node("Equal", weight, zero)
    mean = graph.constant(float(numbers[donors].mean()))
    return graph.node("Where", none, mean, graph.node("Div", total, weight))


def nearness(graph: Graph, distance: str) -> str:
    """Write 1 / distance, as weights; where a row is one of those known, it alone counts."""
    same = graph.cast(graph.node("Equal", distance, 0.0))
    any_same = graph.node("ReduceMax", same, graph.integers(1), keepdims=1)
    found = graph.node("Greater", any_same, 0.0)
    return graph.node("Where", found, same, graph.node("Reciprocal", distance))

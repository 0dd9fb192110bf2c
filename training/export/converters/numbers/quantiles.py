"""Quantiles: the lines between them, as numpy interpolates."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import QuantileTransformer

from training.export.converters.numbers.normal import normal_cdf, normal_quantile
from training.export.converters.numbers.scale import clip
from training.export.converters.registry import converts
from training.export.graph import Graph, Table

__all__ = ["from_quantiles"]


#: How near to 0 and 1 scikit-learn lets a chance be that it turns into a normal number, or back.
_EDGE = 1e-7


@converts("transform", QuantileTransformer)
def _quantiles(graph: Graph, step: Any, table: Table) -> Table:
    value, edge = graph.finite(table, gaps=True), _edge(step)
    quantiles, references = np.asarray(step.quantiles_).T, np.asarray(step.references_)
    # The mean of both directions: where quantiles repeat, each finds another end of them.
    up = _between(graph, value, quantiles, references)
    back = graph.node("Neg", value)
    down = _between(graph, back, -quantiles[:, ::-1], -references[::-1])
    mean = graph.node("Mul", graph.node("Sub", up, down), 0.5)
    mean = _ends(graph, mean, value, [(quantiles[:, -1], 1.0), (quantiles[:, 0], 0.0)], edge)
    mean = graph.node("Where", graph.node("IsNaN", value), value, mean)
    if edge:
        edge -= np.spacing(1.0)
        mean = normal_quantile(graph, clip(graph, mean, edge, 1 - edge))
    gaps = any(column.gaps for column in table)
    return graph.computed(mean, len(table), small=True, gaps=gaps)


def from_quantiles(graph: Graph, step: Any, value: str) -> str:
    """Write the way back through a fitted QuantileTransformer, shape (rows, columns)."""
    quantiles = np.asarray(step.quantiles_).T
    # Infinity is rejected.
    graph.poison(graph.node("MatMul", value, np.zeros((len(quantiles), 1))))
    edge = _edge(step)
    if edge:
        value = normal_cdf(graph, value)
    places = np.broadcast_to(step.references_, quantiles.shape)
    found = _between(graph, value, places, quantiles)
    return _ends(graph, found, value, [(1.0, quantiles[:, -1]), (0.0, quantiles[:, 0])], edge)


def _edge(step: Any) -> float:
    return _EDGE if step.output_distribution == "normal" else 0.0


def _ends(graph: Graph, found: str, value: str, ends: Any, edge: float) -> str:
    """Write the answers at the upper and the lower end, beyond them and nearer than *edge*."""
    for (end, answer), operator, sign in zip(ends, ("Greater", "Less"), (1, -1), strict=True):
        shifted = graph.node("Add", value, sign * edge) if edge else value
        reached = graph.node(operator if edge else f"{operator}OrEqual", shifted, end)
        found = graph.node("Where", reached, answer, found)
    return found


def _between(graph: Graph, value: str, places: Any, heights: Any) -> str:
    """Write the height at *value* of the lines through *places*, shape (columns, points)."""
    heights = np.broadcast_to(heights, places.shape)
    graph.spread(places.size)
    wide = graph.node("Unsqueeze", value, graph.integers(2))
    reached = graph.node("GreaterOrEqual", wide, places[None])
    count = graph.node("ReduceSum", graph.cast(reached), graph.integers(2), keepdims=0)
    # Index 0 stands for what lies below all, the last for what lies above.
    starts = np.hstack([places[:, :1], places])
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.diff(heights) / np.diff(places, axis=1)
    none = np.zeros((len(places), 1))
    slopes = np.hstack([none, np.where(np.isfinite(slopes), slopes, 0.0), none])
    lows = np.hstack([heights[:, :1], heights])
    row = graph.constant(np.arange(len(places))[None] * starts.shape[1], np.int64)
    index = graph.node("Add", graph.cast(count, np.int64), row)
    start, slope, low = (
        graph.node("Gather", part, index) for part in (starts.ravel(), slopes.ravel(), lows.ravel())
    )
    rise = graph.node("Mul", slope, graph.node("Sub", value, start))
    return graph.node("Add", rise, low)

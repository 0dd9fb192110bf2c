"""Quantiles: the lines between them, as numpy interpolates."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import QuantileTransformer

from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Table

__all__: list[str] = []


@converts("transform", QuantileTransformer)
def _quantiles(graph: Graph, step: Any, table: Table) -> Table:
    if step.output_distribution != "uniform":
        raise CannotCompileError(
            f"output_distribution={step.output_distribution!r} has no converter: 'uniform' and "
            "PowerTransformer have"
        )
    value = graph.finite(table, gaps=True)
    quantiles, references = np.asarray(step.quantiles_).T, np.asarray(step.references_)
    # The mean of both directions: where quantiles repeat, each finds another end of them.
    up = _between(graph, value, quantiles, references)
    back = graph.node("Neg", value)
    down = _between(graph, back, -quantiles[:, ::-1], -references[::-1])
    mean = graph.node("Mul", graph.node("Sub", up, down), graph.constant(0.5))
    for end, answer in ((quantiles[:, -1], 1.0), (quantiles[:, 0], 0.0)):
        here = graph.node("Equal", value, graph.constant(end[None]))
        mean = graph.node("Where", here, graph.constant(answer), mean)
    mean = graph.node("Where", graph.node("IsNaN", value), value, mean)
    gaps = any(column.gaps for column in table)
    return graph.computed(mean, len(table), small=True, gaps=gaps)


def _between(graph: Graph, value: str, places: Any, heights: Any) -> str:
    """Write the height at *value* of the lines through *places*, shape (columns, points)."""
    graph.spread(places.size)
    wide = graph.node("Unsqueeze", value, graph.integers(2))
    reached = graph.node("GreaterOrEqual", wide, graph.constant(places[None]))
    count = graph.node("ReduceSum", graph.cast(reached), graph.integers(2), keepdims=0)
    # Index 0 stands for what lies below all, the last for what lies above.
    starts = np.hstack([places[:, :1], places])
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.diff(heights) / np.diff(places, axis=1)
    none = np.zeros((len(places), 1))
    slopes = np.hstack([none, np.where(np.isfinite(slopes), slopes, 0.0), none])
    lows = np.append(heights[:1], heights)
    row = graph.constant(np.arange(len(places))[None] * starts.shape[1], np.int64)
    index = graph.node("Add", graph.cast(count, np.int64), row)
    start, slope, low = (
        graph.node("Gather", graph.constant(part), index)
        for part in (starts.ravel(), slopes.ravel(), np.tile(lows, len(places)))
    )
    rise = graph.node("Mul", slope, graph.node("Sub", value, start))
    return str(graph.node("Add", rise, low))

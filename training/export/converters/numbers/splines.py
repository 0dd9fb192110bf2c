"""B-splines, by de Boor's recursion over all columns at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import SplineTransformer

from training.export.converters.numbers.scale import clip
from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Table


@converts("transform", SplineTransformer)
def _splines(graph: Graph, step: Any, table: Table) -> Table:
    beyond = step.extrapolation
    gaps = getattr(step, "handle_missing", "error") == "zeros"
    value, degree = graph.finite(table, gaps=gaps), step.degree
    knots = np.array([spline.t for spline in step.bsplines_])  # (columns, knots)
    low, high = knots[:, degree], knots[:, -degree - 1]
    if beyond == "periodic":
        inside = _wrapped(graph, value, low, high)
    else:
        inside = value if beyond == "continue" else clip(graph, value, low, high)
    found = _basis(graph, inside, knots, degree)  # (rows, columns, splines)
    count = knots.shape[1] - degree - 1
    if beyond == "periodic":  # the last ones are the first ones, one period on
        merge = np.asarray(step.bsplines_[0].c)
        found, count = graph.node("MatMul", found, merge), merge.shape[1]
    if beyond == "linear":
        found = graph.node("Add", found, _lines(graph, step, value, low, high))
    if beyond == "error":
        outside = graph.node("Sub", value, inside)
        same = graph.node("Equal", outside, 0.0)
        if gaps:
            same = graph.node("Or", same, graph.node("IsNaN", value))
        nothing = graph.node("Where", same, 0.0, np.nan)
        graph.poison(graph.row_sums(nothing))
    if gaps:
        missing = graph.node("Unsqueeze", graph.node("IsNaN", value), graph.integers(2))
        found = graph.node("Where", missing, 0.0, found)
    if not step.include_bias:
        count -= 1
        found = graph.node("Gather", found, graph.integers(*range(count)), axis=2)
    width = count * len(table)
    return graph.computed(graph.node("Reshape", found, graph.integers(-1, width)), width)


def _wrapped(graph: Graph, value: str, low: Any, high: Any) -> str:
    """Bring *value* between *low* and *high* by whole periods, as numpy's remainder does."""
    if not (high > low).all():
        raise CannotCompileError("a column that it was fitted on is constant: leave it out")
    period = graph.constant(high - low)
    rest = graph.node("Mod", graph.node("Sub", value, low), period, fmod=1)
    below = graph.node("Less", rest, 0.0)
    rest = graph.node("Where", below, graph.node("Add", rest, period), rest)
    return graph.node("Add", low, rest)


def _basis(graph: Graph, value: str, knots: Any, degree: int) -> str:
    """Write each basis function of *degree* at *value*, shape (rows, columns, splines)."""
    intervals = knots.shape[1] - 1
    starts, ends = knots[:, :-1].copy(), knots[:, 1:].copy()
    first, last = degree, intervals - degree - 1
    # The first and the last polynomial go on beyond the knots; those before and behind are none.
    starts[:, first], ends[:, last] = -np.inf, np.inf
    starts[:, :first] = starts[:, last + 1 :] = np.inf
    graph.spread(starts.size)
    x = graph.node("Unsqueeze", value, graph.integers(2))
    above = graph.node("GreaterOrEqual", x, starts[None])
    below = graph.node("Less", x, ends[None])
    found = graph.cast(graph.node("And", above, below))
    for k in range(1, degree + 1):
        left, right = knots[:, : -k - 1], knots[:, k + 1 :]
        rise, fall = knots[:, k:-1] - left, right - knots[:, 1:-k]
        count = left.shape[1]
        up = graph.node("Mul", graph.node("Sub", x, left[None]), _inverse(rise)[None])
        down = graph.node("Mul", graph.node("Sub", right[None], x), _inverse(fall)[None])
        here = graph.node("Gather", found, graph.integers(*range(count)), axis=2)
        after = graph.node("Gather", found, graph.integers(*range(1, count + 1)), axis=2)
        found = graph.node("Add", graph.node("Mul", up, here), graph.node("Mul", down, after))
    return found


def _inverse(lengths: Any) -> Any:
    """Return 1 / length; 0 where two knots are one."""
    return np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)


def _lines(graph: Graph, step: Any, value: str, low: Any, high: Any) -> str:
    """Write what straight lines add beyond the first and the last knot."""
    degree = step.degree + 1 if step.degree <= 1 else step.degree
    parts = []
    ends = ((low, slice(None, degree), "Min"), (high, slice(-degree, None), "Max"))
    for end, bound, operator in ends:
        slopes = np.array([spline(x, nu=1) for spline, x in zip(step.bsplines_, end, strict=True)])
        kept = np.zeros_like(slopes)
        kept[:, bound] = slopes[:, bound]
        past = graph.node(operator, graph.node("Sub", value, end), 0.0)
        past = graph.node("Unsqueeze", past, graph.integers(2))
        parts.append(graph.node("Mul", past, kept[None]))
    return graph.node("Add", *parts)

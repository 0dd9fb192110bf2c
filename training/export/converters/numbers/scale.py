"""Scalers and other transformers of single numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import preprocessing

from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Table

__all__ = ["clip"]


def clip(graph: Graph, value: str, low: Any, high: Any) -> str:
    """Write numpy's clip: NaN stays NaN, which the operator Clip does not promise."""
    for operator, bound in (("Less", low), ("Greater", high)):
        if bound is not None:
            limit = graph.constant(bound)
            value = graph.node("Where", graph.node(operator, value, limit), limit, value)
    return value


def _affine(graph: Graph, table: Table, value: str, slopes: Any, offsets: Any) -> Table:
    """Describe *value*, which is `slopes * x + offsets` of the columns of *table*."""
    made = graph.table(value, table)
    return [
        column._replace(
            slope=column.slope * a,
            offset=column.offset * a + b,
            small=column.small and abs(a) < 1e30 and abs(b) < 1e30,
        )
        for column, a, b in zip(
            made,
            np.broadcast_to(slopes, len(table)).tolist(),
            np.broadcast_to(offsets, len(table)).tolist(),
            strict=True,
        )
    ]


def _last(graph: Graph, table: Table) -> Callable[[str], str]:
    """Return what is done with each result: of float32, it is rounded to float32."""
    return graph.rounded if graph.is_single(table) else lambda value: value


def _center_and_divide(graph: Graph, table: Table, center: Any, scale: Any) -> Table:
    value, last = graph.matrix(table, exact=True), _last(graph, table)
    offsets, slopes = np.zeros(1), np.ones(1)
    if center is not None:
        value = last(graph.node("Sub", value, center))
        offsets = -np.asarray(center)
    if scale is not None:
        value = last(graph.node("Div", value, scale))
        slopes = 1 / np.asarray(scale)
    return _affine(graph, table, value, slopes, offsets * slopes)


@converts("transform", preprocessing.StandardScaler)
def _standard_scaler(graph: Graph, scaler: Any, table: Table) -> Table:
    # Unlike the other scalers it rounds its numbers, too.
    kind = np.float32 if graph.is_single(table) else np.float64
    return _center_and_divide(
        graph,
        table,
        scaler.mean_.astype(kind) if scaler.with_mean else None,
        scaler.scale_.astype(kind) if scaler.with_std else None,
    )


@converts("transform", preprocessing.RobustScaler)
def _robust_scaler(graph: Graph, scaler: Any, table: Table) -> Table:
    return _center_and_divide(
        graph,
        table,
        scaler.center_ if scaler.with_centering else None,
        scaler.scale_ if scaler.with_scaling else None,
    )


@converts("transform", preprocessing.MaxAbsScaler)
def _max_abs_scaler(graph: Graph, scaler: Any, table: Table) -> Table:
    if not scaler.clip:
        return _center_and_divide(graph, table, None, scaler.scale_)
    value = graph.finite(table, gaps=True, exact=True)
    value = _last(graph, table)(graph.node("Div", value, scaler.scale_))
    return graph.table(clip(graph, value, -1.0, 1.0), table, small=True)


@converts("transform", preprocessing.MinMaxScaler)
def _min_max_scaler(graph: Graph, scaler: Any, table: Table) -> Table:
    last = _last(graph, table)
    value = graph.matrix(table, exact=True)
    if scaler.clip:
        value = graph.finite(table, gaps=True, exact=True)
    value = last(graph.node("Mul", value, scaler.scale_))
    value = last(graph.node("Add", value, scaler.min_))
    if scaler.clip:
        return graph.table(last(clip(graph, value, *scaler.feature_range)), table, small=True)
    return _affine(graph, table, value, scaler.scale_, scaler.min_)


@converts("transform", preprocessing.Normalizer)
def _normalizer(graph: Graph, scaler: Any, table: Table) -> Table:
    value = graph.finite(table)
    size = graph.node("Abs", value)
    if scaler.norm == "l1":
        size = graph.row_sums(size)
    elif scaler.norm == "l2":
        square = graph.node("Mul", value, value)
        size = graph.node("Sqrt", graph.row_sums(square))
    else:
        size = graph.node("ReduceMax", size, graph.integers(1), keepdims=1)
    nothing = graph.node("Equal", size, 0.0)
    size = graph.node("Where", nothing, 1.0, size)
    return graph.computed(graph.node("Div", value, size), len(table))


@converts("transform", preprocessing.Binarizer)
def _binarizer(graph: Graph, step: Any, table: Table) -> Table:
    above = graph.node("Greater", graph.finite(table), step.threshold)
    return graph.computed(graph.cast(above), len(table), small=True)


@converts("transform", preprocessing.PolynomialFeatures)
def _polynomial_features(graph: Graph, step: Any, table: Table) -> Table:
    value, width = graph.finite(table), len(table)
    factors = [np.repeat(np.arange(width), powers).tolist() for powers in step.powers_]
    degree = max(map(len, factors), default=0)
    if any(len(factor) < max(degree, 1) for factor in factors):
        # A column of ones stands for a factor that is not there.
        first = graph.columns(value, 0)
        ones = graph.node("Pow", first, 0.0)
        value = graph.node("Concat", value, ones, axis=1)
    product = ""
    for place in range(max(degree, 1)):
        chosen = [factor[place] if place < len(factor) else width for factor in factors]
        part = graph.columns(value, *chosen)
        product = graph.node("Mul", product, part) if place else part
    return graph.computed(product, len(factors))


@converts("transform", preprocessing.PowerTransformer)
def _power_transformer(graph: Graph, step: Any, table: Table) -> Table:
    value, lambdas = graph.finite(table, gaps=True), np.asarray(step.lambdas_)
    if np.isnan(lambdas).any():
        raise CannotCompileError("a column that it was fitted on is constant: leave it out")
    value = (_box_cox if step.method == "box-cox" else _yeo_johnson)(graph, value, lambdas)
    if not step.standardize:
        return graph.computed(value, len(table), gaps=True)
    made = graph.computed(value, len(table), gaps=any(column.gaps for column in table))
    scaler = step._scaler
    return _center_and_divide(graph, made, scaler.mean_, scaler.scale_)


def _yeo_johnson(graph: Graph, value: str, lambdas: Any) -> str:
    negative = graph.node("Less", value, 0.0)
    size = graph.node("Add", graph.node("Abs", value), 1.0)
    logarithm = graph.node("Log", size)
    high = _power(graph, size, logarithm, lambdas)
    low = graph.node("Neg", _power(graph, size, logarithm, 2 - lambdas))
    return graph.node("Where", negative, low, high)


def _box_cox(graph: Graph, value: str, lambdas: Any) -> str:
    refused = graph.node("LessOrEqual", value, 0.0)
    holes = graph.node("Where", refused, np.nan, 0.0)
    graph.poison(graph.row_sums(holes))
    return _power(graph, value, graph.node("Log", value), lambdas)


def _power(graph: Graph, size: str, logarithm: str, exponents: Any) -> str:
    """Write (size ** exponents - 1) / exponents; the logarithm where an exponent is 0."""
    none = np.abs(exponents) < np.spacing(1.0)
    safe = np.where(none, 1.0, exponents)
    power = graph.node("Pow", size, safe)
    power = graph.node("Div", graph.node("Sub", power, 1.0), safe)
    if not none.any():
        return str(power)
    return graph.node("Where", graph.constant(none, bool), logarithm, power)


@converts("transform", preprocessing.KBinsDiscretizer)
def _k_bins(graph: Graph, step: Any, table: Table) -> Table:
    value = graph.finite(table)
    inner = [edges[1:-1] for edges in step.bin_edges_]
    owner = np.repeat(np.arange(len(inner)), [len(edges) for edges in inner])
    if len(owner):
        chosen = graph.columns(value, *owner.tolist())
        above = graph.node("GreaterOrEqual", chosen, np.concatenate(inner))
        count = np.equal.outer(owner, np.arange(len(inner))).astype(float)
        bins = graph.node("MatMul", graph.cast(above), count)
    else:
        bins = graph.node("Mul", value, 0.0)
    if step.encode == "ordinal":
        return graph.computed(bins, len(table), small=True)
    wide = np.repeat(np.arange(len(inner)), step.n_bins_)
    codes = np.concatenate([np.arange(count) for count in step.n_bins_])
    spread = graph.columns(bins, *wide.tolist())
    equal = graph.node("Equal", spread, codes)
    return graph.computed(graph.cast(equal), len(wide), small=True)

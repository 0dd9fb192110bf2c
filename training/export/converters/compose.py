"""Pipelines, column transformers, searches and functions: what holds or joins other steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from training.export.converters import registry
from training.export.converters.numbers.quantiles import from_quantiles
from training.export.converters.numbers.scale import clip
from training.export.converters.registry import converts, hands_on
from training.export.graph import CannotCompileError, Graph, Table

__all__ = ["resolve_columns"]

_IMBALANCED = "imblearn.pipeline.Pipeline"


def _passes(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough")


@hands_on(registry.ANSWERS, Pipeline, _IMBALANCED)
def _last(graph: Graph, pipeline: Any, table: Table) -> tuple[Any, Table]:
    return pipeline.steps[-1][1], _steps(graph, pipeline.steps[:-1], table)


@converts("transform", Pipeline, _IMBALANCED)
def _pipeline(graph: Graph, pipeline: Any, table: Table) -> Table:
    return _steps(graph, pipeline.steps, table)


def _steps(graph: Graph, steps: Any, table: Table) -> Table:
    for _, step in steps:
        # What has fit_resample draws training rows, and does nothing afterwards.
        if not (_passes(step) or hasattr(step, "fit_resample")):
            table = registry.transform(graph, step, table)
    return table


def resolve_columns(columns: Any, names: Any, count: int) -> list[int]:
    """
    Find the places of the columns that one part of a fitted ColumnTransformer is given.

    *columns* are as `transformers_` has them: names, places, a slice or a mask, of *count* columns.
    *names* is None if they had none.
    """
    places = pd.Series(range(count), index=names if names is not None else range(count))
    if isinstance(columns, str):
        return [int(places.loc[columns])]
    if isinstance(columns, slice):
        by_name = isinstance(columns.start, str) or isinstance(columns.stop, str)
        return [int(i) for i in (places.loc[columns] if by_name else places.iloc[columns])]
    chosen = np.atleast_1d(np.asarray(columns))
    if not chosen.size:
        return []
    if chosen.dtype == bool or np.issubdtype(chosen.dtype, np.integer):
        return [int(i) for i in places.to_numpy()[chosen]]
    return [int(i) for i in places.loc[list(chosen)]]


@converts("transform", ColumnTransformer)
def _column_transformer(graph: Graph, step: Any, table: Table) -> Table:
    names = getattr(step, "feature_names_in_", None)
    weights = step.transformer_weights or {}
    made: list[Table] = []
    for name, inner, columns in step.transformers_:
        places = resolve_columns(columns, names, step.n_features_in_)
        if places:
            made.append(_part(graph, inner, [table[i] for i in places], weights.get(name)))
    return graph.stacked(made)


def _part(graph: Graph, inner: Any, table: Table, weight: float | None) -> Table:
    if isinstance(inner, str) and inner == "drop":
        return []
    if not _passes(inner):
        table = registry.transform(graph, inner, table)
    if weight is None or not table:
        return table
    value = graph.node("Mul", graph.matrix(table), weight)
    return graph.computed(value, len(table), gaps=any(column.gaps for column in table))


@converts("transform", FeatureUnion)
def _feature_union(graph: Graph, step: Any, table: Table) -> Table:
    weights = step.transformer_weights or {}
    return graph.stacked(
        [_part(graph, inner, table, weights.get(name)) for name, inner in step.transformer_list]
    )


def _log1p(graph: Graph, value: str) -> str:
    return graph.node("Log", graph.node("Add", value, 1.0))


def _expm1(graph: Graph, value: str) -> str:
    return graph.node("Sub", graph.node("Exp", value), 1.0)


def _operator(name: str) -> Callable[[Graph, str], str]:
    return lambda graph, value: graph.node(name, value)


def _scaled_logarithm(base: float) -> Callable[[Graph, str], str]:
    divisor = float(np.log(base))
    return lambda graph, value: graph.node("Div", graph.node("Log", value), divisor)


#: numpy's functions of one number that operators compute.
_FUNCTIONS: dict[Any, Callable[[Graph, str], str]] = {
    np.log: _operator("Log"),
    np.log2: _scaled_logarithm(2),
    np.log10: _scaled_logarithm(10),
    np.log1p: _log1p,
    np.exp: _operator("Exp"),
    np.exp2: lambda graph, value: graph.node("Pow", 2.0, value),
    np.expm1: _expm1,
    np.sqrt: _operator("Sqrt"),
    np.square: lambda graph, value: graph.node("Mul", value, value),
    np.abs: _operator("Abs"),
    np.negative: _operator("Neg"),
    np.reciprocal: _operator("Reciprocal"),
    np.sign: _operator("Sign"),
    np.tanh: _operator("Tanh"),
    np.sin: _operator("Sin"),
    np.cos: _operator("Cos"),
    np.floor: _operator("Floor"),
    np.rint: _operator("Round"),
    np.cbrt: lambda graph, value: graph.node(
        "Mul",
        graph.node("Sign", value),
        graph.node("Pow", graph.node("Abs", value), 1 / 3),
    ),
    np.nan_to_num: lambda graph, value: graph.node("Where", graph.node("IsNaN", value), 0.0, value),
}


def _apply(graph: Graph, function: Any, options: Any, value: str) -> str:
    options = dict(options or {})
    if function is np.clip:
        low: Any = options.pop("a_min", options.pop("min", None))
        high: Any = options.pop("a_max", options.pop("max", None))
        if (
            not options
            and (low is None or np.isscalar(low))
            and (high is None or np.isscalar(high))
        ):
            return clip(graph, value, low, high)
    try:
        written = _FUNCTIONS.get(function)
    except TypeError:  # it cannot be a key
        written = None
    if written is None or options:
        raise CannotCompileError(
            f"its function {getattr(function, '__name__', function)!r} has no operator: numpy's "
            "log, log1p, exp, expm1, sqrt, square, abs and clip have"
        )
    return written(graph, value)


@converts("transform", FunctionTransformer)
def _function_transformer(graph: Graph, step: Any, table: Table) -> Table:
    if step.func is None:
        return table
    value = _apply(graph, step.func, step.kw_args, graph.matrix(table))
    return graph.computed(value, len(table), gaps=True)


@converts("values", TransformedTargetRegressor)
def _transformed_target(graph: Graph, step: Any, table: Table) -> str:
    value = registry.values(graph, step.regressor_, table)
    return _inverse(graph, step.transformer_, value)


def _inverse(graph: Graph, transformer: Any, value: str) -> str:
    kind = type(transformer).__name__
    if kind == "FunctionTransformer":
        if transformer.inverse_func is None:
            return value
        return _apply(graph, transformer.inverse_func, transformer.inv_kw_args, value)
    if kind in ("StandardScaler", "RobustScaler", "MaxAbsScaler"):
        scaled, centered, center = {
            "StandardScaler": ("with_std", "with_mean", "mean_"),
            "RobustScaler": ("with_scaling", "with_centering", "center_"),
            "MaxAbsScaler": ("", "", ""),
        }[kind]
        if getattr(transformer, scaled, True):
            value = graph.node("Mul", value, transformer.scale_)
        if getattr(transformer, centered, False):
            value = graph.node("Add", value, getattr(transformer, center))
        return value
    if kind == "MinMaxScaler" and not transformer.clip:
        return graph.node("Div", graph.node("Sub", value, transformer.min_), transformer.scale_)
    if kind == "QuantileTransformer":
        return from_quantiles(graph, transformer, value)
    if kind == "PowerTransformer":
        return _inverse_power(graph, transformer, value)
    raise CannotCompileError(
        f"the way back through a {kind} has no converter: through a StandardScaler it has"
    )


def _inverse_power(graph: Graph, transformer: Any, value: str) -> str:
    if transformer.standardize:
        scaler = transformer._scaler
        value = graph.node("Add", graph.node("Mul", value, scaler.scale_), scaler.mean_)
    [power] = np.asarray(transformer.lambdas_).tolist()
    if transformer.method == "box-cox":
        if power == 0:
            return graph.node("Exp", value)
        base = _log1p(graph, graph.node("Mul", value, power))
        return graph.node("Exp", graph.node("Div", base, power))
    size, one = graph.node("Abs", value), graph.constant(1.0)

    def back(exponent: float) -> str:
        """Write the way back from (s ** exponent - 1) / exponent."""
        if abs(exponent) < np.spacing(1.0):
            return _expm1(graph, size)
        base = graph.node("Add", graph.node("Mul", size, exponent), one)
        return graph.node("Sub", graph.node("Pow", base, 1 / exponent), one)

    negative = graph.node("Less", value, 0.0)
    return graph.node("Where", negative, graph.node("Neg", back(2 - power)), back(power))

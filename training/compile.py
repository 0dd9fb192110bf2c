"""Compiles a fitted pipeline into one ONNX graph, preprocessing included."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from serving.bundle import Feature
from serving.schema import MISSING

__all__ = ["CannotCompileError", "compile_pipeline", "walk"]

#: Held still, so that the same pipeline gives the same bytes.
OPSET = {"": 18, "ai.onnx.ml": 3}


class CannotCompileError(Exception):
    """The pipeline has no graph; the text is a plain sentence that names the step."""


def compile_pipeline(pipeline: Any, features: list[Feature]) -> bytes:
    """
    Compile *pipeline* into a graph of float32 and string inputs.

    Raises:
        CannotCompileError: A step has no converter, or its converter gives up.
    """
    prepared = _prepare(pipeline)
    try:
        return _convert(prepared, features)
    except Exception as error:  # each converter raises what it likes
        step = _failing_step(prepared, features, str(error))
        raise CannotCompileError(f"step {step} cannot be compiled to ONNX") from error


def walk(thing: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every estimator inside *thing*, itself included, with its name in the pipeline."""
    if isinstance(thing, BaseEstimator):
        yield name or type(thing).__name__, thing
        for key, value in vars(thing).items():
            yield from walk(value, key)
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from walk(value, str(key))
    elif isinstance(thing, list | tuple):
        # ("name", estimator) and ("name", estimator, columns) are how scikit-learn names steps.
        label = thing[0] if thing and isinstance(thing[0], str) else name
        for value in thing:
            yield from walk(value, label)
    elif isinstance(thing, np.ndarray) and thing.dtype == object:
        for value in thing.ravel():
            yield from walk(value, name)


def _prepare(pipeline: Any) -> Any:
    """Copy *pipeline*, changed where the converters are stricter than scikit-learn."""
    prepared = copy.deepcopy(pipeline)
    for _, estimator in walk(prepared):
        if isinstance(estimator, SimpleImputer):
            _mark_missing(estimator)
        if "categories_" in vars(estimator):
            estimator.categories_ = [_name_missing(values) for values in estimator.categories_]
        classes = vars(estimator).get("classes_")
        if isinstance(classes, np.ndarray) and classes.dtype == bool:
            estimator.classes_ = classes.astype(np.int64)
        for predictors in vars(estimator).get("_predictors") or ():
            for predictor in predictors:
                predictor.nodes = _widen(predictor.nodes)
    return prepared


def _mark_missing(imputer: Any) -> None:
    """Let an imputer of strings look for what the server sends in place of null."""
    statistics = getattr(imputer, "statistics_", None)
    if statistics is not None and any(isinstance(value, str) for value in statistics):
        imputer.missing_values = MISSING


def _name_missing(categories: Any) -> Any:
    if categories.dtype != object:
        return categories
    return np.array(
        [MISSING if value is None or value != value else value for value in categories],  # noqa: PLR0124  # NaN is what differs from itself
        dtype=object,
    )


def _widen(nodes: Any) -> Any:
    """
    Prepare the nodes of a histogram gradient boosting tree.

    skl2onnx 1.20 fails on scikit-learn's uint32 node ids. And a threshold goes into the graph as
    float32: the largest that does not exceed it decides for float32 inputs as the double does.
    """
    wide = [
        (name, np.int64 if nodes.dtype[name] == np.uint32 else nodes.dtype[name])
        for name in nodes.dtype.names
    ]
    nodes = nodes.astype(wide)
    with np.errstate(over="ignore"):
        rounded = nodes["num_threshold"].astype(np.float32)
    above = rounded > nodes["num_threshold"]
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    nodes["num_threshold"] = rounded
    return nodes


def _convert(prepared: Any, features: list[Feature]) -> bytes:
    layouts = _layouts(prepared, features)
    for i, inputs in enumerate(layouts):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                options = {"zipmap": False} if hasattr(prepared, "classes_") else None
                graph = convert_sklearn(
                    prepared, "pipeline", inputs, options=options, target_opset=OPSET
                )
            return bytes(graph.SerializeToString())
        except Exception:
            if i + 1 == len(layouts):
                raise
    raise AssertionError("there is always a layout")


def _layouts(prepared: Any, features: list[Feature]) -> list[list[tuple[str, Any]]]:
    """Return the ways to feed the graph: an input a column, or all numbers as one matrix "x"."""
    by_column = [
        (f.name, (StringTensorType if f.kind == "category" else FloatTensorType)([None, 1]))
        for f in features
    ]
    if any(feature.kind == "category" for feature in features):
        return [by_column]
    matrix = [("x", FloatTensorType([None, len(features)]))]
    if any(isinstance(estimator, ColumnTransformer) for _, estimator in walk(prepared)):
        return [by_column, matrix]
    return [matrix, by_column]


def _failing_step(prepared: Any, features: list[Feature], message: str) -> str:
    """Name the step: the one whose class the error names, else the first that fails."""
    steps = [step for step in walk(prepared) if not isinstance(step[1], Pipeline)]
    for name, estimator in steps:
        kind = type(estimator).__name__
        if kind != "ColumnTransformer" and re.search(rf"\b(Sklearn)?{kind}\b", message):
            return f"'{name}' ({kind})"
    if not isinstance(prepared, Pipeline):
        return f"'{type(prepared).__name__}'"
    for end in range(1, len(prepared.steps)):
        try:
            _convert(Pipeline(prepared.steps[:end]), features)
        except Exception:  # this is the step
            name, estimator = prepared.steps[end - 1]
            return f"'{name}' ({type(estimator).__name__})"
    name, estimator = prepared.steps[-1]
    return f"'{name}' ({type(estimator).__name__})"

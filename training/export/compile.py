"""Compiles a fitted pipeline into one ONNX graph, preprocessing included."""

from __future__ import annotations

import contextlib
import copy
import re
import warnings
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from onnx.helper import make_attribute
from serving.bundle.manifest import Feature
from serving.model.schema import MISSING
from skl2onnx import convert_sklearn
from skl2onnx.common._container import ModelComponentContainer
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from training.export.text_imputer import convert_imputer

__all__ = ["CannotCompileError", "compile_pipeline", "walk"]

#: Held still, so that the same pipeline gives the same bytes.
OPSET = {"": 19, "ai.onnx.ml": 3}


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
    return prepared


def _mark_missing(imputer: Any) -> None:
    """Let an imputer of strings look for what the server sends in place of null."""
    statistics = getattr(imputer, "statistics_", None)
    if isinstance(imputer.missing_values, str):
        return  # to it, null is no missing value
    if statistics is not None and any(isinstance(value, str) for value in statistics):
        imputer.missing_values = MISSING


def _name_missing(categories: Any) -> Any:
    if categories.dtype != object:
        return categories
    return np.array(
        [MISSING if value is None or value != value else value for value in categories],  # noqa: PLR0124  # NaN is what differs from itself
        dtype=object,
    )


@contextlib.contextmanager
def _plain_integers() -> Iterator[None]:
    """
    Turn numpy's integers and booleans among a node's attributes into Python's.

    skl2onnx 1.20 hands on scikit-learn's uint32 ids of histogram gradient boosting, and False for
    0, and protobuf takes neither.
    """
    original = ModelComponentContainer.add_node

    def add_node(self: Any, op_type: Any, inputs: Any, outputs: Any, **attributes: Any) -> None:
        for key, values in attributes.items():
            if isinstance(values, list) and values and isinstance(values[0], Integral | np.bool_):
                attributes[key] = [int(value) for value in values]
        original(self, op_type, inputs, outputs, **attributes)

    ModelComponentContainer.add_node = add_node
    try:
        yield
    finally:
        ModelComponentContainer.add_node = original


def _convert(prepared: Any, features: list[Feature]) -> bytes:
    first, *others = _layouts(prepared, features)
    try:
        return _convert_from(prepared, first)
    except Exception:
        for inputs in others:
            with contextlib.suppress(Exception):
                return _convert_from(prepared, inputs)
        raise


def _convert_from(prepared: Any, inputs: list[tuple[str, Any]]) -> bytes:
    options: dict[Any, Any] | None = None
    if hasattr(prepared, "predict_proba"):
        options = {"zipmap": False}  # or probabilities come as a list of dictionaries
    elif hasattr(prepared, "classes_"):
        # Said for this estimator, or skl2onnx asks LinearSVC for "zipmap", which it has not.
        last = prepared[-1] if isinstance(prepared, Pipeline) else prepared
        options = {id(last): {"nocl": False}}
    with warnings.catch_warnings(), _plain_integers():
        warnings.simplefilter("ignore")
        graph = convert_sklearn(
            prepared,
            "pipeline",
            inputs,
            options=options,
            target_opset=OPSET,
            custom_conversion_functions={SimpleImputer: convert_imputer},
        )
    _use_no_locale(graph)
    _order_domains(graph)
    return bytes(graph.SerializeToString())


def _use_no_locale(graph: Any) -> None:
    """Lower the case of text as C does: the language of this machine may be none of a server's."""
    for node in graph.graph.node:
        if node.op_type == "StringNormalizer":
            others = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*others, make_attribute("locale", "C")])


def _order_domains(graph: Any) -> None:
    """Name the domains of operators in one order: skl2onnx has them in a set."""
    domains = sorted(graph.opset_import, key=lambda opset: opset.domain)
    del graph.opset_import[:]
    graph.opset_import.extend(domains)


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

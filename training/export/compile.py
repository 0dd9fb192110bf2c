"""Compiles a fitted pipeline into one ONNX graph, preprocessing included."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from serving.bundle.manifest import Feature, Manifest, TextRule

from training.export import converters
from training.export.converters import registry
from training.export.graph import CannotCompileError, Graph, Table
from training.export.walk import best_of, walk

__all__ = ["CannotCompileError", "Compiled", "compile_pipeline"]

#: What a tensor may hold where a row takes many numbers: 32 MB.
NUMBERS_AT_ONCE = 4_000_000
WIDE = 1_000

for _module in walk_packages(converters.__path__, f"{converters.__name__}."):
    if not _module.name.endswith(".fallback"):  # it takes long to import, and few steps need it
        import_module(_module.name)


class Compiled(NamedTuple):
    """A graph, and what its server must know of it."""

    graph: bytes
    #: For each of the graph's inputs, the features in it, by place.
    inputs: list[list[int]]
    #: By the place of an input: how the text of its feature is split into terms.
    texts: dict[int, TextRule]
    #: The features, with the limits that the pipeline's steps set.
    features: list[Feature]
    #: Steps that compute in float32 where scikit-learn computes in float64.
    inexact: list[str]
    #: How many rows are scored at once; None for any number.
    rows_at_once: int | None


def compile_pipeline(
    pipeline: Any, draft: Manifest, names: Sequence[str] | None = None
) -> Compiled:
    """
    Compile *pipeline* into a graph of float64 and string inputs.

    Args:
        pipeline: Fitted.
        draft: Its features are the graph's inputs.
        names: All columns that it was fitted on, if some are no features.

    Raises:
        CannotCompileError: A step has no converter; the text is a plain sentence that names it.
    """
    graph = Graph(draft.features)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # converters ask the pipeline's steps about made rows
            outputs = _outputs(graph, best_of(pipeline), draft, graph.raw(names))
        model = graph.finish(outputs)
    except CannotCompileError as error:
        step = _name(pipeline, pipeline if error.step is None else error.step)
        raise CannotCompileError(f"step {step} cannot be compiled to ONNX: {error}") from error
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise CannotCompileError(
            f"a step cannot be compiled to ONNX: {type(error).__name__}: {error}"
        ) from error
    features = [
        replace(feature, magnitude=graph.limits.get(i))
        if math.isfinite(graph.limits.get(i, math.inf))
        else feature
        for i, feature in enumerate(draft.features)
    ]
    return Compiled(
        bytes(model.SerializeToString(deterministic=True)),
        list(graph.groups.values()),
        {i: graph.rules[name] for i, name in enumerate(graph.groups) if name in graph.rules},
        features,
        sorted(set(graph.inexact)),
        max(1, NUMBERS_AT_ONCE // graph.row_size) if graph.row_size > WIDE else None,
    )


def _outputs(
    graph: Graph, model: Any, draft: Manifest, table: Table
) -> dict[str, tuple[str, Any, int | None]]:
    if draft.task == "outliers":
        return {"values": (registry.decide(graph, model, table), np.float64, 1)}
    if draft.outputs:
        return _several(graph, model, draft, table)
    if draft.classes is None:
        return {"values": (registry.values(graph, model, table), np.float64, 1)}
    outputs: dict[str, tuple[str, Any, int | None]] = {}
    if not draft.label_is_likeliest:
        outputs["label"] = (registry.label(graph, model, table), np.int64, None)
    if draft.has_probabilities:
        found = registry.probabilities(graph, model, table)
        outputs["probabilities"] = (found, np.float64, len(draft.classes))
    return outputs


def _several(
    graph: Graph, model: Any, draft: Manifest, table: Table
) -> dict[str, tuple[str, Any, int | None]]:
    outputs: dict[str, tuple[str, Any, int | None]] = {}
    for i, (output, part) in enumerate(
        zip(draft.outputs, registry.several(graph, model, table), strict=True)
    ):
        if output.classes is None:
            outputs[f"values{i}"] = (part.values, np.float64, 1)
            continue
        outputs[f"label{i}"] = (part.label, np.int64, None)
        if output.has_probabilities:
            outputs[f"probabilities{i}"] = (part.probabilities, np.float64, len(output.classes))
    return outputs


def _name(pipeline: Any, step: Any) -> str:
    kind = type(step).__name__
    for name, estimator in walk(pipeline):
        if estimator is step and name != kind:
            return f"'{name}' ({kind})"
    return f"'{kind}'"

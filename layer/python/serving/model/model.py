"""A model that answers: a manifest, the schema compiled from it, and the engine it names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

from serving.bundle.bundle import Bundle
from serving.bundle.manifest import Manifest
from serving.bundle.trust import check_pickle
from serving.errors import BundleError, InvalidInstances, Problem
from serving.model.engines import Columns, Engine
from serving.model.predictions import to_predictions
from serving.model.sandbox import try_in_sandbox
from serving.model.schema import Instances, Schema
from serving.telemetry.logs import log

__all__ = ["Model", "open_graph", "open_model"]


class Model:
    """One version, whole: whoever holds it gets every part of an answer from it."""

    def __init__(self, manifest: Manifest, engine: Engine) -> None:
        self.manifest = manifest
        self.schema = Schema(manifest)
        self._engine = engine

    def decode(self, body: bytes, max_instances: int) -> Instances:
        """
        Decode a request body, as `Schema.decode` does.

        Raises:
            Problem: This model does not take it.
        """
        try:
            return self.schema.decode(body, max_instances)
        except Problem as problem:
            problem.model_version = self.manifest.version
            raise

    def predict(self, columns: Columns) -> list[dict[str, Any]]:
        """
        Score n rows.

        Raises:
            InvalidInstances: The pipeline has no finite answer for them.
        """
        try:
            scores = self._engine.score(columns)
        except (ValueError, ArithmeticError) as error:
            # scikit-learn's word for values that its arithmetic cannot take.
            log("warning", "the pipeline refused values", error=type(error).__name__)
            raise self._refusal("The model cannot score these values.") from None
        try:
            return to_predictions(self.manifest, scores)
        except FloatingPointError:
            raise self._refusal("The model has no finite answer for these values.") from None

    def _refusal(self, detail: str) -> InvalidInstances:
        refusal = InvalidInstances(detail)
        refusal.model_version = self.manifest.version
        return refusal


def open_model(bundle: Bundle, *, allow_pickle: bool, apart: bool = False) -> Model:
    """
    Open the model of *bundle*.

    Args:
        bundle: Its files are verified as they are read.
        allow_pickle: Whether the operator answers for a pickle, whoever wrote it.
        apart: Whether a graph is opened in another process first.

    Raises:
        BundleError: What it runs is missing, damaged or not allowed.
    """
    manifest = bundle.manifest
    if manifest.engine.name == "onnx":
        graph = bundle.read_model()
        if apart:
            try_in_sandbox(manifest, graph)
        return open_graph(manifest, graph)
    check_pickle(bundle, allowed=allow_pickle)
    try:
        from serving.model.engines.sklearn import SklearnEngine
    except ImportError as error:
        raise BundleError(
            f"{manifest.name} {manifest.version} runs on scikit-learn, and {error.name} is not "
            "installed: pip install './layer[sklearn]', or build the layer with ENGINE=sklearn."
        ) from error

    pickled = bundle.read_model()
    with _refusing(manifest):
        return Model(manifest, SklearnEngine.from_bytes(manifest, pickled))


def open_graph(manifest: Manifest, graph: bytes) -> Model:
    """
    Open the model of a *manifest* and a *graph* that were verified; its example is tried.

    Raises:
        BundleError: The graph is not allowed, or does not answer; or the two do not fit.
    """
    from serving.model.engines.onnx import OnnxEngine, limit_memory

    limit_memory()
    with _refusing(manifest):
        engine = OnnxEngine(manifest, graph)
        model = Model(manifest, engine)
        example = model.schema.decode(msgspec.json.encode(manifest.example.instance), 1)
        engine.try_out(example.columns)
    return model


@contextlib.contextmanager
def _refusing(manifest: Manifest) -> Iterator[None]:
    """Say which model cannot be served, be it for its graph or its manifest."""
    try:
        yield
    except (BundleError, Problem, ValueError, TypeError) as error:
        name = f"{manifest.name} {manifest.version}"
        raise BundleError(f"{name} cannot be served: {error}") from error

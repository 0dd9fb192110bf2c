"""A model that answers: a manifest, the schema compiled from it, and the engine that it names."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle
from serving.errors import BundleError, InvalidInstances, Problem, TooLarge
from serving.model.engines import Columns, Engine, Scores
from serving.model.predictions import max_prediction_bytes, to_columns, to_predictions
from serving.model.sandbox import try_in_sandbox
from serving.model.schema import Instances, Schema
from serving.telemetry.logs import log

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Limits", "Model", "open_graph", "open_model"]


class Limits(NamedTuple):
    """How much one request may ask of a model."""

    #: Rows in one request.
    max_instances: int = 10_000
    #: Bytes of the answer to one request, by a worst-case estimate.
    max_answer_bytes: int = 32 * 1024 * 1024


_DEFAULT = Limits()
#: What an answer takes beside predictions and warnings, with the headers in Lambda's event.
ENVELOPE_BYTES = 4096


class Model:
    """One version as a whole: every part of an answer comes from the same version."""

    def __init__(self, manifest: Manifest, engine: Engine, limits: Limits = _DEFAULT) -> None:
        self.manifest = manifest
        self.schema = Schema(manifest)
        #: The `Explainer` of its answers, made for the first request that asks for reasons.
        self.explainer: Any = None
        self._engine = engine
        self._limits = limits
        self._prediction_bytes = max_prediction_bytes(manifest)

    def decode(
        self, body: bytes, max_answer_bytes: int | None = None, *, csv: bool = False
    ) -> Instances:
        """
        Decode a request body, as `Schema.decode` does, if the answer has room for its rows.

        Args:
            body: JSON.
            max_answer_bytes: What this request's answer may take, if that is less than the limit.
            csv: Whether the body is CSV instead.

        Raises:
            Problem: This model does not take it, or the answer may be too large.
        """
        try:
            if csv:
                from serving.model.tables.csv_rows import csv_to_json

                body = csv_to_json(body, self.manifest.features, self._limits.max_instances)
            instances = self.schema.decode(body, self._limits.max_instances)
            room = min(max_answer_bytes or sys.maxsize, self._limits.max_answer_bytes)
            self._check_answer(instances, room)
            return instances
        except Problem as problem:
            problem.model_version = self.manifest.version
            raise

    def predict(self, columns: Columns) -> list[dict[str, Any]]:
        """
        Score n rows.

        Args:
            columns: One sequence of n values per feature, in the manifest's order.

        Raises:
            InvalidInstances: The pipeline has no finite answer for them.
        """
        with self._refusing():
            return to_predictions(self.manifest, self._score(self._engine.score, columns))

    def predict_columns(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        """
        Score n rows as `predict` does, and answer in arrays of n values by name.

        Args:
            columns: One array of n values per feature: float64 with NaN, or objects with None.

        Raises:
            InvalidInstances: The pipeline has no finite answer for them.
        """
        with self._refusing():
            return to_columns(self.manifest, self._score(self._engine.score_arrays, columns))

    def predict_csv(self, instances: Instances) -> bytes:
        """
        Score decoded rows, and write the answers as CSV with a column `warning`.

        Raises:
            InvalidInstances: As for `predict`.
        """
        from serving.model.tables.csv_rows import to_csv

        columns = self.predict_columns(instances.columns)
        warnings: list[str | None] = [None] * instances.rows
        for warning in instances.warnings:
            place = 0 if instances.single else int(warning.pointer.split("/")[2])
            said = f"{warning.pointer.rpartition('/')[2]}: {warning.detail}"
            warnings[place] = "; ".join(filter(None, (warnings[place], said)))
        return to_csv({**{name: c.tolist() for name, c in columns.items()}, "warning": warnings})

    def _score(self, score: Callable[[Columns], Scores], columns: Columns) -> Scores:
        try:
            return score(columns)
        except (ValueError, ArithmeticError) as error:
            # scikit-learn raises these for values that its arithmetic cannot take.
            log("warning", "the pipeline rejected values", error=type(error).__name__)
            raise self._refusal("The model cannot score these values.") from None

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except FloatingPointError:
            raise self._refusal("The model has no finite answer for these values.") from None

    def _check_answer(self, instances: Instances, room: int) -> None:
        warnings = msgspec.json.encode(msgspec.json.encode(instances.warnings).decode())
        size, rows = self._prediction_bytes, instances.rows
        fits = (room - ENVELOPE_BYTES - len(warnings)) // size
        if rows <= fits:
            return
        one = ENVELOPE_BYTES + size + (len(warnings) if rows == 1 else 0)
        if room < one:
            raise TooLarge(
                f"The answer to one instance may take {one} bytes, and an answer of at most {room} "
                "bytes can be sent."
            )
        fit = f"{fits} instances" if fits > 1 else "1 instance"
        raise TooLarge(
            f"The answer to {rows} instances may be too large; send at most {fit} at once."
        )

    def _refusal(self, detail: str) -> InvalidInstances:
        refusal = InvalidInstances(detail)
        refusal.model_version = self.manifest.version
        return refusal


def open_model(bundle: Bundle, limits: Limits = _DEFAULT, *, sandboxed: bool = False) -> Model:
    """
    Open the model of *bundle*.

    Args:
        bundle: Its files are verified as they are read.
        limits: How much one request may ask of it.
        sandboxed: Whether a graph is opened in a child process first.

    Raises:
        BundleError: What it runs is missing, damaged or not allowed.
    """
    manifest, max_model_bytes = bundle.manifest, bundle.trust.max_model_bytes
    if manifest.engine.name == "onnx":
        return open_graph(
            manifest,
            bundle.read_model(),
            limits,
            max_model_bytes=max_model_bytes,
            signed=bundle.signer is not None,
            sandboxed=sandboxed,
        )
    bundle.check_pickle()
    try:
        from serving.model.engines.sklearn import SklearnEngine
    except ImportError as error:
        raise BundleError(
            f"{manifest.name} {manifest.version} runs on scikit-learn, and {error.name} is not "
            "installed: pip install './layer[sklearn]', or build the layer with ENGINE=sklearn."
        ) from error

    pickled = bundle.read_model()
    with _refusing(manifest):
        return Model(manifest, SklearnEngine.from_bytes(manifest, pickled), limits)


def open_graph(
    manifest: Manifest,
    graph: bytes,
    limits: Limits = _DEFAULT,
    *,
    max_model_bytes: int,
    signed: bool = False,
    sandboxed: bool = False,
) -> Model:
    """
    Open a verified *graph* and score its *manifest*'s example.

    Args:
        manifest: Verified.
        graph: An ONNX model, verified.
        limits: How much one request may ask of it.
        max_model_bytes: The limit of memory for the tensors of all graphs in this process.
        signed: Whether a trusted key's signature was verified. Other graphs are audited first.
        sandboxed: Whether the graph is opened in a child process first.

    Raises:
        BundleError: The graph is not allowed, or does not answer; or the two do not fit.
    """
    if sandboxed:
        try_in_sandbox(manifest, graph, max_model_bytes=max_model_bytes)
    from serving.model.engines.onnx import OnnxEngine, limit_memory

    limit_memory(max_model_bytes)
    with _refusing(manifest):
        engine = OnnxEngine(manifest, graph, signed=signed)
        model = Model(manifest, engine, limits)
        example = model.schema.decode(msgspec.json.encode(manifest.example.instance), 1)
        engine.try_out(example.columns)
    return model


@contextlib.contextmanager
def _refusing(manifest: Manifest) -> Iterator[None]:
    """Name the model in the error, whether its graph or its manifest is at fault."""
    try:
        yield
    except (BundleError, Problem, ValueError, TypeError) as error:
        name = f"{manifest.name} {manifest.version}"
        raise BundleError(f"{name} cannot be served: {error}") from error

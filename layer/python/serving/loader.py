"""The model of this process: loaded once, verified, then shared by every request."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

from serving.bundle import Manifest, read_file, read_manifest, resolve
from serving.engines import Columns, Engine, open_engine
from serving.errors import BundleError, InvalidInstances, ModelUnavailable
from serving.logs import log
from serving.predictions import to_predictions
from serving.schema import Schema
from serving.settings import settings

__all__ = ["Model", "load_model", "open_model", "share_model"]

#: After a failed load, requests are answered 503 at once for so long before the next try.
RETRY_SECONDS = 1.0

_lock = threading.Lock()
_model: Model | None = None
_failed_at: float | None = None


class Model:
    """A manifest, the schema compiled from it, and the engine it names."""

    def __init__(self, manifest: Manifest, engine: Engine) -> None:
        self.manifest = manifest
        self.schema = Schema(manifest)
        self._engine = engine

    def predict(self, columns: Columns) -> list[dict[str, Any]]:
        """
        Score n rows.

        Raises:
            InvalidInstances: The pipeline has no finite answer for them.
        """
        import numpy as np

        try:
            scores = self._engine.score(columns)
        except (ValueError, ArithmeticError) as error:
            # scikit-learn's word for values that its arithmetic cannot take.
            log("warning", "the pipeline refused values", error=type(error).__name__)
            raise InvalidInstances("The model cannot score these values.") from None
        answer = scores.values if scores.probabilities is None else scores.probabilities
        if not np.isfinite(answer).all():
            raise InvalidInstances("The model has no finite answer for these values.")
        return to_predictions(self.manifest, scores)


def load_model() -> Model:
    """
    Return this process's model; the first call loads it, however many come at once.

    Raises:
        ModelUnavailable: It cannot be loaded now. The log says why; the client is told to retry.
    """
    return _model if _model is not None else _load()


def share_model() -> None:
    """
    Load the model ahead of a fork, if its memory can be shared safely.

    A graph runs without a thread of its own, so a forked child may use it. scikit-learn's OpenMP
    has hung in such children, so its pipelines are left for each worker to load.
    """
    # What fails here is tried, and said, by each worker.
    with contextlib.suppress(BundleError, ModelUnavailable):
        if read_manifest(resolve(Path(settings().model_uri))).engine.name == "onnx":
            load_model()


def open_model(folder: Path, *, allow_pickle: bool) -> Model:
    """
    Open the bundle at *folder*, or the one that its pointer names.

    Raises:
        BundleError: It is missing, damaged or not allowed.
    """
    bundle = resolve(folder)
    manifest = read_manifest(bundle)

    def read(name: str) -> bytes:
        return read_file(bundle, manifest, name)

    return Model(manifest, open_engine(manifest, read, allow_pickle=allow_pickle))


def _load() -> Model:
    global _model, _failed_at
    with _lock:
        if _model is not None:
            return _model
        if _failed_at is not None and time.monotonic() - _failed_at < RETRY_SECONDS:
            raise _unavailable()
        started = time.perf_counter()
        _limit_threads()
        try:
            model = open_model(Path(settings().model_uri), allow_pickle=settings().allow_pickle)
        except BundleError as error:
            _failed_at = time.monotonic()
            log("error", "no model", reason=str(error))
            raise _unavailable() from None
        log(
            "info",
            "model loaded",
            model=model.manifest.name,
            model_version=model.manifest.version,
            engine=model.manifest.engine.name,
            duration_ms=round((time.perf_counter() - started) * 1000, 1),
        )
        _model = model
        return model


def _unavailable() -> ModelUnavailable:
    return ModelUnavailable("No model can be served at the moment.", headers={"Retry-After": "1"})


def _limit_threads() -> None:
    """BLAS and OpenMP count the host's cores, not our share; they read this when first imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

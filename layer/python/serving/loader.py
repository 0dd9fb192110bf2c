"""The model of this process: loaded once, verified, then shared by every request."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from serving.bundle import Bundle, open_bundle, read_pointer
from serving.engines import Columns, Engine, open_engine
from serving.errors import BundleError, InvalidInstances, ModelUnavailable, ObjectMissing
from serving.logs import log
from serving.manifest import GRAPH_FILE, Manifest
from serving.predictions import to_predictions
from serving.schema import Schema
from serving.settings import settings
from serving.store import is_remote, open_store

__all__ = ["Model", "load_model", "open_model", "renew_model", "share_model"]

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
    started = time.perf_counter()
    # Whoever asks next is told; and tried again.
    with contextlib.suppress(ModelUnavailable), _lock, _failing_in_the_log():
        uri = settings().model_uri
        manifest, graph = _fetch_in_child(uri) if is_remote(uri) else _fetch(uri)
        if graph is not None:
            _limit_threads()
            engine = open_engine(manifest, lambda _: graph, allow_pickle=False)
            _keep(Model(manifest, engine), started)


def renew_model() -> None:
    """
    Load the live version if it is another by now, and only then let go of the one there was.

    Raises:
        ModelUnavailable: There was none, and there still is none.
    """
    global _failed_at
    if _model is None:
        _failed_at = None  # the time since then may not be ours: a snapshot stands still
        _load()
        return
    started = time.perf_counter()
    try:
        store = open_store(settings().model_uri, timeout=settings().store_timeout_seconds)
        if read_pointer(store).version != _model.manifest.version:
            model = open_model(open_bundle(store), allow_pickle=settings().allow_pickle)
            _keep(model, started)
    except ObjectMissing:
        return  # one version is served by its own address, and it never changes
    except BundleError as error:
        log("error", "the model was not renewed", reason=str(error))


def open_model(bundle: Bundle, *, allow_pickle: bool) -> Model:
    """
    Open the model of *bundle*.

    Raises:
        BundleError: What it runs is missing, damaged or not allowed.
    """
    engine = open_engine(bundle.manifest, bundle.read, allow_pickle=allow_pickle)
    return Model(bundle.manifest, engine)


def _load() -> Model:
    with _lock:
        if _model is not None:
            return _model
        if _failed_at is not None and time.monotonic() - _failed_at < RETRY_SECONDS:
            raise _unavailable()
        started = time.perf_counter()
        with _failing_in_the_log():
            _limit_threads()
            store = open_store(settings().model_uri, timeout=settings().store_timeout_seconds)
            model = open_model(open_bundle(store), allow_pickle=settings().allow_pickle)
            return _keep(model, started)


def _fetch(uri: str) -> tuple[Manifest, bytes | None]:
    """Read a manifest, and the graph if that is what runs."""
    bundle = open_bundle(open_store(uri, timeout=settings().store_timeout_seconds))
    graph = bundle.read(GRAPH_FILE) if bundle.manifest.engine.name == "onnx" else None
    return bundle.manifest, graph


def _fetch_in_child(uri: str) -> tuple[Manifest, bytes | None]:
    """Do it in a process of its own: where obstore has run, it hangs after a fork."""
    import multiprocessing
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            return pool.submit(_fetch, uri).result()
        except BrokenExecutor as error:
            raise BundleError(f"{uri}: the process that fetched it was killed.") from error


def _keep(model: Model, started: float) -> Model:
    global _model
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


@contextlib.contextmanager
def _failing_in_the_log() -> Iterator[None]:
    """Say to the operator alone why there is no model."""
    global _failed_at
    try:
        yield
    except BundleError as error:
        _failed_at = time.monotonic()
        log("error", "no model", reason=str(error))
        raise _unavailable() from None


def _unavailable() -> ModelUnavailable:
    return ModelUnavailable("No model can be served at the moment.", headers={"Retry-After": "1"})


def _limit_threads() -> None:
    """BLAS and OpenMP count the host's cores, not our share; they read this when first imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

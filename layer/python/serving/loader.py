"""The model of this process: loaded once, verified, shared by requests, renewed in one step."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from serving.bundle import Bundle, open_bundle
from serving.errors import (
    BundleError,
    BundleRefused,
    ModelUnavailable,
    ObjectMissing,
    TrialFailed,
)
from serving.logs import describe, log
from serving.manifest import Manifest
from serving.model import Model, open_graph, open_model
from serving.observers import tell
from serving.pointer import read_moved_pointer
from serving.settings import settings
from serving.store import Tag, is_remote, open_store
from serving.trial import try_apart

__all__ = ["is_outdated", "keep_fresh", "load_model", "renew_model", "share_model"]

#: After a failed load, requests are answered 503 at once for so long before the next try.
RETRY_SECONDS = 1.0
#: The same for a graph that failed its trial, which takes long and would fail again.
RETRIAL_SECONDS = 60.0

_lock = threading.Lock()
_model: Model | None = None
_failed_at: float | None = None
#: Until when a graph that failed its trial is not tried again.
_no_trial_before = 0.0
#: Whether what is opened first is tried in another process: others live by this one.
_careful = False

_renewing = threading.Lock()
#: The tag of the pointer that was followed last.
_seen: Tag | None = None
#: Whether another version is live, and was refused.
_outdated = False
#: What was said last of a renewal that failed, so that it is said once.
_said: str | None = None


def load_model() -> Model:
    """
    Return this process's model; the first call loads it, however many come at once.

    Raises:
        ModelUnavailable: It cannot be loaded now. The log says why; the client is told to retry.
    """
    return _model if _model is not None else _load()


def is_outdated() -> bool:
    """Whether another version than this process serves is live, and was refused."""
    return _outdated


def share_model() -> None:
    """
    Load the model ahead of a fork, if its memory can be shared safely.

    A graph runs without a thread of its own, so a forked child may use it. scikit-learn's OpenMP
    has hung in such children, so its pipelines are left for each worker to load.
    """
    global _model, _outdated, _careful
    started = time.perf_counter()
    uri, served = settings().model_uri, _model
    # What lies in a folder was deployed with the code, or is written by who starts this.
    _careful = served is not None or is_remote(uri)
    try:
        with _lock, _failing_in_the_log(served):
            fetched = _fetch_in_child(uri) if is_remote(uri) else _fetch(uri)
            _outdated = False
            if fetched.graph is None:
                _model = None
                return
            if _careful:
                try_apart(fetched.manifest, fetched.graph)
            _limit_threads()
            _keep(open_graph(fetched.manifest, fetched.graph), started, fetched)
    except ModelUnavailable:
        # Whoever asks next is told, and tried again; or the model that there was goes on.
        _outdated = served is not None


def renew_model() -> None:
    """
    Load the live version if it is another by now, and only then let go of the one there was.

    What fails is said in the log, and the model that there is goes on.

    Raises:
        ModelUnavailable: There was none, and there still is none.
    """
    global _failed_at
    if _model is None:
        _failed_at = None  # the time since then may not be ours: a snapshot stands still
        _load()
        return
    with _renewing:
        if _renew():
            gc.collect()  # onnxruntime's sessions are large, and in cycles of references


def keep_fresh() -> None:
    """
    Renew the model every MODEL_REFRESH_SECONDS, if set, in a thread of this process.

    Never ahead of a fork: the thread would stay behind, and a store that was asked hangs after it.
    """
    seconds = settings().model_refresh_seconds
    if seconds is not None and all(t.name != _THREAD for t in threading.enumerate()):
        threading.Thread(target=_keep_renewing, args=(seconds,), name=_THREAD, daemon=True).start()


_THREAD = "model-refresh"


def _keep_renewing(seconds: float) -> None:
    while True:
        # Not every process at the same moment.
        time.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            renew_model()
        except ModelUnavailable:
            pass  # it is in the log
        except Exception as error:  # the thread must go on, whatever a library raises
            log("error", "the model was not renewed", **describe(error))


def _renew() -> bool:
    """Ask whether the pointer moved, by its tag; if so, swap, and say that it was done."""
    global _seen, _outdated, _said
    started = time.perf_counter()
    served = load_model().manifest.version
    outdated, pointer = _outdated, None
    try:
        store = open_store(settings().model_uri, timeout=settings().store_timeout_seconds)
        pointer = read_moved_pointer(store, _seen)
        if pointer is None:
            return False
        if outdated := pointer.version != served:
            bundle = Bundle(store.at(pointer.version), pointer.version)
            allowed = settings().allow_pickle
            # Beside one that is served, which must not suffer for it.
            _keep(open_model(bundle, allow_pickle=allowed, apart=True), started, bundle)
        _seen, _outdated, _said = pointer.tag, False, None
        return pointer.version != served
    except BundleError as error:
        if isinstance(error, ObjectMissing) and not outdated:
            return False  # one version is served by its own address, which has no pointer
        if isinstance(error, BundleRefused):
            outdated = True
            if pointer is not None:
                _seen = pointer.tag  # it is tried no more until the pointer moves
        _outdated = outdated
        if _said != str(error):
            _said = str(error)
            log("error", "the model was not renewed", reason=_said)
            tell(lambda observer: observer.model_refused())
        return False


def _load() -> Model:
    keep_fresh()
    with _lock:
        if _model is not None:
            return _model
        now = time.monotonic()
        if now < _no_trial_before or (_failed_at is not None and now - _failed_at < RETRY_SECONDS):
            raise _unavailable()
        started = time.perf_counter()
        with _failing_in_the_log():
            _limit_threads()
            store = open_store(settings().model_uri, timeout=settings().store_timeout_seconds)
            bundle = open_bundle(store)
            allowed = settings().allow_pickle
            model = open_model(bundle, allow_pickle=allowed, apart=_careful)
            return _keep(model, started, bundle)


class _Fetched(NamedTuple):
    """A verified manifest, and the graph if that is what runs."""

    manifest: Manifest
    graph: bytes | None
    fetch_seconds: float
    verify_seconds: float


def _fetch(uri: str) -> _Fetched:
    bundle = open_bundle(open_store(uri, timeout=settings().store_timeout_seconds))
    graph = bundle.read_model() if bundle.manifest.engine.name == "onnx" else None
    return _Fetched(bundle.manifest, graph, bundle.fetch_seconds, bundle.verify_seconds)


def _fetch_in_child(uri: str) -> _Fetched:
    """Do it in a process of its own: where obstore has run, it hangs after a fork."""
    import multiprocessing
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            return pool.submit(_fetch, uri).result()
        except BrokenExecutor as error:
            raise BundleError(f"{uri}: the process that fetched it was killed.") from error


def _keep(model: Model, started: float, read: Bundle | _Fetched) -> Model:
    global _model
    seconds = time.perf_counter() - started
    log(
        "info",
        "model loaded",
        model=model.manifest.name,
        model_version=model.manifest.version,
        engine=model.manifest.engine.name,
        duration_ms=round(seconds * 1000, 1),
        fetch_ms=round(read.fetch_seconds * 1000, 1),
        verify_ms=round(read.verify_seconds * 1000, 1),
        # The rest: the engine's import, the first time, and the graph.
        open_ms=round((seconds - read.fetch_seconds - read.verify_seconds) * 1000, 1),
    )
    _model = model
    tell(lambda observer: observer.model_loaded(model.manifest))
    return model


@contextlib.contextmanager
def _failing_in_the_log(served: Model | None = None) -> Iterator[None]:
    """Say to the operator alone why there is no model, or why it stays the one that is *served*."""
    global _failed_at, _no_trial_before
    message = "the model was not renewed" if served else "no model"
    try:
        yield
    except BundleError as error:
        _failed_at = time.monotonic()
        if isinstance(error, TrialFailed):
            _no_trial_before = _failed_at + RETRIAL_SECONDS
        log("error", message, reason=str(error))
        tell(lambda observer: observer.model_refused())
        raise _unavailable() from None
    except Exception as error:  # whatever a library raises: to have no model is a state, no end
        _failed_at = time.monotonic()
        log("error", message, **describe(error))
        raise _unavailable() from None


def _unavailable() -> ModelUnavailable:
    return ModelUnavailable("No model can be served at the moment.", headers={"Retry-After": "1"})


def _limit_threads() -> None:
    """BLAS and OpenMP count the host's cores, not our share; they read this when first imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

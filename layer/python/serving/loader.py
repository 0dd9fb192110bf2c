"""The model of this process: loaded once, verified, shared by requests, renewed in one step."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator

from serving.bundle.bundle import Bundle, open_bundle
from serving.bundle.latest import read_latest_if_changed
from serving.bundle.prefetch import Fetched, fetch
from serving.errors import (
    BundleError,
    BundleRefused,
    ModelUnavailable,
    ObjectMissing,
    SandboxFailed,
)
from serving.model.model import Model, open_graph, open_model
from serving.model.sandbox import try_in_sandbox
from serving.settings import settings
from serving.stores.store import Store, Tag, is_remote, open_store
from serving.telemetry.logs import describe, log
from serving.telemetry.observers import tell

__all__ = ["is_outdated", "keep_fresh", "load_model", "renew_model", "share_model"]

#: After a failed load, requests are answered 503 at once for so long before the next try.
RETRY_SECONDS = 1.0
#: The same for a graph that failed its trial, which takes long and would fail again.
RETRIAL_SECONDS = 60.0
_THREAD = "model-refresh"


def load_model() -> Model:
    """
    Return this process's model; the first call loads it, however many come at once.

    Raises:
        ModelUnavailable: It cannot be loaded now. The log says why; the client is told to retry.
    """
    return _loader.model or _loader.load()


def is_outdated() -> bool:
    """Whether another version than this process serves is live, and was refused."""
    return _loader.outdated


def share_model() -> None:
    """
    Load the model ahead of a fork, if its memory can be shared safely.

    A graph runs without a thread of its own, so a forked child may use it. scikit-learn's OpenMP
    has hung in such children, so its pipelines are left for each worker to load.
    """
    # Whoever asks next is told, and tried again; or the model that there was goes on.
    with contextlib.suppress(ModelUnavailable):
        _loader.share()


def renew_model() -> None:
    """
    Load the live version if it is another by now, and only then let go of the one there was.

    What fails is said in the log, and the model that there is goes on.

    Raises:
        ModelUnavailable: There was none, and there still is none.
    """
    if _loader.renew():
        gc.collect()  # onnxruntime's sessions are large, and in cycles of references


def keep_fresh() -> None:
    """
    Renew the model every MODEL_REFRESH_SECONDS, if set, in a thread of this process.

    Never ahead of a fork: the thread would stay behind, and a store that was asked hangs after it.
    """
    seconds = settings().model_refresh_seconds
    if seconds is not None and all(t.name != _THREAD for t in threading.enumerate()):
        threading.Thread(target=_keep_renewing, args=(seconds,), name=_THREAD, daemon=True).start()


def _keep_renewing(seconds: float) -> None:
    import random  # most processes renew nothing

    while True:
        # Not every process at the same moment.
        time.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            renew_model()
        except ModelUnavailable:
            pass  # it is in the log
        except Exception as error:  # the thread must go on, whatever a library raises
            log("error", "the model was not renewed", **describe(error))


class _Loader:
    """The model that there is, if any, and what came of the last tries to have one."""

    def __init__(self) -> None:
        self.model: Model | None = None
        #: Whether another version is live, and was refused.
        self.outdated = False
        self._loading = threading.Lock()
        self._renewing = threading.Lock()
        #: By time.monotonic(): when requests may have the next try at loading, after a failure;
        #: and when anybody may, after a graph that failed its trial.
        self._pause_ends = self._no_trial_before = 0.0
        #: Whether what is opened first is tried in another process: others live by this one.
        self._careful = False
        #: The tag of the pointer that was followed last.
        self._seen: Tag | None = None
        #: What was said last of a renewal that failed, so that it is said once.
        self._said: str | None = None

    def load(self) -> Model:
        keep_fresh()
        with self._loading:
            if self.model is not None:
                return self.model
            if time.monotonic() < max(self._pause_ends, self._no_trial_before):
                raise _unavailable()
            started = time.perf_counter()
            with self._failing("no model"):
                _limit_threads()
                bundle = open_bundle(_open_store())
                allowed = settings().allow_pickle
                model = open_model(bundle, allow_pickle=allowed, apart=self._careful)
                return self._keep(model, started, bundle)

    def share(self) -> None:
        started = time.perf_counter()
        uri, served = settings().model_uri, self.model is not None
        # What lies in a folder was deployed with the code, or is written by who starts this.
        self._careful = served or is_remote(uri)
        message = "the model was not renewed" if served else "no model"
        try:
            with self._loading, self._failing(message):
                fetched = fetch(uri)
                if fetched.graph is None:
                    self.model = None
                else:
                    if self._careful:
                        try_in_sandbox(fetched.manifest, fetched.graph)
                    _limit_threads()
                    self._keep(open_graph(fetched.manifest, fetched.graph), started, fetched)
        except ModelUnavailable:
            self.outdated = served
            raise
        self.outdated = False

    def renew(self) -> bool:
        """Load a model if there is none, else follow the pointer; whether one was let go of."""
        if self.model is None:
            self._pause_ends = 0.0  # the time since then may not be ours: a snapshot stands still
            self.load()
            return False
        with self._renewing:
            try:
                return self._follow_pointer()
            except BundleError as error:
                if self._said != str(error):
                    self._said = str(error)
                    log("error", "the model was not renewed", reason=self._said)
                    tell(lambda observer: observer.model_refused())
                return False

    def _follow_pointer(self) -> bool:
        """Ask whether the pointer moved, by its tag; if so, swap; whether that was done."""
        started = time.perf_counter()
        store = _open_store()
        try:
            latest = read_latest_if_changed(store, self._seen)
        except ObjectMissing:
            if self.outdated:
                raise
            return False  # one version is served by its own address, which has no pointer
        except BundleRefused:
            self.outdated = True
            raise
        if latest is None:
            return False
        moved = latest.version != load_model().manifest.version
        if moved:
            allowed = settings().allow_pickle
            try:
                bundle = Bundle(store.at(latest.version), latest.version)
                # Beside one that is served, which must not suffer for it.
                self._keep(open_model(bundle, allow_pickle=allowed, apart=True), started, bundle)
            except BundleError as error:
                self.outdated = True
                if isinstance(error, BundleRefused):
                    self._seen = latest.tag  # it is tried no more until the pointer moves
                raise
        self._seen, self.outdated, self._said = latest.tag, False, None
        return moved

    def _keep(self, model: Model, started: float, read: Bundle | Fetched) -> Model:
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
        self.model = model
        tell(lambda observer: observer.model_loaded(model.manifest))
        return model

    @contextlib.contextmanager
    def _failing(self, message: str) -> Iterator[None]:
        """Say to the operator alone why there is no model, or why it stays the one there is."""
        try:
            yield
        except Exception as error:  # whatever a library raises: to have no model is a state, no end
            now = time.monotonic()
            self._pause_ends = now + RETRY_SECONDS
            if isinstance(error, SandboxFailed):
                self._no_trial_before = now + RETRIAL_SECONDS
            if isinstance(error, BundleError):
                log("error", message, reason=str(error))
                tell(lambda observer: observer.model_refused())
            else:
                log("error", message, **describe(error))
            raise _unavailable() from None


_loader = _Loader()


def _open_store() -> Store:
    return open_store(settings().model_uri, timeout=settings().store_timeout_seconds)


def _unavailable() -> ModelUnavailable:
    return ModelUnavailable("No model can be served at the moment.", headers={"Retry-After": "1"})


def _limit_threads() -> None:
    """BLAS and OpenMP count the host's cores, not our share; they read this when first imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

"""The live model of a process: loaded once, verified, shared by requests, swapped in one step."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator

from serving.bundle.latest import read_latest_if_changed
from serving.bundle.manifest import BACKGROUND_FILE, Manifest
from serving.bundle.prefetch import Fetched, fetch
from serving.bundle.reader import Bundle, open_bundle, read_background
from serving.bundle.trust import Trust
from serving.errors import (
    BundleError,
    BundleRefused,
    ModelUnavailable,
    NotFound,
    ObjectMissing,
    SandboxFailed,
)
from serving.model.model import Limits, Model, open_graph, open_model
from serving.stores.location import is_remote, open_store
from serving.stores.store import Store, Tag
from serving.telemetry.logs import describe, log
from serving.telemetry.observers import tell

__all__ = ["LiveModel"]

#: After a failed load, requests get 503 at once for this long before the next try.
RETRY_SECONDS = 1.0
#: The same after a graph failed in the sandbox, which is slow and would fail again.
SANDBOX_RETRY_SECONDS = 60.0
_THREAD = "model-refresh"
_NO_MODEL = "no model"
_NOT_RENEWED = "the model was not renewed"


class LiveModel:
    """The model at one location, and the outcome of the last tries to load it."""

    def __init__(
        self,
        uri: str,
        *,
        trust: Trust,
        limits: Limits,
        store_timeout_seconds: float,
        refresh_seconds: float | None,
    ) -> None:
        """
        Load nothing yet.

        Args:
            uri: The model's location, or one version's.
            trust: Which signatures are required, and how large a file may be.
            limits: How much one request may ask of the model.
            store_timeout_seconds: How long one operation of an object store may take.
            refresh_seconds: How often a thread asks for a new version; None for never.
        """
        self.uri = uri
        #: Read at every load.
        self.trust = trust
        self._limits = limits
        self._store_timeout = store_timeout_seconds
        self._refresh_seconds = refresh_seconds
        self._model: Model | None = None
        #: Whether another version is live and was rejected.
        self.outdated = False
        self._loading = threading.Lock()
        self._renewing = threading.Lock()
        #: By time.monotonic(): when a request may try to load again after a failure, and when any
        #: load may try again after a graph failed in the sandbox.
        self._retry_at = self._sandbox_retry_at = 0.0
        #: Whether graphs go through the sandbox first, because other processes fork from this one.
        self._sandboxed = False
        #: The tag of the `latest` file that was followed last.
        self._seen: Tag | None = None
        #: The reason logged for the last failed renewal, so that it is logged once.
        self._logged: str | None = None
        #: The version whose pickle was said to be one's own, so that it is said once.
        self._own: str | None = None

    def get(self) -> Model:
        """
        Return the model; the first call loads it, and concurrent calls wait for that load.

        Raises:
            ModelUnavailable: It cannot be loaded now. The log says why.
        """
        return self._model or self._load()

    def background(self, manifest: Manifest) -> bytes:
        """
        Read the background rows of the version that *manifest* is of, and verify them.

        Raises:
            NotFound: The bundle has none.
            ModelUnavailable: They cannot be read now. The log says why.
        """
        if BACKGROUND_FILE not in manifest.files:
            raise NotFound("The bundle has no background rows, so no answer can be explained.")
        try:
            return read_background(self._open_store(), manifest, self.trust.max_model_bytes)
        except BundleError as error:
            log("error", "no background", reason=str(error))
            raise _unavailable() from None

    def share(self) -> None:
        """
        Load the model before a fork, if its memory can be shared safely.

        A graph runs without threads of its own, so forked children may use it. scikit-learn's
        OpenMP has hung in forked children, so each worker loads its own pipeline.
        """
        started = time.perf_counter()
        served = self._model is not None
        # A local folder was deployed with the code, or belongs to the person who starts the server.
        self._sandboxed = served or is_remote(self.uri)
        try:
            with self._loading, self._failing(_NOT_RENEWED if served else _NO_MODEL):
                fetched = fetch(self.uri, self.trust, self._store_timeout)
                if fetched.graph is None:
                    self._model = None
                else:
                    _limit_threads()
                    model = open_graph(
                        fetched.manifest,
                        fetched.graph,
                        self._limits,
                        max_model_bytes=self.trust.max_model_bytes,
                        signed=fetched.signed,
                        sandboxed=self._sandboxed,
                    )
                    self._keep(model, started, fetched)
            self.outdated = False
        except ModelUnavailable:  # logged: the next request tries again, or the current model stays
            self.outdated = served

    def renew(self) -> None:
        """
        Load the live version if it changed, then release the previous one.

        If that fails, the log says why and the current model stays.

        Raises:
            ModelUnavailable: There was no model, and there still is none.
        """
        if self._model is None:
            self._retry_at = 0.0  # after a snapshot was restored, the clock may have stood still
            self._load()
            return
        swapped = False
        with self._renewing:
            try:
                swapped = self._follow_latest(self._model)
            except BundleError as error:
                if self._logged != str(error):
                    self._logged = str(error)
                    log("error", _NOT_RENEWED, reason=self._logged)
                    tell(lambda observer: observer.model_refused())
        if swapped:
            gc.collect()  # onnxruntime's sessions are large and sit in reference cycles

    def keep_fresh(self) -> None:
        """
        Renew the model regularly in a thread of this process, if MODEL_REFRESH_SECONDS is set.

        Never call it before a fork: the thread would not be copied, and the store's client hangs
        in a forked child.
        """
        seconds = self._refresh_seconds
        if seconds is not None and all(t.name != _THREAD for t in threading.enumerate()):
            threading.Thread(
                target=self._keep_renewing, args=(seconds,), name=_THREAD, daemon=True
            ).start()

    def _keep_renewing(self, seconds: float) -> None:
        import random  # few processes renew

        while True:
            # Spread the processes' requests over time.
            time.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                self.renew()
            except ModelUnavailable:
                pass  # it is in the log
            except Exception as error:  # the thread must go on after any exception
                log("error", _NOT_RENEWED, **describe(error))

    def _load(self) -> Model:
        self.keep_fresh()
        with self._loading:
            if self._model is not None:
                return self._model
            if time.monotonic() < max(self._retry_at, self._sandbox_retry_at):
                raise _unavailable()
            started = time.perf_counter()
            with self._failing(_NO_MODEL):
                _limit_threads()
                bundle = open_bundle(self._open_store(), trust=self.trust)
                self._announce(bundle)
                model = open_model(bundle, self._limits, sandboxed=self._sandboxed)
                return self._keep(model, started, bundle)

    def _follow_latest(self, current: Model) -> bool:
        """Ask by its tag whether `latest` changed; if so, swap the model and return True."""
        started = time.perf_counter()
        store = self._open_store()
        try:
            latest = read_latest_if_changed(store, self._seen)
        except ObjectMissing:
            if self.outdated:
                raise
            return False  # the location is one version, which has no `latest` file
        except BundleRefused:
            self.outdated = True
            raise
        if latest is None:
            return False
        moved = latest.version != current.manifest.version
        if moved:
            try:
                bundle = Bundle(store.at(latest.version), latest.version, trust=self.trust)
                self._announce(bundle)
                # The current model is in use, and must not suffer from a harmful graph.
                self._keep(open_model(bundle, self._limits, sandboxed=True), started, bundle)
            except BundleError as error:
                self.outdated = True
                if isinstance(error, BundleRefused):
                    self._seen = latest.tag  # do not try it again until `latest` changes
                raise
        self._seen, self.outdated, self._logged = latest.tag, False, None
        return moved

    def _announce(self, bundle: Bundle) -> None:
        """Log that a pickle will be opened which may only be opened at home."""
        if bundle.is_own_pickle and bundle.manifest.version != self._own:
            self._own = bundle.manifest.version
            log(
                "warning",
                "opening your own pickle",
                model=bundle.manifest.name,
                model_version=bundle.manifest.version,
                reason=f"{self.uri} is your own folder, and the server listens on loopback only. "
                "Elsewhere this bundle needs a signature or ALLOW_PICKLE=1.",
            )

    def _keep(self, model: Model, started: float, read: Bundle | Fetched) -> Model:
        seconds = time.perf_counter() - started
        name, version = model.manifest.name, model.manifest.version
        engine = model.manifest.engine.name
        log(
            "info",
            "model loaded",
            model=name,
            model_version=version,
            engine=engine,
            duration_ms=round(seconds * 1000, 1),
            fetch_ms=round(read.fetch_seconds * 1000, 1),
            verify_ms=round(read.verify_seconds * 1000, 1),
            # The rest: the engine's import, the first time, and opening the graph.
            open_ms=round((seconds - read.fetch_seconds - read.verify_seconds) * 1000, 1),
        )
        self._model = model
        tell(lambda observer: observer.model_loaded(name, version, engine))
        return model

    @contextlib.contextmanager
    def _failing(self, message: str) -> Iterator[None]:
        """Log why there is no model, and answer clients only that there is none."""
        try:
            yield
        except Exception as error:  # after any exception the process goes on without a model
            now = time.monotonic()
            self._retry_at = now + RETRY_SECONDS
            if isinstance(error, SandboxFailed):
                self._sandbox_retry_at = now + SANDBOX_RETRY_SECONDS
            if isinstance(error, BundleError):
                log("error", message, reason=str(error))
                tell(lambda observer: observer.model_refused())
            else:
                log("error", message, **describe(error))
            raise _unavailable() from None

    def _open_store(self) -> Store:
        return open_store(self.uri, timeout=self._store_timeout)


def _unavailable() -> ModelUnavailable:
    return ModelUnavailable("No model can be served at the moment.", headers={"Retry-After": "1"})


def _limit_threads() -> None:
    """Use one thread: BLAS and OpenMP count the host's cores, and read this on first import."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

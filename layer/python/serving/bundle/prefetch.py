"""Fetches a model ahead of a fork: a store that was asked hangs in processes forked after that."""

from __future__ import annotations

from typing import NamedTuple

from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import Manifest
from serving.errors import BundleError
from serving.settings import settings
from serving.stores.store import is_remote, open_store

__all__ = ["Fetched", "fetch"]


class Fetched(NamedTuple):
    """A verified manifest, and the graph if that is what runs."""

    manifest: Manifest
    graph: bytes | None
    fetch_seconds: float
    verify_seconds: float


def fetch(uri: str) -> Fetched:
    """
    Read the live version at *uri*, in a process of its own where that is a store.

    Raises:
        BundleError: It is missing or damaged, or the store fails.
    """
    if not is_remote(uri):
        return _fetch(uri)
    import multiprocessing
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            return pool.submit(_fetch, uri).result()
        except BrokenExecutor as error:
            raise BundleError(f"{uri}: the process that fetched it was killed.") from error


def _fetch(uri: str) -> Fetched:
    bundle = open_bundle(open_store(uri, timeout=settings().store_timeout_seconds))
    graph = bundle.read_model() if bundle.manifest.engine.name == "onnx" else None
    return Fetched(bundle.manifest, graph, bundle.fetch_seconds, bundle.verify_seconds)

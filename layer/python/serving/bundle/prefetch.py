"""Fetches a model before a fork, in a child process: the store's threads do not survive a fork."""

from __future__ import annotations

from typing import NamedTuple

from serving.bundle.manifest import Manifest
from serving.bundle.reader import open_bundle
from serving.bundle.trust import Trust
from serving.errors import BundleError
from serving.stores.location import is_remote, open_store

__all__ = ["Fetched", "fetch"]


class Fetched(NamedTuple):
    """A verified manifest, and the graph if the engine runs one."""

    manifest: Manifest
    graph: bytes | None
    #: Whether a trusted key's signature was verified.
    signed: bool
    fetch_seconds: float
    verify_seconds: float


def fetch(uri: str, trust: Trust, timeout: float) -> Fetched:
    """
    Read the live version at *uri*; from an object store, in a child process.

    Args:
        uri: The model's location.
        trust: Which signatures are required, and how large a file may be.
        timeout: Seconds that one operation of an object store may take.

    Raises:
        BundleError: It is missing or damaged, or the store fails.
    """
    if not is_remote(uri):
        return _fetch(uri, trust, timeout)
    import multiprocessing
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            return pool.submit(_fetch, uri, trust, timeout).result()
        except BrokenExecutor as error:
            raise BundleError(f"{uri}: the process that fetched it was killed.") from error


def _fetch(uri: str, trust: Trust, timeout: float) -> Fetched:
    bundle = open_bundle(open_store(uri, timeout=timeout), trust=trust)
    graph = bundle.read_model() if bundle.manifest.engine.name == "onnx" else None
    return Fetched(
        bundle.manifest,
        graph,
        bundle.signer is not None,
        bundle.fetch_seconds,
        bundle.verify_seconds,
    )

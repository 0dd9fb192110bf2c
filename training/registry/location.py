"""The places of models, as the command line opens them: from a desk, and over its line."""

from __future__ import annotations

from serving.bundle.latest import Latest, read_latest
from serving.errors import ObjectMissing
from serving.stores.location import open_store
from serving.stores.store import Store

__all__ = ["find_live", "open_location"]

#: How long one file may take.
TRANSFER_SECONDS = 300.0


def open_location(uri: str) -> Store:
    """
    Open the location that *uri* names: a folder, s3://…, gs://… or az://….

    Raises:
        BundleError: It is no such address, or its settings are incomplete.
    """
    return open_store(uri, timeout=TRANSFER_SECONDS)


def find_live(model: Store) -> Latest | None:
    """
    Read which version of *model* is live, and which was before; None if none is yet.

    Raises:
        BundleError: The store fails, or the pointer holds what is no version's name.
    """
    try:
        return read_latest(model)
    except ObjectMissing:
        return None

"""Locations of models, as the command line opens them: with time for a slow line."""

from __future__ import annotations

import re

from serving.bundle.latest import Latest, read_latest
from serving.errors import ObjectMissing
from serving.stores.location import open_store
from serving.stores.store import Store

from training.errors import TrainingError

__all__ = ["check_name", "find_live", "open_location"]

#: How many seconds one file may take.
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
    Read which version of *model* is live, and which was before; None if none is live yet.

    Raises:
        BundleError: The store fails, or the `latest` file holds no version's name.
    """
    try:
        return read_latest(model)
    except ObjectMissing:
        return None


def check_name(name: str) -> str:
    """
    Return the model's *name* if it can be a folder and part of an address.

    Raises:
        TrainingError: It cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise TrainingError(
            f"{name!r} is not a model name: use letters, digits, '_', '.' and '-', at most 64."
        )
    return name

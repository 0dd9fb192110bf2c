"""Opens the store that a location names: a folder, or a prefix in a bucket."""

from __future__ import annotations

import re

from serving.errors import BundleError, SettingsError
from serving.stores.folder import FolderStore
from serving.stores.store import Store

__all__ = ["check_location", "is_location", "is_remote", "open_store"]

#: A bucket's URL. It takes no query: a "?" usually begins a token, which would get into logs.
_BUCKET = re.compile(
    r"(?P<scheme>s3|gs|az)://(?P<bucket>[A-Za-z0-9][\w.-]*)(/(?P<prefix>[^\x00-\x1f\x7f?#]*))?"
)
#: A single letter before the colon is a drive, and so a folder.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def open_store(uri: str, *, timeout: float) -> Store:
    """
    Open the location *uri*: `s3://bucket/prefix`, `gs://…`, `az://container/…` or a folder.

    Args:
        uri: The location.
        timeout: Seconds that one operation on a bucket may take, including its retries.

    Raises:
        BundleError: *uri* is no location, or the environment lacks what its store needs.
    """
    if not is_location(uri):
        shown = uri.partition("?")[0].rpartition("@")[2]
        raise BundleError(f"{shown!r} is neither a folder nor s3://…, gs://… or az://….")
    match = _BUCKET.fullmatch(uri)
    if match is None:
        return FolderStore(uri)
    from serving.stores.bucket import open_bucket  # imports obstore, which folders do not need

    prefix = (match["prefix"] or "").strip("/")
    return open_bucket(match["scheme"], match["bucket"], prefix, timeout=timeout)


def is_location(uri: str) -> bool:
    """Whether `open_store` can read *uri*."""
    match = _BUCKET.fullmatch(uri)
    if match is None:
        return uri != "" and not _SCHEME.match(uri)
    parts = (match["prefix"] or "").strip("/").split("/")
    return parts == [""] or not {"", ".", ".."} & set(parts)


def is_remote(uri: str) -> bool:
    """Whether the location *uri* is in a bucket."""
    return "://" in uri


def check_location(uri: str, setting: str) -> None:
    """
    Check that a *setting* holds a location that `open_store` can read.

    Raises:
        SettingsError: It does not.
    """
    if not is_location(uri):
        shown = "no location" if "@" in uri or "?" in uri else repr(uri)  # it may hold a secret
        raise SettingsError(
            f"{setting} is {shown}, but must be a folder, s3://bucket/prefix, gs://bucket/prefix "
            "or az://container/prefix, without credentials or a query."
        )

"""Where bundles lie: one interface over a folder and a bucket."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

from serving.errors import BundleError, SettingsError

__all__ = [
    "READ_LIMIT",
    "Object",
    "Store",
    "Tag",
    "check_location",
    "check_size",
    "is_location",
    "is_remote",
    "open_store",
]

#: In bytes. A manifest is the largest that is read without its size being known: 8 MiB are some
#: hundred thousand categories.
READ_LIMIT = 8 * 1024 * 1024

#: What stands behind "?" is a token, as a rule, and would get into logs.
_BUCKET = re.compile(
    r"(?P<scheme>s3|gs|az)://(?P<bucket>[A-Za-z0-9][\w.-]*)(/(?P<prefix>[^\x00-\x1f\x7f?#]*))?"
)
#: A letter alone is a drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class Tag(NamedTuple):
    """Which content an object had; what a conditional write is conditional on."""

    e_tag: str | None
    #: Google Cloud Storage compares this, the object's generation, in place of an ETag.
    version: str | None = None


class Object(NamedTuple):
    """What was read, and its tag."""

    content: bytes
    tag: Tag


class Store(Protocol):
    """Objects by name. Every method may raise BundleError, with a sentence that says where."""

    @property
    def remote(self) -> bool:
        """Whether it lies behind a network: reads are begun early, and not ahead of a fork."""

    def at(self, name: str) -> Store:
        """Return the location *name* within this one. Its str() is its address."""

    def begin(self, name: str, *, limit: int = READ_LIMIT) -> Callable[[], Object]:
        """Begin to read an object; the call returns it. Several may be under way at once."""

    def read(self, name: str, *, size: int | None = None, limit: int = READ_LIMIT) -> Object:
        """
        Read an object.

        Args:
            name: The object's.
            size: In bytes; an object of another size is refused unread.
            limit: In bytes, where the size is not known; a larger object is refused unread.

        Raises:
            ObjectMissing: There is none.
            AccessDenied: We may not; or there is none, and we may not know that.
        """

    def read_if_changed(self, name: str, tag: Tag) -> Object | None:
        """
        Read an object, unless it is still the one of this *tag*; then nothing is sent.

        Raises:
            ObjectMissing: There is none.
        """

    def create(self, name: str, content: bytes) -> None:
        """
        Write an object, whole or not at all, if there is none.

        Raises:
            Conflict: There is one.
        """

    def replace(self, name: str, content: bytes, tag: Tag) -> None:
        """
        Write an object, whole or not at all, if it is still the one of this *tag*.

        Raises:
            Conflict: It is another by now.
        """

    def delete(self, name: str) -> None:
        """Remove an object, if there is one. A location with nothing left in it is no more."""

    def names(self) -> list[str]:
        """List what lies directly in this location, sorted: objects, and places within it."""


def open_store(uri: str, *, timeout: float) -> Store:
    """
    Open the location *uri*: `s3://bucket/prefix`, `gs://…`, `az://container/…`, a folder.

    Args:
        uri: The location.
        timeout: Seconds that one operation may take, all its retries included; for buckets.

    Raises:
        BundleError: It is no such address, or its settings are incomplete.
    """
    if not is_location(uri):
        told = uri.partition("?")[0].rpartition("@")[2]
        raise BundleError(f"{told!r} is neither a folder nor s3://…, gs://… or az://….")
    match = _BUCKET.fullmatch(uri)
    if match is None:
        from serving.stores.folder import FolderStore

        return FolderStore(uri)
    from serving.stores.bucket import open_bucket  # obstore is imported for who needs it

    prefix = (match["prefix"] or "").strip("/")
    return open_bucket(match["scheme"], match["bucket"], prefix, timeout=timeout)


def check_size(where: object, found: int, size: int | None, limit: int) -> None:
    """
    Refuse an object of another size, or of more than the limit, before it is read.

    Raises:
        BundleError: It says which object, and how many bytes it has.
    """
    if size is not None and found != size:
        raise BundleError(f"{where} has {found} bytes, but should have {size}.")
    if size is None and found > limit:
        raise BundleError(f"{where} has {found} bytes, but at most {limit} are read.")


def is_location(uri: str) -> bool:
    """Whether `open_store` would know what *uri* means."""
    match = _BUCKET.fullmatch(uri)
    if match is None:
        return uri != "" and not _SCHEME.match(uri)
    parts = (match["prefix"] or "").strip("/").split("/")
    return parts == [""] or not {"", ".", ".."} & set(parts)


def is_remote(uri: str) -> bool:
    """Whether *uri* names a bucket, and no folder."""
    return "://" in uri


def check_location(uri: str, setting: str) -> None:
    """
    Make sure that a *setting* holds a location that `open_store` can open.

    Raises:
        SettingsError: It does not.
    """
    if is_location(uri):
        return
    if "@" in uri or "?" in uri:  # it may hold a secret: do not repeat it
        raise SettingsError(f"{setting} must be a location alone, without credentials or a query.")
    raise SettingsError(
        f"{setting} is {uri!r}, but must be a folder, s3://bucket/prefix, gs://bucket/prefix or "
        "az://container/prefix."
    )

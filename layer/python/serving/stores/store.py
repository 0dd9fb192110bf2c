"""The interface of a store of bundles, which folders and buckets implement."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from serving.errors import BundleError

__all__ = ["READ_LIMIT", "Object", "Store", "Tag", "check_size"]

#: Bytes. The manifest is the largest object that is read before its size is known; 8 MiB hold some
#: hundred thousand categories.
READ_LIMIT = 8 * 1024 * 1024


class Tag(NamedTuple):
    """Identifies one content of an object. Conditional reads and writes compare it."""

    e_tag: str | None
    #: The object's generation, which Google Cloud Storage compares instead of the ETag.
    version: str | None = None


class Object(NamedTuple):
    """The content of an object, and its tag."""

    content: bytes
    tag: Tag


class Store(Protocol):
    """
    A location that holds objects by name.

    Every method may raise BundleError. Its sentence begins with the address of the object.
    """

    @property
    def remote(self) -> bool:
        """Whether the store is behind a network: reads start early, and never before a fork."""

    def at(self, name: str) -> Store:
        """Return the location *name* within this one. Its str() is its address."""

    def begin(self, name: str, *, limit: int = READ_LIMIT) -> Callable[[], Object]:
        """Start to read an object; the returned call waits for it. Reads may overlap."""

    def read(self, name: str, *, size: int | None = None, limit: int = READ_LIMIT) -> Object:
        """
        Read an object.

        Args:
            name: The object's name.
            size: Bytes that the object must have. Another size is rejected before the read.
            limit: Bytes that the object may have if *size* is not given.

        Raises:
            ObjectMissing: The object does not exist.
            AccessDenied: The store denies access. Some stores also say so of a missing object.
        """

    def read_if_changed(self, name: str, tag: Tag) -> Object | None:
        """
        Read an object, or return None if it still has this *tag*.

        Raises:
            ObjectMissing: The object does not exist.
        """

    def create(self, name: str, content: bytes) -> None:
        """
        Write a new object atomically.

        Raises:
            Conflict: The object exists already.
        """

    def replace(self, name: str, content: bytes, tag: Tag) -> None:
        """
        Replace an object atomically if it still has this *tag*.

        Raises:
            Conflict: The object has changed.
        """

    def delete(self, name: str) -> None:
        """Remove an object if it exists. An empty location disappears."""

    def names(self) -> list[str]:
        """Return the names of the objects and locations directly in this one, sorted."""


def check_size(where: object, found: int, size: int | None, limit: int) -> None:
    """
    Check the size of an object before it is read; see `Store.read`.

    Raises:
        BundleError: The object has another size, or more bytes than the limit.
    """
    if size is not None and found != size:
        raise BundleError(f"{where} has {found} bytes, but should have {size}.")
    if size is None and found > limit:
        raise BundleError(f"{where} has {found} bytes, but at most {limit} are read.")

"""A place for bundles: one interface over a folder and, by way of `serving.bucket`, a bucket."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from serving.errors import AccessDenied, BundleError, Conflict, ObjectMissing

__all__ = ["FolderStore", "Object", "Store", "Tag", "is_location", "is_remote", "open_store"]

_BUCKET = re.compile(r"(?P<scheme>s3|gs|az)://(?P<bucket>[A-Za-z0-9][\w.-]*)(/(?P<prefix>.*))?")


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
        """Return the place *name* within this one. Its str() is its address."""

    def begin(self, name: str) -> Callable[[], Object]:
        """Begin to read an object; the call returns it. Several may be under way at once."""

    def read(self, name: str, *, size: int | None = None) -> Object:
        """
        Read an object.

        Args:
            name: The object's.
            size: In bytes; an object of another size is refused unread.

        Raises:
            ObjectMissing: There is none.
            AccessDenied: We may not; or there is none, and we may not know that.
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

    def names(self) -> list[str]:
        """List what lies directly in this place, sorted: objects, and places within it."""


def open_store(uri: str, *, timeout: float) -> Store:
    """
    Open the place that *uri* names: `s3://bucket/prefix`, `gs://…`, `az://container/…`, a folder.

    Args:
        uri: The place.
        timeout: Seconds that one operation may take, all its retries included; for buckets.

    Raises:
        BundleError: It is no such address, or its settings are incomplete.
    """
    if not is_remote(uri):
        return FolderStore(Path(uri))
    if not (match := _BUCKET.fullmatch(uri)):
        raise BundleError(f"{uri!r} is neither a folder nor s3://…, gs://… or az://….")
    from serving.bucket import open_bucket  # obstore is imported for who needs it

    prefix = (match["prefix"] or "").strip("/")
    return open_bucket(match["scheme"], match["bucket"], prefix, timeout=timeout)


def is_location(uri: str) -> bool:
    """Whether `open_store` would know what *uri* means."""
    return not is_remote(uri) or _BUCKET.fullmatch(uri) is not None


def is_remote(uri: str) -> bool:
    """Whether *uri* names a bucket, and no folder."""
    return "://" in uri


class FolderStore:
    """A folder on this machine."""

    remote = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def at(self, name: str) -> FolderStore:
        """Return the folder *name* within this one."""
        return FolderStore(self._folder / name)

    def begin(self, name: str) -> Callable[[], Object]:
        """Return what will read a file; to begin early gains nothing here."""
        return lambda: self.read(name)

    def read(self, name: str, *, size: int | None = None) -> Object:
        """Read a file."""
        path = self._folder / name
        with _explained(path), path.open("rb") as file:
            status = os.fstat(file.fileno())
            if size is not None and status.st_size != size:
                raise BundleError(f"{path} has {status.st_size} bytes, but should have {size}.")
            return Object(file.read(), _tag(status))

    def create(self, name: str, content: bytes) -> None:
        """Write a file, if there is none."""
        path = self._folder / name
        with _explained(path), self._scratch(content) as scratch:
            try:
                os.link(scratch, path)
            except FileExistsError:
                raise Conflict(f"{path} is there already.") from None

    def replace(self, name: str, content: bytes, tag: Tag) -> None:
        """Write a file, if it is still the one of this *tag*."""
        path = self._folder / name
        with _explained(path), self._scratch(content) as scratch, self._locked():
            if _tag(path.stat()) != tag:
                raise Conflict(f"{path} is another by now.")
            os.replace(scratch, path)

    def names(self) -> list[str]:
        """List files and folders."""
        with _explained(self._folder):
            return sorted(p.name for p in self._folder.iterdir() if not p.name.startswith("."))

    @contextlib.contextmanager
    def _scratch(self, content: bytes) -> Iterator[str]:
        """Write a file of another name, all of it to the disk; it is gone afterwards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=".writing-", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(scratch, 0o644)
            yield scratch
        finally:
            Path(scratch).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other writers out; a file system has no conditional write."""
        import fcntl

        handle = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _tag(status: os.stat_result) -> Tag:
    return Tag(f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say in our words what the operating system refuses."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissing(f"{path} is not there.") from error
    except PermissionError as error:
        raise AccessDenied(f"{path}: permission denied.") from error
    except OSError as error:
        raise BundleError(f"{path}: {(error.strerror or 'an error').lower()}.") from error

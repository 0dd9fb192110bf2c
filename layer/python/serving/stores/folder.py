"""A folder as a store of bundles, with atomic and conditional writes."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO

from serving.errors import AccessDenied, BundleError, Conflict, ObjectMissing
from serving.stores.store import READ_LIMIT, Object, Tag, check_size

__all__ = ["FolderStore"]


class FolderStore:
    """A folder on this machine."""

    remote = False

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        path = os.fspath(folder)
        self._folder = path[:1] + path[1:].rstrip(os.sep)

    def __str__(self) -> str:
        return self._folder

    def at(self, name: str) -> FolderStore:
        """Return the folder *name* within this one."""
        return FolderStore(self._path(name))

    def begin(self, name: str, *, limit: int = READ_LIMIT) -> Callable[[], Object]:
        """Return a call that reads the file. A folder gains nothing from an early start."""
        return lambda: self.read(name, limit=limit)

    def read(self, name: str, *, size: int | None = None, limit: int = READ_LIMIT) -> Object:
        """Read a file."""
        path = self._path(name)
        with _explained(path), _open_regular(path) as file:
            status = os.fstat(file.fileno())
            check_size(path, status.st_size, size, limit)
            return Object(file.read(status.st_size), _tag(status))

    def read_if_changed(self, name: str, tag: Tag) -> Object | None:
        """Read a file, or return None if it still has this *tag*."""
        found = self.read(name)
        return None if found.tag == tag else found

    def create(self, name: str, content: bytes) -> None:
        """Write a new file."""
        path = self._path(name)
        with _explained(path), self._scratch(content) as scratch:
            try:
                os.link(scratch, path)
            except FileExistsError:
                raise Conflict(f"{path} is there already.") from None

    def replace(self, name: str, content: bytes, tag: Tag) -> None:
        """Replace a file if it still has this *tag*."""
        path = self._path(name)
        with _explained(path), self._scratch(content) as scratch, self._locked():
            if _tag(os.stat(path)) != tag:
                raise Conflict(f"{path} has changed.")
            os.replace(scratch, path)

    def delete(self, name: str) -> None:
        """Remove a file if it exists, and the folder if it is then empty."""
        path = self._path(name)
        with _explained(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(self._folder)

    def names(self) -> list[str]:
        """Return the names of files and folders, sorted, without hidden ones."""
        with _explained(self._folder):
            return sorted(name for name in os.listdir(self._folder) if not name.startswith("."))

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    @contextlib.contextmanager
    def _scratch(self, content: bytes) -> Iterator[str]:
        """Write *content* to a temporary file, through to the disk; remove it afterwards."""
        import tempfile  # only writers need it

        os.makedirs(self._folder, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=".writing-", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(scratch, 0o644)
            yield scratch
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scratch)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock out other writers, since file systems have no conditional write."""
        import fcntl

        handle = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _open_regular(path: str) -> BinaryIO:
    """Open a file. A FIFO or a device is not opened: that could block, or act on the device."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise BundleError(f"{path} is not a regular file.")
    # Not blocking, in case that a FIFO has just taken the file's name: its size is 0.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def _tag(status: os.stat_result) -> Tag:
    return Tag(f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}")


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn errors of the operating system into BundleErrors that name *path*."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissing(f"{path} is not there.") from error
    except PermissionError as error:
        raise AccessDenied(f"{path}: permission denied.") from error
    except OSError as error:
        raise BundleError(f"{path}: {(error.strerror or 'an error').lower()}.") from error

"""A folder as a place for bundles: atomic and conditional writes on an ordinary file system."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from serving.errors import AccessDenied, BundleError, Conflict, ObjectMissing
from serving.store import READ_LIMIT, Object, Tag, check_size

__all__ = ["FolderStore"]


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

    def begin(self, name: str, *, limit: int = READ_LIMIT) -> Callable[[], Object]:
        """Return what will read a file; to begin early gains nothing here."""
        return lambda: self.read(name, limit=limit)

    def read(self, name: str, *, size: int | None = None, limit: int = READ_LIMIT) -> Object:
        """Read a file."""
        path = self._folder / name
        with _explained(path), path.open("rb") as file:
            status = os.fstat(file.fileno())
            check_size(path, status.st_size, size, limit)
            return Object(file.read(status.st_size), _tag(status))

    def read_other(self, name: str, tag: Tag) -> Object | None:
        """Read a file, unless it is still the one of this *tag*."""
        found = self.read(name)
        return None if found.tag == tag else found

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

    def delete(self, name: str) -> None:
        """Remove a file, and the folder with its last one."""
        path = self._folder / name
        with _explained(path):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def names(self) -> list[str]:
        """List files and folders."""
        with _explained(self._folder):
            return sorted(p.name for p in self._folder.iterdir() if not p.name.startswith("."))

    @contextlib.contextmanager
    def _scratch(self, content: bytes) -> Iterator[str]:
        """Write a file of another name, all of it to the disk; it is gone afterwards."""
        import tempfile  # a server, which only reads, starts without it

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

"""The files to score: listed once, pinned by size and tag, and opened in their location."""

from __future__ import annotations

import glob
import io
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
from serving.stores.location import is_remote
from serving.stores.store import Store

from training.errors import TrainingError
from training.registry.location import open_location

if TYPE_CHECKING:
    from obstore import ReadableFile
    from serving.stores.bucket import BucketStore

__all__ = ["Input", "absolute", "is_csv", "list_inputs", "list_names", "open_input"]

_SUFFIXES = (".parquet", ".csv", ".csv.gz")


class Input(msgspec.Struct, frozen=True):
    """One file, as it was when the run began."""

    #: The folder or prefix that it is in, and its path in there.
    root: str
    path: str
    #: Bytes.
    size: int
    tag: str


def absolute(uri: str) -> str:
    """Return a location as every process finds it."""
    return uri if is_remote(uri) else os.path.abspath(uri)


def is_csv(path: str) -> bool:
    """Whether a file is read as CSV."""
    return not path.endswith(".parquet")


def list_inputs(source: str) -> list[Input]:
    """
    List the files at *source*: a file, a folder or a glob, in the file system or in a bucket.

    Raises:
        TrainingError: There are none.
        BundleError: The bucket fails.
    """
    found = _in_bucket(source) if is_remote(source) else _in_folder(os.path.abspath(source))
    if not found:
        kinds = ", ".join(_SUFFIXES)
        raise TrainingError(f"{source} holds no file to score; their names end in {kinds}.")
    return sorted(found, key=lambda file: file.path)


def list_names(location: Store) -> set[str]:
    """Return the paths of all objects below *location*, which need not exist."""
    if location.remote:
        return {path for path, _, _ in _bucket(location).walk()}
    root = Path(str(location))
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def open_input(file: Input) -> pa.NativeFile:
    """
    Open a file for reads anywhere in it.

    Raises:
        TrainingError: The file has changed since the run began.
        BundleError: The bucket fails.
    """
    if is_remote(file.root):
        reader, size, tag = _bucket(open_location(file.root)).open_reader(file.path)
        same = (size, _bare(tag)) == (file.size, file.tag)
        stream = pa.PythonFile(_Reader(reader), mode="r")
    else:
        path = os.path.join(file.root, file.path)
        try:
            same = _pin(file.root, Path(path)) == file
            stream = pa.OSFile(path)
        except OSError as error:
            raise TrainingError(f"{path} cannot be read: {error.strerror}.") from error
    if not same:
        raise TrainingError(
            f"{file.path} has changed since the run began; score it to another destination."
        )
    return stream


class _Reader(io.RawIOBase):
    """obstore's reader as a file object of Python's."""

    def __init__(self, reader: ReadableFile) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def read(self, size: int | None = -1) -> bytes:
        return bytes(self._reader.read(None if size is None or size < 0 else size))

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def _bucket(location: Store) -> BucketStore:
    from serving.stores.bucket import BucketStore

    assert isinstance(location, BucketStore)  # noqa: S101  # is_remote checked it
    return location


def _in_bucket(source: str) -> list[Input]:
    scheme, _, path = source.rstrip("/").partition("://")
    parts = path.split("/")
    # Not "?": in an address it begins a query, which a bucket's location cannot have.
    fixed = next((i for i, part in enumerate(parts) if {*part} & {*"*["}), len(parts))
    if fixed == len(parts) and parts[-1].endswith(_SUFFIXES):
        fixed -= 1
    root, wanted = f"{scheme}://{'/'.join(parts[:fixed])}", parts[fixed:]
    return [
        Input(root, path, size, _bare(tag))
        for path, size, tag in _bucket(open_location(root)).walk()
        if path.endswith(_SUFFIXES)
        and not _hidden(path)
        and _fits(path.split("/"), wanted or ["**"])
    ]


def _bare(tag: str) -> str:
    """Azure puts a tag in quotes for one object, and leaves them out in a list."""
    return tag.strip('"')


def _fits(path: list[str], wanted: list[str]) -> bool:
    """Whether the parts of a path match those of a glob, as the module `glob` matches them."""
    if not wanted:
        return not path
    if wanted[0] == "**":
        return any(_fits(path[i:], wanted[1:]) for i in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], wanted[0]) and _fits(path[1:], wanted[1:])


def _in_folder(source: str) -> list[Input]:
    if os.path.isfile(source):
        return [_pin(os.path.dirname(source), Path(source))]
    if os.path.isdir(source):
        root, paths = source, [str(path) for path in Path(source).rglob("*")]
    else:
        parts = Path(source).parts
        fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        root, paths = str(Path(*parts[:fixed])), glob.glob(source, recursive=True)
    files = [Path(path) for path in paths if path.endswith(_SUFFIXES) and os.path.isfile(path)]
    pinned = [_pin(root, path) for path in files]
    return [file for file in pinned if not _hidden(file.path)]


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _pin(root: str, path: Path) -> Input:
    status = path.stat()
    return Input(root, path.relative_to(root).as_posix(), status.st_size, str(status.st_mtime_ns))

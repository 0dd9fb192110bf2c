"""The pointer: `latest` in a model's place names the live version, and the one before it.

It is the one object that ever changes, and only by a write that is conditional on what was seen.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from serving.errors import BundleRefused, Conflict
from serving.manifest import NAME
from serving.store import Object, Store, Tag

__all__ = [
    "POINTER_FILE",
    "Pointer",
    "move_pointer",
    "read_moved_pointer",
    "read_pointer",
    "restore_pointer",
]

POINTER_FILE = "latest"


class Pointer(NamedTuple):
    """Which version is live, which was before, and the tag that a move is conditional on."""

    version: str
    previous: str | None
    tag: Tag


def read_pointer(model: Store) -> Pointer:
    """
    Read which version of *model* is live.

    Raises:
        ObjectMissing: None is yet.
        BundleError: The pointer cannot be read, or (BundleRefused) names no version.
    """
    return _to_pointer(model, model.read(POINTER_FILE))


def read_moved_pointer(model: Store, seen: Tag | None) -> Pointer | None:
    """
    Read which version is live, unless the pointer is still the one of the tag *seen*: then None.

    Raises:
        As `read_pointer`.
    """
    found = model.read_other(POINTER_FILE, seen) if seen else model.read(POINTER_FILE)
    return None if found is None else _to_pointer(model, found)


def move_pointer(model: Store, version: str, seen: Pointer | None) -> None:
    """
    Make *version* the live one, unless the pointer has moved since it was *seen*.

    Raises:
        Conflict: It has.
    """
    lines = [version] if seen is None else [version, seen.version]
    content = _content(lines)
    try:
        if seen is None:
            model.create(POINTER_FILE, content)
        else:
            model.replace(POINTER_FILE, content, seen.tag)
    except Conflict as error:
        # Our own write may have arrived, and only its answer not: then all is well.
        now = read_pointer(model).version
        if now != version:
            raise Conflict(
                f"{model.at(POINTER_FILE)} was moved to {now} in the meantime, and was left there."
            ) from error


def restore_pointer(model: Store, seen: Pointer) -> None:
    """
    Undo a move: point to what was live, and remember what was live before that.

    Raises:
        Conflict: The pointer has moved again.
    """
    lines = [seen.version, *([seen.previous] if seen.previous else [])]
    moved = read_pointer(model)
    model.replace(POINTER_FILE, _content(lines), moved.tag)


def _content(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _to_pointer(model: Store, found: Object) -> Pointer:
    names = found.content.decode("utf-8", "replace").split()
    if not 1 <= len(names) <= 2 or not all(re.search(NAME, name) for name in names):
        text = found.content[:80].decode("utf-8", "replace").strip()
        raise BundleRefused(
            f"{model.at(POINTER_FILE)} names no version but {text!r}; "
            "write the one to serve into it."
        )
    return Pointer(names[0], names[1] if len(names) == 2 else None, found.tag)

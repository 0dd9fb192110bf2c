"""The pointer: `latest` in a model's location names the live version, and the one before it.

It is the one object that ever changes, and only by a write that is conditional on what was seen.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from serving.bundle.manifest import NAME
from serving.errors import BundleRefused, Conflict
from serving.stores.store import Object, Store, Tag

__all__ = [
    "LATEST_FILE",
    "Latest",
    "move_latest",
    "read_latest",
    "read_latest_if_changed",
    "restore_latest",
]

LATEST_FILE = "latest"


class Latest(NamedTuple):
    """Which version is live, which was before, and the tag that a move is conditional on."""

    version: str
    previous: str | None
    tag: Tag


def read_latest(model: Store) -> Latest:
    """
    Read which version of *model* is live.

    Raises:
        ObjectMissing: None is yet.
        BundleError: The pointer cannot be read, or (BundleRefused) names no version.
    """
    return _to_latest(model, model.read(LATEST_FILE))


def read_latest_if_changed(model: Store, seen: Tag | None) -> Latest | None:
    """
    Read which version is live, unless the pointer is still the one of the tag *seen*: then None.

    Raises:
        As `read_latest`.
    """
    found = model.read_if_changed(LATEST_FILE, seen) if seen else model.read(LATEST_FILE)
    return None if found is None else _to_latest(model, found)


def move_latest(model: Store, version: str, seen: Latest | None) -> None:
    """
    Make *version* the live one, unless the pointer has moved since it was *seen*.

    Raises:
        Conflict: It has.
    """
    lines = [version] if seen is None else [version, seen.version]
    content = _content(lines)
    try:
        if seen is None:
            model.create(LATEST_FILE, content)
        else:
            model.replace(LATEST_FILE, content, seen.tag)
    except Conflict as error:
        # Our own write may have arrived, and only its answer not: then all is well.
        now = read_latest(model).version
        if now != version:
            raise Conflict(
                f"{model.at(LATEST_FILE)} was moved to {now} in the meantime, and was left there."
            ) from error


def restore_latest(model: Store, seen: Latest) -> None:
    """
    Undo a move: point to what was live, and remember what was live before that.

    Raises:
        Conflict: The pointer has moved again.
    """
    lines = [seen.version, *([seen.previous] if seen.previous else [])]
    moved = read_latest(model)
    model.replace(LATEST_FILE, _content(lines), moved.tag)


def _content(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _to_latest(model: Store, found: Object) -> Latest:
    names = found.content.decode("utf-8", "replace").split()
    if not 1 <= len(names) <= 2 or not all(re.search(NAME, name) for name in names):
        text = found.content[:80].decode("utf-8", "replace").strip()
        raise BundleRefused(
            f"{model.at(LATEST_FILE)} names no version but {text!r}; "
            "write the one to serve into it."
        )
    return Latest(names[0], names[1] if len(names) == 2 else None, found.tag)

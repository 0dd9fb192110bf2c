"""The `latest` file in a model's location: it names the live version, and the one before it.

It is the only object that ever changes, and only by a conditional write.
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
    """The live version, the version before it, and the tag that a conditional write needs."""

    version: str
    previous: str | None
    tag: Tag


def read_latest(model: Store) -> Latest:
    """
    Read which version of *model* is live.

    Raises:
        ObjectMissing: No version is live yet.
        BundleError: The file cannot be read, or (BundleRefused) does not name a version.
    """
    return _to_latest(model, model.read(LATEST_FILE))


def read_latest_if_changed(model: Store, seen: Tag | None) -> Latest | None:
    """
    Read which version is live; None if the file still has the tag *seen*.

    Raises:
        ObjectMissing, BundleError: As for `read_latest`.
    """
    found = model.read_if_changed(LATEST_FILE, seen) if seen else model.read(LATEST_FILE)
    return None if found is None else _to_latest(model, found)


def move_latest(model: Store, version: str, seen: Latest | None) -> None:
    """
    Make *version* the live one.

    Raises:
        Conflict: Someone else changed the file since it was *seen*. It is left as it is.
    """
    lines = [version] if seen is None else [version, seen.version]
    content = _content(lines)
    try:
        if seen is None:
            model.create(LATEST_FILE, content)
        else:
            model.replace(LATEST_FILE, content, seen.tag)
    except Conflict as error:
        # Perhaps our write arrived and only its answer was lost. Then all is well.
        now = read_latest(model).version
        if now != version:
            raise Conflict(
                f"{model.at(LATEST_FILE)} was moved to {now} in the meantime, and was left there."
            ) from error


def restore_latest(model: Store, seen: Latest) -> None:
    """
    Undo a move: write what was *seen* before it.

    Raises:
        Conflict: Someone else changed the file again.
    """
    lines = [seen.version, *([seen.previous] if seen.previous else [])]
    moved = read_latest(model)
    model.replace(LATEST_FILE, _content(lines), moved.tag)


def _content(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _to_latest(model: Store, found: Object) -> Latest:
    names = found.content.decode("utf-8", "replace").split()
    if not 1 <= len(names) <= 2 or not all(re.search(NAME, name) for name in names):
        raise BundleRefused(f"{model.at(LATEST_FILE)} does not name a version; write one into it.")
    return Latest(names[0], names[1] if len(names) == 2 else None, found.tag)

"""The steps after a version is written: the gate, the store, and whether it goes live."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from serving.bundle.reader import Bundle
from serving.bundle.trust import Trust
from serving.stores.folder import FolderStore

from training.errors import on_interrupt
from training.fit.split import HeldOut
from training.registry.location import find_live, open_location
from training.registry.promote import how_to_promote, make_live
from training.registry.publish import upload
from training.registry.summary import show_bundle
from training.registry.verdict.compare import compare
from training.registry.verdict.gate import Condition, judge
from training.report import progress, say

__all__ = ["Wish", "release"]


class Wish(NamedTuple):
    """Where a new version is to go, and what it must meet to go live there."""

    #: All must be met.
    conditions: Sequence[Condition] = ()
    #: The location of all models in a store; None for the folder alone.
    to: str | None = None
    #: Whether it goes live in spite of warnings.
    despite_warnings: bool = False
    #: Which signatures are required there, and whether the live model's pickle may be opened.
    trust: Trust = Trust()


def release(path: Path, held: HeldOut | None, warnings: Sequence[str], wish: Wish) -> bool:
    """
    Show the version at *path*, bring it to its store, and let it go live if it may.

    Args:
        path: The version's folder; it is not live yet.
        held: The rows that it was not fitted to; None without any, and then without conditions.
        warnings: What is suspicious about it: with any, it goes live only if the user says so.
        wish: Where it is to go, and what it must meet.

    Returns:
        Whether it is live.

    Raises:
        BundleError: The store fails, or someone else moved `latest` meanwhile.
    """
    with on_interrupt(f"{path} is written, and not live"):
        return _release(path, held, warnings, wish)


def _release(path: Path, held: HeldOut | None, warnings: Sequence[str], wish: Wish) -> bool:
    bundle = Bundle(FolderStore(path), trust=wish.trust if wish.to else Trust())
    version = bundle.manifest.version
    folder = FolderStore(path.parent)
    model = folder if wish.to is None else open_location(wish.to).at(bundle.manifest.name)
    seen = find_live(model)
    met, found = True, None
    lines: list[str] = []
    if wish.conditions and held is not None:
        with progress() as report:
            report("scoring the held-out rows as the server would, beside the live model")
            live = model.at(seen.version) if seen else None
            found = compare(path, live, held, wish.trust)
        met, lines = judge(wish.conditions, found)
    show_bundle(path, found)
    say(*filter(None, (found and found.problem, *lines)))
    say(*(f"Warning: {warning}" for warning in warnings))
    if wish.to is not None:
        upload(bundle, model)
    if met and (wish.despite_warnings or not warnings):
        make_live(model, version, seen)
        if wish.to is not None:
            make_live(folder, version, find_live(folder))
        say(f"{version} is live{f'; it was {seen.version}' if seen else ''}.")
        return True
    stays = f"{seen.version} stays live" if seen else "none is live"
    why = " because of the warnings" if met else ""
    say(
        f"{version} was not promoted{why}; {stays} in {model}. To promote it anyway:",
        f"  {how_to_promote(version, model)}",
    )
    return False

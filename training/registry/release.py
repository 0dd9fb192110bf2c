"""What becomes of a version once it is written: through the gate, to the store, live."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.bundle.reader import Bundle
from serving.bundle.trust import Trust
from serving.stores.folder import FolderStore

from training.errors import on_interrupt
from training.registry.compare import compare
from training.registry.gate import Condition, judge
from training.registry.location import find_live, open_location
from training.registry.promote import how_to_promote, make_live
from training.registry.publish import publish, upload
from training.report import progress, say, show_bundle

__all__ = ["release"]


def release(
    path: Path,
    held_out: tuple[Any, Any],
    conditions: Sequence[Condition],
    to: str | None,
    trust: Trust,
) -> bool:
    """
    Show the version at *path*, and bring it to the store *to*; live only if it meets *conditions*.

    Args:
        path: The version's folder. Without conditions it is the live one there already.
        held_out: Rows that it was not fitted to, and what is true of them.
        conditions: What it must reach, beside the model that is live where it is to go.
        to: The location of all models; None for the folder alone.
        trust: Which signatures are required where it is published.

    Returns:
        Whether it is live.

    Raises:
        BundleError: The store fails, or somebody else moved the pointer meanwhile.
    """
    if not conditions:
        show_bundle(path)
        if to is not None:
            with on_interrupt(f"{path} is written"):
                publish(str(path), to, trust)
        return True
    with on_interrupt(f"{path} is written, and not live"):
        return _release_if(path, held_out, conditions, to, trust)


def _release_if(
    path: Path,
    held_out: tuple[Any, Any],
    conditions: Sequence[Condition],
    to: str | None,
    trust: Trust,
) -> bool:
    bundle = Bundle(FolderStore(path), trust=trust if to else Trust())
    version = bundle.manifest.version
    folder = FolderStore(path.parent)
    model = folder if to is None else open_location(to).at(bundle.manifest.name)
    seen = find_live(model)
    with progress() as report:
        report("scoring the held-out rows as the server would, beside the live model")
        found = compare(path, model.at(seen.version) if seen else None, *held_out, trust)
    met, lines = judge(conditions, found.figures, found.live)
    show_bundle(path, found)
    say(*filter(None, (found.problem, *lines)))
    if to is not None:
        upload(bundle, model)
    if met:
        make_live(model, version, seen)
        if to is not None:
            make_live(folder, version, find_live(folder))
        say(f"{version} is live{f'; it was {seen.version}' if seen else ''}.")
    else:
        stays = f"{seen.version} stays live" if seen else "none is live"
        say(
            f"{version} was not promoted; {stays} in {model}. To promote it all the same:",
            f"  {how_to_promote(version, model)}",
        )
    return met

"""`promote` and `rollback`: which version is live, decided by a move of the `latest` file."""

from __future__ import annotations

import re
import shlex

from serving.bundle.codec import decode_manifest
from serving.bundle.latest import Latest, move_latest, restore_latest
from serving.bundle.manifest import MANIFEST_FILE, NAME
from serving.bundle.reader import Bundle
from serving.bundle.trust import Trust
from serving.errors import BundleError, ObjectMissing
from serving.stores.store import Store

from training.errors import TrainingError
from training.registry.check import check_files
from training.registry.location import find_live, open_location
from training.registry.versions import STRUCK
from training.report import progress, say

__all__ = ["how_to_promote", "make_live", "promote", "rollback"]


def promote(uri: str, version: str, trust: Trust) -> None:
    """
    Make *version* of the model at *uri* the live one, after every digest was checked.

    Raises:
        TrainingError: There is no such version.
        BundleError: It does not verify, the store fails, or someone else moved `latest`.
    """
    model = open_location(uri)
    live = find_live(model)
    if live and live.version == version:
        say(f"{version} is live already; nothing was changed.")
        return
    name = _verify(model, version, trust)
    make_live(model, version, live)
    say(f"{name}: {live.version if live else 'none'} → {version}")


def rollback(uri: str, trust: Trust) -> None:
    """
    Make the version before the live one live again, after every digest was checked.

    Raises:
        TrainingError: No version was live before, or it is gone.
        BundleError: It does not verify, the store fails, or someone else moved `latest`.
    """
    model = open_location(uri)
    live = find_live(model)
    if live is None or live.previous in (None, live.version):
        known = f"only {live.version} has been live" if live else "no version is live"
        raise TrainingError(
            f"{known} in {model}, so there is none to go back to; "
            f"name one: {how_to_promote('VERSION', model)}"
        )
    name = _verify(model, live.previous, trust)
    make_live(model, live.previous, live)
    say(
        f"{name}: {live.version} → {live.previous}",
        f"Another rollback goes back to {live.version}.",
    )


def make_live(model: Store, version: str, seen: Latest | None) -> None:
    """
    Point `latest` to *version*, unless it has moved since it was *seen*.

    A prune marks a version's manifest and then reads `latest`; this moves `latest` and then reads
    the version's files. So if both run at once, at least one of them notices the other. The files
    are read here although they were verified before: a publish may have written the manifest anew
    after a prune had deleted the others, and a store is asked for an object by reading it.

    Raises:
        Conflict: `latest` has moved.
        BundleError: The version was pruned meanwhile; `latest` is where it was.
    """
    move_latest(model, version, seen)
    if _is_pruned(model.at(version)):
        if seen is not None:
            restore_latest(model, seen)
        stays = f"{seen.version} stays live" if seen else "promote another"
        raise BundleError(f"{model.at(version)} was pruned in the meantime; {stays}.")


def how_to_promote(version: str, model: Store) -> str:
    """Write the command that makes *version* live."""
    return f"python -m training promote {version} --store {shlex.quote(str(model))}"


def _is_pruned(location: Store) -> bool:
    """Whether a version's deletion has begun, or one of its files is gone."""
    try:
        raw = location.read(MANIFEST_FILE).content
        if raw.startswith(STRUCK):
            return True
        for name, file in decode_manifest(raw, str(location.at(MANIFEST_FILE))).files.items():
            location.read(name, size=file.size)
    except ObjectMissing:
        return True
    return False


def _verify(model: Store, version: str, trust: Trust) -> str:
    """Check that the version is there and whole; return the model's name."""
    if not re.search(NAME, version):
        raise TrainingError(f"{version!r} is not a version's name; `list` shows the versions.")
    try:
        bundle = Bundle(model.at(version), trust=trust)
    except ObjectMissing as error:
        raise TrainingError(
            f"there is no version {version} in {model}; `list` shows the versions."
        ) from error
    if bundle.manifest.version != version:
        raise TrainingError(f"{model.at(version)} holds version {bundle.manifest.version}.")
    with progress() as report:
        report(f"checking the files of {version}")
        check_files(bundle, lambda _: None)
    return bundle.manifest.name

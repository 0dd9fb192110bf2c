"""`prune`: delete old versions; the newest, the live one and the one before it stay."""

from __future__ import annotations

from rich.filesize import decimal
from serving.bundle.latest import Latest
from serving.bundle.manifest import MANIFEST_FILE
from serving.errors import ObjectMissing
from serving.stores.store import Store

from training.errors import TrainingError, on_interrupt
from training.registry.location import find_live, open_location
from training.registry.promote import how_to_promote
from training.registry.versions import STRUCK, Version, read_versions
from training.report import say, show_table

__all__ = ["prune"]


def prune(uri: str, keep: int, *, dry_run: bool) -> None:
    """
    Delete all versions of the model at *uri* but the *keep* newest, the live and the one before.

    A version that cannot be read stays: it may be an upload under way, or of a newer format.

    Args:
        uri: The model's location.
        keep: At least 1.
        dry_run: Whether only to show which versions would go.

    Raises:
        TrainingError: There is no version, or none is live.
        BundleError: The store fails.
    """
    model = open_location(uri)
    versions = read_versions(model)
    whole = [version.name for version in versions if version.manifest and not version.struck]
    live = find_live(model)
    if live is None:
        raise TrainingError(
            f"no version is live in {model}, so the versions that must stay are unknown; "
            f"promote one first: {how_to_promote('VERSION', model)}"
        )
    kept = {*whole[:keep], *_in_use(live)}
    old = [v for v in versions if v.struck or (v.manifest and v.name not in kept)]
    with on_interrupt("prune again to continue"):
        gone = [version for version in old if dry_run or _delete(model, version.name)]
    _show(gone, len(versions) - len(gone), dry_run=dry_run)
    say(*(f"{v.name} is left: {v.fault}" for v in versions if v.manifest is None))


def _in_use(latest: Latest | None) -> tuple[str | None, ...]:
    return (latest.version, latest.previous) if latest else ()


def _delete(model: Store, name: str) -> bool:
    """
    Delete a version, unless it went live meanwhile; return whether it is gone.

    First its manifest is marked, so that it is no bundle any more; then `latest` is read. A promote
    at the same time moves `latest` first and reads the files then, so one of the two notices. The
    manifest is deleted last: until then its mark tells the next prune to finish.
    """
    location = model.at(name)
    try:
        raw, tag = location.read(MANIFEST_FILE)
        if not raw.startswith(STRUCK):
            location.replace(MANIFEST_FILE, STRUCK + raw, tag)
        if name in _in_use(find_live(model)):
            raw, tag = location.read(MANIFEST_FILE)
            location.replace(MANIFEST_FILE, raw.removeprefix(STRUCK), tag)
            return False
        for file in location.names():
            if file != MANIFEST_FILE:
                location.delete(file)
    except ObjectMissing:  # another prune was faster
        return True
    location.delete(MANIFEST_FILE)
    return True


def _show(gone: list[Version], left: int, *, dry_run: bool) -> None:
    if not gone:
        say(f"Nothing to delete: {left} version{_s(left)}.")
        return
    rows = [[version.name, decimal(version.size)] for version in gone]
    show_table({"would go" if dry_run else "gone": "left", "size": "right"}, rows)
    freed = decimal(sum(version.size for version in gone))
    count = f"{len(gone)} version{_s(len(gone))}"
    said = f"{count} would go and free {freed}" if dry_run else f"{count} gone, {freed} freed"
    say(f"{said}; {left} {'would stay' if dry_run else 'left'}.")


def _s(count: int) -> str:
    return "" if count == 1 else "s"

"""`list`, and what every command over versions must know: which there are, newest first."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from rich.filesize import decimal
from serving.bundle.latest import LATEST_FILE, Latest
from serving.bundle.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    NAME,
    PIPELINE_FILE,
    Manifest,
    decode_manifest,
)
from serving.errors import BundleError, ObjectMissing
from serving.stores.store import Store

from training.errors import TrainingError
from training.registry.gate import METRICS
from training.registry.location import find_live, open_location
from training.report import figure, say, show_table, terminal_width

if TYPE_CHECKING:
    from rich.console import JustifyMethod

__all__ = ["STRUCK", "Version", "list_versions", "read_versions"]

#: What stands before a manifest while its version is being deleted: it is no JSON any more, so no
#: bundle, and nobody else's upload that is under way.
STRUCK = b"deleted by prune\n"

_AT_ONCE = 16

#: At most so many; and how many columns of a terminal one takes, and all else.
_FIGURES, _FIGURE, _OTHERS = 3, 10, 70


class Version(NamedTuple):
    """One version, as far as it can be read."""

    name: str
    manifest: Manifest | None
    #: Of all its files, in bytes.
    size: int = 0
    #: Whether its deletion was begun and not finished.
    struck: bool = False
    #: One sentence: why it cannot be served.
    fault: str | None = None


def list_versions(uri: str) -> None:
    """
    Print the versions of the model at *uri*, newest first: figures, engine, size, which is live.

    Raises:
        TrainingError: There are none.
        BundleError: The store fails.
    """
    model = open_location(uri)
    versions = read_versions(model)
    notes = [f"{v.name}: {v.fault}" for v in versions if v.fault]
    try:
        live = find_live(model)
        notes += _odd(live, versions)
    except BundleError as error:
        live = None
        notes.append(str(error))
    figures = _figures(versions)
    headings: dict[str, JustifyMethod] = {"": "left", "version": "left", "made (UTC)": "left"}
    headings |= {**dict.fromkeys(figures, "right"), "engine": "left", "size": "right"}
    states = [_state(version, live) for version in versions]
    rows = [_row(version, state, figures) for version, state in zip(versions, states, strict=True)]
    show_table(headings, rows, bold=states.index("live") if "live" in states else None)
    if any(_is_sample(version) for version in versions):
        notes.append("* on the sample that it was packed with, not on rows held out")
    say(*notes)


def read_versions(model: Store) -> list[Version]:
    """
    Read what lies in *model*, newest first, and last what cannot be read.

    Raises:
        TrainingError: There is no version, or *model* is one itself.
        BundleError: The store fails.
    """
    try:
        names = [n for n in model.names() if re.search(NAME, n) and n != LATEST_FILE]
    except ObjectMissing:
        names = []
    if MANIFEST_FILE in names:
        raise TrainingError(
            f"{model} is one version; the model's location, one level up, is meant."
        )
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(filter(None, pool.map(lambda name: _read(model, name), names)))
    if not found:
        raise TrainingError(
            f"there is no version in {model}; name a model, such as --store models/credit."
        )
    return sorted(found, key=_age, reverse=True)


def _read(model: Store, name: str) -> Version | None:
    location = model.at(name)
    try:
        raw = location.read(MANIFEST_FILE).content
        struck = raw.startswith(STRUCK)
        manifest = decode_manifest(raw.removeprefix(STRUCK), str(location.at(MANIFEST_FILE)))
    except ObjectMissing:
        return _read_unfinished(location, name)
    except BundleError as error:
        return Version(name, None, fault=str(error))
    size = len(raw) + sum(file.size for file in manifest.files.values())
    fault = "its deletion was begun; prune finishes it." if struck else None
    return Version(name, manifest, size, struck, fault)


def _read_unfinished(location: Store, name: str) -> Version | None:
    try:
        files = location.names()
    except ObjectMissing:  # it is a file
        return None
    if not {GRAPH_FILE, PIPELINE_FILE}.intersection(files):
        return None
    fault = "it has no manifest: an upload that is under way, or broke off; publish finishes it."
    return Version(name, None, fault=fault)


def _age(version: Version) -> tuple[str, str]:
    return (version.manifest.created_at if version.manifest else "", version.name)


def _odd(live: Latest | None, versions: list[Version]) -> list[str]:
    if live is None:
        return ["None is live; promote one."]
    if all(version.name != live.version for version in versions):
        return [f"'{LATEST_FILE}' names {live.version}, which is not there; promote another."]
    return []


def _state(version: Version, live: Latest | None) -> str:
    if live is None:
        return ""
    return {live.version: "live", live.previous: "before"}.get(version.name, "")


def _held_out(version: Version) -> dict[str, float]:
    metrics = version.manifest.metrics if version.manifest else {}
    found: dict[str, float] = metrics.get("held_out") or metrics.get("sample") or {}
    return found


def _is_sample(version: Version) -> bool:
    metrics = version.manifest.metrics if version.manifest else {}
    return "held_out" not in metrics and "sample" in metrics


def _figures(versions: list[Version]) -> list[str]:
    """Choose the columns: the most telling, and no more than the terminal has room for."""
    found = {name for version in versions for name in _held_out(version)}
    width = terminal_width()
    room = _FIGURES if width is None else (width - _OTHERS) // _FIGURE
    chosen = [name for names in METRICS.values() for name in names if name in found]
    return chosen[: min(max(room, 1), _FIGURES)]


def _row(version: Version, state: str, figures: list[str]) -> list[str]:
    manifest = version.manifest
    if manifest is None or version.struck:
        why = "half deleted" if version.struck else "cannot be read"
        return [state, version.name, why, *[""] * len(figures), "", ""]
    made = manifest.created_at[:16].replace("T", " ")
    known, mark = _held_out(version), "*" if _is_sample(version) else ""
    values = [f"{figure(known[name])}{mark}" if name in known else "" for name in figures]
    return [state, version.name, made, *values, manifest.engine.name, decimal(version.size)]

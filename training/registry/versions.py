"""`list`, and the versions of a model for every other command: all of them, newest first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from rich.console import JustifyMethod
from rich.filesize import decimal
from serving.bundle.codec import decode_manifest
from serving.bundle.latest import LATEST_FILE, Latest
from serving.bundle.manifest import GRAPH_FILE, MANIFEST_FILE, NAME, PIPELINE_FILE, Manifest
from serving.errors import BundleError, ObjectMissing
from serving.stores.store import Store

from training.errors import TrainingError
from training.fit.evaluate import METRICS
from training.registry.location import find_live, open_location
from training.registry.summary import differences_from, measured_on, own_figures
from training.report import figure, say, show_table, terminal_width

__all__ = ["STRUCK", "Version", "list_versions", "read_versions"]

#: Put before a manifest while its version is being deleted. It is no JSON then, so it is no bundle,
#: and it is not mistaken for an upload under way.
STRUCK = b"deleted by prune\n"

_AT_ONCE = 16

#: The most figures; the width of one on a terminal, and of everything else.
_FIGURES, _FIGURE, _OTHERS = 3, 15, 73
#: How many figures' width one figure and its difference from the live version's need.
_WITH = 3


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
    manifests = {v.name: v.manifest for v in versions if v.manifest}
    width = terminal_width()
    room = _FIGURES if width is None else (width - _OTHERS) // _FIGURE
    differences = differences_from(live.version, manifests) if live and room >= _WITH else {}
    figures = _figures(manifests.values(), room - (_WITH - 1 if width and differences else 0))
    headings: dict[str, JustifyMethod] = {"": "left", "version": "left", "made (UTC)": "left"}
    headings |= dict.fromkeys(figures, "right")
    column = f"{figures[0]} less live's" if differences and figures else None
    if column:
        headings[column] = "left"
    headings |= {"on": "left", "engine": "left", "size": "right"}
    states = [_state(version, live) for version in versions]
    letters, legend = _measured(versions)
    rows = []
    for version, state, letter in zip(versions, states, letters, strict=True):
        less = [differences.get(version.name, {}).get(figures[0], "")] if column else []
        rows.append([state, version.name, *_row(version, figures, [*less, letter])])
    if column:
        legend.append(f"{column}: on the same rows, with its 95 % interval (paired bootstrap)")
    show_table(headings, rows, bold=states.index("live") if "live" in states else None)
    say(*legend, *notes)


def read_versions(model: Store) -> list[Version]:
    """
    Read the versions in *model*: the newest first, and last those that cannot be read.

    Raises:
        TrainingError: There is no version, or *model* is one itself.
        BundleError: The store fails.
    """
    try:
        names = [n for n in model.names() if re.search(NAME, n) and n != LATEST_FILE]
    except ObjectMissing:
        names = []
    if MANIFEST_FILE in names:
        raise TrainingError(f"{model} is one version; use the model's location, one level up.")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(filter(None, pool.map(lambda name: _read(model, name), names)))
    if not found:
        raise TrainingError(
            f"there is no version in {model}; name a model, such as --store models/credit."
        )
    found.sort(key=lambda v: (v.manifest.created_at if v.manifest else "", v.name), reverse=True)
    return found


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


def _measured(versions: list[Version]) -> tuple[list[str], list[str]]:
    """Give versions whose figures were measured on the same rows one letter, and explain each."""
    known: dict[tuple[str, str], str] = {}
    letters, legend = [], []
    for version in versions:
        text = measured_on(version.manifest) if version.manifest and not version.struck else None
        if version.manifest is None or text is None:
            letters.append("")
            continue
        rule, lineage = version.manifest.hold_out, version.manifest.lineage
        key = (text, rule.rows_sha256 if rule else lineage.data_sha256)
        if key not in known:
            known[key] = _letter(len(known))
            legend.append(f"{known[key]}: measured on {text}")
        letters.append(known[key])
    if len(known) > 1:
        legend.append(
            "Figures on different rows cannot be compared; "
            "python -m training compare VERSION VERSION does it on the same rows."
        )
    return letters, legend


def _letter(index: int) -> str:
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def _figures(manifests: Iterable[Manifest], room: int) -> list[str]:
    """Choose the columns: the most telling, and no more than there is *room* for."""
    found = dict.fromkeys(name for manifest in manifests for name in own_figures(manifest))
    known = [figure for names in METRICS.values() for figure in names]
    chosen = [name for f in known for name in found if name == f or name.startswith(f"{f} of ")]
    return chosen[: min(max(room, 1), _FIGURES)]


def _row(version: Version, figures: list[str], beside: list[str]) -> list[str]:
    """Write a version's cells after its name; *beside* stands beside its figures."""
    manifest = version.manifest
    if manifest is None or version.struck:
        why = "half deleted" if version.struck else "cannot be read"
        return [why, *[""] * (len(figures) + len(beside) + 2)]
    made = manifest.created_at[:16].replace("T", " ")
    known, intervals = own_figures(manifest), manifest.metrics.get("intervals", {})
    values = [figure(known[name], intervals.get(name)) if name in known else "" for name in figures]
    return [made, *values, *beside, manifest.engine.name, decimal(version.size)]

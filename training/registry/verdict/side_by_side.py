"""`compare`: two versions on the same rows: figures, calibration, and where they differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.trust import Trust
from serving.errors import InvalidInstances, ObjectMissing
from serving.model.model import open_model

from training.errors import TrainingError, blame
from training.fit.evaluate import ERRORS
from training.fit.split import CannotCompareError, Mask, was_held_out
from training.registry.location import open_location
from training.registry.summary import measured_on, own_figures
from training.registry.verdict.calibration import (
    calibration,
    calibration_error,
    show_calibration,
)
from training.registry.verdict.compare import (
    Beside,
    check_enough,
    check_same_answers,
    common_rows,
    pair,
)
from training.registry.verdict.differences import show_differences
from training.registry.verdict.gate import write_difference
from training.registry.verdict.rows import Rows, Source, read_rows
from training.registry.verdict.scoring import Contender
from training.report import figure, progress, say, show_table

__all__ = ["compare_versions"]


def compare_versions(names: tuple[str, str], store: str, source: Source, trust: Trust) -> bool:
    """
    Print how two versions compare.

    Args:
        names: Each a bundle's location, or a version's name in *store*.
        store: The model's location.
        source: The rows. Without any, the recorded figures are shown.
        trust: Which signatures are required, and whether a pickle may be opened.

    Returns:
        Whether the figures could be compared; without a target that is not asked.

    Raises:
        TrainingError: There is no such version, or the rows do not fit.
        BundleError: A bundle does not verify, or the store fails.
    """
    first, second = (_open(name, store, trust) for name in names)
    titles = [f"{b.manifest.name} {b.manifest.version}" for b in (first, second)]
    say(f"A: {titles[0]}", f"B: {titles[1]}")
    if source.file is None and source.project is None:
        return _recorded(first.manifest, second.manifest)
    rows = read_rows(source, first.manifest, second.manifest)
    if rows.truth is not None and first.manifest.task in ("outliers", "clustering"):
        raise TrainingError("outliers and clusters have no truth to compare with: leave it out.")
    try:
        with progress() as report:
            report(f"scoring {len(rows.frame):,} rows with each, as the server would")
            check_same_answers(first.manifest, second.manifest)
            with blame("the rows do not fit the models"):
                a, b = (Contender(open_model(bundle), rows.frame) for bundle in (first, second))
            both = common_rows(b, a)
            ours, theirs = a.answers(both), b.answers(both)
    except (CannotCompareError, InvalidInstances) as error:
        raise TrainingError(f"A cannot be compared with B: {str(error).rstrip('.')}.") from error
    if left_out := int((~both).sum()):
        say(f"{left_out:,} rows left out: a model rejects them.")
    done = rows.truth is None or _figures(source, a, b, rows, both)
    show_differences(first.manifest, ours, theirs, rows.frame[both])
    return done


def _open(name: str, store: str, trust: Trust) -> Bundle:
    """Open a version by its location, or by its name in *store*."""
    if "/" in name or Path(name).exists():
        return open_bundle(open_location(name), trust=trust)
    model = open_location(store)
    try:
        return Bundle(model.at(name), name, trust=trust)
    except ObjectMissing as error:
        raise TrainingError(
            f"there is no version {name} in {model}; `list` shows the versions."
        ) from error


def _recorded(first: Manifest, second: Manifest) -> bool:
    """Show the figures that were recorded, and say whether they were measured on the same rows."""
    a, b = own_figures(first), own_figures(second)
    names = [name for name in a if name in b and isinstance(a[name], float)]
    show_table(
        {"figure": "left", "A": "right", "B": "right"},
        [
            [
                name,
                figure(a[name], first.metrics.get("intervals", {}).get(name)),
                figure(b[name], second.metrics.get("intervals", {}).get(name)),
            ]
            for name in names
        ],
    )
    rules = (first.hold_out, second.hold_out)
    same = bool(rules[0] and rules[1] and rules[0].rows_sha256 == rules[1].rows_sha256)
    say(
        f"A is measured on {measured_on(first)}; B on {measured_on(second)}"
        f"{', the same ones' if same else ''}."
    )
    fitted = {m.lineage.data_sha256 for m in (first, second) if m.hold_out is None}
    if not same and len(fitted) == 1 and not any(rules):
        say("They may be fitted to these rows, so there is no verdict: give others with --data.")
    elif not same:
        say("The rows differ, so there is no verdict: give some with --project or --data.")
    return same


def _figures(source: Source, a: Contender, b: Contender, rows: Rows, both: Mask) -> bool:
    """Show the figures on rows that neither was fitted to; False if there are not enough."""
    truth = np.asarray(rows.truth)
    chosen = both
    try:
        if not source.unseen:
            for name, manifest in (("A", a.manifest), ("B", b.manifest)):
                rule = manifest.hold_out
                try:
                    chosen = chosen & was_held_out(rule, manifest.name, rows.keys, rows.chosen)
                except CannotCompareError as error:
                    raise CannotCompareError(f"of {name}, {error}") from error
        check_enough(truth[chosen], a.manifest)
    except CannotCompareError as error:
        say(
            f"No verdict: {error}. If neither was fitted to any of these rows, say so with "
            "--unseen."
        )
        return False
    with blame("the figures cannot be computed"):
        beside = pair(b, a, truth, chosen)
    known = "rows" if source.unseen else "rows that neither was fitted to"
    say(f"On {beside.rows:,} {known}, B less A:")
    bins = [calibration(truth[chosen], model.answers(chosen)[0]) for model in (a, b)]
    table = [
        [
            name,
            figure(beside.theirs[name]),
            figure(beside.ours[name]),
            write_difference(name, beside),
            _better(name, beside),
        ]
        for name, value in beside.ours.items()
        if isinstance(value, float) and name in beside.theirs
    ]
    if bins[0] and bins[1]:
        errors = [calibration_error(part) for part in bins]
        table.append(
            ["calibration error", *map(figure, errors), f"{errors[1] - errors[0]:+.4g}", ""]
        )
    headings = {"figure": "left", "A": "right", "B": "right", "difference": "left", "": "left"}
    show_table(headings, table)  # type: ignore[arg-type]  # a literal's values are literals
    if bins[0] and bins[1]:
        show_calibration(a.manifest, *bins)
    return True


def _better(name: str, beside: Beside) -> str:
    _, ends = beside.difference(name)
    if ends is None or ends[0] <= 0 <= ends[1]:
        return "these rows cannot tell"
    falls = name.partition(" of ")[0] in ERRORS
    return "B is better" if (ends[0] > 0) != falls else "A is better"

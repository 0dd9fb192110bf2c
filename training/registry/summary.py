"""Prints a bundle that was just written: its figures, what they were measured on, its engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.filesize import decimal
from rich.table import Table
from serving.bundle.manifest import Label, Manifest
from serving.bundle.reader import read_manifest
from serving.bundle.signature import signer_of
from serving.stores.folder import FolderStore

from training.registry.verdict.compare import Comparison
from training.report import figure, say, show

__all__ = ["differences_from", "measured_on", "own_figures", "show_bundle"]


def show_bundle(path: Path, found: Comparison | None = None) -> None:
    """
    Print the result: figures beside those of other models, the engine and why, the files.

    Args:
        path: The bundle's folder.
        found: The comparison with the live model, if there was one.
    """
    _, manifest = read_manifest(FolderStore(path))
    ours, intervals = own_figures(manifest), manifest.metrics.get("intervals", {})
    others = {"trivial model": manifest.metrics.get("baseline", {})}
    if found is not None and found.beside is None:
        ours = found.figures
    elif found is not None and found.beside is not None:
        ours, others = found.beside.ours, {"live model": found.beside.theirs, **others}
    table = Table(title=f"{manifest.name} {manifest.version}", title_justify="left")
    for heading in ("figure", "model", *others):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, value in ours.items():
        if isinstance(value, float):
            beside = [figure(other[name]) if name in other else "" for other in others.values()]
            table.add_row(name, figure(value, intervals.get(name)), *beside)
    if validation := manifest.metrics.get("cross_validation"):
        mean = f"{validation['mean']:.4f} ±{validation['std']:.4f}"
        table.add_row(f"{validation['score']}, {validation['folds']} folds", mean)
    for name, file in manifest.files.items():
        table.add_row(name, decimal(file.size))
    show(table)
    if measured := measured_on(manifest):
        say(f"Measured on {measured}; ± is a 95 % interval.")
    if found is not None and found.left_out:
        say(f"{found.left_out:,} of the held-out rows left out: a model rejects them.")
    if found is not None and found.beside is not None:
        say(f"Compared on {found.beside.rows:,} rows that neither model was fitted to.")
    if "confusion" in ours and manifest.classes is not None:
        show(_confusion(manifest.classes, ours["confusion"]))
    show(_engine(manifest))
    signers = [signer for file in path.iterdir() if (signer := signer_of(file.name))]
    signed = f", signed by {', '.join(signers)}" if signers else ""
    relied = manifest.importances.permutation or {}
    known = [name for name in relied if relied[name] >= 0.0005]  # the others are shown as 0
    if best := sorted(known, key=lambda name: -relied[name])[:5]:
        say(f"It relies on {', '.join(f'{name} ({relied[name]:.3f})' for name in best)}.")
    say(f"Written to {path}{signed}")
    say(f"Its page as a file: python -m training card {path}")


def own_figures(manifest: Manifest) -> dict[str, Any]:
    """Return a version's figures: on held-out rows, or on the sample that it was packed with."""
    parts = (manifest.metrics.get(part) for part in ("held_out", "sample", "fitted"))
    return next((found for found in parts if found), {})


def measured_on(manifest: Manifest) -> str | None:
    """Say on which rows the figures were measured: how many, and the rule. None without figures."""
    rule = manifest.hold_out
    if "fitted" in manifest.metrics:
        return f"the {manifest.lineage.rows:,} rows that it was fitted to"
    if "held_out" not in manifest.metrics:
        if "sample" not in manifest.metrics:
            return None
        return f"the {manifest.lineage.rows:,} rows of its sample, which it may be fitted to"
    if rule is None:
        return "rows held out by no recorded rule"
    by = {
        "id": f"by the hash of the column {', '.join(rule.columns)}",
        "values": f"by the hash of {len(rule.columns)} columns",
        "project": "by the project's hold_out()",
    }[rule.by]
    return f"{rule.rows:,} rows held out {by}"


def differences_from(live: str, manifests: Mapping[str, Manifest]) -> dict[str, dict[str, str]]:
    """
    Write by how much the figures of versions differ from the *live* one's, and where that lies.

    Training recorded each version's difference from the one that was live then. So of the version
    that was live before, the live one's own record is turned round.

    Returns:
        By version and figure, of those that can be told.
    """
    records = {name: m.metrics.get("against", {}) for name, m in manifests.items()}
    own = records.get(live, {})
    known = [(str(own["version"]), own, -1)] if own.get("version") in manifests else []
    known += [(name, one, 1) for name, one in records.items() if one.get("version") == live]
    return {
        version: {
            name: _write_difference([sign * number + 0.0 for number in value])  # no minus zero
            for name, value in record.items()
            if isinstance(value, list)
        }
        for version, record, sign in known
    }


def _write_difference(numbers: list[float]) -> str:
    value, *ends = (f"{number:+.4g}" for number in (numbers[0], *sorted(numbers[1:])))
    return f"{value}, {' to '.join(ends)}" if ends else value


def _confusion(classes: list[Label], counts: list[list[int]]) -> Table:
    table = Table(title="true class, and how often each was said", title_justify="left")
    table.add_column("")
    for label in classes[:12]:
        table.add_column(str(label), justify="right")
    for label, row in list(zip(classes, counts, strict=True))[:12]:
        table.add_row(str(label), *map(str, row[:12]))
    return table


def _engine(manifest: Manifest) -> str:
    engine, parity = manifest.engine, manifest.engine.parity
    if engine.name == "onnx" and parity and parity.max_difference is not None:
        return (
            f"Served from the graph: equal to the pipeline on {parity.rows:,} training rows and "
            f"{parity.perturbed_rows:,} around them (largest difference "
            f"{parity.max_difference:.1g}, allowed {parity.tolerance:g})."
        )
    own = "".join(f", the module {name}" for name in engine.modules)
    return (
        f"Served by scikit-learn, because {engine.reason}. It is slower and opens a pickle: "
        f"the server needs scikit-learn, joblib and pandas{own}. `make run` opens it as your own; "
        "elsewhere it needs a signature or ALLOW_PICKLE=1."
    )

"""The sections that say how good the model is, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from serving.bundle.manifest import GRAPH_FILE, PIPELINE_FILE, Feature, Manifest
from serving.bundle.plots import Plots, Shape
from serving.model.predictions import label_key
from serving.page.draw import bars, histogram, lines, spark

__all__ = ["data", "importances", "origin", "purpose", "quality"]

_MEANINGS = {
    "roc_auc": "of two rows of different classes, how often the right one ranks higher",
    "log_loss": "the mean of -log(probability of the truth); lower is better",
    "accuracy": "the share of correct labels",
    "rmse": "the root of the mean squared error; lower is better",
    "mae": "the mean error; lower is better",
    "r2": "the share of the variance that is explained",
}
_RANK = {name: rank for rank, name in enumerate(_MEANINGS)}
_PLOTS = Plots()


def quality(manifest: Manifest) -> str:
    """Write the metrics beside the trivial model's, the confusion matrix, and the plots."""
    metrics = manifest.metrics
    found = metrics.get("held_out") or metrics.get("sample") or {}
    trivial = metrics.get("baseline", {})
    ranges = metrics.get("intervals", {})
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="n">{_figure(value)}</td>'
        f'<td class="n">{_range(ranges.get(name))}</td>'
        f'<td class="n">{_figure(trivial.get(name))}</td>'
        f'<td class="soft">{escape(_MEANINGS.get(name, ""))}</td></tr>'
        for name, value in sorted(found.items(), key=lambda item: _RANK.get(item[0], 9))
        if isinstance(value, int | float)
    )
    if not body:
        return (
            '<section id="quality"><h2>How good it is</h2><div class="card"><p>Nothing was '
            "measured: the model was packed without a target.</p></div></section>"
        )
    table = (
        '<div class="card wide" tabindex="0" role="region" aria-label="Metrics"><table><thead><tr>'
        '<td></td><th scope="col" class="n">this model</th><th scope="col" class="n">95 % '
        'interval</th><th scope="col" class="n">a trivial one</th><td></td></tr></thead>'
        f"<tbody>{body}</tbody></table>{_measured(manifest)}</div>"
    )
    return (
        f'<section id="quality"><h2>How good it is</h2><div class="grid">{table}'
        f"{_confusion(manifest, found.get('confusion'))}</div>{_plots(manifest)}</section>"
    )


def _measured(manifest: Manifest) -> str:
    said = []
    if "held_out" not in manifest.metrics:
        said.append("Measured on the sample it was packed with, which it may have been fitted to.")
    elif manifest.hold_out is not None:
        said.append(f"Measured on {manifest.hold_out.rows:,} rows that it was not fitted to.")
    if cross := manifest.metrics.get("cross_validation"):
        said.append(
            f"Cross-validated {escape(str(cross['score']))}: {cross['mean']:.4f} ± "
            f"{cross['std']:.4f}."
        )
    return f'<p class="soft">{" ".join(said)}</p>'


def _confusion(manifest: Manifest, matrix: Any) -> str:
    classes = manifest.classes
    if not matrix or not classes or len(classes) > 12:
        return ""
    names = [escape(label_key(label)) for label in classes]
    head = "".join(f'<th scope="col" class="n">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(f'<td class="n">{count:,}</td>' for count in counts)
        + f'<td class="n">{counts[i] / (sum(counts) or 1):.0%}</td></tr>'
        for i, (name, counts) in enumerate(zip(names, matrix, strict=True))
    )
    return (
        '<div class="card wide" tabindex="0" role="region" aria-label="Confusion">'
        f'<h3>Confusion</h3><table><thead><tr><th scope="col">truth ↓ answer →</th>{head}'
        f'<th scope="col" class="n">found</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _plots(manifest: Manifest) -> str:
    plots = manifest.plots or _PLOTS
    last = next(iter(plots.roc), None)
    about = f" of “{last}”" if last is not None and len(plots.roc) == 1 else ""
    drawn = {}
    if plots.roc:
        drawn[f"ROC{about}"] = lines(
            f"ROC curve{about}", plots.roc, "false alarms", "found", guide=True
        )
    if plots.precision_recall:
        title = f"Precision and recall{about}"
        drawn[title] = lines(title, plots.precision_recall, "recall", "precision")
    if plots.calibration:
        title = f"Calibration{about}"
        drawn[title] = lines(title, plots.calibration, "said", "happened", guide=True)
    if plots.scores:
        title = f"Probabilities{about or ' of the likeliest class'}"
        drawn[title] = histogram(title, plots.scores, "said")
    if plots.predicted:
        title = "Predicted and true, in tenths"
        drawn[title] = lines(title, {"": plots.predicted}, "predicted", "true", guide=True)
    if plots.residuals:
        drawn["Residuals"] = histogram("Residuals", plots.residuals, "true minus predicted")
    figures = "".join(
        f'<figure class="card"><h3>{escape(title)}</h3>{plot}</figure>'
        for title, plot in drawn.items()
    )
    return f'<p></p><div class="grid small">{figures}</div>' if figures else ""


def importances(manifest: Manifest) -> str:
    """Write what the model relies on."""
    found = manifest.importances.permutation
    if not found:
        return ""
    best = dict(sorted(found.items(), key=lambda item: -item[1])[:25])
    rest = len(found) - len(best)
    more = f" {rest} more are left out." if rest else ""
    return (
        '<section id="relies"><h2>What it relies on</h2><figure class="card limit">'
        f"{bars('Permutation importances', best)}<figcaption>How much the score falls when the "
        f"values of the feature are shuffled.{more}</figcaption></figure></section>"
    )


def purpose(manifest: Manifest) -> str:
    """Write the project's description: `CARD.md`, or its docstring."""
    parts = [part.strip() for part in manifest.purpose.split("\n\n") if part.strip()]
    written = "".join(
        f"<h3>{escape(part.lstrip('# '))}</h3>"
        if part.startswith("#") and "\n" not in part
        else f"<p>{escape(part.lstrip('# '))}</p>"
        for part in parts
    )
    if not written:
        written = "<p>The project does not say what the model is for: write CARD.md beside it.</p>"
    return (
        f'<section id="purpose"><h2>What it is for</h2><div class="card">{written}</div></section>'
    )


def data(manifest: Manifest) -> str:
    """Write each feature's kind, range, gaps and distribution."""
    shapes = manifest.plots.features if manifest.plots else {}
    rows = "".join(_feature(feature, shapes.get(feature.name)) for feature in manifest.features)
    ignored = ", ".join(map(escape, manifest.ignored))
    note = f'<p class="soft">Not read by the model: {ignored}.</p>' if ignored else ""
    return (
        '<section id="data"><h2>Data</h2><div class="card wide" tabindex="0" role="region" '
        'aria-label="Features"><table><thead><tr><th scope="col">feature</th><th scope="col">kind'
        '</th><th scope="col">seen in training</th><th scope="col">missing</th><th scope="col">'
        f"how often</th></tr></thead><tbody>{rows}</tbody></table>{note}</div></section>"
    )


def _feature(feature: Feature, shape: Shape | None) -> str:
    seen = ""
    if feature.categories:
        shown = ", ".join(escape(str(value)) for value in feature.categories[:12])
        seen = shown + (", …" if len(feature.categories) > 12 else "")
    elif feature.minimum is not None and feature.maximum is not None:
        seen = f"{feature.minimum:g} … {feature.maximum:g}"
    missing = f"{shape.missing:.1%}" if shape else ""
    drawn = (shape.histogram or shape.categories) if shape else None
    small = spark(f"Distribution of {feature.name}", drawn) if drawn else ""
    return (
        f'<tr><th scope="row">{escape(feature.name)}</th><td>{feature.kind}</td><td>{seen}</td>'
        f"<td>{missing}</td><td>{small}</td></tr>"
    )


def origin(manifest: Manifest) -> str:
    """Write where the model comes from."""
    engine, lineage = manifest.engine, manifest.lineage
    proof = engine.parity
    same = ""
    if proof is not None and engine.name == "onnx":
        same = (
            f"on {proof.rows:,} rows and {proof.perturbed_rows:,} changed ones: "
            f"{proof.label_mismatches} other labels, largest difference {proof.max_difference:.2g}"
        )
    file = manifest.files.get(GRAPH_FILE if engine.name == "onnx" else PIPELINE_FILE)
    facts: Mapping[str, str | None] = {
        "version": manifest.version,
        "trained": f"{manifest.created_at}, on {lineage.rows:,} rows",
        "estimator": _estimator(manifest),
        "engine": f"{engine.name}{'. ' + engine.reason if engine.reason else ''}",
        "same as scikit-learn": same,
        "model file": f"{file.size:,} bytes, sha256 {file.sha256}" if file else None,
        "data": f"sha256 {lineage.data_sha256}",
        "commit": lineage.git_commit,
        "made with": ", ".join(f"{name} {version}" for name, version in lineage.versions.items()),
    }
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><code>{escape(fact)}</code></td></tr>'
        for name, fact in facts.items()
        if fact
    )
    return (
        '<section id="origin"><h2>Where it comes from</h2><div class="card">'
        f"<table><tbody>{rows}</tbody></table></div></section>"
    )


def _estimator(manifest: Manifest) -> str:
    trees = manifest.estimator.num_trees
    return manifest.estimator.type + (f", {trees} trees" if trees else "")


def _figure(value: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4f}"


def _range(ends: Any) -> str:
    return f"{_figure(ends[0])} … {_figure(ends[1])}" if ends else ""

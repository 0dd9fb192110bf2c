"""The sections that say what the model is for, what it reads, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from serving.bundle.manifest import GRAPH_FILE, PIPELINE_FILE, Feature, Manifest
from serving.bundle.plots import Shape
from serving.page.draw import bars, spark

__all__ = ["data", "importances", "moment", "origin", "purpose"]


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
    """Write the project's description, unless it is one line, which is at the top."""
    if manifest.purpose and "\n" not in manifest.purpose.strip():
        return ""
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
    ignored = ", ".join(f"<bdi>{escape(name)}</bdi>" for name in manifest.ignored)
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
        shown = ", ".join(f"<bdi>{escape(str(value))}</bdi>" for value in feature.categories[:12])
        seen = shown + (", …" if len(feature.categories) > 12 else "")
    elif shape and shape.low is not None and shape.high is not None:
        # The extremes themselves may be one person's.
        seen = f"{shape.low:.6g} … {shape.high:.6g} in 98 % of rows"
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
        "trained": f"{moment(manifest)}, on {lineage.rows:,} rows",
        "estimator": _estimator(manifest),
        "engine": f"{engine.name}{'. ' + engine.reason if engine.reason else ''}",
        "same as scikit-learn": same,
        "model file": f"{file.size:,} bytes, sha256 {file.sha256}" if file else None,
        "one row": f"{engine.row_milliseconds:g} ms, where it was made"
        if engine.row_milliseconds is not None
        else None,
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


def moment(manifest: Manifest) -> str:
    """Write when the bundle was made, to the minute."""
    return f"{manifest.created_at[:16].replace('T', ' ')} UTC"


def _estimator(manifest: Manifest) -> str:
    trees = manifest.estimator.num_trees
    return manifest.estimator.type + (f", {trees} trees" if trees else "")

"""The section that says how good the model is: figures, confusion, and curves."""

from __future__ import annotations

from html import escape
from typing import Any

from serving.bundle.manifest import Manifest
from serving.bundle.plots import Curves, Plots
from serving.model.predictions import label_key
from serving.page.draw import histogram, lines

__all__ = ["quality"]

#: By figure: how the page writes it, and what it means.
_FIGURES = {
    "roc_auc": (
        "ROC AUC",
        "of two rows of different classes, how often the right one ranks higher",
    ),
    "roc_auc_ovr_weighted": ("ROC AUC, one class against the rest", ""),
    "log_loss": ("log loss", "the mean of -log(probability of the truth); lower is better"),
    "accuracy": ("accuracy", "the share of correct labels"),
    "rmse": ("RMSE", "the root of the mean squared error; lower is better"),
    "mae": ("MAE", "the mean error; lower is better"),
    "r2": ("R²", "the share of the variance that is explained"),
    "outlier_share": ("outliers", "the share of the rows"),
    "smallest_cluster": ("smallest cluster", "its share of the rows"),
    "largest_cluster": ("largest cluster", "its share of the rows"),
}
_RANK = {name: rank for rank, name in enumerate(_FIGURES)}
_PLOTS = Plots()
#: Classes in a confusion matrix, and in one that has half of the page's width.
_MOST_CLASSES, _FEW_CLASSES = 12, 5


def quality(manifest: Manifest) -> str:
    """Write the metrics beside the trivial model's, the confusion matrix, and the plots."""
    metrics = manifest.metrics
    part = next((p for p in ("held_out", "sample", "fitted") if metrics.get(p)), "")
    found = metrics.get(part, {})
    trivial = metrics.get("baseline", {})
    ranges = metrics.get("intervals", {})
    figures = {name: value for name, value in found.items() if isinstance(value, int | float)}
    if not figures:
        return (
            '<section id="quality"><h2>How good it is</h2><div class="card"><p>Nothing was '
            "measured: the model was packed without a target.</p></div></section>"
        )
    columns = {"this model": figures, "95 % interval": ranges, "a trivial one": trivial}
    columns = {title: values for title, values in columns.items() if values}
    body = "".join(
        f'<tr><th scope="row">{escape(_written(name))}<small>{_meaning(name)}</small></th>'
        + "".join(f'<td class="n">{_figure(values.get(name))}</td>' for values in columns.values())
        + "</tr>"
        for name in sorted(figures, key=lambda name: _RANK.get(name, 99))
    )
    head = "".join(f'<th scope="col" class="n">{title}</th>' for title in columns)
    table = (
        '<div class="card wide" tabindex="0" role="region" aria-label="Metrics"><table><thead><tr>'
        f"<td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{_measured(manifest, part)}</div>"
    )
    classes = [escape(label_key(label)) for label in manifest.classes or ()]
    matrix = found.get("confusion")
    if not matrix or not classes:
        beside = below = ""
    elif len(classes) <= _FEW_CLASSES:
        beside, below = _confusion(classes, matrix), ""
    else:
        show = _confusion if len(classes) <= _MOST_CLASSES else _by_class
        beside, below = "", f"<p></p>{show(classes, matrix)}"
    return (
        f'<section id="quality"><h2>How good it is</h2><div class="grid">{table}{beside}</div>'
        f"{below}{_all_plots(manifest.plots or _PLOTS)}</section>"
    )


def _written(name: str) -> str:
    figure, of, output = name.partition(" of ")
    return _FIGURES.get(figure, (figure,))[0] + of + output


def _meaning(name: str) -> str:
    return _FIGURES.get(name.partition(" of ")[0], ("", ""))[1]


def _measured(manifest: Manifest, part: str) -> str:
    rows = manifest.hold_out.rows if manifest.hold_out else 0
    said = {
        "held_out": f"Measured on {rows:,} rows that it was not fitted to." if rows else "",
        "sample": "Measured on the sample it was packed with, which it may have been fitted to.",
        "fitted": f"Measured on the {manifest.lineage.rows:,} rows that it was fitted to.",
    }[part]
    if cross := manifest.metrics.get("cross_validation"):
        said += (
            f" Cross-validated {escape(_written(str(cross['score'])))}: {cross['mean']:.4f} ± "
            f"{cross['std']:.4f}."
        )
    return f'<p class="soft">{said}</p>'


def _confusion(names: list[str], matrix: list[list[int]]) -> str:
    head = "".join(f'<th scope="col" class="n">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(
            f'<td class="n{" hit" if i == j else ""}">{count:,}</td>'
            for j, count in enumerate(counts)
        )
        + f'<td class="n">{counts[i] / (sum(counts) or 1):.0%}</td></tr>'
        for i, (name, counts) in enumerate(zip(names, matrix, strict=True))
    )
    return _table("Confusion", f'<th scope="col">truth ↓ answer →</th>{head}', "found", rows)


def _by_class(names: list[str], matrix: list[list[int]]) -> str:
    answered = [sum(column) for column in zip(*matrix, strict=True)]
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td class="n">{sum(counts):,}</td>'
        f'<td class="n">{_share(counts[i], answered[i])}</td>'
        f'<td class="n">{_share(counts[i], sum(counts))}</td></tr>'
        for i, (name, counts) in enumerate(zip(names, matrix, strict=True))
    )
    head = '<th scope="col">class</th>' + "".join(
        f'<th scope="col" class="n">{title}</th>' for title in ("rows", "right if answered")
    )
    return _table("By class", head, "found", rows)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else ""


def _table(title: str, head: str, last: str, rows: str) -> str:
    return (
        f'<div class="card wide" tabindex="0" role="region" aria-label="{title}"><h3>{title}</h3>'
        f'<table><thead><tr>{head}<th scope="col" class="n">{last}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _all_plots(plots: Plots) -> str:
    return _curves(plots) + "".join(
        f"<h3>{escape(name)}</h3>{drawn}"
        for name, curves in plots.outputs.items()
        if (drawn := _curves(curves))
    )


def _curves(plots: Curves) -> str:
    last = next(iter(plots.roc), None)
    about = f" of “{last}”" if last is not None and len(plots.roc) == 1 else ""
    drawn = {}
    if plots.roc:
        drawn[f"ROC{about}"] = lines(
            f"ROC curve{about}", plots.roc, "false alarms", "found", guide=True
        )
    if plots.precision_recall:
        title = f"Precision, recall{about}"
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


def _figure(value: Any) -> str:
    if isinstance(value, list | tuple):  # an interval
        return f"{_figure(value[0])} … {_figure(value[1])}"
    if not isinstance(value, int | float):
        return ""
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4f}"

"""The curves and histograms that the model's page shows."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec
import numpy as np
from serving.bundle.manifest import Feature
from serving.bundle.plots import Curve, Histogram, Plots, Shape
from serving.model.predictions import label_key
from sklearn import metrics

from training.fit.evaluate import Answers

__all__ = ["draw_curves", "draw_shapes"]

#: Points of a curve, bins of a histogram, classes with curves of their own, categories listed.
_POINTS, _BINS, _CLASSES, _CATEGORIES = 50, 20, 6, 30
#: Fewer rows than this are never shown as a bar of their own.
_FEWEST = 5


def draw_curves(truth: Any, answers: Answers) -> Plots:
    """
    Draw how good *answers* are.

    Args:
        truth: Shape (n,).
        answers: The model's, for the same rows.
    """
    if answers.classes is None:
        predicted = np.asarray(answers.predicted, float)
        target = np.asarray(truth, float)
        return Plots(predicted=_tenths(predicted, target), residuals=_histogram(target - predicted))
    if answers.probabilities is None:
        return Plots()
    chances = np.asarray(answers.probabilities, float)
    classes = list(answers.classes)
    shown = range(len(classes)) if 2 < len(classes) <= _CLASSES else [len(classes) - 1]
    roc, recall, calibration = {}, {}, {}
    for i in [] if len(classes) > _CLASSES else shown:
        hits = np.asarray(truth) == classes[i]
        if hits.all() or not hits.any():
            continue
        key = label_key(classes[i].item() if hasattr(classes[i], "item") else classes[i])
        alarms, found, _ = metrics.roc_curve(hits, chances[:, i])
        roc[key] = _curve(alarms, found)
        precision, share, _ = metrics.precision_recall_curve(hits, chances[:, i])
        recall[key] = _curve(share[::-1], precision[::-1])
        calibration[key] = _tenths(chances[:, i], hits.astype(float))
    scores = chances[:, -1] if len(classes) == 2 else chances.max(axis=1)
    return Plots(
        roc=roc, precision_recall=recall, calibration=calibration, scores=_histogram(scores)
    )


def draw_shapes(features: list[Feature], columns: list[list[Any]]) -> dict[str, Shape]:
    """
    Draw how the values of each feature are distributed.

    Args:
        features: As clients write them; a text has no shape.
        columns: One list of n values per feature.
    """
    return {f.name: _shape(f, column) for f, column in zip(features, columns, strict=True)}


def _shape(feature: Feature, column: list[Any]) -> Shape:
    known = [value for value in column if value is not None]
    missing = round(1 - len(known) / len(column), 4)
    if feature.kind == "text" or not known:
        return Shape(missing=missing)
    if feature.kind == "number":
        values = np.asarray(known, float)
        low, high = np.quantile(values, [0.01, 0.99], method="nearest").tolist()
        return Shape(missing=missing, low=low, high=high, histogram=_histogram(values))
    counts = Counter(msgspec.json.encode(value).decode() for value in known).most_common()
    shown = {name: count for name, count in counts[:_CATEGORIES] if count >= _FEWEST}
    if others := len(known) - sum(shown.values()):
        shown[""] = others
    return Shape(missing=missing, categories=shown)


def _curve(x: Any, y: Any) -> Curve:
    """Keep a limited number of points, including the first and the last."""
    kept = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(int))
    return Curve(_rounded(x[kept]), _rounded(y[kept]))


def _tenths(x: Any, y: Any) -> Curve:
    """Return the means of ten equal parts, in the order of *x*."""
    parts = np.array_split(np.argsort(x, kind="stable"), max(1, min(10, len(x) // _FEWEST)))
    return Curve(_rounded([x[p].mean() for p in parts]), _rounded([y[p].mean() for p in parts]))


def _histogram(values: Any) -> Histogram | None:
    """Count values between the 1st and 99th percentile; those outside count at the ends."""
    low, high = np.quantile(values, [0.01, 0.99], method="nearest")
    if not (np.isfinite(high - low) and high - low > np.finfo(float).tiny):
        return None
    # Bins are counted from the lowest value: there are too few floats beside a large one.
    counts, steps = np.histogram(
        np.clip(values, low, high) - low, bins=_BINS, range=(0.0, high - low)
    )
    edges = np.minimum(low + steps, high)
    merged: list[int] = []
    kept = [edges[0]]
    waiting = 0
    for count, edge in zip(counts.tolist(), edges[1:], strict=True):
        waiting += count
        if 0 < waiting < _FEWEST:
            continue
        merged.append(waiting)
        kept.append(edge)
        waiting = 0
    if waiting:
        merged = [*merged[:-1], (merged[-1] if merged else 0) + waiting]
        kept = [*kept[: len(merged)], edges[-1]]
    return Histogram(_rounded(kept), merged)


def _rounded(values: Any) -> list[float]:
    """Round to five digits of the range, which may be narrow beside the values."""
    found = np.asarray(values, float).tolist()
    width = max(found) - min(found) or abs(found[0])
    if not (width and math.isfinite(width)):
        return [float(f"{value:.5g}") for value in found]
    digits = 4 - math.floor(math.log10(width))
    return [round(value, digits) for value in found]

"""Calibration: of the rows with a probability of 0.8, 80 % should come true."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from serving.bundle.manifest import Manifest

from training.fit.evaluate import Answers
from training.report import say, show_table

__all__ = ["Bin", "calibration", "calibration_error", "show_calibration"]

_BINS = 10


class Bin(NamedTuple):
    """The rows with a probability between two bounds."""

    low: float
    high: float
    rows: int
    #: The mean probability, and the share of rows that came true.
    said: float
    found: float


def calibration(target: Any, answers: Answers) -> list[Bin]:
    """
    Compare probabilities with what came true, in ten bins of equal width; empty bins are left out.

    Of two classes it is the second's probability; of more, that of the most probable class. Without
    probabilities, or with several outputs, there are none.

    Args:
        target: The truth, shape (n,) or (n, outputs).
        answers: The model's.
    """
    if answers.probabilities is None or target.ndim > 1:
        return []
    probabilities = np.asarray(answers.probabilities, float)
    if probabilities.shape[1] == 2:
        said, true = probabilities[:, 1], target == answers.classes[1]
    else:
        best = probabilities.argmax(axis=1)
        said, true = probabilities.max(axis=1), target == np.asarray(answers.classes)[best]
    place = np.clip((said * _BINS).astype(int), 0, _BINS - 1)
    return [
        Bin(k / _BINS, (k + 1) / _BINS, int(rows.sum()), said[rows].mean(), true[rows].mean())
        for k in range(_BINS)
        if (rows := place == k).any()
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Return the mean distance of probability and share, weighted by rows (expected error)."""
    total = sum(part.rows for part in bins)
    return sum(part.rows * abs(part.said - part.found) for part in bins) / total


def show_calibration(manifest: Manifest, a: list[Bin], b: list[Bin]) -> None:
    """Print the bins of both models beside each other."""
    classes = manifest.classes or []
    what = f"of the class {classes[1]}" if len(classes) == 2 else "of the most probable class"
    say(f"Calibration: the probability {what}, and how often it came true:")
    by_bin = [{part.low: part for part in bins} for bins in (a, b)]
    rows = []
    for low in sorted({*by_bin[0], *by_bin[1]}):
        cells = [f"{low:.1f} to {low + 0.1:.1f}"]
        for bins in by_bin:
            part = bins.get(low)
            cells += [f"{part.rows:,}", f"{part.found:.3f}"] if part else ["0", ""]
        rows.append(cells)
    show_table(
        {"said": "left", "A, rows": "right", "A": "right", "B, rows": "right", "B": "right"}, rows
    )

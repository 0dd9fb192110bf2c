"""What the model's page draws: a few numbers of curves and histograms, and no row."""

from __future__ import annotations

import msgspec

__all__ = ["Curve", "Curves", "Histogram", "Plots", "Shape"]


class Curve(msgspec.Struct, frozen=True):
    """Points of a line, from left to right."""

    x: list[float]
    y: list[float]


class Histogram(msgspec.Struct, frozen=True):
    """Counts between edges, of which there is one more. Counts from 1 to 4 are merged."""

    edges: list[float]
    counts: list[int]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How a feature's values were distributed in training."""

    #: The share of rows without a value.
    missing: float = 0.0
    #: The 1st and the 99th percentile of a number.
    low: float | None = None
    high: float | None = None
    histogram: Histogram | None = None
    #: Rows by category as JSON, the commonest first; those under 5 rows are added up under "".
    categories: dict[str, int] = {}


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """How good the answers for one target are, over the rows held out."""

    #: By class: share of false alarms, share found.
    roc: dict[str, Curve] = {}
    #: By class: recall, precision.
    precision_recall: dict[str, Curve] = {}
    #: By class: the mean probability of a tenth of the rows, and how often it came true.
    calibration: dict[str, Curve] = {}
    #: Of the last class's probability, or of the likeliest class's where there are several.
    scores: Histogram | None = None
    #: Of a regression: the mean prediction of a tenth of the rows, and the mean truth.
    predicted: Curve | None = None
    residuals: Histogram | None = None


class Plots(Curves, frozen=True, kw_only=True):
    """The curves, and the shapes of the features over the training rows."""

    features: dict[str, Shape] = {}
    #: By name, where the model predicts several targets: each has curves of its own.
    outputs: dict[str, Curves] = {}

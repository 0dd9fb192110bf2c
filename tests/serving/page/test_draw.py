"""The page is drawn from the manifest alone, quickly, and for every kind of model."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from serving.bundle.manifest import Feature, Manifest
from serving.bundle.plots import Curve, Histogram, Plots
from serving.page import draw
from serving.page.page import Place, render

from tests.helpers.bundles import manifest_of
from training.fit.curves import draw_curves, draw_shapes
from training.fit.evaluate import Answers

CHANGES: list[dict[str, Any]] = [
    {"plots": None},
    {"plots": Plots(), "metrics": {}},
    {"purpose": "# Purpose\n\nTo test.\n\n## Owner\n\nUs."},
    {"ignored": ["id"]},
    {"metrics": {"sample": {"accuracy": 0.5}}},
]


def test_the_example_s_page_is_small_and_quick(credit: Path) -> None:
    """The example's page takes under 60 kB, and under 5 ms of CPU in the best of 20 runs."""
    manifest = manifest_of(credit)
    seconds = []
    for _ in range(20):
        started = time.process_time()
        page = render(manifest, Place("live", asks=True))
        seconds.append(time.process_time() - started)

    assert len(page) < 60_000
    assert min(seconds) < 0.005


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("place", [Place(), Place("live", asks=True), Place("degraded")])
def test_a_bundle_with_parts_missing_has_a_page(credit: Path, changes: Any, place: Place) -> None:
    """A bundle without plots, metrics or purpose has a page; a file has no form or script."""
    manifest: Manifest = msgspec.structs.replace(manifest_of(credit), **changes)
    page = render(manifest, place).decode()

    assert "Where it comes from" in page
    assert ("<form" in page) == place.asks
    assert ("<script" in page) == (place.status is not None)


def test_a_plot_is_svg_with_a_title() -> None:
    """Each plot is well-formed SVG with a label for screen readers, also with one point."""
    curves = {"a<b": Curve([0, 0.5, 1], [0, 0.7, 1]), "c": Curve([3], [4])}
    drawn = [
        draw.lines("Lines & more", curves, "x", "y", guide=True),
        draw.histogram("Lines & more", Histogram([0, 1, 3], [5, 6]), "x"),
        draw.spark("Lines & more", {'"a"': 3, "": 1}),
        draw.bars("Lines & more", {"a" * 50: -1.0, "<": 0.0}),
    ]

    for text in drawn:
        assert ET.fromstring(text).attrib["aria-label"] == "Lines & more"  # noqa: S314


def test_no_bar_shows_fewer_than_five_rows() -> None:
    """Cells below five rows are merged with their neighbours, and no row is lost."""
    values = np.random.default_rng(0).lognormal(0, 2, 300).tolist()
    words = ["often"] * 20 + ["rare"] * 4 + ["rarer"] + [None] * 5
    features = [
        Feature(name="n", kind="number", dtype="float64", nullable=False),
        Feature(name="c", kind="category", dtype="object", nullable=True),
        Feature(name="t", kind="text", dtype="object", nullable=False),
    ]
    number, category, text = draw_shapes(features, [values, words, words]).values()

    assert number.histogram is not None
    assert sum(number.histogram.counts) == 300
    assert all(count == 0 or count >= 5 for count in number.histogram.counts)
    assert len(number.histogram.edges) == len(number.histogram.counts) + 1
    assert category.categories == {'"often"': 20, "": 5}
    assert category.missing == pytest.approx(5 / 30, abs=1e-4)
    assert text.categories == {}
    assert text.histogram is None


@pytest.mark.parametrize(
    ("low", "width"), [(2**53, 6), (1_700_000_000, 3600), (-1e17, 64), (0, 1e-320), (0, 1e-300)]
)
def test_a_narrow_range_far_from_zero_has_bars(low: float, width: float) -> None:
    """The edges differ where a float allows it, and lie between the minimum and the maximum."""
    values = np.linspace(low, low + width, 300)
    feature = Feature(name="n", kind="number", dtype="float64", nullable=False)
    shape = draw_shapes([feature], [values.tolist()])["n"]

    if width < 1e-307:
        assert shape.histogram is None
        return
    assert shape.histogram is not None
    edges = np.asarray(shape.histogram.edges)
    assert sum(shape.histogram.counts) == 300
    assert edges[0] < edges[-1]
    assert (np.diff(edges) >= 0).all()
    assert edges[0] == pytest.approx(low, rel=0, abs=width / 20)
    assert edges[-1] == pytest.approx(low + width, rel=0, abs=width / 20)
    if low == 1_700_000_000:
        assert len(set(edges)) == 21
    ET.fromstring(draw.histogram("n", shape.histogram, "n"))  # noqa: S314


def test_curves_fit_the_answers() -> None:
    """Perfect answers give a perfect curve; a regression has residuals and no ROC."""
    truth = np.array(["a", "b"] * 50)
    sure = np.column_stack([truth == "a", truth == "b"]).astype(float)
    perfect = draw_curves(truth, Answers(truth, sure, np.array(["a", "b"])))
    value = np.linspace(0, 1, 100)
    regression = draw_curves(value, Answers(value * 0.9, None, None))

    assert perfect.roc["b"].y[0] == 0
    assert perfect.roc["b"].y[-1] == 1
    assert set(perfect.precision_recall["b"].y[1:-1]) <= {1.0, 0.5}
    assert regression.roc == {}
    assert regression.predicted is not None
    assert len(regression.predicted.x) == 10
    assert regression.residuals is not None

"""The page is drawn from the manifest alone, quickly, and for every kind of model."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from serving.bundle.manifest import Feature, Manifest
from serving.bundle.plots import Curve, Curves, Histogram, Plots
from serving.page import draw
from serving.page.page import Place, render

from tests.helpers.bundles import manifest_of
from training.fit.curves import draw_curves, draw_plots, draw_shapes
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


def test_the_page_shows_percentiles_and_no_extremes(credit: Path) -> None:
    """A number's range on the page ends at the 1st and the 99th percentile."""
    manifest = manifest_of(credit)
    features = [
        msgspec.structs.replace(f, maximum=9876543.0) if f.kind == "number" else f
        for f in manifest.features
    ]
    page = render(msgspec.structs.replace(manifest, features=features), Place()).decode()

    assert " in 98 % of rows" in page
    assert "9.87654e+06" not in page


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("place", [Place(), Place("live", asks=True), Place("degraded")])
def test_a_bundle_with_parts_missing_has_a_page(credit: Path, changes: Any, place: Place) -> None:
    """A bundle without plots, metrics or purpose has a page; a file has no form or script."""
    manifest: Manifest = msgspec.structs.replace(manifest_of(credit), **changes)
    page = render(manifest, place).decode()

    assert "Where it comes from" in page
    assert ("<form" in page) == place.asks
    assert ("<script" in page) == (place.status is not None)


@pytest.mark.parametrize(
    ("count", "shown"), [(3, "Confusion"), (12, "Confusion"), (13, "By class"), (40, "By class")]
)
def test_many_classes_have_a_row_each(credit: Path, count: int, shown: str) -> None:
    """Up to twelve a matrix; beyond, how often an answer is right, and how many are found."""
    classes: list[Any] = [f"kind {n}" for n in range(count)]
    matrix = (np.eye(count, dtype=int) * 6 + np.eye(count, k=1, dtype=int) * 2).tolist()
    metrics = {"held_out": {"accuracy": 0.75, "confusion": matrix}}
    manifest = msgspec.structs.replace(manifest_of(credit), classes=classes, metrics=metrics)
    page = render(manifest, Place()).decode()

    assert {"Confusion", "By class"} & set(re.findall("<h3>(.*?)</h3>", page)) == {shown}
    [row] = re.findall("<tr><th scope=.row.>kind 1</th>(.*?)</tr>", page)
    cells = re.findall(">([^<>]+)</td>", row)
    assert cells[-1] == "75%"
    assert len(cells) == (count + 1 if shown == "Confusion" else 3)
    if shown == "By class":
        assert cells[:2] == ["8", "75%"]


def test_each_output_has_its_plots(credit: Path) -> None:
    """Several targets: the curves of each stand under its name, and figures keep their meaning."""
    residuals = Curves(residuals=Histogram([0, 1], [9]))
    manifest = msgspec.structs.replace(
        manifest_of(credit),
        classes=None,
        metrics={"held_out": {"rmse of <a>": 1.5, "rmse of b": 2.5}},
        plots=Plots(outputs={"<a>": residuals, "b": residuals, "c": Curves()}),
    )
    page = render(manifest, Place()).decode()

    assert page.count("<h3>Residuals</h3>") == 2
    assert "<h3>&lt;a&gt;</h3>" in page
    assert "<h3>c</h3>" not in page
    assert page.count("RMSE of") == page.count("the root of the mean squared error") == 2


def test_a_model_without_a_target_shows_its_figures(credit: Path) -> None:
    """A detector of outliers was measured on the rows that it was fitted to, beside nothing."""
    manifest = msgspec.structs.replace(
        manifest_of(credit), metrics={"fitted": {"outlier_share": 0.25}}, hold_out=None
    )
    page = render(manifest, Place()).decode()

    assert 'outliers<small>the share of the rows</small></th><td class="n">0.2500</td>' in page
    assert "rows that it was fitted to" in page
    assert "a trivial one" not in page


def test_the_page_says_how_fast_a_row_is(credit: Path) -> None:
    """Training measures it; the example's graph takes less than a millisecond or a few."""
    engine = manifest_of(credit).engine

    assert engine.row_milliseconds is not None
    assert 0 < engine.row_milliseconds < 10
    assert f"{engine.row_milliseconds:g} ms" in render(manifest_of(credit), Place()).decode()


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
    perfect_answers = Answers(truth, sure, np.array(["a", "b"]))
    perfect = draw_curves(truth, perfect_answers)
    value = np.linspace(0, 1, 100)
    regression_answers = Answers(value * 0.9, None, None)
    regression = draw_curves(value, regression_answers)

    assert perfect.roc["b"].y[0] == 0
    assert perfect.roc["b"].y[-1] == 1
    assert set(perfect.precision_recall["b"].y[1:-1]) <= {1.0, 0.5}
    several = draw_plots(["v", "w"], [truth, value], [perfect_answers, regression_answers])
    alone = draw_plots([], [value], [regression_answers])

    assert several.outputs == {"v": perfect, "w": regression}
    assert alone == Plots(predicted=regression.predicted, residuals=regression.residuals)
    assert regression.roc == {}
    assert regression.predicted is not None
    assert len(regression.predicted.x) == 10
    assert regression.residuals is not None

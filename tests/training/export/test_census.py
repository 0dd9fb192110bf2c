"""The census: most shapes of pipelines are served from the graph, and none answers wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.census.shapes import SHAPES, Shape
from tests.census.take import take

#: Shapes that scikit-learn serves; every other is served from the graph.
BY_SCIKIT_LEARN = {"KNN imputer", "quantiles of the normal distribution"}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.kind}: {shape.name}")
def test_a_shape_is_served_as_it_was_fitted(shape: Shape, tmp_path: Path) -> None:
    """From the graph, if that is what is known of it; the answers are the pipeline's own."""
    entry = take(shape, tmp_path / "model")

    assert entry.engine == ("sklearn" if shape.name in BY_SCIKIT_LEARN else "onnx"), entry.reason
    assert entry.wrong == 0
    assert entry.difference < (1e-9 if entry.precision == "float64" else 1e-5)


def test_there_are_enough_shapes() -> None:
    """Of sixty and more, at least four of five are served from the graph."""
    names = [shape.name for shape in SHAPES]

    assert len(names) >= 60
    assert set(names) >= BY_SCIKIT_LEARN
    assert len(BY_SCIKIT_LEARN) <= len(names) // 5

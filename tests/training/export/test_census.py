"""The census: most shapes of pipelines are served from the graph, and none answers wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.census.shapes import SHAPES, Shape
from tests.census.take import take

#: Shapes that scikit-learn serves; the graph serves all others.
BY_SCIKIT_LEARN = {"KNN imputer"}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.kind}: {shape.name}")
def test_a_shape_is_served_by_the_expected_engine(shape: Shape, tmp_path: Path) -> None:
    """Each shape runs on the expected engine, and its answers equal the pipeline's."""
    entry = take(shape, tmp_path / "model")

    assert entry.engine == ("sklearn" if shape.name in BY_SCIKIT_LEARN else "onnx"), entry.reason
    assert entry.wrong == 0
    assert entry.difference < (1e-9 if entry.precision == "float64" else 1e-5)


def test_there_are_sixty_shapes() -> None:
    """There are at least sixty shapes, and four of five are served from the graph."""
    names = [shape.name for shape in SHAPES]

    assert len(names) >= 60
    assert set(names) >= BY_SCIKIT_LEARN
    assert len(BY_SCIKIT_LEARN) <= len(names) // 5

"""Probabilities stay in [0, 1], whichever engine computes them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving.bundle.reader import open_bundle
from serving.bundle.trust import Trust
from serving.model.engines import bounded
from serving.model.model import Model, open_model
from serving.stores.folder import FolderStore
from sklearn.ensemble import RandomForestClassifier

from training.export.build import build_bundle


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, pd.DataFrame]:
    """Build a forest without a depth limit; return it and its training rows."""
    random = np.random.default_rng(0)
    data = pd.DataFrame(random.normal(size=(500, 4)), columns=list("abcd"))
    target = np.where(data["a"] + random.normal(0, 1, 500) > 0, "yes", "no")
    forest = RandomForestClassifier(300, random_state=0).fit(data, target)
    assert sum(tree.tree_.node_count for tree in forest.estimators_) > 30_000
    path = build_bundle(tmp_path_factory.mktemp("deep"), "deep", forest, data)
    model = open_model(open_bundle(FolderStore(path.parent), trust=Trust()))
    assert model.manifest.engine.name == "onnx"
    return model, data


def test_a_deep_forest_s_probabilities_are_valid(
    deep: tuple[Model, pd.DataFrame],
) -> None:
    """Each probability is in [0, 1], and those of a row add up to 1."""
    model, data = deep
    columns = [data[name].tolist() for name in data]
    rows = [list(p["probabilities"].values()) for p in model.predict(columns)]

    assert 0 <= min(map(min, rows)) <= max(map(max, rows)) <= 1
    assert [sum(row) for row in rows] == pytest.approx([1.0] * len(rows), abs=1e-6)


near = st.floats(-1e-3, 1.001) | st.sampled_from([-2.4e-7, 0.0, 1.0, 1.0000002])


@given(st.lists(st.lists(near, min_size=1, max_size=5), max_size=3))
def test_a_row_out_of_bounds_is_clipped_and_scaled(rows: list[list[float]]) -> None:
    """Rows outside [0, 1] are clipped and scaled to 1 if possible; others are left alone."""
    for row, found in zip(rows, bounded(rows), strict=True):
        if 0 <= min(row) <= max(row) <= 1:
            assert found == row
        elif max(row) > 0:
            assert 0 <= min(found) <= max(found) <= 1
            assert sum(found) == pytest.approx(1)
        else:
            assert found == [0] * len(row)


@pytest.mark.parametrize("row", [[-0.1, 1.1], [2.0, 0.0]])
def test_a_large_excess_is_an_error(row: list[float]) -> None:
    """An answer of 2.0 is an error, so that clipping cannot hide it from the parity check."""
    with pytest.raises(ValueError, match="outside"):
        bounded([[0.5, 0.5], row])


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_clipping_keeps_infinity_and_nan(odd: float) -> None:
    """Clipping keeps infinity and NaN, so that the model rejects such a row later."""
    for row in ([odd, 0.5], [0.5, odd], [odd, 1.0000002], [1.0000002, odd], [-1e-9, odd]):
        assert not all(map(math.isfinite, bounded([row])[0]))

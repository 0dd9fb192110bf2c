"""The arguments that a project's functions get, and the use of their results."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from training.errors import TrainingError
from training.fit.project import hold_out

DATA = pd.DataFrame({"year": [2023, 2026, 2024, 2026]}, index=[3, 1, 0, 2])
NEW = [False, True, False, True]


def _adds_a_column(data: Any) -> Any:
    data["new"] = data["year"] > 2024
    return data["new"]


def _sorts(data: Any) -> Any:
    return data.sort_index()["year"] > 2024


def _forgets_the_index(data: Any) -> Any:
    return data.reset_index(drop=True)["year"].set_axis([5, 6, 7, 8]) > 2024


def _array(data: Any) -> Any:
    return (data["year"] > 2024).to_numpy()


def _project(function: Any) -> ModuleType:
    module = ModuleType("project")
    module.__file__ = __file__
    module.hold_out = function  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("function", [_adds_a_column, _sorts, _array])
def test_hold_out_decides_by_row(function: Any) -> None:
    """A Series is aligned by its index, and the rows stay unchanged."""
    data = DATA.copy()
    chosen = hold_out(_project(function), data)

    assert chosen is not None
    assert np.asarray(chosen.mask).tolist() == NEW
    pd.testing.assert_frame_equal(data, DATA)


def test_a_series_with_another_index_is_rejected() -> None:
    """A Series whose index differs from the rows' is rejected."""
    with pytest.raises(TrainingError, match="index is not that of the rows"):
        hold_out(_project(_forgets_the_index), DATA)

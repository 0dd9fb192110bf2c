"""Cross-validation and permuting the features are bounded in time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from training.fit.validation import cross_validation, divide, permutation

RANDOM = np.random.default_rng(0)
DATA = pd.DataFrame(RANDOM.normal(size=(1600, 20)), columns=[f"c{i}" for i in range(20)])
TARGET = (DATA["c3"] > 0).to_numpy().astype(int)


class Slow(LogisticRegression):  # type: ignore[misc]  # scikit-learn has no types
    """Takes 20 microseconds a row, and at least *least* seconds."""

    least = 0.0

    def decision_function(self, X: Any) -> Any:  # noqa: N803  # scikit-learn's name
        """Answer slowly."""
        time.sleep(max(self.least, 2e-5 * len(X)))
        return super().decision_function(X)


@pytest.mark.parametrize(
    ("least", "found"), [(0.0, "permuting 20 features, "), (0.1, "too many columns")]
)
def test_a_slow_model_is_permuted_on_fewer_rows_or_not_at_all(least: float, found: str) -> None:
    """The time limit holds, and the step says what is done."""
    model, said = Slow().fit(DATA, TARGET), list[str]()
    model.least = least
    start = time.perf_counter()
    importances = permutation(
        model, DATA, TARGET, scoring="roc_auc", report=said.append, seconds=0.4
    )

    assert time.perf_counter() - start < 2
    assert said[0].startswith(found)
    assert "1,600 rows" not in said[0]
    if importances is not None:
        assert max(importances, key=lambda name: importances[name]) == "c3"
    assert (importances is None) == (least > 0)


@pytest.mark.parametrize(("seconds", "scored"), [(0.0, 2), (60.0, 5)])
def test_cross_validation_stops_when_it_takes_long(seconds: float, scored: int) -> None:
    """It scores two folds at least, records how many, and says if some are left out."""
    said = list[str]()
    found = cross_validation(
        LogisticRegression(),
        DATA,
        TARGET,
        folds=divide(TARGET, None, by_class=True),
        scoring="roc_auc",
        report=said.append,
        seconds=seconds,
    )

    assert found["folds"] == scored
    assert said == (["over 0 s: 2 of 5 folds were scored"] if scored == 2 else [])

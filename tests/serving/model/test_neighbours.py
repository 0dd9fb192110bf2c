"""A row's answer depends on its own values only, not on the other rows of the request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving.model.engines.sklearn import SklearnEngine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from training.export.describe import draft_manifest

FLOORS = np.tile([1, 2, 3, 4], 10)
ROWS: list[list[Any]] = [[2, 4.5, 300, 2, 3], ["a", "b", "a", "c", "b"], [1, 2, 2.5, 1, 4]]


def as_texts(data: Any) -> Any:
    """Write "2" for the integer 2 and "2.0" for the float."""
    return data.astype(str)


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (Ridge(), FLOORS * 10.0),
        (LogisticRegression(), np.where(FLOORS == 2, "yes", "no")),
        (MultiOutputRegressor(Ridge()), np.column_stack([FLOORS, -FLOORS]).astype(float)),
    ],
)
@pytest.mark.parametrize("arrays", [False, True])
def test_a_fraction_does_not_change_other_rows(model: Any, target: Any, arrays: bool) -> None:
    """A row of integers is read as integers beside a row with a fraction or a huge number."""
    letters = np.tile(["a", "b"], 20)
    data = pd.DataFrame({"floor": FLOORS.astype("int8"), "letter": letters, "rooms": FLOORS})
    texts = FunctionTransformer(as_texts)
    pipeline = make_pipeline(texts, OneHotEncoder(handle_unknown="ignore"), model)
    pipeline.fit(data, target)
    draft = draft_manifest(
        "m", pipeline, data, named=True, rows=data[:1], metrics={}, permutation=None, seed=0
    )
    engine = SklearnEngine(draft, pipeline)
    score = engine.score_arrays if arrays else engine.score
    columns: list[Any] = [np.array(c) if arrays and c[0] != "a" else c for c in ROWS]

    together = score(columns).parts
    alone = [score([column[i : i + 1] for column in columns]).parts for i in range(5)]
    for k, part in enumerate(together):
        assert list(part.values) == pytest.approx([row[k].values[0] for row in alone])
        if part.probabilities is not None:
            found = np.array([row[k].probabilities[0] for row in alone])
            assert np.asarray(part.probabilities) == pytest.approx(found)

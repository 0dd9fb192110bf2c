"""A pipeline may be fitted on any kind of table that scikit-learn accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse  # type: ignore[import-untyped]
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder, StandardScaler

from training.errors import TrainingError
from training.export.build import build_bundle
from training.export.features import as_frame, read_features

ROWS = 200
RANDOM = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "age": RANDOM.integers(18, 90, ROWS),
        "income": RANDOM.normal(size=ROWS),
        "home": RANDOM.choice(["rent", "own"], ROWS),
    }
)
TARGET = np.where(TABLE["age"] > 50, "yes", "no")
TEXTS = RANDOM.choice(["a few words", "some other words", "nothing else"], ROWS)
SPARSE = np.where(RANDOM.random((ROWS, 4)) < 0.3, RANDOM.normal(size=(ROWS, 4)), 0.0)


def _of_columns() -> Any:
    steps = [("n", StandardScaler(), ["age", "income"]), ("c", OneHotEncoder(), ["home"])]
    return make_pipeline(ColumnTransformer(steps), LogisticRegression())


INPUTS = {
    "pyarrow": (_of_columns, TABLE.convert_dtypes(dtype_backend="pyarrow"), [*TABLE]),
    "nullable": (_of_columns, TABLE.convert_dtypes(), [*TABLE]),
    "category of numbers": (_of_columns, TABLE.astype({"age": "category"}), [*TABLE]),
    "polars": (_of_columns, pl.DataFrame(TABLE.to_dict("list")), [*TABLE]),
    "sparse": (
        lambda: make_pipeline(MaxAbsScaler(), LogisticRegression()),
        scipy.sparse.csr_array(SPARSE),
        ["x0", "x1", "x2", "x3"],
    ),
    **{
        f"texts, {name}": (
            lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()),
            texts,
            ["text"],
        )
        for name, texts in (
            ("list", TEXTS.tolist()),
            ("array", TEXTS),
            ("polars", pl.Series(TEXTS.tolist())),
        )
    },
}


@pytest.mark.parametrize(("pipeline", "data", "names"), INPUTS.values(), ids=INPUTS)
def test_a_table_of_any_kind_is_packed(
    pipeline: Any, data: Any, names: list[str], tmp_path: Path
) -> None:
    """Each kind of table is served from the graph, with the names of its columns."""
    build_bundle(
        tmp_path,
        "m",
        pipeline().fit(data, TARGET),
        data,
        metrics={},
        permutation=None,
        seed=None,
        report=lambda _: None,
    )
    manifest = open_bundle(FolderStore(tmp_path)).manifest

    assert manifest.engine.name == "onnx", manifest.engine.reason
    assert [feature.name for feature in manifest.features] == names


@pytest.mark.parametrize("wrap", [pd.DataFrame, pl.DataFrame])
def test_a_date_column_is_rejected(wrap: Any) -> None:
    """One sentence names the column and says how to convert it."""
    data = wrap({"day": pd.date_range("2026-01-01", periods=3).to_list()})

    with pytest.raises(TrainingError, match=r"column .day. holds dates: .*\.dt\.days"):
        read_features(as_frame(data)[0])

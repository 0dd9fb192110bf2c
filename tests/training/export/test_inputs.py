"""A pipeline may be fitted on any kind of table that scikit-learn accepts."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse  # type: ignore[import-untyped]
from serving.bundle.manifest import FLOAT32_MAX, Manifest
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

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
NUMBERS = ["age", "income"]
GAPS = TABLE.assign(income=TABLE["income"].where(RANDOM.random(ROWS) < 0.9))
FOREST = RandomForestClassifier(10, random_state=0)
HISTOGRAMS = HistGradientBoostingClassifier(max_iter=10)
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


def _packed(folder: Path, pipeline: Any, data: Any) -> Manifest:
    build_bundle(folder, "m", pipeline.fit(data, TARGET), data)
    return open_bundle(FolderStore(folder)).manifest


@pytest.mark.parametrize(("pipeline", "data", "names"), INPUTS.values(), ids=INPUTS)
def test_a_table_of_any_kind_is_packed(
    pipeline: Any, data: Any, names: list[str], tmp_path: Path
) -> None:
    """Each kind of table is served from the graph, with the names of its columns."""
    manifest = _packed(tmp_path, pipeline(), data)

    assert manifest.engine.name == "onnx", manifest.engine.reason
    assert [feature.name for feature in manifest.features] == names


def _mixed(numbers: Any, last: Any) -> Any:
    steps = [("n", numbers, NUMBERS), ("c", OneHotEncoder(handle_unknown="ignore"), ["home"])]
    return make_pipeline(ColumnTransformer(steps), last)


#: Pipelines over numbers of float32, and the steps that then compute in float32.
SHORT = {
    "scaler, logistic": (_mixed(StandardScaler(), LogisticRegression()), []),
    "scaler, forest": (_mixed(StandardScaler(), FOREST), []),
    "scaler, histograms": (_mixed(MinMaxScaler(), HISTOGRAMS), []),
    "other scalers": (_mixed(make_pipeline(RobustScaler(), MaxAbsScaler()), FOREST), []),
    "bounds": (_mixed(MinMaxScaler((0.1, 0.9), clip=True), FOREST), []),
    "powers": (_mixed(PolynomialFeatures(2), HISTOGRAMS), ["PolynomialFeatures"]),
}


@pytest.mark.parametrize(("pipeline", "inexact"), SHORT.values(), ids=SHORT)
def test_numbers_of_float32_are_rounded_as_scikit_learn_rounds_them(
    pipeline: Any, inexact: list[str], tmp_path: Path
) -> None:
    """Step by step: trees behind a scaler jump where the pipeline's do."""
    manifest = _packed(tmp_path, pipeline, TABLE.astype(dict.fromkeys(NUMBERS, "float32")))

    assert manifest.engine.name == "onnx", manifest.engine.reason
    assert manifest.engine.inexact == inexact
    assert (manifest.features[0].magnitude or np.inf) <= FLOAT32_MAX


@pytest.mark.parametrize("kind", ["float32", "Float32", "object"])
@pytest.mark.parametrize("last", [LogisticRegression(), FOREST], ids=["logistic", "forest"])
def test_gaps_are_filled_in_any_dtype(kind: str, last: Any, tmp_path: Path) -> None:
    """None among objects, as SQL gives it, and gaps among short numbers."""
    data = GAPS.astype(dict.fromkeys(NUMBERS, kind))
    data = data.where(data.notna(), None) if kind == "object" else data
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    manifest = _packed(tmp_path, _mixed(numbers, last), data)

    assert manifest.engine.name == "onnx", manifest.engine.reason
    assert manifest.engine.inexact == []


@pytest.mark.parametrize("last", [LogisticRegression(), KNeighborsClassifier()])
def test_an_array_of_float32_names_the_step_that_computes_in_it(last: Any, tmp_path: Path) -> None:
    """A model of sums: the proof then allows what float32 rounds."""
    data = TABLE[NUMBERS].to_numpy("float32")
    manifest = _packed(tmp_path, make_pipeline(StandardScaler(), last), data)

    assert manifest.engine.name == "onnx", manifest.engine.reason
    assert manifest.engine.inexact == [type(last).__name__]


@pytest.mark.parametrize(("kind", "named"), [("int8", True), ("uint8", True), ("int32", False)])
def test_a_code_that_its_dtype_cannot_hold_is_one_never_seen(
    kind: str, named: bool, tmp_path: Path
) -> None:
    """Both engines answer for it."""
    data: Any = pd.DataFrame({"grade": TABLE["age"] // 20, "age": TABLE["age"]})
    data = data.astype(np.dtype(kind))
    data = data if named else data.to_numpy()
    encoder = OneHotEncoder(handle_unknown="ignore")
    manifest = _packed(tmp_path, make_pipeline(encoder, LogisticRegression()), data)

    assert manifest.engine.name == "onnx", manifest.engine.reason


def test_a_number_that_is_no_category_gets_no_answer(tmp_path: Path) -> None:
    """From the graph either, where the encoder rejects it."""
    data = TABLE.assign(age=(TABLE["age"] // 20).astype(float).where(TABLE["income"] > -1.0))
    steps = [("n", StandardScaler(), ["income"]), ("c", OneHotEncoder(), ["age", "home"])]
    manifest = _packed(
        tmp_path, make_pipeline(ColumnTransformer(steps), LogisticRegression()), data
    )

    assert manifest.engine.name == "onnx", manifest.engine.reason


def test_gaps_in_an_array_of_objects_stay_none(tmp_path: Path) -> None:
    """An encoder tells None from NaN."""
    data = TABLE[["age"]].astype(object).to_numpy(copy=True)
    data[::5] = None
    encoder = OneHotEncoder(handle_unknown="ignore")
    manifest = _packed(tmp_path, make_pipeline(encoder, LogisticRegression()), data)

    assert manifest.engine.name == "onnx", manifest.engine.reason


def test_half_a_float_falls_back_with_the_line_that_helps(tmp_path: Path) -> None:
    """It names the column."""
    manifest = _packed(tmp_path, _of_columns(), TABLE.astype({"age": "float16"}))

    assert manifest.engine.name == "sklearn"
    assert 'data.astype({"age": "float64"})' in str(manifest.engine.reason)


def test_decimals_are_rejected_with_the_line_that_helps() -> None:
    """As SQL's NUMERIC gives them."""
    with pytest.raises(TrainingError, match=r'Decimal.*data.astype\({"cost": "float64"}\)'):
        read_features(pd.DataFrame({"cost": [Decimal("1.5")]}))


@pytest.mark.parametrize("wrap", [pd.DataFrame, pl.DataFrame])
def test_a_date_column_is_rejected(wrap: Any) -> None:
    """One sentence names the column and says how to convert it."""
    data = wrap({"day": pd.date_range("2026-01-01", periods=3).to_list()})

    with pytest.raises(TrainingError, match=r"column .day. holds dates: .*\.dt\.days"):
        read_features(as_frame(data)[0])

"""The contract comes from the fitted pipeline, not from the values of a sample."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from serving.bundle.manifest import Manifest
from serving.bundle.reader import open_bundle
from serving.errors import InvalidInstances
from serving.model.model import Model, open_model
from serving.openapi import describe_folder
from serving.page.page import Place, render
from serving.stores.folder import FolderStore
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from training.errors import TrainingError
from training.export.build import build_bundle

ROWS = 200
RANDOM = np.random.default_rng(0)
DATA = pd.DataFrame(
    {
        "amount": RANDOM.normal(100, 20, ROWS),
        "code": RANDOM.choice([2**53, 2**53 + 1, 7], ROWS),
        "town": RANDOM.choice(["Lima", "Cusco", "Ica"], ROWS),
        "name": [f"customer {i}" for i in range(ROWS)],
        "note": RANDOM.choice(["please call", "no answer", "paid in full"], ROWS),
    }
)
TARGET = np.where(DATA["amount"] + 30 * (DATA["code"] == 2**53) > 110, "yes", "no")
NUMBERS = make_pipeline(SimpleImputer(), StandardScaler())
CODES = OneHotEncoder(handle_unknown="ignore")
COLUMNS = ColumnTransformer(
    [
        ("number", NUMBERS, ["amount"]),
        ("code", CODES, ["code", "town"]),
        ("text", TfidfVectorizer(), "note"),
    ]
)


def built(folder: Path, pipeline: Any, data: Any) -> Manifest:
    """Build a bundle of a fitted pipeline; return its manifest."""
    build_bundle(folder, "m", pipeline, data)
    return open_bundle(FolderStore(folder)).manifest


def packed(folder: Path, pipeline: Any, data: Any) -> Model:
    """Build a bundle of a fitted pipeline, and open it."""
    built(folder, pipeline, data)
    return open_model(open_bundle(FolderStore(folder)))


def ask(model: Model, **values: Any) -> tuple[dict[str, Any], list[Any]]:
    """Send one instance; return its prediction and the warnings."""
    found = model.decode(msgspec.json.encode(values))
    return model.predict(found.columns)[0], found.warnings


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """Fit a pipeline that reads four of five columns."""
    return make_pipeline(COLUMNS, LogisticRegression()).fit(DATA, TARGET)


@pytest.fixture
def model(pipeline: Any, tmp_path: Path) -> Model:
    """Pack the pipeline with a sample that has the values of two rows only, and no gaps."""
    return packed(tmp_path, pipeline, DATA[DATA["town"] != "Ica"].head(40))


def manifest_text(manifest: Manifest) -> str:
    """Encode a manifest."""
    return msgspec.json.encode(manifest).decode()


def test_kinds_and_categories_come_from_the_pipeline(model: Model) -> None:
    """Integers of an encoder are categories, and all categories that it knows are listed."""
    features = {feature.name: feature for feature in model.manifest.features}

    assert model.manifest.engine.name == "onnx"
    assert {name: feature.kind for name, feature in features.items()} == {
        "amount": "number",
        "code": "category",
        "town": "category",
        "note": "text",
    }
    assert features["town"].categories == ["Cusco", "Ica", "Lima"]
    assert features["code"].categories == [7, 2**53, 2**53 + 1]
    assert features["amount"].nullable  # the imputer fills gaps, although the sample has none


def test_integers_are_exact(model: Model, pipeline: Any) -> None:
    """Integers beyond 2**53, where float64 has gaps, are exact, and 7.0 is 7."""
    row = {"amount": 100.0, "town": "Ica", "note": "please call"}
    for code in (2**53, 2**53 + 1, 7):
        expected = pipeline.predict_proba(pd.DataFrame([{**row, "code": code, "name": ""}]))[0]
        answer, _ = ask(model, code=code, **row)
        assert list(answer["probabilities"].values()) == pytest.approx(expected, abs=1e-12)
    assert ask(model, code=7.0, **row)[0] == ask(model, code=7, **row)[0]
    for wrong in (7.5, "7", True, 2**64):
        with pytest.raises(InvalidInstances) as error:
            ask(model, code=wrong, **row)
        assert [fault.pointer for fault in error.value.errors] == ["/code"]


def test_codes_beyond_int64_are_rejected(tmp_path: Path) -> None:
    """No request could hold such codes, so no bundle is written; the sentence says what to do."""
    codes = RANDOM.choice(np.array([7, 2**63, 2**64 - 1], np.uint64), ROWS)
    data = pd.DataFrame({"code": codes, "other": RANDOM.normal(size=ROWS)})
    columns = ColumnTransformer([("code", CODES, ["code"])], remainder="passthrough")
    with pytest.raises(TrainingError, match=r'column code holds .* data.astype\(\{"code": str\}\)'):
        built(tmp_path, make_pipeline(columns, Ridge()).fit(data, codes > 7), data)


def test_categories_come_from_the_encoder_not_the_dtype(tmp_path: Path) -> None:
    """A category of the pandas dtype that no row had is rejected, as by the pipeline."""
    towns = pd.Categorical(DATA["town"], categories=["Tacna", "Lima", "Cusco", "Ica"])
    data = DATA[["amount"]].assign(town=towns)
    columns = ColumnTransformer([("town", OneHotEncoder(), ["town"])], remainder="passthrough")
    model = packed(tmp_path, make_pipeline(columns, LogisticRegression()).fit(data, TARGET), data)

    assert model.manifest.features[1].categories == ["Cusco", "Ica", "Lima"]
    assert ask(model, amount=100, town="Lima")[0]["label"] in ("yes", "no")
    with pytest.raises(InvalidInstances):
        ask(model, amount=100, town="Tacna")


def test_no_text_of_a_row_is_in_the_manifest(model: Model) -> None:
    """The manifest holds no value of an unread column or of a text column."""
    written = manifest_text(model.manifest)

    assert "customer" not in written
    assert "please call" not in written
    assert "no answer" not in written


def test_an_unread_column_is_not_a_feature(model: Model) -> None:
    """An unread column is accepted in objects, with one warning, and is not part of row lists."""
    row = {"amount": None, "code": 7, "town": "Lima", "note": "paid"}
    _, none = ask(model, **row)
    _, warnings = ask(model, **row, name="somebody")
    body = {"instances": [[100.0, 7, "Lima", "paid"], {**row, "name": 1}, {**row, "name": 2}]}
    both = model.decode(msgspec.json.encode(body))

    assert model.manifest.ignored == ["name"]
    assert none == []
    assert [warning.pointer for warning in warnings] == ["/name"]
    assert [warning.pointer for warning in both.warnings] == ["/instances/1/name"]


def test_a_series_of_texts_is_one_feature(tmp_path: Path) -> None:
    """A pipeline that was fitted on a Series takes one column of text."""
    texts = DATA["note"] + " " + DATA["town"]
    target = np.where(DATA["town"] == "Lima", "yes", "no")
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, target)
    model = packed(tmp_path, pipeline, texts)
    answer, _ = ask(model, **{model.manifest.features[0].name: "PAID, please! LIMA"})

    assert model.manifest.engine.name == "onnx"
    assert [feature.kind for feature in model.manifest.features] == ["text"]
    expected = pipeline.predict_proba(["PAID, please! LIMA"])[0]
    assert list(answer["probabilities"].values()) == pytest.approx(expected, abs=1e-12)


NUMBER = DATA[["amount"]].assign(age=RANDOM.uniform(18, 80, ROWS))


def test_several_outputs_have_names(tmp_path: Path) -> None:
    """Each of several outputs has its name, and a value or a label with probabilities."""
    values = RandomForestRegressor(5, random_state=0).fit(NUMBER, NUMBER.to_numpy() * [1, 2])
    model = packed(tmp_path / "values", values, NUMBER)
    answer, _ = ask(model, amount=100, age=40)
    expected = values.predict(pd.DataFrame({"amount": [100.0], "age": [40.0]}))[0]
    assert answer == {"outputs": {"y0": {"value": expected[0]}, "y1": {"value": expected[1]}}}

    truth = np.c_[TARGET, np.where(NUMBER["age"] > 40, "old", "young")]
    labels = MultiOutputClassifier(LogisticRegression()).fit(NUMBER, truth)
    model = packed(tmp_path / "labels", labels, NUMBER)
    answer, _ = ask(model, amount=100, age=20)
    assert model.manifest.task == "outputs"
    assert answer["outputs"]["y1"]["label"] == "young"
    assert list(answer["outputs"]["y0"]["probabilities"]) == ["no", "yes"]


def test_outliers_have_a_score_and_clusters_an_integer(tmp_path: Path) -> None:
    """Outlier scores and cluster numbers are those of scikit-learn."""
    forest = make_pipeline(StandardScaler(), IsolationForest(random_state=0)).fit(NUMBER)
    model = packed(tmp_path / "outliers", forest, NUMBER)
    for amount in (100.0, 1e6):
        answer, _ = ask(model, amount=amount, age=40)
        row = pd.DataFrame({"amount": [amount], "age": [40.0]})
        assert answer["score"] == pytest.approx(forest.decision_function(row)[0], abs=1e-12)
        assert answer["outlier"] == (forest.predict(row)[0] == -1)

    groups = make_pipeline(StandardScaler(), KMeans(3, random_state=0)).fit(NUMBER)
    model = packed(tmp_path / "clusters", groups, NUMBER)
    row = pd.DataFrame({"amount": [100.0], "age": [40.0]})
    assert ask(model, amount=100, age=40)[0] == {"cluster": groups.predict(row)[0]}


def test_a_model_without_an_imputer_rejects_null(tmp_path: Path) -> None:
    """No step fills gaps, so null is rejected."""
    model = packed(tmp_path, Ridge().fit(NUMBER, NUMBER["age"]), NUMBER)

    with pytest.raises(InvalidInstances):
        ask(model, amount=None, age=40)


def ages(data: Any) -> Any:
    """Turn dates into days, as a user's own function does; no other text is taken."""
    days = [date.fromisoformat(text).toordinal() for text in data["born"]]
    return data.assign(born=np.array(days) / 1e6)


def lengths(data: Any) -> Any:
    """Look up the text of each row; another one raises."""
    return data.assign(born=data["born"].map({text: i for i, text in enumerate(BORN)}.__getitem__))


BORN = [f"19{i % 90 + 10}-0{i % 9 + 1}-1{i % 7}" for i in range(ROWS)]


@pytest.mark.parametrize(
    ("function", "example"),
    [(ages, {"amount": 100.0, "born": "2020-11-11"}), (lengths, {})],
    ids=["of the shape", "none"],
)
def test_the_example_has_a_made_text_that_the_pipeline_takes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], function: Any, example: dict[str, Any]
) -> None:
    """A text of a date's shape stands for the dates; without one there is no example."""
    data = pd.DataFrame({"amount": 100.0, "born": BORN})
    pipeline = make_pipeline(FunctionTransformer(function), Ridge()).fit(data, DATA["amount"])
    manifest = built(tmp_path, pipeline, data)

    assert manifest.example.instance == example
    assert capfd.readouterr().out == ""
    page, document = render(manifest, Place()), describe_folder("functions", manifest)
    assert not any(text in f"{page!r}{document}" for text in BORN)

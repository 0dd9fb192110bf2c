"""`train` with several targets, and with none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serving.bundle.manifest import Manifest
from serving.bundle.reader import open_bundle
from serving.bundle.trust import Trust
from serving.model.model import open_model
from serving.stores.folder import FolderStore

from tests.helpers.command import Run
from training.__main__ import main

HEAD = """
import numpy as np, pandas as pd
from sklearn.cluster import DBSCAN, KMeans
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
random = np.random.default_rng(0)
data = pd.DataFrame({"a": random.normal(size=400), "b": random.normal(size=400)})
"""
Train = Callable[..., tuple[int, list[str]]]
_number = iter(range(1000))


@pytest.fixture
def train(run: Run) -> Train:
    """Give a function that trains a project; it returns status and lines."""

    def train(target: str, model: str, *options: str, more: str = "") -> tuple[int, list[str]]:
        name = f"tasks_{next(_number)}"
        Path(f"{name}.py").write_text(
            f"{HEAD}{more}\ndef load_data(): return data, {target}\n"
            f"def build_pipeline(): return {model}\n"
        )
        return run("train", "--project", name, "--name", "x", *options)

    return train


def answered() -> tuple[Manifest, dict[str, Any]]:
    """Return the live version's manifest, and its answer to a row."""
    model = open_model(open_bundle(FolderStore("models/x"), trust=Trust(allow_pickle=True)))
    row = model.schema.decode(msgspec.json.encode({"a": 0.1, "b": -0.2}), 1)
    return model.manifest, model.predict(row.columns)[0]


@pytest.mark.parametrize(
    ("model", "task", "fields"),
    [
        (
            "make_pipeline(StandardScaler(), IsolationForest(n_estimators=20))",
            "outliers",
            {"outlier", "score"},
        ),
        ("make_pipeline(StandardScaler(), KMeans(3, n_init=2))", "clustering", {"cluster"}),
        ("GaussianMixture(2)", "clustering", {"cluster", "probabilities"}),
    ],
    ids=["outliers", "clusters", "mixture"],
)
def test_a_project_without_a_target_is_trained(
    model: str, task: str, fields: set[str], train: Train
) -> None:
    """A model without a target is fitted to every row, and its figures describe the groups."""
    status, lines = train("None", model)
    assert status == 0, lines
    manifest, answer = answered()

    assert manifest.task == task
    assert fields <= answer.keys()
    assert manifest.hold_out is None
    assert manifest.lineage.rows == 400
    assert manifest.metrics.keys() == {"fitted"}
    assert all(0 < share < 1 for share in manifest.metrics["fitted"].values())
    assert "Measured on the 400 rows that it was fitted to; ± is a 95 % interval." in lines


@pytest.mark.parametrize(
    ("target", "last"),
    [("None", "KMeans(3, n_init=2)"), ('data["a"] > 0', "LogisticRegression()")],
    ids=["no target", "a target"],
)
def test_columns_that_no_step_reads_are_not_reviewed(target: str, last: str, train: Train) -> None:
    """A row number that the pipeline drops is no finding, and dates and lists are no fault."""
    model = f"make_pipeline(ColumnTransformer([('s', StandardScaler(), ['b'])]), {last})"
    more = "from sklearn.compose import ColumnTransformer\ndata['row'] = range(400)\n"
    more += "data['b'] += data['a']\ndata['day'] = pd.Timestamp('2026-01-01')\n"
    more += "data['list'] = [[1]] * 400"
    status, lines = train(target, model, more=more)

    assert status == 0, lines
    relied = [line for line in lines if line.startswith("It relies on ")]
    assert not any("row (" in line or "day (" in line for line in relied)


SEVERAL = 'pd.DataFrame({"debt": data["a"] * 9, "age": data["a"] - data["b"]})'
LABELS = 'np.column_stack([data["a"] > 0, data["b"] > data["a"]])'


def test_several_values_are_trained(train: Train) -> None:
    """The target's columns name the outputs and their figures, beside the trivial model's."""
    model = "make_pipeline(StandardScaler(), LinearRegression())"
    status, lines = train(SEVERAL, model, "--promote")
    assert status == 0, lines
    # Each output has its own warnings: the column equals the target of only one output.
    assert any(line.startswith("Warning: debt: column 'a' alone predicts") for line in lines)
    manifest, answer = answered()
    found, trivial = manifest.metrics["held_out"], manifest.metrics["baseline"]

    assert [output.name for output in manifest.outputs] == ["debt", "age"]
    assert answer["outputs"]["debt"]["value"] == pytest.approx(0.9)
    assert answer["outputs"]["age"]["value"] == pytest.approx(0.3)
    assert found.keys() == trivial.keys() == manifest.metrics["intervals"].keys()
    assert found.keys() >= {"rmse of debt", "r2 of age"}
    assert found["rmse of debt"] < trivial["rmse of debt"]
    assert manifest.metrics["cross_validation"]["score"] == "r2"
    assert manifest.importances.permutation is not None
    assert manifest.hold_out is not None


@pytest.mark.parametrize(
    "model",
    ["MultiOutputClassifier(LogisticRegression())", "RandomForestClassifier(20, random_state=0)"],
)
def test_several_labels_are_trained(model: str, train: Train) -> None:
    """Without column names the outputs are y0 and y1; their probabilities have figures."""
    status, lines = train(LABELS, model, "--promote")
    assert status == 0, lines
    manifest, answer = answered()

    assert [output.name for output in manifest.outputs] == ["y0", "y1"]
    assert answer["outputs"]["y0"]["label"] is True
    assert answer["outputs"]["y1"]["label"] is False
    assert manifest.metrics["held_out"]["roc_auc of y0"] > 0.9
    assert manifest.metrics["baseline"]["roc_auc of y0"] == 0.5
    assert manifest.metrics["cross_validation"]["score"] == "accuracy"


def test_the_gate_and_compare_take_several_outputs(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """A condition names one of them; each has its figures and its differences."""
    more = 'data = pd.DataFrame(random.normal(size=(1000, 2)), columns=["a", "b"])'
    noise = " + random.normal(size=1000)"
    target = 'pd.DataFrame({"debt": data["a"]' + noise + ', "age": data["b"]' + noise + "})"
    stumps = "RandomForestRegressor(3, max_depth=1, random_state=0)"
    assert train(target, stumps, more=more)[0] == 0
    gate = ("--promote-if", "rmse of debt <= live and r2  of age >= live and mae of age < 9")
    status, lines = train(target, "LinearRegression()", *gate, more=more)
    assert status == 0, lines
    for start in ("rmse of debt <= live is met: ", "r2 of age >= live is met: "):
        [line] = [line for line in lines if line.startswith(start)]
        assert "the difference is " in line
    versions = FolderStore("models/x").names()[:-1]
    status = main(
        ["compare", *versions, "--store", "models/x", "--project", f"tasks_{next(_number) - 1}"]
    )
    lines = capsys.readouterr().out.splitlines()

    assert status == 0
    [row] = [line for line in lines if line.startswith("rmse of debt ")]
    assert row.endswith(" is better")
    assert any(re.match(r"debt: [\d,]+ of 1,000 rows \(.*%\), by ", line) for line in lines)
    assert any(re.match(r"The answers differ in [\d,]+ of 1,000 rows", line) for line in lines)
    assert main(["list", "--store", "models/x"]) == 0
    heading = capsys.readouterr().out.splitlines()[0]
    assert "rmse of debt" in heading
    assert "rmse of debt less live's" in heading


HOLD_OUT = "def hold_out(data): return data['a'].to_numpy() > 1"


@pytest.mark.parametrize(
    ("target", "model", "options", "words"),
    [
        ("None", "KMeans(3)", ["--promote-if", "rmse < 1"], ["clusters has no rmse"]),
        (
            SEVERAL,
            "LinearRegression()",
            ["--promote-if", "rmse < 1"],
            ["its outputs are debt, age", "rmse of debt < …"],
        ),
        (SEVERAL, "LinearRegression()", ["--promote-if", "rmse of x < 1"], ["rmse of debt < …"]),
        (SEVERAL, "LinearRegression()", ["--promote-if", "f1 of age < 1"], ["no metric f1"]),
        ("data['a']", "LinearRegression()", ["--promote-if", "r2 of a > 0"], ["'r2 > …'"]),
        ("None", "IsolationForest()", ["--id", "a"], ["without a target", "--id"]),
        ("None", "IsolationForest()", [HOLD_OUT], ["without a target", "hold_out()"]),
        ("data['a']", "KMeans(3)", [], ["KMeans learns without a target", "None"]),
        ("None", "LinearRegression()", [], ["no target (None)", "LinearRegression needs one"]),
        ("None", "DBSCAN()", [], ["DBSCAN has no answer for new rows"]),
        ("pd.concat([data, data], axis=1)", "LinearRegression()", [], ["two columns 'a'"]),
        (LABELS, "LogisticRegression()", [], ["cannot be fitted"]),
        ("np.empty((400, 0))", "LinearRegression()", [], ["shape (400, 0)"]),
    ],
)
def test_invalid_options_for_a_task_give_one_sentence(
    target: str, model: str, options: list[str], words: list[str], train: Train
) -> None:
    """Status 2, and the sentence says what to do."""
    more = HOLD_OUT if options == [HOLD_OUT] else ""
    status, lines = train(target, model, *([] if more else options), more=more)

    assert status == 2, lines
    assert lines[-1].startswith("training: ")
    assert "unexpected" not in lines[-1]
    assert all(word in lines[-1] for word in words), lines[-1]


@pytest.mark.parametrize("texts", ["data", "data.tolist()", "data.rename('review')"])
def test_a_pipeline_of_texts_themselves_is_trained(train: Train, texts: str) -> None:
    """A Series or a list of texts has no columns to permute, and is trained all the same."""
    more = (
        "from sklearn.feature_extraction.text import TfidfVectorizer\n"
        "data = pd.Series([' '.join(random.choice(['good', 'bad', 'fine'], 2))"
        " for _ in range(300)])\n"
        "target = data.str.contains('good').to_numpy().astype(int)\n"
        f"data = {texts}\n"
    )
    status, lines = train(
        "target", "make_pipeline(TfidfVectorizer(), LogisticRegression())", more=more
    )

    assert status == 0, lines

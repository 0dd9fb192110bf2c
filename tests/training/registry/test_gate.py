"""The quality gate: what it reads, what it compares, and what becomes of a model that is worse."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving.bundle.latest import read_latest
from serving.bundle.reader import open_bundle
from serving.bundle.trust import Trust
from serving.stores.folder import FolderStore
from sklearn import linear_model, svm
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from tests.helpers.proxy import Asked
from tests.helpers.stores import Bucket
from training.__main__ import main
from training.errors import TrainingError
from training.export.build import build_bundle
from training.fit.evaluate import evaluate
from training.registry.compare import compare
from training.registry.gate import METRICS, Condition, check_metrics, judge, read_conditions

PROJECT = """
import numpy as np, pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
def load_data():
    random = np.random.default_rng(0)
    data = pd.DataFrame({{"a": random.normal(size=200), "b": random.normal(size=200)}})
    score = data["a"] + data["b"] + random.normal(size=200) / 3
    target = np.where(score > 0, "yes", "no")
    {change}
    return data, target
def build_pipeline():
    return {model}
"""
GOOD, STUMP = "LogisticRegression()", "DecisionTreeClassifier(max_depth=1)"
GATE = ("--promote-if", "roc_auc >= live - 0.01")

Train = Callable[..., tuple[int, list[str]]]
_numbers = itertools.count()


@pytest.fixture
def train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Train:
    """Give a function that trains the model `shop` in an empty folder; status and lines."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def train(model: str, *arguments: str, change: str = "") -> tuple[int, list[str]]:
        module = f"project_{next(_numbers)}"
        (tmp_path / f"{module}.py").write_text(PROJECT.format(change=change, model=model))
        importlib.invalidate_caches()
        status = main(["train", "--project", module, "--name", "shop", *arguments])
        written = capsys.readouterr()
        return status, (written.out + written.err).splitlines()

    return train


def versions(tmp_path: Path) -> list[str]:
    """Name the versions of `shop`, sorted."""
    return [n for n in FolderStore(tmp_path / "models" / "shop").names() if n != "latest"]


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("roc_auc >= 0.8", [Condition("roc_auc", ">=", 0.8)]),
        ("r2>-.5", [Condition("r2", ">", -0.5)]),
        (" rmse  <  12 ", [Condition("rmse", "<", 12.0)]),
        ("log_loss <= live", [Condition("log_loss", "<=", None)]),
        ("log_loss<=live+0.01", [Condition("log_loss", "<=", None, "+", 0.01)]),
        ("roc_auc <= live + 0.1", [Condition("roc_auc", "<=", None, "+", 0.1)]),
        ("rmse >= live * 0.5", [Condition("rmse", ">=", None, "*", 0.5)]),
        ("accuracy < 0.99", [Condition("accuracy", "<", 0.99)]),
        ("mae <= live * 1.05", [Condition("mae", "<=", None, "*", 1.05)]),
        (
            "accuracy >= live - 1e-2 AND accuracy >= .5 and roc_auc > 0.5",
            [
                Condition("accuracy", ">=", None, "-", 0.01),
                Condition("accuracy", ">=", 0.5),
                Condition("roc_auc", ">", 0.5),
            ],
        ),
    ],
)
def test_conditions_are_read(text: str, conditions: list[Condition]) -> None:
    """Absolute, relative to the live model, or several."""
    assert read_conditions([text]) == conditions
    assert read_conditions([text, "mae < 1"]) == [*conditions, Condition("mae", "<", 1.0)]
    assert read_conditions(map(str, conditions)) == conditions


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["''", "roc_auc >= live - 0.01"]),
        ("roc_auc", ["'roc_auc'", "roc_auc >= live - 0.01"]),
        ("roc_auc >= 0.8 and", ["''"]),
        ("roc_auc => 0.8", ["'roc_auc => 0.8'"]),
        ("roc_auc == 0.8", ["'roc_auc == 0.8'"]),
        ("roc_auc >= 0.8, rmse < 2", ["'roc_auc >= 0.8, rmse < 2'"]),
        ("0.8 <= roc_auc", ["'0.8 <= roc_auc'"]),
        ("roc_auc >= live / 2", ["'roc_auc >= live / 2'"]),
        ("roc_auc >= live - live", ["'roc_auc >= live - live'"]),
        ("roc_auc >= nan", ["'roc_auc >= nan'"]),
        ("roc_auc >= __import__('os').getpid()", ["__import__"]),
        ("rmse >= live", ["only what is no better", "rmse <= live."]),
        ("rmse > live * 1.1", ["only what is no better", "rmse < live."]),
        ("roc_auc < live - 0.1", ["only what is no better", "roc_auc > live."]),
        ("auc >= 0.8", ["no metric auc", "roc_auc, log_loss and accuracy", "rmse, mae and r2"]),
    ],
)
def test_what_is_no_condition_is_said(text: str, words: list[str]) -> None:
    """What was written, what is right, and which metrics there are."""
    with pytest.raises(TrainingError) as refused:
        read_conditions([text])

    assert str(refused.value).startswith("--promote-if: ")
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_metric_belongs_to_a_task() -> None:
    """One of another task, or that wants probabilities which there are none of."""
    roc_auc, rmse = read_conditions(["roc_auc > 0.5", "rmse < 1"])
    check_metrics([roc_auc], "classification", probabilities=True)
    check_metrics([rmse], "regression", probabilities=False)
    with pytest.raises(TrainingError, match="a regression has no roc_auc, but rmse, mae and r2"):
        check_metrics([roc_auc], "regression", probabilities=False)
    with pytest.raises(TrainingError, match=r"no rmse, but roc_auc, log_loss and accuracy\.$"):
        check_metrics([rmse], "classification", probabilities=True)
    with pytest.raises(TrainingError, match="roc_auc needs probabilities"):
        check_metrics([roc_auc], "classification", probabilities=False)


@pytest.mark.parametrize(
    ("text", "value", "live", "met"),
    [
        ("r2 >= 0.5", 0.5, None, True),
        ("r2 > 0.5", 0.5, 0.1, False),
        ("r2 >= live", 0.5, 0.5, True),
        ("r2 >= live", 0.5, None, True),
        ("r2 > live", 0.5, 0.5, False),
        ("rmse < live", 1.0, 2.0, True),
        ("rmse <= live * 1.1", 2.1, 2.0, True),
        ("rmse <= live * 1.1", 2.3, 2.0, False),
        ("rmse <= live + 0.2", 2.3, 2.0, False),
        ("r2 >= live - 0.1", 0.41, 0.5, True),
        ("r2 >= live - 0.1", 0.39, 0.5, False),
        ("r2 >= -1", float("nan"), None, False),
        ("r2 >= live", 0.5, float("nan"), False),
        ("rmse < live * 0", 1.0, 2.0, False),
    ],
)
def test_a_condition_is_judged(text: str, value: float, live: float | None, met: bool) -> None:
    """By the figure, and the live model's; without one, what is relative counts as met."""
    conditions = read_conditions([text])
    metric = conditions[0].metric
    others = None if live is None else {metric: live}

    assert judge(conditions, {metric: value}, others)[0] is met


def test_the_verdict_says_why() -> None:
    """Both figures and the bound; what is missing is not met, whoever lacks it."""
    conditions = read_conditions(["r2 >= live - 0.1 and rmse < 3 and mae <= live"])
    figures, live = {"r2": 0.3, "rmse": 2.0}, {"r2": 0.5, "mae": 1.0}
    met, lines = judge(conditions, figures, live)
    assert not met
    assert lines == [
        "r2 >= live - 0.1 is not met: 0.3, and the live model has 0.5, which makes the bound 0.4",
        "rmse < 3 is met: 2",
        "mae <= live is not met: mae is not defined on these rows",
    ]
    _, lines = judge(conditions, {**figures, "mae": 1.0}, {"r2": 0.5})
    assert lines[2] == "mae <= live is not met: 1, and the live model has no mae on these rows"
    met, lines = judge(conditions[:1], {"r2": 9.0}, {})
    assert not met


DATA = pd.DataFrame({"a": np.arange(60.0) % 7, "b": np.arange(60.0) % 11})
COUNT = DATA["a"] + DATA["b"] > 8
TARGETS = {
    "strings": np.where(COUNT, "yes", "no"),
    "objects": np.where(COUNT, "yes", "no").astype(object),
    "booleans": COUNT.to_numpy(),
    "integers": COUNT.to_numpy().astype(int),
    "floats": COUNT.to_numpy().astype(float),
    "three": np.array(["x", "y", "z"])[(DATA["a"] % 3).astype(int)],
}


def built(folder: Path, pipeline: Any, data: Any = DATA) -> Path:
    """Write the bundle of a fitted *pipeline*."""
    nothing: dict[str, Any] = {"metrics": {}, "permutation": None, "seed": None}
    return build_bundle(folder, "shop", pipeline, data, report=lambda _: None, **nothing)


@pytest.mark.parametrize("kind", TARGETS)
def test_served_figures_are_the_pipelines(tmp_path: Path, kind: str) -> None:
    """Whatever the classes are, and twice the same: neither side of a comparison is favoured."""
    pipeline = linear_model.LogisticRegression().fit(DATA, TARGETS[kind])
    path = built(tmp_path, pipeline)
    found = compare(path, FolderStore(path), DATA, TARGETS[kind], Trust())
    expected = evaluate(pipeline, DATA, TARGETS[kind])

    assert found.problem is None
    assert found.figures == found.live
    assert found.figures.keys() == expected.keys() == {*METRICS["classification"], "confusion"}
    for name in METRICS["classification"]:
        assert found.figures[name] == pytest.approx(expected[name], abs=1e-4)


def test_a_regression_is_compared(tmp_path: Path) -> None:
    """By the figures that it has; from an array too."""
    values = (DATA["a"] * 2 + DATA["b"] % 3).to_numpy()
    pipeline = linear_model.LinearRegression().fit(DATA.to_numpy(), values)
    path = built(tmp_path, pipeline, DATA.to_numpy())
    found = compare(path, FolderStore(path), DATA.to_numpy(), values, Trust())

    assert found.figures == found.live
    assert set(found.figures) == set(METRICS["regression"])
    assert found.figures == pytest.approx(evaluate(pipeline, DATA.to_numpy(), values), abs=1e-4)


def test_a_classifier_without_probabilities_is_compared(tmp_path: Path) -> None:
    """By its accuracy."""
    pipeline = svm.LinearSVC().fit(DATA, TARGETS["strings"])
    found = compare(built(tmp_path, pipeline), None, DATA, TARGETS["strings"], Trust())

    assert found.figures == evaluate(pipeline, DATA, TARGETS["strings"])
    assert found.live is None


def test_a_feature_that_is_new_prevents_no_comparison(tmp_path: Path) -> None:
    """The live model answers from those that it knows."""
    target = TARGETS["strings"]
    more = DATA.assign(c=1.0)
    old = built(tmp_path / "old", linear_model.LogisticRegression().fit(DATA, target))
    new = built(tmp_path / "new", linear_model.LogisticRegression().fit(more, target), more)
    found = compare(new, FolderStore(old), more, target, Trust())

    assert (found.problem, found.left_out) == (None, 0)
    assert found.live == compare(old, None, DATA, target, Trust()).figures


def test_rows_that_one_refuses_are_left_out_for_both(tmp_path: Path) -> None:
    """A few, and that is said; more, and there is no comparison. Neither sees fewer alone."""
    gaps = DATA.assign(c=DATA["a"].where(DATA.index > 1))
    target = TARGETS["strings"]
    model = make_pipeline(SimpleImputer(), linear_model.LogisticRegression()).fit(gaps, target)
    new = built(tmp_path / "new", model, gaps)
    old = built(tmp_path / "old", model, gaps[2:])
    found = compare(new, FolderStore(old), gaps, target, Trust())
    assert (found.left_out, found.problem) == (2, None)
    assert found.figures == found.live
    assert np.sum(found.figures["confusion"]) == 58

    found = compare(new, FolderStore(old), gaps[:30], target[:30], Trust())
    assert found.problem == "The live model cannot be compared: it refuses 2 of the 30 rows."
    assert (found.left_out, found.live) == (0, {})
    assert np.sum(found.figures["confusion"]) == 30

    found = compare(old, FolderStore(new), gaps[:30], target[:30], Trust())
    assert found.problem == (
        "The live model cannot be compared: the new one refuses 2 of the 30 rows."
    )
    assert found.live == {}


def test_a_worse_model_is_written_and_not_live(train: Train, tmp_path: Path) -> None:
    """Exit status 3, both figures, and what to type to promote it all the same."""
    status, lines = train(GOOD)
    assert status == 0
    latest = tmp_path / "models" / "shop" / "latest"
    before, [good] = latest.read_text(), versions(tmp_path)
    status, lines = train(STUMP, *GATE)
    model = FolderStore(tmp_path / "models" / "shop")
    [worse] = set(versions(tmp_path)) - {good}

    assert status == 3
    assert latest.read_text() == before == f"{good}\n"
    new, live = (
        open_bundle(model.at(v)).manifest.metrics["held_out"]["roc_auc"] for v in (worse, good)
    )
    assert new < live - 0.01
    [why] = [line for line in lines if line.startswith("roc_auc >= live - 0.01 is not met: ")]
    assert f" {new:.6g}, " in why
    assert f" {live:.6g}, " in why
    assert lines[-2].startswith(f"{worse} was not promoted; {good} stays live in models/shop. ")
    assert lines[-1] == f"  python -m training promote {worse} --store models/shop"
    [row] = [line for line in lines if line.startswith("│ roc_auc  ")]
    assert [cell.strip() for cell in row.split("│")[2:5]] == [f"{new:.4f}", f"{live:.4f}", "0.5000"]
    assert main(lines[-1].split()[3:]) == 0
    assert read_latest(model)[:2] == (worse, good)


def test_a_model_that_is_good_enough_goes_live(train: Train, tmp_path: Path) -> None:
    """All conditions are met, those that are joined and those given one by one."""
    assert train(STUMP)[0] == 0
    [stump] = versions(tmp_path)
    status, lines = train(
        GOOD, "--promote-if", "roc_auc > live and log_loss < live * 1.05", "--promote-if=roc_auc>.5"
    )
    [good] = set(versions(tmp_path)) - {stump}

    assert status == 0
    assert [line.split(" is ")[0] for line in lines if " is met: " in line] == [
        "roc_auc > live",
        "log_loss < live * 1.05",
        "roc_auc > 0.5",
    ]
    assert lines[-1] == f"{good} is live; it was {stump}."
    assert read_latest(FolderStore(tmp_path / "models" / "shop"))[:2] == (good, stump)


def test_without_a_live_model_only_absolute_conditions_are_tested(
    train: Train, tmp_path: Path
) -> None:
    """A first model need not be better than none, but good enough."""
    status, lines = train(GOOD, "--promote-if", "roc_auc >= live and log_loss < 0.001")
    assert status == 3
    assert not (tmp_path / "models" / "shop" / "latest").exists()
    assert any("roc_auc >= live is met: " in line and "no model is live" in line for line in lines)
    assert any("log_loss < 0.001 is not met: " in line for line in lines)
    assert "none is live in models/shop" in lines[-2]

    status, lines = train(STUMP, "--promote-if", "roc_auc >= live and roc_auc >= 0.5")
    assert status == 0
    assert lines[-1].endswith(" is live.")


@pytest.mark.parametrize(
    ("change", "model", "why"),
    [
        ("data['c'] = data['a']", GOOD, "it wants the feature c, which is here no more"),
        ("data['b'] = data['b'] > 0", GOOD, "the feature b is a boolean to it, and here a number"),
        ("target[:9] = 'oh'", GOOD, "its classes are no, oh, yes"),
        (
            "target = score",
            "LinearRegression()",
            "it is a regression, and this a classification",
        ),
    ],
)
def test_a_live_model_that_does_not_fit_the_rows(
    train: Train, tmp_path: Path, change: str, model: str, why: str
) -> None:
    """What is relative is not met, and why is said; an absolute condition can be."""
    assert train(model, change=change)[0] == 0
    [live] = versions(tmp_path)
    status, lines = train(GOOD, "--promote-if", "roc_auc >= live - 1 and roc_auc > 0.5")
    assert status == 3
    assert f"The live model cannot be compared: {why}." in lines
    assert any(line.startswith("roc_auc >= live - 1 is not met: ") for line in lines)
    assert any(line.startswith("roc_auc > 0.5 is met: ") for line in lines)
    assert (tmp_path / "models" / "shop" / "latest").read_text() == f"{live}\n"

    status, lines = train("LogisticRegression(C=2)", "--promote-if", "roc_auc > 0.5")
    assert status == 0
    assert f"The live model cannot be compared: {why}." in lines


def test_the_live_model_is_opened_as_the_server_would(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickle only where the settings allow it, and nothing that does not verify."""
    monkeypatch.delenv("ALLOW_PICKLE", raising=False)
    pickled = "make_pipeline(FunctionTransformer(np.abs), LogisticRegression())"
    assert train(pickled)[0] == 0
    [live] = versions(tmp_path)
    gate = ("--promote-if", "roc_auc >= live - 1")
    status, lines = train(GOOD, *gate)
    assert status == 3
    assert any(f"{live} runs on scikit-learn" in line and "ALLOW_PICKLE" in line for line in lines)

    monkeypatch.setenv("ALLOW_PICKLE", "1")
    assert train("LogisticRegression(C=2)", *gate)[0] == 0

    live = (tmp_path / "models" / "shop" / "latest").read_text().split()[0]
    graph = tmp_path / "models" / "shop" / live / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    status, lines = train("LogisticRegression(C=3)", *gate)
    assert status == 3
    assert any("cannot be compared: " in line and "the sha256 differs" in line for line in lines)


@pytest.mark.parametrize(
    ("model", "condition", "words"),
    [
        (GOOD, "rmse < 12", "a classification has no rmse, but roc_auc, log_loss and accuracy"),
        ("LinearRegression()", "roc_auc >= live", "a regression has no roc_auc, but rmse, mae"),
        ("LinearSVC()", "log_loss <= live", "log_loss needs probabilities"),
        (GOOD, "roc_auc => 1", "'roc_auc => 1' cannot be read"),
        (GOOD, "f1 > 1", "there is no metric f1"),
    ],
)
def test_a_condition_that_is_wrong_is_found_before_the_work(
    train: Train, tmp_path: Path, model: str, condition: str, words: str
) -> None:
    """One sentence, exit status 2, nothing fitted and nothing written."""
    status, lines = train(model, "--promote-if", condition)

    assert status == 2
    assert lines[-1].startswith("training: --promote-if: ")
    assert words in lines[-1]
    assert not any("fitting" in line or "cross-validating" in line for line in lines)
    assert not (tmp_path / "models").exists()


@pytest.fixture
def shelf(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Give a bucket, with what leads there in the environment."""
    for name, value in bucket.location.environment.items():
        monkeypatch.setenv(name, value)
    return bucket


def test_a_new_model_is_published_and_compared_there(
    train: Train, shelf: Bucket, tmp_path: Path
) -> None:
    """The live model is the store's; one that is worse is uploaded, and the pointer left alone."""
    to = ("--to", shelf.location.uri)
    assert train(GOOD, *to)[0] == 0
    [good] = versions(tmp_path)
    assert shelf.get("shop/latest") == f"{good}\n".encode()

    # Here a stump is live by now: it is not what counts.
    assert train(STUMP)[0] == 0
    status, lines = train("DecisionTreeClassifier(max_depth=2)", *to, *GATE)
    worse = lines[-1].split()[4]
    assert status == 3
    assert shelf.get("shop/latest") == f"{good}\n".encode()
    assert shelf.get(f"shop/{worse}/manifest.json") is not None
    store = f"{shelf.location.uri}/shop"
    assert f"{good} stays live in {store}." in lines[-2]
    assert lines[-1] == f"  python -m training promote {worse} --store {store}"

    status, lines = train("LogisticRegression(C=2)", *to, *GATE)
    better = lines[-1].split()[0]
    assert status == 0
    assert lines[-1] == f"{better} is live; it was {good}."
    assert shelf.get("shop/latest") == f"{better}\n{good}\n".encode()
    assert read_latest(FolderStore(tmp_path / "models" / "shop")).version == better


def test_one_that_is_compared_with_what_is_live_no_more_is_told(
    train: Train, shelf: Bucket, tmp_path: Path
) -> None:
    """The pointer moves only from the model that it was compared with."""
    assert train(GOOD, "--to", shelf.location.uri)[0] == 0
    latest = tmp_path / "models" / "shop" / "latest"
    before = latest.read_text()

    def faster(asked: Asked) -> None:
        if asked.method == "PUT" and asked.path.endswith("/latest"):
            shelf.put("shop/latest", b"v9\n")

    shelf.proxy.before = faster
    status, lines = train("LogisticRegression(C=2)", "--to", shelf.location.uri, *GATE)

    assert status == 2
    assert lines[-1].endswith("/shop/latest was moved to v9 in the meantime, and was left there.")
    assert shelf.get("shop/latest") == b"v9\n"
    assert latest.read_text() == before


def test_a_store_that_is_not_there_is_found_before_the_work(
    train: Train, shelf: Bucket, tmp_path: Path
) -> None:
    """Not after an hour of training."""
    status, lines = train(GOOD, "--to", "s3://no-such-bucket/models")

    assert status == 2
    assert lines == [lines[-1]]
    assert "there is no such bucket" in lines[-1]
    assert not (tmp_path / "models").exists()


def test_publish_may_leave_the_pointer_alone(
    train: Train, shelf: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version is uploaded, what is live stays, and what to type is printed."""
    assert train(GOOD)[0] == 0
    [first] = versions(tmp_path)
    command = ["publish", "models/shop", "--to", shelf.location.uri]
    for promote, said in (
        (["--no-promote"], f"shop {first} is there, and none is live. To promote it:"),
        ([], f"shop {first} is live."),
        (["--no-promote"], f"shop {first} is live, as before."),
    ):
        assert main([*command, *promote]) == 0
        assert said in capsys.readouterr().out
    assert train(STUMP)[0] == 0
    assert main([*command, "--no-promote"]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert lines[-2].endswith(f"is there, and {first} stays live. To promote it:")
    assert shelf.get("shop/latest") == f"{first}\n".encode()
    assert main(lines[-1].split()[3:]) == 0
    assert shelf.get("shop/latest") != f"{first}\n".encode()

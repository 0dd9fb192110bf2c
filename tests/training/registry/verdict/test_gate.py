"""The quality gate: its conditions, its comparison, and what happens to a worse model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving.bundle.latest import read_latest
from serving.bundle.manifest import HoldOut
from serving.bundle.reader import open_bundle
from serving.bundle.trust import Trust
from serving.model.model import open_model
from serving.stores.folder import FolderStore
from sklearn import linear_model, svm
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from tests.helpers.command import Run
from tests.helpers.http.proxy import Asked
from tests.helpers.stores import Bucket
from training.__main__ import main
from training.errors import TrainingError
from training.export.build import build_bundle
from training.fit.evaluate import METRICS, Answers, draws, evaluate, measure
from training.fit.split import HeldOut, key_frame
from training.registry.verdict.compare import Beside, Comparison, compare
from training.registry.verdict.conditions import Condition, check_metrics, read_conditions
from training.registry.verdict.gate import judge

PROJECT = """
import numpy as np, pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
def load_data():
    random = np.random.default_rng(0)
    data = pd.DataFrame({{"a": random.normal(size=1000), "b": random.normal(size=1000)}})
    score = data["a"] + data["b"] + random.normal(size=1000) / 3
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
def train(run: Run) -> Train:
    """Give a function that trains the model `shop` in an empty folder and returns its output."""

    def train(model: str, *arguments: str, change: str = "") -> tuple[int, list[str]]:
        module = f"project_{next(_numbers)}"
        Path(f"{module}.py").write_text(PROJECT.format(change=change, model=model))
        return run("train", "--project", module, "--name", "shop", *arguments)

    return train


def versions(tmp_path: Path) -> list[str]:
    """List the versions of `shop`, sorted."""
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
    """Conditions may be absolute, relative to the live model, or joined."""
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
        ("rmse >= live", ["only models no better", "rmse <= live."]),
        ("rmse > live * 1.1", ["only models no better", "rmse < live."]),
        ("roc_auc < live - 0.1", ["only models no better", "roc_auc > live."]),
        ("auc >= 0.8", ["no metric auc", "roc_auc, log_loss and accuracy", "rmse, mae and r2"]),
    ],
)
def test_an_invalid_condition_is_rejected(text: str, words: list[str]) -> None:
    """The error repeats the condition, shows a valid one, and lists the metrics."""
    with pytest.raises(TrainingError) as refused:
        read_conditions([text])

    assert str(refused.value).startswith("--promote-if: ")
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_metric_belongs_to_a_task() -> None:
    """A metric of another task is rejected, as is one that needs missing probabilities."""
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
    """A condition compares the two figures; without a live model a relative one is met."""
    conditions = read_conditions([text])
    metric = conditions[0].metric
    found = beside({metric: value}, None if live is None else {metric: live})

    assert judge(conditions, found)[0] is met


def beside(ours: dict[str, float], theirs: dict[str, float] | None, **draws: Any) -> Comparison:
    """Make a comparison with these figures."""
    pair = None if theirs is None else Beside(ours, theirs, {}, {}, 200)._replace(**draws)
    return Comparison(ours, theirs is not None, pair, None, 0)


def test_the_verdict_has_the_reason() -> None:
    """It has both figures and the bound; a figure missing in either model is not met."""
    conditions = read_conditions(["r2 >= live - 0.1 and rmse < 3 and mae <= live"])
    figures, live = {"r2": 0.3, "rmse": 2.0}, {"r2": 0.5, "mae": 1.0}
    met, lines = judge(conditions, beside(figures, live))
    assert not met
    assert lines == [
        (
            "r2 >= live - 0.1 is not met: 0.3, and the live model has 0.5, which makes the bound "
            "0.4; the difference is -0.2"
        ),
        "rmse < 3 is met: 2",
        "mae <= live is not met: the new model has no mae on these rows",
    ]
    _, lines = judge(conditions, beside({**figures, "mae": 1.0}, {"r2": 0.5}))
    assert lines[2] == "mae <= live is not met: the live model has no mae on these rows"


def test_without_a_verdict_only_absolute_conditions_count() -> None:
    """If the live model cannot be compared, relative conditions have no verdict."""
    found = Comparison({"r2": 0.9}, True, None, "a reason", 0)
    met, lines = judge(read_conditions(["r2 >= live - 1", "r2 > 0.5"]), found)

    assert not met
    assert lines == [
        "r2 >= live - 1 has no verdict: the live model cannot be compared",
        "r2 > 0.5 is met: 0.9",
    ]
    assert judge(read_conditions(["r2 > 0.5"]), found)[0]


@pytest.mark.parametrize(
    ("text", "tells"),
    [("r2 >= live", False), ("r2 >= live - 0.3", True), ("r2 >= live * 0.5", True)],
)
def test_a_difference_comes_with_its_uncertainty(text: str, tells: bool) -> None:
    """If the bound lies within the interval, the sentence says that the rows cannot tell."""
    spread = np.linspace(-0.1, 0.1, 1001)
    draws = {"our_draws": {"r2": 0.52 + spread}, "their_draws": {"r2": np.full(1001, 0.5)}}
    _, [line] = judge(read_conditions([text]), beside({"r2": 0.52}, {"r2": 0.5}, **draws))

    assert "the difference is +0.02, 95 % between -0.075 and +0.115" in line
    assert line.endswith(", so these rows cannot tell") is not tells


DATA = pd.DataFrame({"a": np.arange(240.0) % 7, "b": np.arange(240.0) % 11})
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
    names = [f"x{i}" for i in range(2)] if isinstance(data, np.ndarray) else list("ab")
    rule = HoldOut(by="values", columns=names, share=1.0, rows=len(data), rows_sha256="")
    return build_bundle(folder, "shop", pipeline, data, hold_out=rule)


def compared(path: Path, live: Path | None, data: Any, target: Any) -> Comparison:
    """Compare two bundles on rows that were held out from both."""
    held = HeldOut(data, target, key_frame(data), None)
    location = None if live is None else FolderStore(live)
    trust = Trust(allow_pickle=True)
    model = open_model(open_bundle(FolderStore(path), trust=trust))
    return compare(model, location, held, trust)


@pytest.mark.parametrize("kind", TARGETS)
def test_served_figures_equal_the_pipeline_s(tmp_path: Path, kind: str) -> None:
    """For every kind of class the figures equal the pipeline's, on both sides."""
    pipeline = linear_model.LogisticRegression().fit(DATA, TARGETS[kind])
    path = built(tmp_path, pipeline)
    found = compared(path, path, DATA, TARGETS[kind])
    expected = evaluate(pipeline, DATA, TARGETS[kind])

    assert found.problem is None
    assert found.beside is not None
    assert found.figures == found.beside.ours == found.beside.theirs
    assert found.figures.keys() == expected.keys() == {*METRICS["classification"], "confusion"}
    for name in METRICS["classification"]:
        assert found.figures[name] == pytest.approx(expected[name], abs=1e-4)


def test_a_regression_is_compared(tmp_path: Path) -> None:
    """A regression has its own figures, also from an array."""
    values = (DATA["a"] * 2 + DATA["b"] % 3).to_numpy()
    pipeline = linear_model.LinearRegression().fit(DATA.to_numpy(), values)
    path = built(tmp_path, pipeline, DATA.to_numpy())
    found = compared(path, path, DATA.to_numpy(), values)

    assert found.beside is not None
    assert found.figures == found.beside.ours == found.beside.theirs
    assert set(found.figures) == set(METRICS["regression"])
    assert found.figures == pytest.approx(evaluate(pipeline, DATA.to_numpy(), values), abs=1e-4)


def test_a_classifier_without_probabilities_is_compared(tmp_path: Path) -> None:
    """A classifier without probabilities is compared by accuracy."""
    pipeline = svm.LinearSVC().fit(DATA, TARGETS["strings"])
    found = compared(built(tmp_path, pipeline), None, DATA, TARGETS["strings"])

    assert found.figures == evaluate(pipeline, DATA, TARGETS["strings"])
    assert (found.is_live, found.beside) == (False, None)


def test_a_new_feature_does_not_prevent_a_comparison(tmp_path: Path) -> None:
    """The live model ignores the new feature."""
    target = TARGETS["strings"]
    more = DATA.assign(c=1.0)
    old = built(tmp_path / "old", linear_model.LogisticRegression().fit(DATA, target))
    new = built(tmp_path / "new", linear_model.LogisticRegression().fit(more, target), more)
    found = compared(new, old, more, target)

    assert (found.problem, found.left_out) == (None, 0)
    assert found.beside is not None
    assert found.beside.theirs == compared(old, None, DATA, target).figures


def test_rejected_rows_are_left_out_for_both(tmp_path: Path) -> None:
    """A few rows that one model rejects are left out for both; with more there is no comparison."""
    gaps = DATA.assign(c=DATA["a"].where(DATA.index > 1))
    target = TARGETS["strings"]
    whole = gaps[2:], target[2:]
    model = make_pipeline(SimpleImputer(), linear_model.LogisticRegression()).fit(*whole)
    new = built(tmp_path / "new", model, gaps)
    old = built(tmp_path / "old", linear_model.LogisticRegression().fit(*whole), gaps[2:])
    found = compared(new, old, gaps, target)
    assert (found.left_out, found.problem) == (2, None)
    assert found.beside is not None
    assert found.beside.ours == found.beside.theirs
    assert np.sum(found.beside.ours["confusion"]) == found.beside.rows == 238

    found = compared(new, old, gaps[:30], target[:30])
    assert found.problem == "The live model cannot be compared: it rejects 2 of the 30 rows."
    assert (found.left_out, found.beside) == (0, None)
    assert np.sum(found.figures["confusion"]) == 30

    found = compared(old, new, gaps[:30], target[:30])
    assert found.problem == (
        "The live model cannot be compared: the new one rejects 2 of the 30 rows."
    )
    assert found.beside is None


@pytest.mark.parametrize(
    ("rows", "target", "why"),
    [
        (99, "strings", "only 99 rows were held out from both models, and a verdict needs 100"),
        (
            120,
            "rare",
            (
                "only 10 rows of the class no were held out from both models, and a verdict needs "
                "20 of each class"
            ),
        ),
    ],
)
def test_too_few_rows_give_no_verdict(tmp_path: Path, rows: int, target: str, why: str) -> None:
    """Fewer than 100 rows, or 20 of a class, give no verdict."""
    truth = TARGETS["strings"]
    path = built(tmp_path, linear_model.LogisticRegression().fit(DATA, truth))
    few = truth[:rows] if target == "strings" else np.repeat(["no", "yes"], [10, 110])
    found = compared(path, path, DATA[:rows], few)

    assert found.problem == f"The live model cannot be compared: {why}."


def test_probabilities_out_of_bounds_are_measured() -> None:
    """-2.4e-7 and 1.0000002 are rounding errors of a deep forest's graph, and are clipped."""
    classes = np.array(["no", "yes"])
    wrong = np.array([[-2.4e-7, 1.0000002], [1.0000002, -2.4e-7], [0.3, 0.7]])
    answers = Answers(classes[[1, 0, 1]], wrong, classes)
    figures = measure(np.array(["yes", "no", "no"]), answers)

    assert figures["log_loss"] == pytest.approx(-np.log(0.3) / 3, abs=1e-6)
    assert np.isfinite(draws(np.array(["yes", "no", "no"]), answers)["log_loss"]).all()


def test_a_worse_model_does_not_go_live(train: Train, tmp_path: Path) -> None:
    """Exit status 3, both figures, and the command that promotes the model anyway."""
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
    assert re.search(r"the difference is -\S+, 95 % between -\S+ and -\S+$", why)
    assert lines[-2].startswith(f"{worse} was not promoted; {good} stays live in models/shop. ")
    assert lines[-1] == f"  python -m training promote {worse} --store models/shop"
    [row] = [line for line in lines if line.startswith("│ roc_auc  ")]
    assert [cell.split()[0] for cell in row.split("│")[2:5]] == [
        f"{new:.4f}",
        f"{live:.4f}",
        "0.5000",
    ]
    assert main(lines[-1].split()[3:]) == 0
    assert read_latest(model)[:2] == (worse, good)


def test_a_live_model_is_judged_on_rows_it_was_not_fitted_to(train: Train, tmp_path: Path) -> None:
    """
    A live model that memorised its training rows loses to a better one.

    It was trained on part of today's rows. A split by position would score it on rows that it was
    fitted to, and it would look perfect. The held-out rows are the same as at its training.
    """
    memory = "DecisionTreeClassifier(random_state=0)"
    assert train(memory, change="data, target = data[300:], target[300:]")[0] == 0
    status, lines = train(GOOD, *GATE, change="data = data[::-1]; target = target[::-1]")
    assert status == 0, lines
    [why] = [line for line in lines if line.startswith("roc_auc >= live - 0.01 is met: ")]
    assert float(why.split("the live model has ")[1].split(",")[0]) < 0.95
    model = FolderStore(tmp_path / "models" / "shop")
    rules = [open_bundle(model.at(version)).manifest.hold_out for version in versions(tmp_path)]
    assert all(rule is not None and rule.columns == ["a", "b"] for rule in rules)


def test_a_live_model_without_a_rule_has_no_verdict(train: Train, tmp_path: Path) -> None:
    """Status 3, the reason and the command; an absolute condition still counts."""
    data = pd.DataFrame({"a": DATA["a"], "b": DATA["b"]})
    pipeline = linear_model.LogisticRegression().fit(data, TARGETS["strings"])
    folder = tmp_path / "models" / "shop"
    old = build_bundle(folder, "shop", pipeline, data).name
    status, lines = train(GOOD, *GATE)
    assert status == 3
    assert (
        "The live model cannot be compared: it did not record which rows it was fitted to."
    ) in lines
    assert lines[-2].endswith(f"; {old} stays live in models/shop. To promote it anyway:")
    assert lines[-1].startswith("  python -m training promote ")

    assert train("LogisticRegression(C=2)", "--promote-if", "roc_auc > 0.5")[0] == 0


def test_a_project_may_hold_out_rows_itself(train: Train, tmp_path: Path) -> None:
    """Models of the same hold_out() are compared; after a change there is no verdict."""
    function = "\ndef hold_out(data):\n    return (data['a'] > LIMIT).to_numpy()\nLIMIT = {}\n"
    assert train(GOOD + function.format(0.5))[0] == 0
    [first] = versions(tmp_path)
    model = FolderStore(tmp_path / "models" / "shop")
    manifest = open_bundle(model.at(first)).manifest
    assert manifest.hold_out is not None
    assert (manifest.hold_out.by, manifest.hold_out.share) == ("project", None)
    assert manifest.hold_out.rows + manifest.lineage.rows == 1000
    assert train("LogisticRegression(C=2)" + function.format(0.5), *GATE)[0] == 0

    status, lines = train("LogisticRegression(C=3)" + function.format(0.7), *GATE)
    assert status == 3
    assert (
        "The live model cannot be compared: its rows were held out by another hold_out()." in lines
    )
    status, lines = train(GOOD + function.format(0.5), "--id", "a")
    assert status == 2
    assert "--id decides nothing" in lines[-1]
    status, lines = train(GOOD + "\ndef hold_out(data):\n    return data['a']\n")
    assert status == 2
    assert "hold_out() must return one boolean a row, shape (1000,), but it returned" in lines[-1]


def test_suspicious_data_are_not_promoted_by_default(train: Train, tmp_path: Path) -> None:
    """The version is written; the output has the column and the command; --promote overrides."""
    leak = "data['paid'] = np.where(target == 'yes', 2.5, 1)"
    status, lines = train(GOOD, change=leak)
    [version] = versions(tmp_path)
    assert status == 3
    assert not (tmp_path / "models" / "shop" / "latest").exists()
    [warning] = [line for line in lines if line.startswith("Warning: ")]
    assert warning.startswith("Warning: column 'paid' alone predicts the target")
    why = "because of the warnings; none is live in models/shop. To promote it anyway:"
    assert lines[-2:] == [
        f"{version} was not promoted {why}",
        f"  python -m training promote {version} --store models/shop",
    ]

    status, lines = train("LogisticRegression(C=2)", "--promote", change=leak)
    assert status == 0
    assert warning in lines
    assert lines[-1].endswith(" is live.")


def test_a_better_model_goes_live(train: Train, tmp_path: Path) -> None:
    """All conditions must be met, whether joined or given one by one."""
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


def test_without_a_live_model_only_absolute_conditions_count(train: Train, tmp_path: Path) -> None:
    """A first model meets every relative condition, but must meet the absolute ones."""
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
        ("data['c'] = data['a']", GOOD, "it needs the feature c, which is gone"),
        ("data['b'] = data['b'] > 0", GOOD, "its feature b is a boolean, and here it is a number"),
        ("target[:90] = 'oh'", GOOD, "its classes are no, oh, yes"),
        (
            "target = score",
            "LinearRegression()",
            "it is a regression, and this a classification",
        ),
    ],
)
def test_a_live_model_of_other_features_has_no_verdict(
    train: Train, tmp_path: Path, change: str, model: str, why: str
) -> None:
    """The reason is printed; an absolute condition alone can be met."""
    assert train(model, change=change)[0] == 0
    [live] = versions(tmp_path)
    status, lines = train(GOOD, "--promote-if", "roc_auc >= live - 1 and roc_auc > 0.5")
    assert status == 3
    assert f"The live model cannot be compared: {why}." in lines
    assert "roc_auc >= live - 1 has no verdict: the live model cannot be compared" in lines
    assert any(line.startswith("roc_auc > 0.5 is met: ") for line in lines)
    assert (tmp_path / "models" / "shop" / "latest").read_text() == f"{live}\n"

    status, lines = train("LogisticRegression(C=2)", "--promote-if", "roc_auc > 0.5")
    assert status == 0
    assert f"The live model cannot be compared: {why}." in lines


def test_the_live_model_is_opened_like_a_server_opens_it(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickle needs ALLOW_PICKLE, and a damaged file is rejected."""
    monkeypatch.setenv("ALLOW_PICKLE", "0")
    pickled = "make_pipeline(FunctionTransformer(np.arcsinh), LogisticRegression())"
    assert train(pickled, "--promote")[0] == 0
    [live] = versions(tmp_path)
    gate = ("--promote-if", "roc_auc >= live - 1")
    status, lines = train(GOOD, *gate)
    assert status == 3
    assert any(f"{live} runs on scikit-learn" in line and "ALLOW_PICKLE" in line for line in lines)

    monkeypatch.delenv("ALLOW_PICKLE")  # it is one's own
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
def test_an_invalid_condition_is_found_before_training(
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
    """Give a bucket, with its settings in the environment."""
    for name, value in bucket.location.environment.items():
        monkeypatch.setenv(name, value)
    return bucket


def test_a_new_model_is_compared_in_the_store(train: Train, shelf: Bucket, tmp_path: Path) -> None:
    """The store's live model counts; a worse one is uploaded, and `latest` does not move."""
    to = ("--to", shelf.location.uri)
    assert train(GOOD, *to)[0] == 0
    [good] = versions(tmp_path)
    assert shelf.get("shop/latest") == f"{good}\n".encode()

    # Locally a stump is live by now, but only the store's live model counts.
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


def test_a_moved_latest_is_not_overwritten(train: Train, shelf: Bucket, tmp_path: Path) -> None:
    """`latest` moves only from the model that the new one was compared with."""
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


def test_a_missing_store_is_found_before_training(
    train: Train, shelf: Bucket, tmp_path: Path
) -> None:
    """A missing bucket ends the command before any work."""
    status, lines = train(GOOD, "--to", "s3://no-such-bucket/models")

    assert status == 2
    assert lines == [lines[-1]]
    assert "there is no such bucket" in lines[-1]
    assert not (tmp_path / "models").exists()


def test_publish_may_leave_latest_unchanged(
    train: Train, shelf: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version is uploaded, the live one stays, and the command to promote is printed."""
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


def test_list_shows_the_difference_from_the_live_version(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its interval, as training recorded it; for the version before it is turned round."""
    assert train(GOOD)[0] == 0
    [good] = versions(tmp_path)
    assert train(STUMP, *GATE)[0] == 3
    [worse] = set(versions(tmp_path)) - {good}
    model = FolderStore(tmp_path / "models" / "shop")
    record = open_bundle(model.at(worse)).manifest.metrics["against"]
    difference, low, high = record["roc_auc"]
    assert "against" not in open_bundle(model.at(good)).manifest.metrics
    assert record["version"] == good
    assert low < difference < high < 0

    def listed() -> dict[str, str]:
        assert main(["list", "--store", str(model)]) == 0
        said = capsys.readouterr().out
        assert "roc_auc less live's: on the same rows, with its 95 % interval" in said
        return {v: next(line for line in said.splitlines() if v in line) for v in (good, worse)}

    lines = listed()
    assert f"{difference:+.4g}, {low:+.4g} to {high:+.4g}" in lines[worse]
    assert " to " not in lines[good]
    assert main(["promote", worse, "--store", str(model)]) == 0
    capsys.readouterr()
    lines = listed()
    assert f"{-difference:+.4g}, {-high:+.4g} to {-low:+.4g}" in lines[good]
    assert " to " not in lines[worse]

    assert train(GOOD.replace("()", "(C=2)"), "--promote-if", "roc_auc > live")[0] == 0
    lines = listed()
    assert re.search(r" -0\.\d+, -0\.\d+ to -0\.\d+ ", lines[worse])
    assert " to " not in lines[good]


def test_figures_that_one_of_two_models_lacks_are_left_out(train: Train, tmp_path: Path) -> None:
    """A classifier without probabilities has an accuracy in common with one that has some."""
    assert train(GOOD)[0] == 0
    status, lines = train("LinearSVC()")
    assert status == 0, lines
    latest = open_bundle(FolderStore(tmp_path / "models" / "shop")).manifest

    assert latest.metrics["against"].keys() == {"version", "rows", "accuracy"}

"""`compare` shows two versions side by side, on the same rows."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving.bundle.manifest import HoldOut
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from training.__main__ import main
from training.export.build import build_bundle
from training.fit.evaluate import Answers
from training.registry.verdict.differences import differing, where_they_differ

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(
    {
        "age": RANDOM.integers(18, 90, 2000).astype(float),
        "home": RANDOM.choice(["rent", "own"], 2000),
        "code": RANDOM.choice(["01", "02"], 2000),
    }
)
TRUTH = np.where(ROWS["age"] + 30 * (ROWS["home"] == "own") + RANDOM.normal(0, 9, 2000) > 70, 1, 0)


CENTRES = np.array([[0.0, 0.0], [40.0, 0.0], [0.0, 60.0]])


def write(folder: Path, name: str, *, share: float = 1.0, steps: bool = True) -> str:
    """Write the version *name* of the model shop."""
    columns = make_column_transformer((OneHotEncoder(), ["home", "code"]), remainder="passthrough")
    last: BaseEstimator = (
        LogisticRegression(max_iter=1000) if steps else DecisionTreeClassifier(max_depth=1)
    )
    pipeline = make_pipeline(columns, last).fit(ROWS, TRUTH)
    rule = HoldOut(by="values", columns=list(ROWS.columns), share=share, rows=9, rows_sha256=name)
    path = build_bundle(
        folder / "shop" / name,
        "shop",
        pipeline,
        ROWS,
        metrics={"held_out": {"accuracy": 0.5}},
        hold_out=rule if share else None,
    )
    return str(path)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Write a stump and a good model."""
    folder = tmp_path_factory.mktemp("models")
    return write(folder, "a", steps=False), write(folder, "b")


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """Write the rows as CSV, and as Parquet beside it."""
    ROWS.assign(late=TRUTH).to_csv(tmp_path / "rows.csv", index=False)
    ROWS.assign(late=TRUTH).to_parquet(tmp_path / "rows.parquet")
    return str(tmp_path / "rows.csv")


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """Run the command; return its status and lines."""
    status = main(["compare", *arguments])
    written = capsys.readouterr()
    return status, (written.out + written.err).splitlines()


def test_two_versions_are_compared_on_rows(
    pair: tuple[str, str], rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each figure has both values, the difference and the better version."""
    status, lines = ask(capsys, *pair, "--data", rows, "--target", "late")
    text = "\n".join(lines)

    assert status == 0, text
    assert "On 2,000 rows that neither was fitted to, B less A:" in lines
    [row] = [line for line in lines if line.startswith("roc_auc ")]
    assert row.endswith("B is better")
    assert "95 % between +0." in row
    assert any(line.startswith("calibration error ") for line in lines)
    assert "Calibration: the probability of the class 1, and how often it came true:" in lines
    assert any("of 2,000 rows" in line for line in lines)
    where = lines[lines.index("They differ most by these features:") + 2]
    assert where.startswith(("age", "home"))
    parquet = rows.replace(".csv", ".parquet")
    assert ask(capsys, *pair, "--data", parquet, "--target", "late") == (status, lines)


def test_rows_fitted_by_either_are_left_out(
    tmp_path: Path, pair: tuple[str, str], rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row that one version was fitted to does not count; without a rule there is no verdict."""
    share = write(tmp_path, "c", share=0.2)
    status, lines = ask(capsys, pair[1], share, "--data", rows, "--target", "late")
    [line] = [line for line in lines if line.endswith("that neither was fitted to, B less A:")]
    assert status == 0
    assert 300 < int(line.split()[1]) < 500

    packed = write(tmp_path, "d", share=0)
    command = (packed, pair[1], "--data", rows, "--target", "late")
    status, lines = ask(capsys, *command)
    assert status == 3
    assert any(
        line.startswith("No verdict: of A, it did not record which rows it was fitted to.")
        for line in lines
    )
    assert any("of 2,000 rows" in line for line in lines)
    status, lines = ask(capsys, *command, "--unseen")
    assert status == 0
    assert "On 2,000 rows, B less A:" in lines


def test_without_rows_the_recorded_figures_are_shown(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Recorded figures of different rows are shown, without a verdict."""
    status, lines = ask(capsys, *pair)

    assert status == 3
    assert lines[-1].startswith("The rows differ, so there is no verdict")
    assert ask(capsys, pair[0], pair[0])[0] == 0


def test_a_project_provides_the_rows(
    tmp_path: Path,
    pair: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Versions are named in a store, and a project by its file."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    ROWS.assign(late=TRUTH).to_csv("rows.csv", index=False)
    (tmp_path / "side_project.py").write_text(
        "import pandas as pd\n"
        "def load_data():\n"
        "    data = pd.read_csv('rows.csv', dtype={'code': str})\n"
        "    return data.drop(columns='late'), data['late']\n"
        "def build_pipeline(): ...\n"
    )
    version = Path(pair[1])
    status, lines = ask(
        capsys,
        *(version.name, version.name, "--store", str(version.parent)),
        *("--project", "side_project.py"),
    )

    assert status == 0, lines
    assert "The answers differ in 0 of 2,000 rows (0.0%)." in lines
    assert [line.split()[-4:] for line in lines if line.startswith("roc_auc ")] == [
        ["these", "rows", "cannot", "tell"]
    ]
    status, lines = ask(capsys, version.name, "nothing", "--store", str(version.parent))
    assert status == 2
    assert "there is no version nothing in" in lines[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"home": None, "late": "1"}, "the rows lack the feature home"),
        ({}, "has no column late"),
        ({"age": "old", "late": "1"}, "the rows do not fit the models"),
    ],
)
def test_wrong_rows_give_one_sentence(
    tmp_path: Path,
    pair: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str | None],
    words: str,
) -> None:
    """Status 2, and the reason."""
    frame = ROWS.assign(**{name: value for name, value in change.items() if value})
    frame = frame.drop(columns=[name for name, value in change.items() if value is None])
    frame.to_csv(tmp_path / "rows.csv", index=False)
    file = str(tmp_path / "rows.csv")
    status, lines = ask(capsys, *pair, "--data", file, "--target", "late")

    assert status == 2
    assert lines[-1].startswith("training: ")
    assert words in lines[-1]


def test_regressions_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A regression's differences have a size, and rounding does not count as a difference."""
    frame = pd.DataFrame({"x": np.arange(300.0)})
    paths = []
    for name, slope in (("a", 2.0), ("b", 2.1)):
        rule = HoldOut(by="values", columns=["x"], share=1.0, rows=9, rows_sha256=name)
        model = LinearRegression().fit(frame, frame["x"] * slope)
        path = build_bundle(tmp_path / name, "line", model, frame, hold_out=rule)
        paths.append(str(path))
    frame.assign(y=frame["x"] * 2.0).to_csv(tmp_path / "rows.csv", index=False)
    status, lines = ask(capsys, *paths, "--data", str(tmp_path / "rows.csv"), "--target", "y")

    assert status == 0
    assert next(line for line in lines if line.startswith("rmse ")).endswith("A is better")
    assert any("in the median, 29.9 at most" in line for line in lines)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (
            [
                IsolationForest(n_estimators=20, random_state=seed, contamination=0.1)
                for seed in (0, 1)
            ],
            r"Outliers: 1\d.\d% of the rows by A, .* correlation of their scores is 0\.\d{4}\.",
        ),
        (
            [KMeans(3, n_init=1, init=CENTRES[order]) for order in ([0, 1, 2], [2, 0, 1])],
            r"The answers differ in 0 of 300 rows",
        ),
        (
            [KMeans(2, n_init=1, init=CENTRES[:2]), KMeans(3, n_init=1, init=CENTRES)],
            r"The answers differ in 100 of 300 rows",
        ),
    ],
    ids=["outliers", "clusters", "more clusters"],
)
def test_answers_without_a_truth_are_compared(
    models: list[Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many differ, and where; clusters are matched, since their numbers are arbitrary."""
    frame = pd.DataFrame(
        np.repeat(CENTRES, 100, axis=0) + RANDOM.normal(size=(300, 2)), columns=["x", "y"]
    )
    frame.to_csv(tmp_path / "rows.csv", index=False)
    paths = [
        str(build_bundle(tmp_path / str(i), "m", model.fit(frame), frame))
        for i, model in enumerate(models)
    ]
    command = [*paths, "--data", str(tmp_path / "rows.csv")]
    status, lines = ask(capsys, *command)

    assert status == 0, lines
    assert any(re.match(words, line) for line in lines), lines
    assert ask(capsys, *command, "--target", "x")[0] == 2


def test_the_features_behind_the_differences_are_named() -> None:
    """The feature and the group are named, and unrelated features are not."""
    classes = np.array(["x", "y"])
    ours = np.full(2000, "x")
    theirs = np.where((ROWS["home"] == "rent") & (RANDOM.random(2000) < 0.5), "y", "x")
    different = differing(Answers(ours, None, classes), Answers(theirs, None, classes))
    [where] = where_they_differ(different, ROWS)

    assert (where.feature, where.group, where.outside) == ("home", "rent", 0.0)
    assert where_they_differ(np.zeros(2000, bool), ROWS) == []
    by_age = where_they_differ((ROWS["age"] > 80).to_numpy(), ROWS)
    assert by_age[0].feature == "age"
    assert by_age[0].group.startswith("above ")

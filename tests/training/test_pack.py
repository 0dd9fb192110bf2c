"""`pack`: what it warns of, and what goes live."""

from __future__ import annotations

import importlib
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import catboost  # type: ignore[import-untyped]
import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from tests.helpers.command import Run

RANDOM = np.random.default_rng(0)
DATA = pd.DataFrame({"a": RANDOM.normal(size=300), "b": RANDOM.normal(size=300)})
TARGET = np.where(DATA["a"] + DATA["b"] + RANDOM.normal(size=300) / 3 > 0, "yes", "no")

NUMBER = RANDOM.integers(0, 50, 300)


def encoded(*columns: str) -> Any:
    """Encode some columns as categories; scale the others."""
    encode = (OneHotEncoder(handle_unknown="ignore"), list(columns))
    prepare = make_column_transformer(encode, remainder=StandardScaler())
    return make_pipeline(prepare if columns else StandardScaler(), LogisticRegression())


def packed(run: Run, model: Any, data: pd.DataFrame, target: Any, *more: str) -> Any:
    """Fit a model, and pack it with the rows that it was fitted to."""
    joblib.dump(model.fit(data, target), "model.joblib")
    data.assign(**({} if "answer" in data else {"answer": target})).to_csv("rows.csv", index=False)
    command = ["pack", "model.joblib", "--sample", "rows.csv", "--name", "x", *more]
    return run(*command, "--target", "answer")


@pytest.mark.parametrize(
    ("columns", "model", "words"),
    [
        ({"paid": np.where(TARGET == "yes", 2.5, 1)}, encoded(), "'paid' alone predicts"),
        ({"answer": TARGET}, encoded("answer"), "'answer' alone predicts the target"),
        ({"customer_id": np.arange(300) * 7}, encoded(), "'customer_id' is an id"),
        ({"Unnamed: 0": np.arange(300)}, encoded(), "'Unnamed: 0' is the row number"),
        ({"code": [f"R-{i:x}" for i in range(300)]}, encoded("code"), "a different text in nearly"),
        (
            {"day": [f"2025-0{i % 9 + 1}-11" for i in range(300)]},
            encoded("day"),
            "'day' holds dates: ",
        ),
        ({"unit": 1.0}, encoded(), "'unit' is constant"),
    ],
)
def test_suspicious_data_are_not_promoted(
    run: Run, columns: dict[str, Any], model: Any, words: str
) -> None:
    """As with `train`: the version is written; the last lines promote it, or serve it as it is."""
    status, lines = packed(run, model, DATA.assign(**columns), TARGET)
    [version] = [path.name for path in Path("models/x").iterdir()]

    assert status == 3, lines
    [warning] = [line for line in lines if line.startswith("Warning: ")]
    assert words in warning
    assert f"  python -m training promote {version} --store models/x" in lines
    assert f"  MODEL_URI=models/x/{version} make run" in lines


def test_promote_lets_it_in_all_the_same(run: Run) -> None:
    """With the warning; and it is served by the model's name."""
    status, lines = packed(run, encoded(), DATA.assign(unit=1.0), TARGET, "--promote")

    assert status == 0, lines
    assert any("'unit' is constant" in line for line in lines)
    assert (Path("models/x") / "latest").exists()
    assert "  MODEL_URI=models/x make run" in lines


def test_without_a_target_warnings_hold_nothing_back(run: Run) -> None:
    """There are no figures to doubt; the columns are pointed out."""
    joblib.dump(encoded().fit(DATA.assign(unit=1.0), TARGET), "model.joblib")
    DATA.assign(unit=1.0).to_csv("rows.csv", index=False)
    status, lines = run("pack", "model.joblib", "--sample", "rows.csv", "--name", "x")

    assert status == 0, lines
    assert any(line.startswith("Warning: column 'unit' is constant") for line in lines)
    assert "  MODEL_URI=models/x make run" in lines


def test_a_model_that_is_no_better_than_the_trivial_one(run: Run) -> None:
    """Its figures on the sample stand beside the trivial model's."""
    joblib.dump(encoded().fit(DATA, TARGET), "model.joblib")
    DATA.assign(answer=np.where(TARGET == "yes", "no", "yes")).to_csv("rows.csv", index=False)
    command = ["pack", "model.joblib", "--sample", "rows.csv", "--name", "x", "--target", "answer"]
    status, lines = run(*command)

    assert status == 3, lines
    assert any("no better than the trivial one" in line for line in lines)


@pytest.mark.parametrize(
    ("data", "model", "target"),
    [
        (DATA, encoded(), TARGET),
        (DATA[:60], encoded(), TARGET[:60]),
        (DATA.assign(b=0.0)[:20], encoded(), TARGET[:20]),
        (
            DATA.assign(row=np.arange(300)),
            make_pipeline(
                make_column_transformer(("passthrough", ["a", "b"])), LogisticRegression()
            ),
            TARGET,
        ),
        (
            pd.DataFrame({"text": [f"word{i} {t}" for i, t in enumerate(TARGET)]})[:300],
            make_pipeline(
                make_column_transformer((CountVectorizer(), "text")), LogisticRegression()
            ),
            RANDOM.permutation(TARGET),
        ),
    ],
    ids=["good", "few rows", "a constant in few rows", "an id that no step reads", "short texts"],
)
def test_what_is_not_suspicious_goes_live(
    run: Run, data: pd.DataFrame, model: Any, target: Any
) -> None:
    """A sample may be small, and only what the pipeline reads matters."""
    status, lines = packed(run, model, data, target)

    assert status == 0, lines
    assert open_bundle(FolderStore("models/x")).manifest.metrics.keys() == {"sample", "baseline"}
    few = [line for line in lines if line.startswith("Warning: ")]
    assert len(few) == (len(data) < 200)
    assert all(f"only {len(data)} rows" in line for line in few)


LINE = 'data["day"] = (pandas.to_datetime(data["day"]) - pandas.Timestamp("2020-01-01")).dt.days'


def test_dates_get_the_line_that_makes_numbers_of_them(run: Run) -> None:
    """The same from `train`, which sees dates, and from `pack`, which sees text."""
    days = pd.Timestamp("2025-01-01") + pd.to_timedelta(np.arange(300) % 20, "D")
    Path("shop_dates.py").write_text(
        "import pandas as pd\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "def load_data():\n"
        "    data = pd.read_csv('rows.csv', parse_dates=['day'])\n"
        "    return data[['a', 'day']], data['answer']\n"
        "def build_pipeline(): return LogisticRegression()\n"
        "def month(rows): return rows.apply(lambda column: column.dt.month)\n"
    )
    sys.path.insert(0, ".")
    month = FunctionTransformer(importlib.import_module("shop_dates").month)
    model = make_pipeline(
        make_column_transformer((month, ["day"]), remainder="passthrough"), LogisticRegression()
    )
    for status, lines in (
        packed(run, model, DATA.assign(day=days), TARGET),
        run("train", "--project", "shop_dates"),
    ):
        assert status == 2
        assert "column 'day' holds dates: " in lines[-1]
        assert LINE in lines[-1]


@pytest.mark.parametrize("whole", [False, True], ids=["one column", "all columns"])
def test_codes_stay_text_in_front_of_a_function(run: Run, whole: bool) -> None:
    """The encoder behind it knows texts, so 01 is no number; a plain number stays one."""
    codes = np.array(["01", "02", "10"])[np.arange(300) % 3]
    Path("shop_codes.py").write_text(
        "def cleaned(rows):\n    return rows.assign(code=rows['code'].str.strip().str.zfill(3))\n"
    )
    sys.path.insert(0, ".")
    clean = FunctionTransformer(importlib.import_module("shop_codes").cleaned)
    encode = OneHotEncoder()
    if whole:
        columns = make_column_transformer((encode, ["code"]), remainder="passthrough")
        model = make_pipeline(clean, columns, LogisticRegression())
    else:
        columns = make_column_transformer(
            (make_pipeline(clean, encode), ["code"]), remainder="passthrough"
        )
        model = make_pipeline(columns, LogisticRegression())
    status, lines = packed(run, model, DATA.assign(code=codes, b=NUMBER), TARGET)
    assert status == 0, lines
    features = open_bundle(FolderStore("models/x")).manifest.features

    assert {f.name: f.kind for f in features} == {"a": "number", "b": "number", "code": "text"}


def test_a_pickle_of_ones_own_is_opened_by_commands_at_home(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `make run`; where a variable marks a cloud, one sentence says what to do."""
    Path("shop_halved.py").write_text("def halved(rows):\n    return rows.to_numpy() // 2\n")
    monkeypatch.syspath_prepend(".")
    step = FunctionTransformer(importlib.import_module("shop_halved").halved)
    status, lines = packed(run, make_pipeline(step, LogisticRegression()), DATA * 9, TARGET)
    assert status == 0, lines
    [version] = FolderStore("models/x").names()[:-1]
    same = ("compare", version, version, "--store", "models/x", "--data", "rows.csv")
    score = ("score", "models/x", "--from", "rows.csv", "--to")

    assert run("check", "models/x")[0] == 0
    assert run(*same)[0] == 0
    assert run(*score, "scores")[0] == 0
    monkeypatch.setenv("DYNO", "web.1")
    for command in (("check", "models/x"), same, (*score, "more")):
        status, lines = run(*command)
        assert status == 2
        assert "Sign the bundle and set MODEL_PUBLIC_KEYS; or " in lines[-1]


FREQUENCY = """
from sklearn.base import BaseEstimator, TransformerMixin
class Frequency(TransformerMixin, BaseEstimator):
    def fit(self, rows, y=None):
        self.known_ = rows.iloc[:, 0].value_counts().to_dict()
        self.feature_names_in_ = list(rows.columns)
        return self
    def transform(self, rows):
        return rows.iloc[:, [0]].apply(lambda column: column.map(self.known_).fillna(0))
"""


def test_digits_before_ones_own_code_may_be_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --text the version does not go live; with it, or from Parquet, answers are right."""
    Path("shop_frequency.py").write_text(FREQUENCY)
    monkeypatch.syspath_prepend(".")
    own = importlib.import_module("shop_frequency").Frequency()
    data = DATA.assign(code=np.array(["101", "202", "202"])[np.arange(300) % 3])
    model = make_pipeline(
        make_column_transformer((own, ["code"]), remainder="passthrough"), LogisticRegression()
    )
    noise = np.random.default_rng(1).random(300)
    target = np.where((data["code"] == "101") ^ (noise < 0.2), "yes", "no")
    status, lines = packed(run, model, data, target)
    assert status == 3
    assert any("'code' holds digits" in line and "--text 'code'" in line for line in lines)
    status, lines = packed(run, model, data, target, "--text", "code", "--name", "texts")
    assert status == 0, lines
    data.assign(answer=target).to_parquet("rows.parquet")
    command = ("pack", "model.joblib", "--sample", "rows.parquet", "--target", "answer")
    status, lines = run(*command, "--name", "typed")
    assert status == 0, lines
    for name in ("texts", "typed"):
        kinds = {
            f.name: f.kind for f in open_bundle(FolderStore(f"models/{name}")).manifest.features
        }
        assert kinds == {"a": "number", "b": "number", "code": "text"}


def test_numbers_before_ones_own_code_go_live(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers that the code computes with cannot have been text."""
    Path("shop_third.py").write_text("def third(rows):\n    return rows / 3\n")
    monkeypatch.syspath_prepend(".")
    step = FunctionTransformer(importlib.import_module("shop_third").third)
    status, lines = packed(
        run, make_pipeline(step, LogisticRegression()), DATA.assign(b=NUMBER), TARGET
    )
    assert status == 0, lines


BOOSTER = """
from catboost import CatBoostRegressor
import pandas as pd
def load_data():
    data = pd.read_csv("rows.csv", dtype={"kind": str})
    return data.drop(columns="answer"), data["answer"]
def build_pipeline():
    return CatBoostRegressor(
        iterations=5, cat_features=["kind"], verbose=0, allow_writing_files=False
    )
"""
WITHIN = """
from sklearn.pipeline import make_pipeline
booster = build_pipeline
def build_pipeline():
    return make_pipeline("passthrough", booster())
"""


def test_two_packs_in_one_second_are_two_versions(run: Run) -> None:
    """The second takes the name of the next free second."""
    assert packed(run, encoded(), DATA, TARGET)[0] == 0
    [first] = [path.name for path in Path("models/x").iterdir() if path.is_dir()]
    soon = [datetime.now(UTC) + timedelta(seconds=i) for i in range(30)]
    taken = {f"{moment:%Y%m%d-%H%M%S}{first[15:]}" for moment in soon}
    for name in taken:
        Path("models/x", name).mkdir(exist_ok=True)
    status, lines = packed(run, encoded(), DATA, TARGET)

    assert status == 0, lines
    assert open_bundle(FolderStore("models/x")).manifest.version not in {first, *taken}


def test_catboost_alone_is_a_pipeline(run: Run) -> None:
    """It is no estimator of scikit-learn's, and trains alone as well as within a pipeline."""
    model = catboost.CatBoostRegressor(iterations=5, verbose=0, allow_writing_files=False)
    target = DATA["a"] + DATA["b"]
    status, lines = packed(run, model, DATA[["b", "a"]], target)
    assert status == 0, lines
    manifest = open_bundle(FolderStore("models/x")).manifest
    assert [feature.name for feature in manifest.features] == ["b", "a"]
    assert "model.onnx" in manifest.files
    kinds = np.array(["p", "q", "r"])[np.arange(300) % 3]
    DATA.assign(kind=kinds, answer=target).to_csv("rows.csv", index=False)
    Path("booster.py").write_text(BOOSTER)
    status, lines = run("train", "--project", "booster.py")
    assert status == 0, lines
    Path("within.py").write_text(BOOSTER + WITHIN)
    status, lines = run("train", "--project", "within.py")
    assert status == 0, lines


def test_lightgbm_of_categories_is_packed_from_parquet(run: Run) -> None:
    """A CSV has no categories of pandas: a sentence says so. Parquet keeps them."""
    kinds = pd.Series(np.array(["p", "q", "r"])[np.arange(300) % 3], dtype="category")
    data = DATA.assign(kind=kinds)
    status, lines = packed(run, lightgbm.LGBMClassifier(n_estimators=3, verbose=-1), data, TARGET)
    assert status == 2
    assert "to_parquet('rows.parquet'), which keeps the dtype" in lines[-1]
    data.assign(answer=TARGET).to_parquet("rows.parquet")
    command = ("pack", "model.joblib", "--sample", "rows.parquet", "--target", "answer")
    status, lines = run(*command, "--name", "x")
    assert status == 0, lines
    features = open_bundle(FolderStore("models/x")).manifest.features
    assert {f.name: f.kind for f in features} == {"a": "number", "b": "number", "kind": "category"}


def test_each_target_is_read_as_the_classes_of_its_output(run: Run) -> None:
    """Classes of digits are text if the output's are; targets in another order get a hint."""
    codes = np.where(DATA["a"] + RANDOM.normal(size=300) / 3 > 0, "01", "10")
    truth = np.column_stack([codes, TARGET]).astype(object)
    model = RandomForestClassifier(3, max_depth=4, random_state=0).fit(DATA, truth)
    joblib.dump(model, "model.joblib")
    DATA.assign(code=codes, answer=TARGET).to_csv("rows.csv", index=False)
    command = ["pack", "model.joblib", "--sample", "rows.csv", "--name", "x"]
    status, lines = run(*command, "--target", "code", "--target", "answer")
    assert status == 0, lines
    status, lines = run(*command, "--target", "answer", "--target", "code")
    assert status == 2
    assert "but the model's classes are '01', '10'. Give --target in the order" in lines[-1]


def test_integer_classes_that_json_would_round_are_named(run: Run) -> None:
    """The sentence says the limit, 2**53, and that strings have none."""
    target = np.where(TARGET == "yes", 2**60, 2**60 + 1)
    status, lines = packed(run, encoded(), DATA, target)
    assert status == 2
    assert "lose digits of integers beyond 2**53: make strings of the classes" in lines[-1]

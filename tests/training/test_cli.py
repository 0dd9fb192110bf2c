"""`python -m training`: what it writes, and its errors about wrong input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.helpers.command import assert_refused, run_in
from tests.helpers.projects import packed, project
from tests.helpers.servers import ROOT


def test_train_writes_a_bundle_that_passes_check(tmp_path: Path) -> None:
    """A project of two functions becomes a bundle; on a pipe the progress is plain lines."""
    done = run_in(tmp_path, "train", "--project", project(tmp_path))
    manifest = open_bundle(FolderStore(tmp_path / "models" / "shop")).manifest

    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "fitting" in done.stdout
    assert manifest.classes == ["even", "odd"]
    assert manifest.metrics.keys() == {"held_out", "intervals", "baseline", "cross_validation"}
    assert done.stdout.splitlines()[-1] == f"{manifest.version} is live."
    assert manifest.importances.permutation is not None
    checked = run_in(tmp_path, "check", "models/shop")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("model", ["RandomForestRegressor", "RandomForestClassifier"])
def test_rows_of_one_id_stay_together_in_cross_validation(tmp_path: Path, model: str) -> None:
    """A model that knows customers by heart looks good on their other rows, and on no others."""
    change = (
        "random = np.random.default_rng(0); customer = np.arange(300) % 60; "
        "target = random.integers(0, 2, 60)[customer]; "
        "data = pd.DataFrame({'a': random.normal(size=60)[customer], 'customer': customer})"
    )
    ensemble = f"__import__('sklearn.ensemble').ensemble.{model}(20, random_state=0)"
    name = project(tmp_path, change, ensemble)
    means = []
    for models, option in (("one", []), ("two", ["--id", "customer"])):
        done = run_in(tmp_path, "train", "--project", name, "--models", models, *option)
        assert done.returncode in (0, 3), done.stderr
        [version] = [p for p in (tmp_path / models / "shop").iterdir() if p.name != "latest"]
        metrics = open_bundle(FolderStore(version)).manifest.metrics
        means.append(metrics["cross_validation"]["mean"])

    assert means[0] > 0.9
    assert means[1] < 0.7


def test_regression_has_its_own_metrics(tmp_path: Path) -> None:
    """RMSE, MAE and R² are shown beside those of the mean."""
    name = project(tmp_path, "target = data['a'] + 20 * data['b']", "LinearRegression()")
    assert run_in(tmp_path, "train", "--project", name).returncode == 0
    metrics = open_bundle(FolderStore(tmp_path / "models" / "shop")).manifest.metrics

    assert metrics["held_out"].keys() == {"rmse", "mae", "r2"}
    assert metrics["held_out"]["rmse"] < metrics["baseline"]["rmse"]


def test_the_same_data_give_the_same_graph(tmp_path: Path) -> None:
    """Two runs write the same bytes to model.onnx."""
    name = project(tmp_path)
    graphs = []
    for models in ("one", "two"):
        assert run_in(tmp_path, "train", "--project", name, "--models", models).returncode == 0
        graphs.append(open_bundle(FolderStore(tmp_path / models / "shop")).read("model.onnx"))

    assert graphs[0] == graphs[1]


#: Wrong data, and words of the error message.
WRONG = [
    ("target[:] = 'even'", ["one class", "even"]),
    ("target = target[:-1]", ["300", "299"]),
    ("target = pd.Series(target).where(data.index > 3)", ["missing", "4 rows"]),
    ("data.columns = ['a', 'a']", ["twice", "a"]),
    ("data = data.iloc[:0]; target = target[:0]", ["empty"]),
    ("target = np.stack([target, target], axis=1)", ["cannot be fitted", "ValueError"]),
    ("target[0] = 'new'; target[1:] = 'even'", ["one row only", "new"]),
    ("data['c'] = [[1]] * 300", ["column c"]),
    ("data['c'] = '\\ud800'", ["surrogates not allowed"]),
    ("data = data.rename(columns={'a': '\\ud800'})", ["surrogates not allowed"]),
    ("data = data.rename(columns={'a': 'height (\")'})", ["column name", "rename it"]),
    ("data = data.set_axis([1, '1'], axis=1)", ["column names must differ", "1 appears"]),
    ("data['c'] = 'x'", ["cannot be fitted", "'x'"]),
    ("data['b'] = data['nope']", ["load_data() failed", "'nope'", "shop.py, line 7"]),
    ("return data", ["two things"]),
    ("data = data.to_numpy().tolist()[0]", ["a table"]),
    ("target = np.array([1, 'x'] * 150, dtype=object)", ["one kind only"]),
    ("target = data['a'] / 7", ["fractions", "regressor"]),
    ("target = 2**60 + data['a'].astype('int64') % 2", ["integers beyond 2**53"]),
    ("data = data.loc[[0] * 300]", ["cannot be split", "every row would be held out"]),
    ("target[:2] = 'new'; data.loc[:1] = [2.5, 0]", ["cannot be split", "class 'new'"]),
]


@pytest.mark.parametrize(
    ("change", "words"),
    [*WRONG[:6], *(pytest.param(*case, marks=pytest.mark.slow) for case in WRONG[6:])],
)
def test_wrong_data_give_one_sentence(tmp_path: Path, change: str, words: list[str]) -> None:
    """The error names what is wrong with the data, and nothing is written."""
    done = run_in(tmp_path, "train", "--project", project(tmp_path, change))

    assert_refused(done, *words)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("None", ["build_pipeline()", "None"]),
        ("LinearRegression", ["the class LinearRegression itself"]),
        ("__import__('sklearn.cluster').cluster.KMeans(2)", ["a KMeans"]),
        ("1 / 0", ["build_pipeline() failed", "ZeroDivisionError", "shop.py, line 10"]),
    ],
)
def test_a_wrong_pipeline_is_named(tmp_path: Path, model: str, words: list[str]) -> None:
    """The error names what build_pipeline() returned."""
    assert_refused(run_in(tmp_path, "train", "--project", project(tmp_path, model=model)), *words)


def test_three_rows_of_a_regression_are_enough(tmp_path: Path) -> None:
    """A score that one held-out row cannot have is left out."""
    name = project(tmp_path, "data = data[:3]; target = [1.0, 2.0, 3.0]", "LinearRegression()")
    assert run_in(tmp_path, "train", "--project", name, "--promote").returncode == 0
    manifest = open_bundle(FolderStore(tmp_path / "models" / "shop")).manifest

    assert manifest.metrics["held_out"].keys() == {"rmse", "mae"}
    assert manifest.importances.permutation is None


def test_an_unwritable_location_is_named(tmp_path: Path) -> None:
    """The folder of models is a file."""
    (tmp_path / "models").write_text("")

    assert_refused(run_in(tmp_path, "train", "--project", project(tmp_path)), "models", "written")


@pytest.mark.slow
def test_a_wrong_project_is_named(tmp_path: Path) -> None:
    """The module is missing, or lacks a function."""
    assert_refused(run_in(tmp_path, "train", "--project", "nothing.here"), "nothing")
    (tmp_path / "half.py").write_text("def load_data(): ...")
    assert_refused(run_in(tmp_path, "train", "--project", "half"), "build_pipeline()")
    assert_refused(run_in(tmp_path, "train", "--name", "../x"), "../x")
    for broken in ("def load_data(:", "import nothing_like_this", "raise ValueError('boom')"):
        (tmp_path / "broken.py").write_text(broken)
        assert_refused(run_in(tmp_path, "train", "--project", "broken"), "broken", "line 1")


def test_pack_serves_a_pipeline_fitted_elsewhere(tmp_path: Path) -> None:
    """A joblib file and sample rows become a bundle, with a warning that a pickle is opened."""
    packed(tmp_path)
    done = run_in(
        tmp_path,
        *("pack", "model.joblib", "--sample", "rows.csv", "--target", "answer", "--name", "shop"),
    )
    manifest = open_bundle(FolderStore(tmp_path / "models" / "shop")).manifest

    assert done.returncode == 0, done.stderr
    assert "pickle" in done.stderr
    assert [feature.name for feature in manifest.features] == ["a", "b"]
    assert manifest.metrics["sample"]["accuracy"] > 0.9
    assert manifest.engine.name == "onnx"


@pytest.mark.slow
def test_pack_names_what_does_not_match(tmp_path: Path) -> None:
    """A missing file or column, an empty CSV, repeated columns and an invalid pickle are errors."""
    packed(tmp_path)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "double.csv").write_text("a,a\n1,2\n")
    (tmp_path / "lacks.csv").write_text("a,c\n1,2\n")
    (tmp_path / "rubbish.joblib").write_bytes(b"rubbish")

    def pack(model: str, sample: str, *more: str) -> subprocess.CompletedProcess[str]:
        return run_in(tmp_path, "pack", model, "--sample", sample, "--name", "shop", *more)

    assert_refused(pack("model.joblib", "none.csv"), "none.csv")
    assert_refused(pack("model.joblib", "empty.csv"), "empty.csv")
    assert_refused(pack("model.joblib", "header.csv"), "no rows")
    assert_refused(pack("model.joblib", "double.csv"), "twice")
    assert_refused(pack("model.joblib", "lacks.csv"), "lacks b")
    assert_refused(pack("model.joblib", "rows.csv", "--target", "nope"), "no column nope")
    assert_refused(pack("rubbish.joblib", "rows.csv"), "rubbish.joblib")


def test_pack_rejects_broken_tables(tmp_path: Path) -> None:
    """An invalid archive, and rows longer than the header, are rejected."""
    packed(tmp_path)
    (tmp_path / "rows.zip").write_text("a,b\n1,2\n")
    (tmp_path / "shifted.csv").write_text("a,b\n1,2,3\n3,4,5\n")
    for sample in ("rows.zip", "shifted.csv"):
        done = run_in(tmp_path, "pack", "model.joblib", "--sample", sample, "--name", "shop")
        assert_refused(done, f"{sample} cannot be read as CSV")


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (LinearRegression().fit([[0, 1], [1, 0], [2, 2]], [[0, 1], [1, 0], [2, 1]]), "outputs"),
        (
            OneVsRestClassifier(LogisticRegression()).fit(
                [[0, 1], [1, 0], [2, 2]], [[0, 1], [1, 0], [1, 1]]
            ),
            "outputs",
        ),
        (KMeans(2, n_init=1).fit([[0, 1], [1, 0], [2, 2]]), "clustering"),
    ],
    ids=["many values", "many labels", "clusters"],
)
def test_pack_accepts_more_tasks(tmp_path: Path, model: object, task: str) -> None:
    """Several values, several labels and clusters can be packed."""
    joblib.dump(model, tmp_path / "model.joblib")
    (tmp_path / "rows.csv").write_text("a,b\n0,1\n1,0\n2,2\n")
    done = run_in(tmp_path, "pack", "model.joblib", "--sample", "rows.csv", "--name", "shop")

    assert done.returncode == 0, done.stderr
    assert open_bundle(FolderStore(tmp_path / "models" / "shop")).manifest.task == task


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (LinearRegression, "the class LinearRegression"),
        ({"a": 1}, "holds a dict with the keys a; make a pipeline of its parts"),
        (StandardScaler().fit([[0, 1], [1, 0], [2, 2]]), "has no predict"),
        (
            LocalOutlierFactor(2).fit([[0, 1], [1, 0], [2, 2]]),
            "LocalOutlierFactor(novelty=True)",
        ),
        (DBSCAN().fit([[0, 1], [1, 0], [2, 2]]), "use KMeans, GaussianMixture, MeanShift or Birch"),
    ],
    ids=[
        "a class",
        "a dict",
        "a lone preprocessor",
        "outliers of the past",
        "clusters of the past",
    ],
)
def test_pack_rejects_parts_of_a_model(tmp_path: Path, model: object, words: str) -> None:
    """The error shows the lines that make a pipeline of the parts, or what to use instead."""
    joblib.dump(model, tmp_path / "model.joblib")
    (tmp_path / "rows.csv").write_text("a,b\n0,1\n1,0\n2,2\n")
    done = run_in(tmp_path, "pack", "model.joblib", "--sample", "rows.csv", "--name", "shop")

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_pack_keeps_codes_as_text(tmp_path: Path) -> None:
    """Codes that were strings to the encoder, such as 01 and NA, are strings to the client."""
    codes = np.array(["01", "02", "10", "NA"] * 25, dtype=object)
    data = pd.DataFrame({"b": np.arange(100.0), "code": codes})
    encode = ColumnTransformer([("code", OneHotEncoder(), ["code"])], remainder="passthrough")
    target = np.where(codes == "01", "yes", "no")
    pipeline = make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(data, target)
    joblib.dump(pipeline, tmp_path / "model.joblib")
    data.to_csv(tmp_path / "rows.csv", index=False)
    done = run_in(tmp_path, "pack", "model.joblib", "--sample", "rows.csv", "--name", "shop")
    manifest = open_bundle(FolderStore(tmp_path / "models" / "shop")).manifest
    [code] = [feature for feature in manifest.features if feature.name == "code"]

    assert done.returncode == 0, done.stderr
    assert (code.kind, code.categories, code.nullable) == (
        "category",
        ["01", "02", "10", "NA"],
        False,
    )


def test_modules_that_a_pickle_needs_are_named(tmp_path: Path) -> None:
    """If the pickle needs the user's own module, the trainer says that the server needs it too."""
    double = "make_pipeline(FunctionTransformer(doubled), LinearRegression())"
    name = project(tmp_path, "target = data['a'] + 20 * data['b']", double)
    with (tmp_path / "shop.py").open("a") as file:
        file.write("from sklearn.pipeline import make_pipeline\n")
        file.write("from sklearn.preprocessing import FunctionTransformer\n")
        file.write("def doubled(rows):\n    return rows * 2\n")
    done = run_in(tmp_path, "train", "--project", name)

    assert done.returncode == 0, done.stderr
    assert "the module shop" in " ".join(done.stdout.split())


def test_check_rejects_a_changed_bundle(tmp_path: Path) -> None:
    """`check` finds one wrong byte."""
    assert run_in(tmp_path, "train", "--project", project(tmp_path)).returncode == 0
    [graph] = (tmp_path / "models" / "shop").glob("*/model.onnx")
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")

    assert_refused(run_in(tmp_path, "check", "models/shop"), "model.onnx", "sha256")


def test_an_interrupt_leaves_no_partial_bundle(tmp_path: Path) -> None:
    """Ctrl-C gives exit status 130 and one line, and nothing is written."""
    change = "data = pd.concat([data] * 500); target = np.tile(target, 500)"
    model = "__import__('sklearn.ensemble').ensemble.RandomForestClassifier(2000)"
    name = project(tmp_path, change, model)
    path = os.pathsep.join([str(ROOT), str(ROOT / "layer" / "python")])
    # In the background tests ignore Ctrl-C, and so do the processes that they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "training", "train", "--project", name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    for line in process.stdout:
        if "cross-validating" in line:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "training: interrupted; nothing was written."
    assert not (tmp_path / "models").exists()

"""The errors of `pack` and `train`: one sentence, status 2, no traceback."""

from __future__ import annotations

import gzip
import importlib
import io
import itertools
import resource
import shutil
import signal
import sys
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tests.helpers.command import Run

DATA = pd.DataFrame({"a": np.arange(300.0) * 7 % 101, "b": np.arange(300.0) % 7})
TARGET = np.where(DATA["a"] + 9 * DATA["b"] > 80, "even", "odd")
CSV = DATA.assign(answer=TARGET).to_csv(index=False).encode()
FITTED = make_pipeline(StandardScaler(), LogisticRegression()).fit(DATA, TARGET)

_numbers = itertools.count()


@pytest.fixture
def pack(run: Run) -> Run:
    """Give a function that packs a model's bytes with a sample's bytes."""

    def pack(model: bytes, sample: bytes = CSV, *, name: str = "rows.csv") -> Any:
        Path("model.joblib").write_bytes(model)
        Path(name).write_bytes(sample)
        return run("pack", "model.joblib", "--sample", name, "--target", "answer", "--name", "x")

    return pack


def dumped(model: object) -> bytes:
    """Pickle a model as joblib does."""
    file = io.BytesIO()
    joblib.dump(model, file)
    return file.getvalue()


def assert_refused(found: tuple[int, list[str]], *words: str) -> None:
    """Check for status 2, and a last line that contains the words."""
    status, lines = found
    assert status == 2, lines
    assert lines[-1].startswith("training: ")
    assert all(word in lines[-1] for word in words), lines[-1]
    assert "unexpected" not in lines[-1]


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ZIP = io.BytesIO()
with zipfile.ZipFile(ZIP, "w") as _archive:
    _archive.writestr("model.joblib", "x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["model.joblib is empty"]),
        (LFS, ["a Git LFS pointer", "git lfs pull"]),
        (ZIP.getvalue(), ["a zip archive", "unpack it"]),
        (b"<!DOCTYPE html><html>", ["a web page"]),
        (b"PAR1....", ["a Parquet file"]),
        (b"hello, world", ["it is not a pickle, or it is damaged"]),
        (CSV, ["it is not a pickle, or it is damaged"]),
        (dumped(DATA), ["holds DataFrame, not a scikit-learn pipeline", "joblib.dump(pipeline"]),
        (dumped([FITTED]), ["holds list, not a"]),
        (dumped(FITTED)[:-200], ["it is cut off"]),
        (dumped(FITTED)[:40], ["it is cut off"]),
    ],
    ids=[
        "empty",
        "lfs",
        "zip",
        "html",
        "parquet",
        "rubbish",
        "csv",
        "table",
        "list",
        "cut",
        "cut early",
    ],
)
def test_a_file_that_is_not_a_pickle_is_named(pack: Run, content: bytes, words: list[str]) -> None:
    """The error says what was found, and what to do."""
    assert_refused(pack(content), "model.joblib", *words)


def test_parts_in_a_dictionary_get_the_lines_to_join_them(pack: Run) -> None:
    """For a model beside its scaler the error has five lines of Python to paste."""
    status, lines = pack(dumped({"model": FITTED, "scaler": 1}))
    [said] = [line for line in lines if "holds a dict with the keys model, scaler" in line]
    after = lines[lines.index(said) + 1 :]

    assert status == 2
    assert said.startswith("training: ")
    assert len(after) == 5
    assert any("make_pipeline(" in line for line in after)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["rows.csv is empty"]),
        (LFS, ["a Git LFS pointer", "git lfs pull"]),
        (ZIP.getvalue(), ["a zip archive (or an Excel workbook"]),
        (gzip.compress(CSV), ["compressed with gzip", "rows.csv.gz"]),
        (CSV.replace(b",", b"\t"), ["tabs between its columns", r"sep='\t'"]),
        (CSV.replace(b",", b";").replace(b".", b","), ["semicolons", "sep=';'"]),
        (CSV.replace(b",", b", "), ["blanks after its commas", "skipinitialspace=True"]),
        (CSV + "1.0,2.0,café\n".encode("latin-1"), ["line 302", "0xe9", "'é'", "cp1252"]),
        (CSV.decode().encode("utf-16"), ["in UTF-16", "encoding='utf-16'"]),
        (CSV.decode().encode("utf-16-le"), ["in UTF-16", "encoding='utf-16'"]),
        (CSV[:-9], ["cut off", "3 columns"]),
        (CSV.replace(b"7", b"\0", 3), ["holds zero bytes"]),
        (b"PAR1....", ["a Parquet file"]),
        (CSV + b"1,2,odd,5\n", ["Expected 3 fields in line 302, saw 4"]),
        (b"a,b\n1,2,odd\n", ["a row has more cells than the header"]),
        (CSV + b'1,"2,odd\n', ["cannot be read as CSV"]),
        (b"\n\n", ["cannot be read as CSV"]),
    ],
    ids=[
        *("empty", "lfs", "zip", "gzip", "tabs", "semicolons", "blanks", "latin-1"),
        *(
            "utf-16",
            "utf-16 without a mark",
            "cut",
            "zeros",
            "parquet",
            "long row",
            "short header",
            "quote",
            "blank",
        ),
    ],
)
def test_a_file_that_is_not_csv_is_named(pack: Run, content: bytes, words: list[str]) -> None:
    """The error says what was found, and has the line of Python that repairs it."""
    assert_refused(pack(dumped(FITTED), content), "rows.csv", *words)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\xef\xbb\xbf" + CSV, "rows.csv"),
        (gzip.compress(CSV), "rows.csv.gz"),
        (CSV.rstrip(b"\n"), "rows.csv"),
        (CSV.replace(b"\n", b"\r\n"), "rows.csv"),
        (CSV.replace(b"\n", b"\r"), "rows.csv"),
        (DATA.assign(note="a; b", answer=TARGET).to_csv(index=False).encode(), "rows.csv"),
    ],
    ids=[
        "with a mark",
        "gzip",
        "without a last newline",
        "Windows",
        "old Mac",
        "semicolons in text",
    ],
)
def test_a_valid_csv_is_accepted(pack: Run, content: bytes, name: str) -> None:
    """A CSV may be compressed, have a byte order mark, or lack the last newline."""
    status, lines = pack(dumped(FITTED), content, name=name)

    assert status == 0, lines


@pytest.mark.parametrize("classes", [("True", "False"), ("1", "0"), ("NA", "null")])
def test_text_classes_are_read_as_text(pack: Run, classes: tuple[str, str]) -> None:
    """Text classes stay text, even if they look like numbers, booleans or missing values."""
    target = np.where(TARGET == "even", *classes)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(DATA, target)
    status, said = pack(dumped(model), DATA.assign(answer=target).to_csv(index=False).encode())

    assert status == 0, said


@pytest.mark.parametrize(
    ("classes", "answers", "words"),
    [
        ((1, 0), ("yes", "no"), ["'no'", "the model's classes are 0, 1"]),
        ((1, 0), ("1", "x"), ["'x'", "the model's classes are 0, 1"]),
        (("yes", "no"), (1, 0), ["'0'", "the model's classes are 'no', 'yes'"]),
        (("yes", "no"), ("yes", ""), ["is missing in 1", "leave those rows out"]),
    ],
)
def test_a_target_of_another_type_is_one_sentence(
    pack: Run, classes: Any, answers: Any, words: list[str]
) -> None:
    """The error names the column of the file, and the classes of the model."""
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(DATA, np.where(TARGET == "even", *classes))
    rows = DATA.assign(answer=np.where(TARGET == "even", *answers))

    found = pack(dumped(model), rows.to_csv(index=False).encode())
    assert_refused(found, "the column answer of rows.csv", *words)
    assert "ValueError" not in found[1][-1]


def test_a_class_of_a_notebook_is_named(pack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class's module is __main__, which is another module here; the error says what to do."""
    notebook = types.ModuleType("__main__")
    ratio = type("Ratio", (StandardScaler,), {"__module__": "__main__"})
    notebook.Ratio = ratio  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "__main__", notebook)
        model = dumped(make_pipeline(ratio(), LogisticRegression()).fit(DATA, TARGET))
    assert_refused(
        pack(model),
        "it needs Ratio",
        "a notebook",
        "move it to a module that the server can import",
    )


def test_a_missing_module_is_named(pack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing module is named, and so is one whose version lacks what the pickle needs."""
    shop = types.ModuleType("shop_steps")
    shop.Doubled = type("Doubled", (StandardScaler,), {"__module__": "shop_steps"})  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "shop_steps", shop)
        model = dumped(make_pipeline(shop.Doubled(), LogisticRegression()).fit(DATA, TARGET))
    assert_refused(pack(model), "it needs the module shop_steps, which is not installed here")
    monkeypatch.setitem(sys.modules, "shop_steps", types.ModuleType("shop_steps"))
    assert_refused(pack(model), "it needs Doubled of the module shop_steps")


def test_a_pickle_by_value_is_rejected(pack: Run) -> None:
    """cloudpickle, which MLflow uses, stores a lambda or a class of __main__ by value."""
    model = make_pipeline(FunctionTransformer(lambda rows: rows * 2), LogisticRegression())
    assert_refused(
        pack(cloudpickle.dumps(model.fit(DATA, TARGET))),
        "the step functiontransformer (FunctionTransformer) cannot be pickled: it holds a lambda.",
        "a module that the server can import",
    )


def test_another_scikit_learn_is_recorded(
    pack: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The manifest has the pickle's version of scikit-learn, and one warning explains it."""
    with monkeypatch.context() as patched:
        patched.setattr(sklearn.base, "__version__", "1.5.2")
        model = dumped(FITTED)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, lines = pack(model)
    assert status == 0, lines
    [line] = [line for line in lines if "1.5.2" in line]
    assert f"was fitted with scikit-learn 1.5.2, and this is {sklearn.__version__}" in line
    manifest = open_bundle(FolderStore(tmp_path / "models" / "x")).manifest
    assert manifest.lineage.fitted_with == "1.5.2"
    assert manifest.lineage.versions["scikit-learn"] == sklearn.__version__
    shutil.rmtree("models")
    assert pack(dumped(FITTED))[0] == 0
    assert open_bundle(FolderStore(tmp_path / "models" / "x")).manifest.lineage.fitted_with is None


PROJECT = """
import warnings
import numpy as np, pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
def load_data():
    data = pd.DataFrame({"a": np.arange(300.0) * 7 % 101, "b": np.arange(300.0) % 7})
    return data, np.where(data["a"] + 9 * data["b"] > 80, "even", "odd")
class Odd(ClassifierMixin, BaseEstimator):
    def fit(self, data, target):
        self.classes_ = np.unique(target)
        return self
    def predict(self, data):
        return np.repeat(self.classes_[:1], len(data))
"""
LOCAL = """
def build_pipeline():
    def double(data):
        return data * 2
    return make_pipeline(FunctionTransformer(double), Odd())
"""
TEXTS = """
numbers = load_data
def load_data():
    data, target = numbers()
    return data.assign(a="x"), target
build_pipeline = LogisticRegression
"""


@pytest.fixture
def train(run: Run) -> Run:
    """Give a function that trains a project with these lines in it."""

    def train(lines: str, *arguments: str) -> Any:
        name = f"messages_{next(_numbers)}"
        Path(f"{name}.py").write_text(PROJECT + lines)
        return run("train", "--project", name, *arguments)

    return train


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "    def __init__(self, *words): ...\nbuild_pipeline = Odd",
            ["cannot be", "Odd"],
        ),
        (
            "    def predict(self, data): raise OSError('no licence')\nbuild_pipeline = Odd",
            ["cannot be", "OSError: no licence"],
        ),
        (
            "    def fit(self, data, target): raise SystemExit(7)\nbuild_pipeline = Odd",
            ["cannot be fitted", "SystemExit"],
        ),
        (
            "    def fit(self, data, target): return self\nbuild_pipeline = Odd",
            ["cannot be"],
        ),
        (
            "    def predict(self, data): return 'odd'\nbuild_pipeline = Odd",
            ["cannot be"],
        ),
        (
            "    def get_params(self, deep=True): raise KeyError('x')\nbuild_pipeline = Odd",
            ["cannot be", "KeyError"],
        ),
        (
            "    def __getstate__(self): raise TypeError('a lock')\nbuild_pipeline = Odd",
            ["cannot be pickled", "a lock"],
        ),
        (
            "build_pipeline = lambda: make_pipeline(FunctionTransformer(lambda d: d), Odd())",
            ["the step functiontransformer (FunctionTransformer)", "it holds a lambda"],
        ),
        (
            LOCAL,
            ["FunctionTransformer", "double is defined within build_pipeline()"],
        ),
        (
            TEXTS,
            ["could not convert string to float", "with a OneHotEncoder"],
        ),
        ("def build_pipeline(): exit()", ["build_pipeline() failed", "SystemExit"]),
        ("exit()", ["cannot be imported", "SystemExit"]),
    ],
)
def test_an_estimator_that_raises_is_one_sentence(
    train: Run, lines: str, words: list[str], tmp_path: Path
) -> None:
    """Any exception gives one sentence, also one that cannot be copied or pickled."""
    assert_refused(train(lines), *words)
    assert not (tmp_path / "models").exists()


def test_classes_of_two_kinds_are_one_sentence(train: Run) -> None:
    """The error names both types."""
    lines = """
data_alone = load_data
def load_data():
    data, target = data_alone()
    mixed = pd.Series(target, dtype=object)
    mixed[:20] = 1
    return data, mixed
def build_pipeline():
    return LogisticRegression()
"""
    found = train(lines)
    assert_refused(found, "the target holds int and str; classes are of one kind only.")


def test_warnings_take_one_line(train: Run) -> None:
    """Each warning is printed once, without the source line that Python adds."""
    lines = "def build_pipeline():\n    return LogisticRegression(max_iter=1)"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, said = train(lines)

    assert status == 0, said
    found = [line for line in said if "ConvergenceWarning" in line]
    assert len(found) == 1
    assert found[0].startswith("training: ConvergenceWarning: lbfgs failed to converge")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_project_may_be_named_by_its_file(
    run: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, elsewhere: bool
) -> None:
    """A file in this folder is a module of it; any other is a module of its own folder."""
    folder = tmp_path_factory.mktemp("elsewhere") if elsewhere else tmp_path / "jobs"
    folder.mkdir(exist_ok=True)
    name = f"churn_{next(_numbers)}"
    file = folder / f"{name}.py"
    file.write_text(PROJECT + "def build_pipeline(): return LogisticRegression()")
    status, lines = run("train", "--project", str(file if elsewhere else f"jobs/{name}.py"))

    assert status == 0, lines
    assert (tmp_path / "models" / name / "latest").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--name", "a/b"), "'a/b' is not a model name"),
        (("--name", ""), "'' is not a model name"),
        (("--name", "x", "--target", "answer", "--target", "answer"), "answer is given twice"),
        (("--name", "x", "--target", "nope"), "no column nope; it has a, b, answer"),
        (("--name", "x", "--models", "rows.csv"), "rows.csv/x cannot be written: Not a directory"),
    ],
)
def test_options_of_pack_that_are_wrong(run: Run, options: tuple[str, ...], words: str) -> None:
    """One sentence, and no bundle."""
    joblib.dump(FITTED, "model.joblib")
    Path("rows.csv").write_bytes(CSV)
    assert_refused(run("pack", "model.joblib", "--sample", "rows.csv", *options), words)
    assert not Path("models").exists()


def test_a_folder_is_no_address(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Uploading is for `publish`."""
    with pytest.raises(SystemExit) as exited:
        run("pack", "m", "--sample", "r", "--name", "x", "--models", "s3://bucket/models")

    assert exited.value.code == 2
    assert "use train --to or publish --to" in capsys.readouterr().err


def test_a_wrong_project_file_is_named(run: Run, tmp_path: Path) -> None:
    """The file is missing, or its name is not a valid module name."""
    assert_refused(run("train", "--project", "jobs/none.py"), "jobs/none.py is not there")
    (tmp_path / "my-model.py").write_text(PROJECT)
    assert_refused(run("train", "--project", "my-model.py"), "my-model.py", "letters, digits")
    assert_refused(run("train", "--project", "jobs/none"), "jobs/none.py is not there")


def test_an_internal_error_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sentence says what was raised, and where."""
    monkeypatch.setattr("training.registry.versions.read_versions", lambda _: 1 / 0)
    status, lines = run("list", "--store", str(tmp_path))

    assert status == 2
    assert lines[-1].startswith("training: unexpected ZeroDivisionError: division by zero (")


def test_pack_ends_with_the_command_that_serves(pack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is complete; a model over MAX_MODEL_BYTES gets a warning with the limit."""
    status, lines = pack(dumped(FITTED))
    assert status == 0, lines
    assert lines[lines.index("Serve it:") + 1] == "  MODEL_URI=models/x make run"
    assert not any(line.startswith("Warning:") for line in lines)

    shutil.rmtree("models")  # two models made in one second would have the same version
    monkeypatch.setenv("MAX_MODEL_BYTES", "100")
    status, lines = pack(dumped(FITTED))
    size = open_bundle(FolderStore("models/x")).manifest.files["model.onnx"].size
    assert status == 0, lines
    command = lines.index("Serve it:") + 1
    assert f"model.onnx has {size} bytes, over MAX_MODEL_BYTES, which is 100." in lines[command - 2]
    assert lines[command] == f"  MAX_MODEL_BYTES={size} MODEL_URI=models/x make run"


@pytest.mark.parametrize(
    ("folder", "words"),
    [(".", "which is in this folder"), ("elsewhere", "lacks the module plainly")],
)
def test_pack_names_modules_that_a_server_needs(
    pack: Run, folder: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A pickle with the user's own function imports its module."""
    Path("folder").mkdir()
    home = tmp_path / "folder" if folder == "." else tmp_path / folder
    home.mkdir(exist_ok=True)
    (home / "plainly.py").write_text("def halved(rows):\n    return rows.to_numpy() // 2\n")
    monkeypatch.chdir(tmp_path / "folder")
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.delitem(sys.modules, "plainly", raising=False)
    step = FunctionTransformer(importlib.import_module("plainly").halved)
    model = make_pipeline(step, LogisticRegression()).fit(DATA, TARGET)
    status, lines = pack(dumped(model))
    monkeypatch.delitem(sys.modules, "plainly")

    assert status == 0, lines
    [warning] = [line for line in lines if line.startswith("Warning:")]
    assert "the module plainly" in warning
    assert words in warning


def test_a_full_disk_leaves_no_half_bundle(run: Run) -> None:
    """One sentence says which file could not be written."""
    joblib.dump(FITTED, "model.joblib")
    Path("rows.csv").write_bytes(CSV)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        found = run("pack", "model.joblib", "--sample", "rows.csv", "--name", "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert_refused(found, "model.joblib: file too large")
    assert not list(Path("models").rglob("*.*"))


def test_an_interrupt_of_pack_leaves_no_half_bundle(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 130, and one line says that nothing was written."""

    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    joblib.dump(FITTED, "model.joblib")
    Path("rows.csv").write_bytes(CSV)
    monkeypatch.setattr("os.fsync", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status, lines = run("pack", "model.joblib", "--sample", "rows.csv", "--name", "x")
    finally:
        signal.signal(signal.SIGINT, before)

    assert status == 130
    assert lines[-1] == "training: interrupted; nothing was written."
    assert not list(Path("models").rglob("*.*"))


def test_pack_names_several_outputs_by_their_targets(run: Run) -> None:
    """Outputs have the given names, each with its own figures; a wrong number is one sentence."""
    target = pd.DataFrame({0: DATA["a"] + 2 * DATA["b"], 1: DATA["b"]})
    joblib.dump(make_pipeline(StandardScaler(), LinearRegression()).fit(DATA, target), "m.joblib")
    DATA.assign(debt=target[0], age=target[1], more=1).to_csv("rows.csv", index=False)
    command = ["pack", "m.joblib", "--sample", "rows.csv", "--name", "x"]
    two = ["--target", "debt", "--target", "age"]
    status, lines = run(*command, *two, "--promote")
    assert status == 0, lines
    assert any(line.startswith("Warning: age: column 'b' alone predicts") for line in lines)
    manifest = open_bundle(FolderStore("models/x")).manifest

    assert [output.name for output in manifest.outputs] == ["debt", "age"]
    assert manifest.metrics["sample"]["rmse of age"] < 1e-9
    assert_refused(run(*command, *two, "--target", "more"), "predicts 2 at once", "3 columns")

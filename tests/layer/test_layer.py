"""The AWS layer: its content, repeatable builds, and functions that need nothing else."""

from __future__ import annotations

import json
import marshal
import os
import shutil
import struct
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import findpython
import pathspec
import pytest
from packaging.utils import canonicalize_name
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore

from layer import build as layer_build
from layer.build import BUDGETS, HOME, compile_layer
from layer.shared_objects import check_shared_objects
from layer.wheels import BuildError, Target, install, read_pins
from tests.helpers.aws.layers import ARCH, LAMBDA, NATIVE, NATIVE_SKLEARN, build, unzipped, zipped
from tests.helpers.example import FIRST_ANSWER
from tests.helpers.servers import ROOT

TARGETS = {"-".join(target): target for target in (NATIVE, LAMBDA, NATIVE_SKLEARN)}
#: `make test` builds the layer of this machine only.
EVERY_TARGET = pytest.mark.parametrize(
    "target",
    [
        pytest.param(target, id=name, marks=[] if target == NATIVE else pytest.mark.slow)
        for name, target in TARGETS.items()
    ],
)
PINS = read_pins()
ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00"
X86_64, AARCH64 = struct.pack("<H", 62), struct.pack("<H", 183)

#: Answers the model's own example, and prints what Python had to compile for it.
COLD_START = f"""
import sys
compiled = []
def hook(event, arguments):
    if event == "compile":
        name = arguments[1]
        compiled.append(name.decode() if isinstance(name, bytes) else str(name))
sys.addaudithook(hook)
{FIRST_ANSWER}
modules = {{name: getattr(m, "__file__", None) or "" for name, m in list(sys.modules.items())}}
json.dump([status, json.loads(body), compiled, modules], sys.stdout)
"""


def cold_start(
    python: str | Path, folder: Path | str, model: Path, **environment: str
) -> list[Any]:
    """Predict in a process that has *folder* on its path, and no site-packages."""
    path = {"PYTHONPATH": str(folder), "MODEL_URI": str(model), "LOG_LEVEL": "error"}
    run = subprocess.run(
        [python, "-S", "-P", "-c", COLD_START],
        cwd=ROOT,
        env={**path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: list[Any] = json.loads(run.stdout)
    return found


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every file's size and date."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(f): (f.stat().st_size, f.stat().st_mtime_ns) for f in files}


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model that runs on scikit-learn, because one of its steps has no converter."""
    folder = tmp_path_factory.mktemp("pickled")
    (folder / "shop.py").write_text("""
import numpy as np, pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, QuantileTransformer
def load_data():
    n = np.arange(200)
    data = pd.DataFrame({"a": n * 1.5, "b": n % 7, "c": np.where(n % 3, "red", "blue")})
    return data, np.where((n % 7 > 3) ^ (n % 3 > 0), "yes", "no")
def build_pipeline():
    columns = make_column_transformer(
        (FunctionTransformer(np.sinc), ["a"]),
        (QuantileTransformer(n_quantiles=9), ["b"]),
        (OneHotEncoder(sparse_output=False), ["c"]),
    )
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5))
""")
    command = [sys.executable, "-m", "training", "train", "--project", "shop"]
    path = os.pathsep.join([str(ROOT), str(folder)])
    subprocess.run(
        [*command, "--models", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    assert open_bundle(FolderStore(folder / "shop")).manifest.engine.name == "sklearn"
    return folder / "shop"


@EVERY_TARGET
def test_a_layer_fits_its_budget(target: Target) -> None:
    """The unzipped layer, which AWS limits, fits its budget."""
    assert sum(size for size, _ in contents(unzipped(target)).values()) <= BUDGETS[target.engine]


@pytest.mark.slow
@EVERY_TARGET
def test_the_same_inputs_make_the_same_zip(target: Target, tmp_path: Path) -> None:
    """The zip is the same byte for byte, whatever the temporary folders are called."""
    again = tmp_path / "again.zip"
    build(target, again)

    assert again.read_bytes() == zipped(target).read_bytes()


@EVERY_TARGET
def test_every_shared_object_is_for_the_target(target: Target) -> None:
    """There are shared objects, and each is for the target machine."""
    assert check_shared_objects(unzipped(target), target) > 10


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("numpy/_core/_x.cpython-313-x86_64-linux-gnu.so", ELF + AARCH64, "is for aarch64"),
        ("numpy/_core/_x.cpython-312-x86_64-linux-gnu.so", ELF + X86_64, "cpython-312"),
        ("numpy/_core/_x.cpython-313t-x86_64-linux-gnu.so", ELF + X86_64, "cpython-313t"),
        ("numpy/_core/_x.cpython-313-x86_64-linux-musl.so", ELF + X86_64, "linux-musl"),
        ("numpy.libs/libx.so.1.2", ELF + AARCH64, "is for aarch64"),
        ("numpy.libs/libx.so", b"a text that points elsewhere", "not 64-bit Linux"),
        (
            "obstore/_x.abi3.so",
            ELF.replace(b"\x02\x01\x01", b"\x01\x01\x01") + X86_64,
            "not 64-bit",
        ),
        ("tool/runner", ELF + AARCH64, "is for aarch64"),
    ],
)
def test_a_shared_object_for_another_target_is_rejected(
    name: str, content: bytes, fault: str, tmp_path: Path
) -> None:
    """The error names the file of another machine or another Python."""
    good = tmp_path / "obstore" / "_y.abi3.so"
    good.parent.mkdir()
    good.write_bytes(ELF + X86_64)
    assert check_shared_objects(tmp_path, Target("x86_64", "3.13", "onnx")) == 1
    bad = tmp_path / name
    bad.parent.mkdir(parents=True, exist_ok=True)
    bad.write_bytes(content)

    with pytest.raises(BuildError, match=fault) as refused:
        check_shared_objects(tmp_path, Target("x86_64", "3.13", "onnx"))
    assert str(refused.value).startswith(name)


def test_a_cold_start_compiles_nothing(credit: Path) -> None:
    """All bytecode is used although the dates differ, and nothing is written."""
    before = contents(unzipped(NATIVE))
    layer = str(unzipped(NATIVE))
    status, answer, compiled, modules = cold_start(sys.executable, layer, credit)

    assert (status, answer.keys()) == (200, {"prediction", "model"})
    assert not [name for name in compiled if name.startswith((layer, HOME))]
    assert len([file for file in modules.values() if file.startswith(layer)]) > 100
    assert contents(unzipped(NATIVE)) == before


LAMBDA_START = """
import json, sys
from serving.adapters.aws import handler
from serving.loader import load_model
event = {"version": "2.0", "rawPath": "/", "headers": {"content-type": "application/json"}}
event["requestContext"] = {"http": {"method": "POST", "path": "/"}, "stage": "$default"}
event["body"] = json.dumps(load_model().manifest.example.instance)
assert handler(event)["statusCode"] == 200
print(*sys.modules)
"""


def test_a_cold_start_imports_little_of_the_standard_library(credit: Path) -> None:
    """These modules take milliseconds each, and a prediction needs none of them."""
    run = subprocess.run(
        [sys.executable, "-S", "-P", "-c", LAMBDA_START],
        cwd=ROOT,
        env={
            "PYTHONPATH": str(unzipped(NATIVE)),
            "MODEL_URI": str(credit),
            "FUNCTION_TARGET": "predict",
            "AUTH": "none",
            "LOG_LEVEL": "error",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(run.stdout.split())

    assert {"hashlib", "msgspec", "numpy", "serving.loader", "serving.model.engines.onnx"} <= loaded
    assert not loaded & {"http", "logging", "pathlib", "shutil", "urllib.parse"}
    assert not loaded & {"asyncio", "base64", "concurrent", "random", "socket", "tempfile"}


def test_the_hook_detects_what_is_compiled(credit: Path, tmp_path: Path) -> None:
    """Sources without bytecode are detected, so the test above can fail."""
    sources = shutil.ignore_patterns("__pycache__")
    shutil.copytree(unzipped(NATIVE) / "serving", tmp_path / "serving", ignore=sources)
    path = os.pathsep.join(map(str, [tmp_path, unzipped(NATIVE)]))

    compiled = cold_start(sys.executable, path, credit)[2]
    assert str(tmp_path / "serving" / "loader.py") in compiled


@pytest.mark.slow
def test_a_layer_for_another_python_runs_on_it(credit: Path) -> None:
    """Lambda's Python runs the bytecode without compiling it again."""
    python = findpython.find(LAMBDA.python, implementation="cpython")
    if python is None:
        pytest.skip(f"no Python {LAMBDA.python} on this machine to run the layer with")
    layer = unzipped(LAMBDA._replace(arch=ARCH))
    status, answer, compiled, _ = cold_start(python.executable, layer, credit)

    expected = cold_start(sys.executable, unzipped(NATIVE), credit)[1]
    assert (status, answer) == (200, expected)
    assert not [name for name in compiled if name.startswith((str(layer), HOME))]


@pytest.mark.slow
def test_the_sklearn_layer_gives_the_same_answers(pickled: Path) -> None:
    """A pickled pipeline of text, numbers and trees runs on the trimmed scikit-learn."""
    allow = {"ALLOW_PICKLE": "1"}
    layer = unzipped(NATIVE_SKLEARN)
    status, answer, compiled, modules = cold_start(sys.executable, layer, pickled, **allow)

    expected = cold_start(sys.executable, os.pathsep.join(sys.path), pickled, **allow)[1]
    assert (status, answer) == (200, expected)
    assert not [name for name in compiled if name.startswith((str(layer), HOME))]
    assert "sklearn" in modules


@pytest.mark.slow
def test_the_sklearn_layer_has_every_estimator() -> None:
    """Every estimator and transformer can be imported from the trimmed layer."""
    script = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from sklearn.utils.discovery import all_estimators\n"
        "print(*[name for name, _ in all_estimators()])"
    )
    path = {"PYTHONPATH": str(unzipped(NATIVE_SKLEARN))}
    commands = [
        ([sys.executable, "-S", "-P", "-c", script], path),
        ([sys.executable, "-c", script], {}),
    ]
    ours, all_there_are = (
        subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
        for command, env in commands
    )

    assert ours == all_there_are
    assert len(ours.split()) > 200


@EVERY_TARGET
def test_metadata_lists_the_pinned_versions(target: Target) -> None:
    """importlib.metadata finds the pinned versions, and lists no deleted file."""
    everything = distributions(path=[str(unzipped(target))])
    found = {canonicalize_name(d.name): d for d in everything}

    engine = {"onnx": {"onnxruntime"}, "sklearn": {"scikit-learn", "joblib", "pandas"}}
    required = {"cryptography", "msgspec", "numpy", "obstore", "pyjwt"} | engine[target.engine]
    assert required <= found.keys()
    for name, distribution in found.items():
        assert PINS[name].endswith(f"=={distribution.version}")
        assert distribution.files is None


@EVERY_TARGET
def test_the_layer_has_our_sources_and_no_web_framework(target: Target) -> None:
    """The layer has serving's sources, for tracebacks, and no web framework."""
    folder = unzipped(target)
    adapters = {path.name for path in (folder / "serving" / "adapters").glob("*.py")}

    assert (folder / "serving" / "endpoint.py").exists()
    assert adapters == {
        "__init__.py",
        *(f"aws{part}.py" for part in ("", "_events", "_metrics", "_request")),
    }
    assert not [name for name in ("flask", "werkzeug", "gunicorn") if (folder / name).exists()]


@pytest.mark.slow
def test_every_trim_pattern_matches_a_file(tmp_path: Path) -> None:
    """A pattern that matches no file is dead, or no longer works."""
    trim = tomllib.loads((ROOT / "layer" / "trim.toml").read_text("utf-8"))
    shutil.copytree(ROOT / "layer" / "python" / "serving", tmp_path / "serving")
    (tmp_path / "serving" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "serving" / "__pycache__" / "x.pyc").touch()
    for target in (NATIVE, NATIVE_SKLEARN):
        install(target, PINS, tmp_path / target.engine)
    files = [
        path.relative_to(folder)
        for folder in (tmp_path, tmp_path / "onnx", tmp_path / "sklearn")
        for path in folder.rglob("*")
        if path.is_file()
    ]
    dead = [
        pattern
        for pattern in [*trim["files"], *trim["onnx"], *trim["sklearn"]]
        if not any(pathspec.GitIgnoreSpec.from_lines([pattern]).match_files(files))
    ]

    # Only the wheels for Python 3.11 contain these.
    old = {"/numpy/distutils/", "/typing_extensions*"} if sys.version_info >= (3, 12) else set()
    assert not set(dead) - old


def test_the_trimmed_numpy_works() -> None:
    """NumPy works without docstrings, and modules that it imports on use are there."""
    script = """
import numpy as np
import numpy.typing as npt
assert npt.NDArray[np.float32].__origin__ is np.ndarray
assert np.linalg.eigh(np.eye(2)).eigenvalues.tolist() == [1, 1]
assert np.linalg.svd(np.eye(2)).S.tolist() == [1, 1]
assert np.unique([2, 1, 2]).tolist() == [1, 2]
assert np.ma.masked_invalid([1, np.nan, 3]).mean() == 2
assert np.ma.arange(3).sum() == 3
assert np.nanmedian([[1, np.nan], [3, 5]]) == 3
"""
    command = [sys.executable, "-S", "-P", "-W", "error", "-c", script]
    for target in (NATIVE, NATIVE_SKLEARN):
        path = {"PYTHONPATH": str(unzipped(target))}
        run = subprocess.run(command, env=path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr


def test_a_layer_over_its_budget_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is printed, one sentence names the problem, and no file is left."""
    monkeypatch.setitem(layer_build.BUDGETS, "onnx", 1)
    output = tmp_path / "layer.zip"
    options = ["--arch", NATIVE.arch, "--python", NATIVE.python, "--output", str(output)]
    with pytest.raises(SystemExit, match=r"canoa: the onnx layer .* is [\d.]+ MiB .* over"):
        layer_build.main(options)

    assert "onnxruntime" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_an_unpinned_requirement_is_rejected(tmp_path: Path) -> None:
    """An unpinned requirement would make the layer differ from day to day."""
    pins = {name: pin for name, pin in PINS.items() if name != "threadpoolctl"}
    with pytest.raises(BuildError, match="pins threadpoolctl"):
        install(NATIVE_SKLEARN, pins, tmp_path)


def test_a_missing_wheel_is_named(tmp_path: Path) -> None:
    """The error has the installer's reason."""
    with pytest.raises(BuildError, match=r"numpy==1\.9\.0 has no usable wheels"):
        install(LAMBDA, {**PINS, "numpy": "numpy==1.9.0"}, tmp_path)


def test_a_missing_python_version_is_named(tmp_path: Path) -> None:
    """Neither this machine nor uv has an interpreter of that version."""
    with pytest.raises(BuildError, match=r"3\.99"):
        compile_layer(tmp_path, "3.99")


def test_only_serving_keeps_its_docstrings(
    tmp_path: Path,
) -> None:
    """Headers are PEP 552's unchecked hashes; both keep line numbers and the path on Lambda."""
    source = '''"""Module."""
def double(x):
    """Return it twice."""
    assert x, "no x"
    return 2 * x
'''
    for package in ("library", "serving"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "x.py").write_text(source)
    compile_layer(tmp_path, NATIVE.python)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py*")}
    cached = f"serving/__pycache__/x.{sys.implementation.cache_tag}.pyc"
    assert left == {"library/x.pyc", "serving/x.py", cached}

    for file, docstrings in (
        ("library/x.pyc", [None, None]),
        (cached, ["Module.", "Return it twice."]),
    ):
        content = (tmp_path / file).read_bytes()
        assert content[4:8] == b"\x01\0\0\0"
        names: dict[str, Any] = {}
        exec(marshal.loads(content[16:]), names)  # noqa: S102, S302
        double = names["double"]
        assert [names.get("__doc__"), double.__doc__] == docstrings
        assert double.__code__.co_filename == f"{HOME}/{file.split('/')[0]}/x.py"
        assert double.__code__.co_firstlineno == 2
    with pytest.raises(AssertionError, match="no x"):
        double(0)

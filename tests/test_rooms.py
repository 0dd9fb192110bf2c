"""Who may import whom, and how little a cold start loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.bundles import copied, new_signer, public_keys
from tests.helpers.servers import ROOT

#: What `serving` never imports at module level: an adapter or an engine may, its own one.
HEAVY = {
    *("sklearn", "scipy", "pandas", "joblib", "flask", "boto3", "werkzeug", "obstore"),
    *("jwt", "cryptography", "limits", "redis", "prometheus_client", "opentelemetry"),
}
OWN = {
    "access/jwks.py": {"jwt"},
    "access/rate_limit.py": {"limits"},
    "access/token_bucket.py": {"limits"},
    "access/tokens.py": {"jwt"},
    "adapters/flask.py": {"flask", "werkzeug"},
    "model/engines/sklearn.py": {"joblib", "pandas"},
    "stores/bucket.py": {"obstore"},
    "telemetry/metrics.py": {"prometheus_client"},
    "telemetry/opentelemetry.py": {"opentelemetry"},
}


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Return the first names of all that *path* imports, but for type checking."""
    tree = ast.parse(path.read_text("utf-8"))
    found: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("functions", {"training", "layer", "tests"}),
        ("layer/python/serving", {"training", "functions", "layer", "tests"}),
        ("training", {"functions", "layer", "tests"}),
    ],
)
def test_imports_go_one_way(folder: str, forbidden: set[str]) -> None:
    """Functions → serving ← training, and nothing else."""
    for path in (ROOT / folder).rglob("*.py"):
        assert not imports(path) & forbidden, path


def test_serving_imports_nothing_heavy_at_module_level() -> None:
    """Flask, pandas and scikit-learn are imported by the one file that is about them."""
    package = ROOT / "layer" / "python" / "serving"
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        assert imports(path, top_level=True) & HEAVY <= OWN.get(name, set()), name


def test_function_files_are_named_like_no_library() -> None:
    """functions-framework puts a function file into sys.modules under its bare name."""
    taken = set(sys.stdlib_module_names) | HEAVY | {"serving", "numpy", "onnxruntime", "msgspec"}

    assert not {path.stem for path in (ROOT / "functions").glob("*.py")} & taken


COLD = """
import json, sys
from serving.routes import load_functions
from serving.loader import load_model
[predict] = [f for f in load_functions("functions") if f.__name__ == "predict"]
class Request:
    method, path, headers, args = "POST", "/", {"Content-Type": "application/json"}, {}
    def get_data(self):
        return json.dumps(load_model().manifest.example.instance).encode()
body, status, headers = predict(Request())
assert status == 200, body
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def cold_modules(model: Path, **environment: str) -> set[str]:
    """Load predict from a folder and answer once; the modules that are loaded then."""
    path = {"MODEL_URI": str(model), "LOG_LEVEL": "error", "PYTHONPATH": "layer/python"}
    run = subprocess.run(
        [sys.executable, "-c", COLD],
        cwd=ROOT,
        env={**path, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_a_cold_predict_loads_few_modules(credit: Path) -> None:
    """The first answer from a folder imports none of the heavy libraries."""
    loaded = cold_modules(credit)

    assert {"msgspec", "numpy", "onnxruntime", "serving"} <= loaded
    assert not loaded & (HEAVY | {"functions_framework", "gunicorn", "requests", "pydantic"})
    assert not loaded & {"asyncio", "concurrent", "multiprocessing"}


def test_keys_load_what_verifies_them_and_no_more(credit: Path, tmp_path: Path) -> None:
    """A signed bundle costs the import of one library, to who asks for signatures only."""
    signer = new_signer()
    copied(credit, tmp_path / "credit", sign=signer)
    without, with_keys = (
        cold_modules(tmp_path / "credit", **keys) for keys in ({}, public_keys(signer))
    )

    assert "cryptography" not in without
    assert "cryptography" in with_keys
    assert not with_keys & (HEAVY - {"cryptography"})


def test_importing_serving_is_free() -> None:
    """`import serving` loads none of its own modules, nor reads a setting."""
    script = "import serving, sys; print(*[m for m in sys.modules if m.startswith('serving')])"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={"PORT": "rubbish", "PYTHONPATH": str(ROOT / "layer" / "python")},
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.split() == ["serving"]


def test_a_deferred_module_is_read_when_it_is_asked() -> None:
    """Who imports it meanwhile gets what is in it; afterwards it is a module as any other."""
    script = """
import sys
from serving.adapters.aws_imports import deferred
import colorsys as there
with deferred("colorsys", "fractions", "wave", "html", "ctypes", "nowhere", "calendar"):
    import calendar as held
    import fractions, html, nowhere
    import wave as early
    assert sys.modules["colorsys"] is there
    assert "decimal" not in sys.modules
    assert fractions.Fraction(1, 2) + fractions.Fraction(1, 3) == fractions.Fraction(5, 6)
    assert "decimal" in sys.modules
    from html.entities import html5
    import wave
    assert html5["amp"] == html.unescape("&amp;") == "&"
    assert early.open is wave.open and not hasattr(early, "nothing")
    assert sys.modules["wave"] is not early
    from ctypes import *
    import ctypes.util
    assert sizeof(c_int64) == 8 and ctypes.util.find_library
assert "calendar" not in sys.modules
assert [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]
import calendar, importlib.util
assert importlib.util.find_spec("calendar") and calendar.__doc__ and calendar is not held
calendar.EPOCH = 1969
assert held.EPOCH == 1969 and not hasattr(held, "nothing") and calendar.EPOCH == 1969
try:
    nowhere.x
except ModuleNotFoundError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PYTHONPATH": str(ROOT / "layer" / "python")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.stdout, run.stderr) == ("No module named 'nowhere'\n", "")


def modules(folder: Path) -> list[Path]:
    """List the modules of *folder* itself, but its `__init__.py`."""
    return [path for path in folder.glob("*.py") if path.name != "__init__.py"]


def test_no_test_module_imports_from_another() -> None:
    """What several files need lives in tests/helpers, twelve modules to a folder at most."""
    for path in (ROOT / "tests").glob("[!n]*/**/*.py"):  # not in tests/node
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = f"{node.module}.{'.'.join(alias.name for alias in node.names)}".split(".")
                assert not [n for n in names if n.startswith("test_") and names[0] == "tests"], path
    for folder in (ROOT / "tests" / "helpers", *(ROOT / "tests" / "helpers").rglob("*/")):
        assert len(modules(folder)) <= 12, folder


@pytest.mark.parametrize(
    ("tests", "rooms"), [("serving", "layer/python/serving"), ("training", "training")]
)
def test_the_tests_have_the_same_rooms(tests: str, rooms: str) -> None:
    """A folder of tests is named like the room that it tests."""
    for path in (ROOT / "tests" / tests).rglob("test_*.py"):
        room = path.parent.relative_to(ROOT / "tests" / tests)
        assert modules(ROOT / rooms / room), f"{path} tests no room of {rooms}"

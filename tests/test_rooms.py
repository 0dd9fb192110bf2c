"""The order of imports between rooms, and the modules that a cold start loads."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from serving import errors

from tests.helpers.bundles import copied, new_signer, public_keys
from tests.helpers.example import FIRST_ANSWER
from tests.helpers.servers import ROOT

#: `serving` never imports these at module level; an adapter or engine may import its own one.
HEAVY = {
    *("sklearn", "scipy", "pandas", "joblib", "flask", "boto3", "werkzeug", "obstore"),
    *("jwt", "cryptography", "limits", "redis", "prometheus_client", "opentelemetry"),
}
OWN = {
    "access/jwks.py": {"jwt"},
    "access/rate_limit.py": {"limits"},
    "access/tokens.py": {"jwt"},
    "adapters/flask.py": {"flask", "werkzeug"},
    "adapters/gunicorn_bridge.py": {"werkzeug"},
    "model/engines/sklearn.py": {"joblib", "pandas"},
    "stores/bucket.py": {"obstore"},
    "stores/bucket_errors.py": {"obstore"},
    "telemetry/metrics.py": {"prometheus_client"},
    "telemetry/opentelemetry.py": {"opentelemetry"},
}


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Return the top-level names that *path* imports, without those for type checking."""
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
    """`functions` and `training` import `serving`; no other import between them is allowed."""
    for path in (ROOT / folder).rglob("*.py"):
        assert not imports(path) & forbidden, path


def test_serving_imports_heavy_libraries_in_few_files() -> None:
    """A heavy library is imported at module level only by the file that OWN lists for it."""
    package = ROOT / "layer" / "python" / "serving"
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        assert imports(path, top_level=True) & HEAVY <= OWN.get(name, set()), name


def test_function_files_have_no_library_s_name() -> None:
    """functions-framework puts a function file into sys.modules under its bare name."""
    taken = set(sys.stdlib_module_names) | HEAVY | {"serving", "numpy", "onnxruntime", "msgspec"}

    assert not {path.stem for path in (ROOT / "functions").glob("*.py")} & taken


COLD = f"""{FIRST_ANSWER}
assert status == 200, body
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def cold_modules(model: Path, **environment: str) -> set[str]:
    """Load predict from a folder, answer once, and return the loaded modules."""
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
    """The first answer from a folder imports no heavy library."""
    loaded = cold_modules(credit)

    assert {"msgspec", "numpy", "onnxruntime", "serving"} <= loaded
    assert not loaded & (HEAVY | {"functions_framework", "gunicorn", "requests", "pydantic"})
    assert not loaded & {"asyncio", "concurrent", "multiprocessing"}


def test_public_keys_load_one_library(credit: Path, tmp_path: Path) -> None:
    """Only a server with MODEL_PUBLIC_KEYS imports the library that verifies signatures."""
    signer = new_signer()
    copied(credit, tmp_path / "credit", sign=signer)
    without, with_keys = (
        cold_modules(tmp_path / "credit", **keys) for keys in ({}, public_keys(signer))
    )

    assert "cryptography" not in without
    assert "cryptography" in with_keys
    assert not with_keys & (HEAVY - {"cryptography"})


def test_importing_serving_loads_nothing() -> None:
    """`import serving` loads none of its modules, and reads no setting."""
    script = "import serving, sys; print(*[m for m in sys.modules if m.startswith('serving')])"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={"PORT": "rubbish", "PYTHONPATH": str(ROOT / "layer" / "python")},
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.split() == ["serving"]


def modules(folder: Path) -> list[Path]:
    """List the modules of *folder* itself, without its `__init__.py`."""
    return [path for path in folder.glob("*.py") if path.name != "__init__.py"]


def test_no_test_module_imports_from_another() -> None:
    """Shared code is in tests/helpers, with at most twelve modules per folder."""
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
def test_the_tests_have_the_rooms_of_the_code(tests: str, rooms: str) -> None:
    """A folder of tests has the name of the room that it tests."""
    for path in (ROOT / "tests" / tests).rglob("test_*.py"):
        room = path.parent.relative_to(ROOT / "tests" / tests)
        assert modules(ROOT / rooms / room), f"{path} tests no room of {rooms}"


#: The allowed imports: a room may import itself and the rooms of earlier rows, which are below it.
ROOMS = {
    "serving": (
        ("errors",),
        ("settings",),
        ("telemetry",),
        ("stores",),
        ("bundle",),
        ("access", "model"),
        ("page",),
        ("process",),
        ("loader", "request"),
        ("routes",),
        ("endpoint",),
        ("openapi",),
        ("adapters",),
    ),
    "training": (
        ("errors",),
        ("report",),
        ("fit",),
        ("export",),
        ("registry",),
        ("api_key", "credit", "pack", "score", "train"),
        ("__main__",),
    ),
}
SOURCES = {"serving": ROOT / "layer" / "python" / "serving", "training": ROOT / "training"}


def own_imports(package: str) -> dict[str, set[str]]:
    """Return each module's imports from *package*, at any level, including those for types."""
    folder = SOURCES[package]
    files = {
        ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in folder.rglob("*.py")
    }
    found = {}
    for name, path in files.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= (names & files.keys()) or {node.module}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        found[name] = (imported & files.keys()) - {name, package}
    return found


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_rooms_below_it(package: str) -> None:
    """Every module is in a room, and a room imports only the rooms below it."""
    rows = {room: row for row, rooms in enumerate(ROOMS[package]) for room in rooms}
    for name, imported in own_imports(package).items():
        room = name.split(".")[1] if "." in name else None
        for other in imported:
            below = other.split(".")[1]
            assert room is not None, f"{name} imports {other}"
            assert room == below or rows[below] < rows[room], f"{name} imports {other}"


@pytest.mark.parametrize("package", ROOMS)
def test_there_is_no_cycle_of_imports(package: str) -> None:
    """Imports for types and inside functions count too."""
    graphlib.TopologicalSorter(own_imports(package)).prepare()


@pytest.mark.parametrize("package", SOURCES)
def test_rooms_stay_small(package: str) -> None:
    """At most 8 modules are at the root, and 12 in a folder."""
    for folder in (SOURCES[package], *SOURCES[package].rglob("*/")):
        assert len(modules(folder)) <= (8 if folder == SOURCES[package] else 12), folder


def test_the_tree_of_errors_names_every_class() -> None:
    """The docstring of serving.errors draws every class below its parent."""
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or "")) | {"CanoaError"}
    classes = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.CanoaError)
    }

    assert drawn == classes

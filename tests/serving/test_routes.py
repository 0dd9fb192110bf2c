"""Functions that contradict each other or cannot be loaded stop the start with one sentence."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from serving.adapters.flask import create_app
from serving.errors import FunctionsError
from serving.routes import load_functions

FUNCTION = """
from serving.endpoint import Answer, endpoint

@endpoint({route})
def {name}(_):
    return Answer({{}})
"""


def write(folder: Path, name: str, route: str) -> Path:
    """Write the file of a function *name*, with these arguments of its decorator."""
    file = folder / f"{name}.py"
    file.write_text(FUNCTION.format(name=name, route=route))
    return file


def rejected(folder: Path) -> str:
    """Return the sentence that loading the functions of *folder* fails with."""
    with pytest.raises(FunctionsError) as caught:
        load_functions(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    "second", ['"POST", "/v0/x", scope=None', '"GET", "/v0/x"', '"POST", "/v0/x/"']
)
def test_two_functions_with_one_path_are_rejected(tmp_path: Path, second: str) -> None:
    """Two functions may not share a path, as an open one could hide a closed one."""
    closed = write(tmp_path, "b", '"POST", "/v0/x"')
    opened = write(tmp_path, "a", second)

    said = rejected(tmp_path)
    assert said.startswith(f"{closed} answers POST /v0/x, but {opened} has this path already")


def test_a_function_cannot_take_the_path_metrics(tmp_path: Path) -> None:
    """A function cannot replace the server's own /metrics, which is protected."""
    file = write(tmp_path, "mine", '"GET", "/metrics", scope=None')

    with pytest.raises(SystemExit, match=f"^canoa: {re.escape(str(file))} .* the server itself"):
        create_app(tmp_path)


def test_a_function_may_have_the_name_metrics(tmp_path: Path) -> None:
    """A file metrics.py with a path of its own is served beside the server's /metrics."""
    write(tmp_path, "metrics", '"GET", "/v0/numbers", scope=None')
    client = create_app(tmp_path).test_client()

    assert client.get("/v0/numbers").text == "{}"
    assert "canoa" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def", ", line 1: SyntaxError: invalid syntax"),
        ("\nimport gone_1", ", line 2: ModuleNotFoundError: No module named 'gone_1'"),
        ("\n\n{}['a\\nb']", ", line 3: KeyError: 'a\\nb'"),
        ("raise ValueError('a\\nb')", ", line 1: ValueError: a b"),
        ("import json\njson.loads('')", ", line 2: JSONDecodeError: Expecting value: line 1"),
        ("raise SystemExit(0)", ", line 1: SystemExit: 0"),
        ("\0", ": SyntaxError: source code string cannot contain null bytes"),
        (
            "from serving.endpoint import *\n@endpoint('GET', '/x')\nasync def broken(_): ...",
            ", line 2: broken is async; write a plain function, def broken(request).",
        ),
        ("broken = 7", " needs a function 'broken' under @endpoint(…)."),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    """If a file raises, one line names the file, its line and the error."""
    file = tmp_path / "broken.py"
    file.write_text(text)

    said = rejected(tmp_path)
    assert said.startswith(f"{file}{reason}")
    assert "\n" not in said


@pytest.mark.parametrize("kind", ["pipe", "dangling link", "folder"])
def test_only_a_regular_file_is_loaded(tmp_path: Path, kind: str) -> None:
    """A named pipe, a dangling link and a folder are rejected."""
    file = tmp_path / "odd.py"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(tmp_path / "gone")

    assert rejected(tmp_path) == f"{file} must be a regular file."


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        ('"get", "/x"', "the method is 'get', but must be GET, POST, PUT, PATCH, DELETE."),
        ('"OPTIONS", "/x"', "the method is 'OPTIONS', but must be"),
        ('None, "/x"', "the method is None, but must be"),
        ('"GET", "x"', "the path is 'x', but must start with /"),
        ('"GET", ""', "the path is '', but must start with /"),
        ('"GET", "/x/<name>"', "the path is '/x/<name>', but must start with /"),
        ('"GET", "/x/{name}"', "the path is '/x/{name}', but must start with /"),
        ('"GET", "/x y"', "the path is '/x y', but must start with /"),
        ('"GET", None', "the path is None, but must start with /"),
        ('"GET", "/x", scope=""', "the scope is '', but must be None or a word"),
        ('"GET", "/x", scope="Predict"', "the scope is 'Predict', but must be None or a word"),
        ('"GET", "/x", scope=False', "the scope is False, but must be None or a word"),
    ],
)
def test_the_decorator_checks_its_arguments(tmp_path: Path, route: str, reason: str) -> None:
    """A method, path or scope that no request could match stops the start."""
    file = write(tmp_path, "mine", route)

    assert rejected(tmp_path).startswith(f"{file}, line 4: {reason}")


def test_a_file_runs_once(tmp_path: Path) -> None:
    """A file with side effects, such as a counter of its own, is loaded once in a process."""
    file = write(tmp_path, "mine", '"GET", "/x"')
    file.write_text(f"import os\nos.mkdir(__file__ + '.ran')\n{file.read_text()}")

    assert load_functions(tmp_path) == load_functions(tmp_path, "mine")


@pytest.mark.parametrize("argument", ["body", "answer"])
def test_a_type_that_cannot_be_described_is_named(tmp_path: Path, argument: str) -> None:
    """A plain class ends the start with a sentence, not /openapi.json with a 500."""
    file = write(tmp_path, "mine", f'"POST", "/x", {argument}=type("Loan", (), {{}})')

    loan = "<class 'functions.mine.Loan'>"
    assert rejected(tmp_path) == (
        f"{file}, line 4: the {argument} is {loan}, but must be a type that msgspec describes, "
        f"such as a msgspec.Struct: type {loan} is not supported."
    )


def test_a_second_function_in_a_file_is_rejected(tmp_path: Path) -> None:
    """It would not be served; another name for the first one, or an imported one, is fine."""
    first = write(tmp_path, "mine", '"GET", "/x"')
    other = write(tmp_path, "other", '"GET", "/y"')
    first.write_text(f"{first.read_text()}\nalias = mine\n")
    other.write_text(f"from functions.mine import mine\n{other.read_text()}")
    load_functions(tmp_path)

    third = write(tmp_path, "third", '"GET", "/z"')
    third.write_text(
        f"{third.read_text()}\n@endpoint('GET', '/more')\ndef more(_): return Answer(1)\n"
    )
    assert rejected(tmp_path) == (
        f"{third}, line 8: the functions 'third' and 'more' are in one file: give each function a "
        "file of its own."
    )

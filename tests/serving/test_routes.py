"""Functions that contradict each other, or cannot be loaded, end the start in one sentence."""

from __future__ import annotations

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
    """Return the sentence that loading the functions of *folder* ends in."""
    with pytest.raises(FunctionsError) as caught:
        load_functions(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    "second", ['"POST", "/v0/x", scope=None', '"GET", "/v0/x"', '"POST", "/v0/x/"']
)
def test_two_functions_with_one_path_are_rejected(tmp_path: Path, second: str) -> None:
    """An open function must not take the place of a closed one: the sentence names both files."""
    closed = write(tmp_path, "b", '"POST", "/v0/x"')
    opened = write(tmp_path, "a", second)

    said = rejected(tmp_path)
    assert said.startswith(f"{closed} answers POST /v0/x, but {opened} has this path already")


def test_a_function_cannot_take_the_path_of_the_metrics(tmp_path: Path) -> None:
    """The dyno's own /metrics stays closed."""
    file = write(tmp_path, "mine", '"GET", "/metrics", scope=None')

    with pytest.raises(SystemExit, match=f"^canoa: {re.escape(str(file))} .* the server itself"):
        create_app(tmp_path)


def test_a_function_may_have_the_name_metrics(tmp_path: Path) -> None:
    """A file metrics.py with a path of its own answers there, beside the dyno's /metrics."""
    write(tmp_path, "metrics", '"GET", "/v0/numbers", scope=None')
    client = create_app(tmp_path).test_client()

    assert client.get("/v0/numbers").text == "{}"
    assert "canoa" in client.get("/metrics").text

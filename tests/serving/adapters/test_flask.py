"""The Flask app answers a failure with our 500, and never with a redirect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import flask
import pytest
from serving.adapters.flask import create_app
from serving.process import start

#: Makes an app from the source of one function file and settings.
Make = Callable[..., flask.Flask]

FUNCTION = """
from serving.endpoint import Answer, endpoint

@endpoint("GET", "{path}", scope=None)
def mine(_):
    {body}
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make an app with one function of this path and body, and with these settings."""

    def made(path: str, body: str = "return Answer({})", **settings: str) -> flask.Flask:
        (tmp_path / "mine.py").write_text(FUNCTION.format(path=path, body=body))
        start(settings)
        return create_app(tmp_path)

    yield made
    start({})


def test_a_function_that_exits_gives_our_500(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """SystemExit in a function gives a 500 for one request, and is logged."""
    reply = make("/mine", "raise SystemExit(3)").test_client().get("/mine")

    assert reply.status_code == 500
    assert json.loads(reply.data)["type"] == "urn:canoa:problem:internal-error"
    logged = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (logged["status"], logged["error"]) == (500, "SystemExit")


def test_a_failure_outside_a_function_is_500(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error in the app itself gives a 500 without its text, and the log has its location."""
    app = make("/mine")

    @app.before_request
    def fail() -> None:
        raise ZeroDivisionError("secret")

    reply = app.test_client().get("/mine")

    assert reply.status_code == 500
    assert json.loads(reply.data)["type"] == "urn:canoa:problem:internal-error"
    assert "secret" not in reply.text
    logged = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (logged["status"], logged["error"]) == (500, "ZeroDivisionError")


@pytest.mark.parametrize("base", ["", "/ml"])
@pytest.mark.parametrize("path", ["/", "/mine", "/mine/"])
def test_no_path_is_redirected(make: Make, base: str, path: str) -> None:
    """With or without a slash, the function's answer or our 404 is returned, never a redirect."""
    client = make(path, BASE_PATH=base).test_client()
    found = {
        sent: client.get(base + sent, headers={"Host": "evil.example"}).status_code
        for sent in ("", "/", "/mine", "/mine/", "/mine//", "/other")
    }

    assert set(found.values()) == {200, 404}
    assert found[path] == 200
    assert path.endswith("/") or found[path + "/"] == 404

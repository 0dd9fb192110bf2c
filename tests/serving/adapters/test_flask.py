"""The Flask app answers a failure with our 500, and never with a redirect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

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

    def fail() -> None:
        raise ZeroDivisionError("secret")

    app.before_request_funcs[None].insert(0, fail)

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
    other = ("//", "/mine//", "//mine", "/%2fmine", "/other")

    def ask(sent: str) -> int:
        return client.get(
            base_url="http://evil.example",
            environ_overrides={"PATH_INFO": unquote(base + sent), "RAW_URI": base + sent},
        ).status_code

    found = {sent: ask(sent) for sent in ("", "/", "/mine", "/mine/", *other)}

    assert set(found.values()) == {200, 404}
    assert found[path] == 200
    assert path.endswith("/") or found[path + "/"] == 404
    assert {found[sent] for sent in other} == {404}


def test_an_encoded_slash_is_no_slash(make: Make) -> None:
    """`/a%2fmine` is another path than `/a/mine`, as on AWS Lambda."""
    client = make("/a/mine").test_client()

    assert client.get("/a/m%69ne").status_code == 200
    for path in ("/a%2fmine", "/a%2Fmine"):
        reply = client.get(path)
        assert reply.status_code == 404
        assert reply.content_type == "application/problem+json"


def test_options_is_answered_in_our_form(make: Make) -> None:
    """Neither a served path nor an unknown one gets Flask's own HTML type."""
    client = make("/mine").test_client()

    assert client.options("/mine").headers["Content-Type"] == "application/json"
    assert client.options("/other").headers["Content-Type"] == "application/problem+json"

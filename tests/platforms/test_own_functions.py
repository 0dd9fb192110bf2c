"""Functions of a user's own: every platform answers them alike."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import functions_framework
import pytest
from serving.adapters.flask import create_app
from serving.process import start

from tests.helpers.aws.lambdas import EVENTS
from tests.helpers.platforms import lambda_process

HEAD = "from serving.endpoint import Answer, Request, decode, endpoint\n"
JSON = {"Content-Type": "application/json"}

#: functions-framework sets these variables; set before, they are restored.
SET_BY_FRAMEWORK = {"FUNCTION_TARGET": "mine", "FUNCTION_SIGNATURE_TYPE": "http"}


class Reply(NamedTuple):
    """An answer as a client gets it."""

    status: int
    type: str
    body: bytes


#: Sends a body, or None, to the function; the query string comes second.
Send = Callable[..., Reply]


@contextlib.contextmanager
def platform(name: str, source: str, folder: Path, first: str = "") -> Iterator[Send]:
    """Serve the one function `mine`, of this *source* after a *first* line, in this process."""
    file = folder / "functions" / "mine.py"
    file.parent.mkdir()
    file.write_text(first + HEAD + source)
    [path] = re.findall(r'"(/v0/[^"]*)"', source)[:1]
    if name in EVENTS:
        with lambda_process(folder / "none", LAMBDA_TASK_ROOT=str(folder)) as handler:

            def invoke(body: bytes | None = None, query: str = "") -> Reply:
                method = "GET" if body is None else "POST"
                event: Any = EVENTS[name](method, path, body, JSON)
                names = dict(part.split("=") for part in query.split("&") if part)
                event |= {"rawQueryString": query, "queryStringParameters": names}
                answer = handler(event)
                read = base64.b64decode if answer["isBase64Encoded"] else str.encode
                lists = {name: [value] for name, value in answer.get("headers", {}).items()}
                [kind] = (lists or answer["multiValueHeaders"])["Content-Type"]
                return Reply(answer["statusCode"], kind, read(answer["body"]))

            yield invoke
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_URI", str(folder / "none"))
        start(os.environ)
        if name == "flask":
            app = create_app(file.parent)
        else:
            for variable, value in SET_BY_FRAMEWORK.items():
                patch.setenv(variable, value)
            patch.syspath_prepend(file.parent)
            patch.setitem(sys.modules, "mine", None)
            app = functions_framework.create_app("mine", str(file))  # type: ignore[no-untyped-call]
        client = app.test_client()

        def request(body: bytes | None = None, query: str = "") -> Reply:
            method = "GET" if body is None else "POST"
            answer = client.open(path, method=method, data=body, headers=JSON, query_string=query)
            return Reply(answer.status_code, answer.headers["Content-Type"], answer.data)

        yield request
    start({})


everywhere = pytest.mark.parametrize("name", ["flask", "functions-framework", *EVENTS])


@everywhere
@pytest.mark.parametrize(
    ("body", "media_type", "sent"),
    [
        (b"\x89PNG\xff", "image/png", b"\x89PNG\xff"),
        ("plain é", "text/plain; charset=utf-8", "plain é".encode()),
        (b"a,b\n1,2\n", "text/csv; charset=utf-8", b"a,b\n1,2\n"),
    ],
)
def test_text_and_bytes_arrive_as_they_are(
    name: str, tmp_path: Path, body: str | bytes, media_type: str, sent: bytes
) -> None:
    """An answer may be text or bytes, such as an image."""
    source = (
        '@endpoint("GET", "/v0/mine", scope=None, answer="x/y")\n'
        f"def mine(_: Request) -> Answer:\n    return Answer({body!r}, media_type={media_type!r})\n"
    )
    with platform(name, source, tmp_path) as send:
        assert send() == (200, media_type, sent)


POSTPONED = """
from dataclasses import dataclass
import msgspec

class Loan(msgspec.Struct):
    amount: float
    payer: Person

class Person(msgspec.Struct):
    name: str

@dataclass
class Rate:
    rate: float = 0.5

@endpoint("POST", "/v0/mine", scope=None, body=Loan, answer=Rate)
def mine(request: Request) -> Answer:
    return Answer(Rate(decode(request, Loan).amount))
"""


@everywhere
def test_annotations_may_be_postponed(name: str, tmp_path: Path) -> None:
    """Structs may refer to later ones, and `from __future__ import annotations` changes nothing."""
    with platform(name, POSTPONED, tmp_path, "from __future__ import annotations\n") as send:
        assert send(b'{"amount": 2, "payer": {"name": "A"}}').body == b'{"rate":2.0}'
        assert send(b'{"amount": 2, "payer": {}}').status == 422


@everywhere
@pytest.mark.parametrize("returned", ["{'a': 1}", "None"])
def test_a_function_must_return_an_answer(
    name: str, tmp_path: Path, returned: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anything else is a 500, and one log line says what to return."""
    source = (
        f'@endpoint("GET", "/v0/mine", scope=None)\ndef mine(_: Request):\n    return {returned}\n'
    )
    with platform(name, source, tmp_path) as send:
        capsys.readouterr()
        status, kind, _ = send()
        [line] = capsys.readouterr().out.splitlines()

    assert (status, kind) == (500, "application/problem+json")
    returned = "dict" if returned != "None" else "NoneType"
    assert json.loads(line)["reason"] == f"mine returned a {returned}; return Answer(…)."


@everywhere
def test_a_missing_parameter_is_named(name: str, tmp_path: Path) -> None:
    """A query string without a parameter that the function reads gets 422; other errors get 500."""
    source = (
        '@endpoint("GET", "/v0/mine", scope=None)\ndef mine(request: Request) -> Answer:\n'
        '    return Answer({"1": "one"}[request.args["a"]])\n'
    )
    with platform(name, source, tmp_path) as send:
        assert send(query="a=1").body == b'"one"'
        assert send(query="a=2").status == 500
        missing = send(query="b=1")

    problem = json.loads(missing.body)
    assert (missing.status, problem["type"]) == (422, "urn:canoa:problem:invalid-query")
    assert problem["detail"] == "The query string needs the parameter a."

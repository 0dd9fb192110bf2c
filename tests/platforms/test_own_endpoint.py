"""The README's endpoint is one file, and works on every platform."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from serving.process import start as start_process
from serving.routes import load_functions
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from tests.helpers.access.keys import API_KEYS, KEYS
from tests.helpers.aws.lambdas import EVENTS, http_event, runtime
from tests.helpers.aws.osls import offline_at
from tests.helpers.documentation import README, fences
from tests.helpers.platforms import lambda_process
from tests.helpers.servers import ROOT, start

[SOURCE] = [block for block in fences(README, "python") if "@endpoint" in block]
PATH = "/v0/payment"
LINES = """\
  payment:
    handler: serving.adapters.aws.handler
    description: POST /v0/payment
    layers: [!Ref ServingLambdaLayer]
    environment:
      FUNCTION_TARGET: payment
    events:
      - httpApi: ANY /v0/payment
"""


class Reply(NamedTuple):
    """An answer's status and its JSON."""

    status: int
    body: Any


#: Sends a method, a path, a body and headers.
Send = Callable[[str, str, bytes | None, dict[str, str]], Reply]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy functions/ and serverless.yml, and add the README's file and its lines."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(ROOT / "functions", folder / "functions", ignore=lambda *_: ["__pycache__"])
    (folder / "functions" / "payment.py").write_text(SOURCE)
    shutil.copytree(ROOT / "tests" / "offline", folder / "tests" / "offline")
    entries = (ROOT / "serverless.yml").read_text("utf-8")
    entries = entries.replace("\nfunctions:\n", f"\nfunctions:\n{LINES}", 1)
    (folder / "serverless.yml").write_text(entries)
    return folder


def http(base: str) -> Send:
    """Send to the server at *base*."""

    def send(method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        answer = requests.request(method, base + path, data=body, headers=headers, timeout=30)
        return Reply(answer.status_code, answer.json())

    return send


def events(build: Any, invoke: Callable[[Any], Any]) -> Send:
    """Send events that *build* makes to *invoke*."""

    def send(method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        answer = invoke(build(method, path, body, headers))
        return Reply(answer["statusCode"], json.loads(answer["body"]))

    return send


@contextlib.contextmanager
def gunicorn(root: Path, settings: dict[str, str]) -> Iterator[Send]:
    """Run all functions behind the Flask adapter."""
    command = [
        *(sys.executable, "-m", "gunicorn", "--config", "python:serving.adapters.gunicorn"),
        *("--bind", "127.0.0.1:{port}", "serving.adapters.flask:create_app()"),
    ]
    with start(command, settings, root) as server:
        yield http(server)


@contextlib.contextmanager
def functions_framework(root: Path, settings: dict[str, str]) -> Iterator[Send]:
    """Run the new function alone, and openapi beside it."""
    with contextlib.ExitStack() as stack:
        sends = {}
        for name, path in {"payment": PATH, "openapi": "/openapi.json"}.items():
            command = [
                *(sys.executable, "-m", "functions_framework", "--host", "127.0.0.1"),
                *("--port", "{port}", "--source", f"functions/{name}.py", "--target", name),
            ]
            sends[path] = http(stack.enter_context(start(command, settings, root)))
        yield lambda method, path, body, headers: sends[path](method, path, body, headers)


@contextlib.contextmanager
def direct(root: Path, settings: dict[str, str]) -> Iterator[Send]:
    """Call the functions in this process."""
    start_process(settings)
    functions = {f.route.path: f for f in load_functions(root / "functions")}

    def send(method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        builder = EnvironBuilder(path, method=method, data=body, headers=[*headers.items()])
        content, status, _ = functions[path](Request(builder.get_environ()))  # type: ignore[arg-type]
        return Reply(status, json.loads(content))

    yield send
    start_process({})


def lambda_events(build: Any) -> Callable[[Path, dict[str, str]], AbstractContextManager[Send]]:
    """Call one Lambda for all functions with events of one kind."""

    @contextlib.contextmanager
    def platform(root: Path, settings: dict[str, str]) -> Iterator[Send]:
        others = {name: value for name, value in settings.items() if name != "MODEL_URI"}
        with lambda_process(
            Path(settings["MODEL_URI"]), **others, LAMBDA_TASK_ROOT=str(root)
        ) as handler:
            yield events(build, handler)

    return platform


@contextlib.contextmanager
def lambda_runtime(root: Path, settings: dict[str, str]) -> Iterator[Send]:
    """Call the same Lambda under AWS's runtime client, on the built layer."""
    with runtime(settings, package=root) as api:
        yield events(http_event, api.invoke)


@contextlib.contextmanager
def osls_offline(root: Path, settings: dict[str, str]) -> Iterator[Send]:
    """Run one Lambda for each function, from the lines that `make check` prints."""
    others = {name: value for name, value in settings.items() if name != "MODEL_URI"}
    with offline_at(root, settings["MODEL_URI"], **others) as base:
        yield http(base)


PLATFORMS: dict[str, Callable[[Path, dict[str, str]], AbstractContextManager[Send]]] = {
    "gunicorn": gunicorn,
    "functions-framework": functions_framework,
    "direct": direct,
    **{f"lambda, {name}": lambda_events(build) for name, build in EVENTS.items()},
    "lambda runtime": lambda_runtime,
    "osls offline": osls_offline,
}
#: These need a built layer or Node's emulator.
BUILT = ("lambda runtime", "osls offline")


def test_the_endpoint_has_at_most_twelve_lines() -> None:
    """The README's endpoint has at most twelve lines."""
    assert len(SOURCE.splitlines()) <= 12


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in BUILT else name for name in PLATFORMS],
)
def test_the_endpoint_works_on_every_platform(name: str, root: Path, credit: Path) -> None:
    """Its file alone makes it served, validated, protected and documented."""
    key = {"Authorization": f"Bearer {KEYS['predicts']}"}
    reader = {"Authorization": f"Bearer {KEYS['reads']}"}
    sent = {"Content-Type": "application/json", **key}
    with PLATFORMS[name](root, {"MODEL_URI": str(credit), "API_KEYS": API_KEYS}) as send:
        right = send("POST", PATH, b'{"amount": 1200, "months": 12}', sent)
        wrong = send("POST", PATH, b'{"amount": "1200", "months": 12}', sent)
        rubbish = send("POST", PATH, b"{", sent)
        method = send("GET", PATH, None, key)
        nobody = send("POST", PATH, b"{}", {"Content-Type": "application/json"})
        reads = send("POST", PATH, b"{}", {"Content-Type": "application/json", **reader})
        described = send("GET", "/openapi.json", None, reader)

    assert right == (200, {"payment": 100.0})
    assert wrong.status == 422
    assert wrong.body["type"] == "urn:canoa:problem:invalid-body"
    expected = "Expected `float`, got `str`"
    assert wrong.body["errors"] == [{"pointer": "/amount", "detail": expected}]
    assert (rubbish.status, rubbish.body["type"]) == (400, "urn:canoa:problem:malformed-body")
    assert (method.status, nobody.status, reads.status) == (405, 401, 403)
    operation = described.body["paths"][PATH]["post"]
    assert operation["summary"] == "What a loan without interest costs a month"
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/payment_Loan"}
    loan = described.body["components"]["schemas"]["payment_Loan"]
    assert loan["required"] == ["amount", "months"]

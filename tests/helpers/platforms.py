"""Starts the functions on every platform, so that one `send` runs the same tests on all."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import requests
from serving.adapters.flask import create_app
from serving.process import start
from serving.routes import load_functions
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request as WerkzeugRequest

from tests.helpers.aws.lambdas import EVENTS, http_event, runtime
from tests.helpers.aws.osls import offline
from tests.helpers.servers import ROOT, emulator, serving

__all__ = ["PATHS", "PLATFORMS", "Platform", "Reply", "lambda_process", "own_server"]

#: Function → path.
PATHS = {f.__name__: f.route.path for f in load_functions(ROOT / "functions")}


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        """Decode the body."""
        import json

        return json.loads(self.body)


class Platform(Protocol):
    """Sends one request to one function."""

    def __call__(
        self, function: str, method: str, body: bytes | None = None, **headers: str
    ) -> Reply:
        """Send it. In header names `_` stands for `-`."""


def _over_http(bases: dict[str, str]) -> Platform:
    session = requests.Session()

    def send(function: str, method: str, body: bytes | None = None, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = session.request(
            method, bases[function], data=body, headers=named, timeout=30, allow_redirects=False
        )
        return Reply(answer.status_code, answer.headers, answer.content)

    return send


@contextlib.contextmanager
def gunicorn(model: Path, **environment: str) -> Iterator[Platform]:
    """Run the Flask adapter under gunicorn, as a dyno and `make run` do."""
    with serving(model, **environment) as base:
        yield _over_http({name: base + path for name, path in PATHS.items()})


@contextlib.contextmanager
def functions_framework(model: Path, **environment: str) -> Iterator[Platform]:
    """Run each function alone under functions-framework, as Google Cloud does."""
    with contextlib.ExitStack() as stack:
        bases = {name: stack.enter_context(emulator(name, model, **environment)) for name in PATHS}
        yield _over_http({name: base + PATHS[name] for name, base in bases.items()})


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Log nothing."""


@contextlib.contextmanager
def own_server(model: Path, **environment: str) -> Iterator[Platform]:
    """Run the Flask adapter on a thread of this process, and reach it over HTTP."""
    with _environment(model, **environment):
        server = make_server("127.0.0.1", 0, create_app(), threaded=True, request_handler=_Quiet)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            base = f"http://127.0.0.1:{server.server_port}"
            yield _over_http({name: base + path for name, path in PATHS.items()})
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@contextlib.contextmanager
def direct(model: Path, **environment: str) -> Iterator[Platform]:
    """Call the functions in this process with a Werkzeug request."""
    with _environment(model, **environment):
        functions = {f.__name__: f for f in load_functions(ROOT / "functions")}

        def send(function: str, method: str, body: bytes | None = None, **headers: str) -> Reply:
            named = [(name.replace("_", "-"), value) for name, value in headers.items()]
            builder = EnvironBuilder(PATHS[function], method=method, data=body, headers=named)
            content, status, sent = functions[function](_request(builder))
            return Reply(status, requests.structures.CaseInsensitiveDict(sent), content)

        yield send


@contextlib.contextmanager
def _environment(model: Path, **environment: str) -> Iterator[None]:
    """Set this process's settings while the context is open."""
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name, value in {"MODEL_URI": str(model), **environment}.items():
            patch.setenv(name, value)
        start(os.environ)
        yield
    start({})


def _lambda_reply(answer: dict[str, Any]) -> Reply:
    """Read an answer as the gateway reads it."""
    headers = answer.get("headers") or {
        name: ", ".join(values) for name, values in answer["multiValueHeaders"].items()
    }
    body = answer["body"].encode()
    return Reply(answer["statusCode"], requests.structures.CaseInsensitiveDict(headers), body)


def _over_events(build: Any, invoke: Callable[[dict[str, Any]], dict[str, Any]]) -> Platform:
    def send(function: str, method: str, body: bytes | None = None, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return _lambda_reply(invoke(build(method, PATHS[function], body, named)))

    return send


def lambda_events(build: Any) -> Callable[..., contextlib.AbstractContextManager[Platform]]:
    """Make a platform that calls the Lambda handler with one kind of event."""

    @contextlib.contextmanager
    def platform(model: Path, **environment: str) -> Iterator[Platform]:
        with lambda_process(model, **environment) as handler:
            yield _over_events(build, handler)

    return platform


@contextlib.contextmanager
def lambda_process(model: Path, **environment: str) -> Iterator[Callable[..., Any]]:
    """Start a new Lambda handler in this process."""
    with _environment(model, **environment):
        from serving.adapters import aws

        aws._lambda = aws._Lambda()
        yield aws.handler


@contextlib.contextmanager
def lambda_runtime(model: Path, **environment: str) -> Iterator[Platform]:
    """Run the Lambda handler in a process, under AWS's runtime client and on the built layer."""
    with runtime({"MODEL_URI": str(model), **environment}) as api:
        yield _over_events(http_event, api.invoke)


@contextlib.contextmanager
def osls_offline(model: Path, **environment: str) -> Iterator[Platform]:
    """Run each function alone behind serverless-offline's imitation of an HTTP API."""
    with offline(model, **environment) as base:
        yield _over_http({name: base + path for name, path in PATHS.items()})


def _request(builder: EnvironBuilder) -> Any:
    """Make a request. Werkzeug's headers behave as a mapping, but have another type."""
    return WerkzeugRequest(builder.get_environ())


PLATFORMS = {
    "gunicorn": gunicorn,
    "functions-framework": functions_framework,
    "direct": direct,
    **{f"lambda, {name}": lambda_events(build) for name, build in EVENTS.items()},
    "lambda runtime": lambda_runtime,
    "osls offline": osls_offline,
}

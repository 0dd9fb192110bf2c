"""Every way to start the functions, behind one `send`, so that one suite runs over all of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import requests
from serving import loader
from serving.routes import load_functions
from serving.settings import settings
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request as WerkzeugRequest

from tests.layers import NATIVE, unzipped
from tests.servers import ROOT, emulator, serving, start

__all__ = ["PATHS", "PLATFORMS", "Platform", "Reply", "forget"]

PATHS = {
    "predict": "/v0/predict",
    "model_info": "/v0/model_info",
    "health": "/health",
    "openapi": "/openapi.json",
}


class Reply(NamedTuple):
    """What came back."""

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
        """Send; header names have `_` for `-`."""


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
    """The Flask adapter under gunicorn: the dyno, and `make run`."""
    with serving(model, **environment) as base:
        yield _over_http({name: base + path for name, path in PATHS.items()})


@contextlib.contextmanager
def functions_framework(model: Path, **environment: str) -> Iterator[Platform]:
    """Each function alone under functions-framework: Google Cloud."""
    with contextlib.ExitStack() as stack:
        bases = {name: stack.enter_context(emulator(name, model, **environment)) for name in PATHS}
        yield _over_http({name: base + PATHS[name] for name, base in bases.items()})


@contextlib.contextmanager
def direct(model: Path, **environment: str) -> Iterator[Platform]:
    """The functions themselves, called with a Werkzeug request and no server."""
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MODEL_URI": str(model), **environment}.items():
            patch.setenv(name, value)
        forget()
        functions = {f.__name__: f for f in load_functions(ROOT / "functions")}

        def send(function: str, method: str, body: bytes | None = None, **headers: str) -> Reply:
            named = [(name.replace("_", "-"), value) for name, value in headers.items()]
            builder = EnvironBuilder(PATHS[function], method=method, data=body, headers=named)
            content, status, sent = functions[function](_request(builder))
            return Reply(status, requests.structures.CaseInsensitiveDict(sent), content)

        yield send
    forget()


def _request(builder: EnvironBuilder) -> Any:
    """Make what a platform hands on; Werkzeug's headers are a mapping in all but their type."""
    return WerkzeugRequest(builder.get_environ())


@contextlib.contextmanager
def lambda_layer(model: Path, **environment: str) -> Iterator[Platform]:
    """The functions in a process that has the AWS layer on its path, and nothing else."""
    command = [sys.executable, "-S", "-P", "tests/layer_server.py"]
    path = {"PYTHONPATH": str(unzipped(NATIVE))}
    with start(command, {"MODEL_URI": str(model), **path, **environment}) as base:
        yield _over_http({name: base + path for name, path in PATHS.items()})


PLATFORMS = {
    "gunicorn": gunicorn,
    "functions-framework": functions_framework,
    "direct": direct,
    "layer": lambda_layer,
}


def forget() -> None:
    """Make this process read its settings and load its model anew."""
    settings.cache_clear()
    loader._model = loader._failed_at = None

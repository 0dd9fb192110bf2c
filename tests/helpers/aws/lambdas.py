"""Lambda on this machine: its events, and its Runtime API for AWS's own client.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from tests.helpers.aws.layers import NATIVE, unzipped
from tests.helpers.servers import ROOT, clean_environment, opened

__all__ = [
    "EVENTS",
    "Runtime",
    "balancer_event",
    "balancer_lists_event",
    "function_package",
    "http_event",
    "rest_event",
    "runtime",
    "url_event",
]

TRACE = "1-5f84c7a1-0123456789abcdef01234567"
Headers = Mapping[str, str]


def _body(body: bytes | None) -> dict[str, Any]:
    """Encode a body as AWS does: text as text, anything else in base64."""
    if body is None:
        return {"body": None, "isBase64Encoded": False}
    try:
        return {"body": body.decode(), "isBase64Encoded": False}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}


def http_event(
    method: str, path: str, body: bytes | None, headers: Headers, **more: Any
) -> dict[str, Any]:
    """An HTTP API's event, payload 2.0: header names in lower case, `body` left out when empty."""
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {name.lower(): value for name, value in headers.items()},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1"},
            "requestId": "JKJaXmPLvHcESHA=",
            "stage": "$default",
            "timeEpoch": 1583348638390,
        },
        **_body(body),
        **more,
    }
    return {name: value for name, value in event.items() if value is not None}


def rest_event(
    method: str, path: str, body: bytes | None, headers: Headers, **more: Any
) -> dict[str, Any]:
    """Make a REST API's event, payload 1.0: every header twice, null for missing parts."""
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": dict(headers) or None,
        "multiValueHeaders": {name: [value] for name, value in headers.items()} or None,
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": path,
            "httpMethod": method,
            "path": f"/dev{path}",
            "stage": "dev",
            "identity": {"sourceIp": "203.0.113.1"},
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
        },
        **_body(body),
        **more,
    }


def balancer_event(
    method: str, path: str, body: bytes | None, headers: Headers, **more: Any
) -> dict[str, Any]:
    """Make a load balancer's event without multi-value headers; an empty body is ''."""
    group = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/canoa/1"
    return {
        "requestContext": {"elb": {"targetGroupArn": group}},
        "httpMethod": method,
        "path": path,
        "queryStringParameters": {},
        "headers": {name.lower(): value for name, value in headers.items()},
        **_body(body or b""),
        **more,
    }


def balancer_lists_event(
    method: str, path: str, body: bytes | None, headers: Headers, **more: Any
) -> dict[str, Any]:
    """Make a load balancer's event with multi-value headers only."""
    event = balancer_event(method, path, body, headers, **more)
    event["multiValueHeaders"] = {name: [value] for name, value in event.pop("headers").items()}
    event["multiValueQueryStringParameters"] = {}
    del event["queryStringParameters"]
    return event


def url_event(
    method: str, path: str, body: bytes | None, headers: Headers, **more: Any
) -> dict[str, Any]:
    """Make a function URL's event: an HTTP API's form, with its own host."""
    event = http_event(method, path, body, headers, **more)
    name = "abcdefghijklmnopqrstuvwxyz012345"
    domain = f"{name}.lambda-url.us-east-1.on.aws"
    more = {"apiId": name, "domainName": domain, "domainPrefix": name, "authentication": None}
    event["requestContext"] = {"accountId": "anonymous", **event["requestContext"], **more}
    return event


EVENTS = {
    "HTTP API": http_event,
    "REST API": rest_event,
    "load balancer": balancer_event,
    "load balancer, lists": balancer_lists_event,
    "function URL": url_event,
}


class Runtime:
    """The Runtime API on loopback: it hands out one event at a time, and receives its answer."""

    def __init__(self) -> None:
        self._events: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.restore = threading.Event()
        self.log = Path()
        self.process: subprocess.Popen[bytes]
        #: When the client was started, by time.perf_counter().
        self.spawned = 0.0

    def invoke(self, event: Any, timeout: float = 30) -> Any:
        """
        Send *event* to the client; return its answer.

        Raises:
            RuntimeError: The runtime client posted an error, or no answer.
        """
        self._events.put((str(uuid.uuid4()), json.dumps(event).encode()))
        try:
            kind, answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise RuntimeError(f"no answer:\n{self.logged()}") from None
        if kind != "response":
            raise RuntimeError(f"{kind}: {answer}\n{self.logged()}")
        return answer

    def logged(self) -> str:
        """Return everything that the function has written so far."""
        return self.log.read_text("utf-8", "replace")

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Make the HTTP side of this."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:  # the function was stopped
                    self.close_connection = True

            def do_GET(self) -> None:
                if self.path.endswith("/restore/next"):
                    api.restore.wait(60)
                    self._send(200, b"{}")
                    return
                identity, event = api._events.get()
                deadline = str(int((time.time() + 60) * 1000))
                self._send(
                    200,
                    event,
                    **{
                        "Content-Type": "application/json",  # without it AWS's client crashes
                        "Lambda-Runtime-Aws-Request-Id": identity,
                        "Lambda-Runtime-Deadline-Ms": deadline,
                        "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:1:f",
                        "Lambda-Runtime-Trace-Id": f"Root={TRACE};Sampled=1",
                    },
                )

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kind = self.path.removeprefix("/2018-06-01/runtime/").rpartition("/")
                name = "init error" if kind[0] == "init" else kind[2]
                api._answers.put((name, json.loads(body or b"null")))
                self._send(202, b"{}")

            def _send(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        return Handler


@contextlib.contextmanager
def runtime(
    environment: Mapping[str, str],
    *,
    handler: str = "serving.adapters.aws.handler",
    layer: Path | None = None,
    package: Path | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Runtime]:
    """
    Run *handler* under AWS's runtime client, as Lambda does.

    Python's path holds the client, the unzipped layer, and the package, in which the client starts.
    The defaults are our layer for this machine and the files that serverless.yml packs. The command
    *prefix* starts the client.
    """
    layer, package = layer or unzipped(NATIVE), package or function_package()
    api = Runtime()
    server = ThreadingHTTPServer(("127.0.0.1", 0), api.handler())
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        api.log = Path(folder) / "log"
        with api.log.open("wb") as output:
            api.spawned = time.perf_counter()
            api.process = subprocess.Popen(
                [*prefix, sys.executable, "-S", "-P", "-m", "awslambdaric", handler],
                cwd=package,
                env={
                    **clean_environment(),
                    "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
                    "AWS_LAMBDA_FUNCTION_NAME": "canoa-test",
                    "LAMBDA_TASK_ROOT": str(package),
                    "PYTHONPATH": os.pathsep.join(map(str, [package, layer, _client()])),
                    **opened(environment),
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield api
        finally:
            api.process.kill()
            api.process.wait()
            server.shutdown()
            server.server_close()
            thread.join()


@functools.cache
def function_package() -> Path:
    """Copy the files that serverless.yml packs for a function; return the folder."""
    folder = _temporary("package-")
    shutil.copytree(ROOT / "functions", folder / "functions", ignore=lambda *_: ["__pycache__"])
    return folder


@functools.cache
def _client() -> Path:
    """Link AWS's runtime client and what it needs into a folder without anything else."""
    folder = _temporary("client-")
    for name in ("awslambdaric", "snapshot-restore-py", "simplejson"):
        for file in distribution(name).files or []:
            entry = folder / file.parts[0]
            if not (entry.exists() or file.parts[0] == ".."):
                entry.symlink_to(Path(str(distribution(name).locate_file(file.parts[0]))))
    return folder


def _temporary(prefix: str) -> Path:
    folder = tempfile.TemporaryDirectory(prefix=prefix)
    atexit.register(folder.cleanup)
    return Path(folder.name)

"""What stands around every function: method, size and type checks, request id, errors, CORS, log.

A function says what it answers; everything that all of them need is here, once.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, cast

import msgspec

from serving.access.cors import cors_headers, preflight_headers
from serving.access.gate import Caller, authorize, identify, prepare
from serving.errors import (
    InternalError,
    Malformed,
    MethodNotAllowed,
    Problem,
    TooLarge,
    UnsupportedMedia,
)
from serving.settings import settings
from serving.telemetry.logs import describe, log
from serving.telemetry.observers import Served, observers, tell
from serving.telemetry.request_id import request_id
from serving.telemetry.tracing import request_span, span

__all__ = ["Answer", "Function", "Limit", "Request", "Response", "Route", "endpoint", "respond"]

#: What Flask and functions-framework take from a view.
Response = tuple[bytes, int, dict[str, str]]


class Request(Protocol):
    """What a function may use of a request: as much as every platform offers."""

    @property
    def method(self) -> str:
        """Upper case."""

    @property
    def path(self) -> str:
        """Without the query string."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, in any case."""

    @property
    def args(self) -> Mapping[str, str]:
        """The query string's parameters."""

    def get_data(self) -> bytes:
        """The body."""


class Answer(NamedTuple):
    """What a function answers: *body* goes on the wire as JSON, the rest into the log line."""

    body: Any
    rows: int | None = None
    model_version: str | None = None
    #: Of a body that is bytes, and goes on the wire as it is.
    media_type: str | None = None
    #: What goes on the wire instead, to callers who may not see model_info.
    for_strangers: Any = None


#: Counts a caller's request, and raises TooManyRequests if it is one too many.
Limit = Callable[[Caller], None]


class Route(NamedTuple):
    """Where a function answers, and to whom."""

    method: str
    path: str
    #: What a caller must be allowed to do; None is open to everybody.
    scope: str | None = "predict"

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method that it answers, as the Allow header lists them."""
        return (self.method, *(("HEAD",) if self.method == "GET" else ()), "OPTIONS")


class Function(Protocol):
    """A function of `functions/`, as the platforms call it."""

    __name__: str
    __doc__: str | None
    route: Route

    def __call__(self, request: Request, limit: Limit | None = None) -> Response:
        """Answer. Raises nothing."""


def endpoint(
    method: str, path: str, *, scope: str | None = "predict"
) -> Callable[[Callable[[Request], Answer]], Function]:
    """
    Make an HTTP function of one that returns an `Answer` or raises a `Problem`.

    Args:
        method: The one method it answers, beside OPTIONS (and HEAD, for GET).
        path: Where it stands among others. Where a platform gives a function its own address,
            every path reaches it.
        scope: What a caller must be allowed to do, "predict" or "info"; None is open to everybody.
    """
    settings()  # a value that cannot be read stops the start, not the first request
    prepare()
    route = Route(method, path, scope)

    def decorate(handler: Callable[[Request], Answer]) -> Function:
        # functions-framework takes nothing but a plain function.
        @functools.wraps(handler)
        def function(request: Request, limit: Limit | None = None) -> Response:
            return respond(request, handler, route, limit)

        function.route = route  # type: ignore[attr-defined]  # a function may have more
        return cast(Function, function)

    return decorate


def respond(
    request: Request,
    handler: Callable[[Request], Answer],
    route: Route | None,
    limit: Limit | None = None,
) -> Response:
    """Answer through *handler*; with no *route*, whatever the method, to all. Raises nothing."""
    method = request.method if request.method in _METHODS else "other"
    with request_span(method, route.path if route else None, request.headers):
        return _respond(request, handler, route, limit)


def _respond(
    request: Request,
    handler: Callable[[Request], Answer],
    route: Route | None,
    limit: Limit | None,
) -> Response:
    started = time.perf_counter()
    method = request.method
    headers = {
        "Content-Type": "application/json",
        "X-Request-Id": request_id(request.headers),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    headers.update(cors_headers(request.headers, settings().cors_origins))
    answer = Answer(None)
    caller = None
    failure: dict[str, Any] = {}
    level = "info"
    try:
        if route and method == "OPTIONS":
            status, body = 204, b""
            headers.update(preflight_headers(request.headers, route.methods, headers))
            del headers["Content-Type"]
        else:
            size = 0
            if route:
                _check_method(method, route)
                caller = identify(request.headers)
                if route.scope is not None:
                    if limit:
                        limit(caller)
                    authorize(caller, route.scope)
                size = _check_body(request, route)
            with _turn if size > LARGE_BODY else _NO_TURN:
                answer = handler(request)
                status, body = 200, _encode(answer, caller, headers)
    except Problem as problem:
        status, body, level = problem.status, _problem(problem, headers), problem.level
        failure = {"error": problem.code, "reason": problem.reason}
        answer = Answer(None, model_version=problem.model_version)
    except Exception as error:  # whatever it was, no traceback reaches a client
        status, body = 500, _problem(InternalError(_SORRY), headers)
        failure = describe(error)
    seconds = time.perf_counter() - started
    path = route.path if route else None
    method = method if method in _METHODS else "other"
    log(
        "error" if status >= 500 else level,
        "request",
        request_id=headers["X-Request-Id"],
        method=method,
        route=path,
        status=status,
        caller=caller.name if caller else None,
        duration_ms=round(seconds * 1000, 3),
        rows=answer.rows,
        model_version=answer.model_version,
        **failure,
    )
    if observers:
        counts = answer.rows, answer.model_version
        served = Served(method, path, status, seconds, *counts, failure.get("error"))
        tell(lambda observer: observer.request_served(served))
    return body, status, headers


#: Bytes. A body of so many, which may become thirty times as much in memory, is worked on alone;
#: little time is lost by that, since most of the work holds Python's lock anyway.
LARGE_BODY = 64 * 1024

_turn = threading.Lock()
_NO_TURN = contextlib.nullcontext()
_SORRY = "The request could not be answered. Its id leads to the reason in the server's log."
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})


def _check_method(method: str, route: Route) -> None:
    if method not in route.methods:
        allowed = ", ".join(route.methods)
        raise MethodNotAllowed(f"Use {route.method}.", headers={"Allow": allowed})


def _check_body(request: Request, route: Route) -> int:
    """Refuse what no function takes, unread where that is possible; the body's size, in bytes."""
    if route.method == "GET":
        return 0
    headers = request.headers
    _check_type(headers.get("Content-Type"), headers.get("Content-Encoding"))
    limit = settings().max_body_bytes
    length = headers.get("Content-Length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise _too_large(limit)
    try:
        body = request.get_data()
    except Exception as error:  # Werkzeug's, which must not be imported here
        if getattr(error, "code", None) == 413:
            raise _too_large(limit) from None
        raise Malformed("The body ended before all of it had come.") from None
    if len(body) > limit:
        raise _too_large(limit)
    return len(body)


def _check_type(content_type: str | None, encoding: str | None) -> None:
    if encoding and encoding.lower() != "identity":
        raise UnsupportedMedia("Send the body as it is, without a Content-Encoding.")
    if content_type is None or content_type == "application/json":
        return
    media, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if media != "application/json":
        raise UnsupportedMedia("Send JSON, and say so: Content-Type: application/json.")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise UnsupportedMedia("Send JSON in UTF-8.")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"At most {limit} bytes are taken.")


def _encode(answer: Answer, caller: Caller | None, headers: dict[str, str]) -> bytes:
    """Write what this caller may see."""
    if answer.media_type is not None:
        headers["Content-Type"] = answer.media_type
        return cast(bytes, answer.body)
    known = answer.for_strangers is None or (caller and "info" in caller.scopes)
    with span("encode"):
        return msgspec.json.encode(answer.body if known else answer.for_strangers)


def _problem(problem: Problem, headers: dict[str, str]) -> bytes:
    """Write *problem* as RFC 9457, and add its headers to *headers*."""
    headers.update(problem.headers)
    headers["Content-Type"] = "application/problem+json"
    body = {
        "type": f"urn:canoa:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": headers["X-Request-Id"],
    }
    if problem.errors:
        body["errors"] = problem.errors
    return msgspec.json.encode(body)

"""`@endpoint`: everything around a function.

It checks the method, the key, the size and the type of a request, and it writes the request id,
errors, CORS headers and the log line. A function only returns its answer.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import msgspec

from serving.access.cors import cors_headers, preflight_headers
from serving.access.gate import Caller
from serving.errors import FieldError, InternalError, InvalidQuery, MethodNotAllowed, Problem
from serving.process import process, stopping
from serving.request import JSON, Request, check_answer, check_body, decode
from serving.routes import Answer, Function, Limit, Response, Route, check_function
from serving.telemetry.logs import describe, log
from serving.telemetry.observers import Served, observers, tell
from serving.telemetry.request_id import request_id
from serving.telemetry.tracing import request_span, span

__all__ = [
    "Answer",
    "Function",
    "Limit",
    "Request",
    "Response",
    "Route",
    "decode",
    "endpoint",
    "fail",
]


def endpoint(
    method: str,
    path: str,
    *,
    scope: str | None = "predict",
    body: Any = None,
    answer: Any = None,
    locked: Answer | None = None,
    media: tuple[str, ...] = (JSON,),
) -> Callable[[Callable[[Request], Answer]], Function]:
    """
    Make an HTTP function of a handler that returns an `Answer` or raises a `Problem`.

    Args:
        method: The one method that it answers, besides OPTIONS (and HEAD, for GET).
        path: Its path among other functions. On a platform that gives every function an address of
            its own, any path reaches it.
        scope: What a caller's key must allow, in small letters. None lets anyone in.
        body: The type of the JSON body, for /openapi.json; a msgspec type.
        answer: The type of the answer, likewise; or its media type, if it is not JSON.
        locked: What browsers get where a key is needed, with the status 401.
        media: The media types of bodies that it takes. /openapi.json describes JSON.

    Raises:
        SystemExit: `check_function` fails, or a setting cannot be read. So functions-framework
            too ends with a sentence, and without a traceback.
    """
    process()
    route = Route(method, path, scope, body, answer, locked, media)

    def decorate(handler: Callable[[Request], Answer]) -> Function:
        with stopping():
            check_function(handler, route)

        # functions-framework accepts nothing but a plain function.
        @functools.wraps(handler)
        def function(request: Request, limit: Limit | None = None) -> Response:
            return respond(request, handler, route, limit)

        function.route = route  # type: ignore[attr-defined]  # a function may have attributes
        return cast(Function, function)

    return decorate


def respond(
    request: Request,
    handler: Callable[[Request], Answer],
    route: Route | None,
    limit: Limit | None = None,
) -> Response:
    """
    Answer *request* through *handler*. Raises nothing.

    Without a *route*, any method is accepted from anyone.
    """
    method = request.method if request.method in _METHODS else "other"
    with request_span(method, route.path if route else None, request.headers):
        return _respond(request, method, handler, route, limit)


def fail(request: Request, error: BaseException) -> Response:
    """Answer *request* as if a function had raised *error*. Raises nothing."""

    def handler(_: Request) -> Answer:
        raise error

    return respond(request, handler, None)


def _respond(
    request: Request,
    method: str,
    handler: Callable[[Request], Answer],
    route: Route | None,
    limit: Limit | None,
) -> Response:
    started = time.perf_counter()
    here = process()
    headers = {
        "Content-Type": "application/json",
        "X-Request-Id": request_id(request.headers),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    headers.update(cors_headers(request.headers, here.settings.cors_origins))
    answer = Answer(None)
    caller = None
    failure: dict[str, Any] = {}
    level = "info"
    try:
        if route and method == "OPTIONS":
            status, body = 204, b""
            headers.update(preflight_headers(request.headers, route.methods, headers))
        else:
            size = 0
            if route:
                if method not in route.methods:
                    allowed = {"Allow": ", ".join(route.methods)}
                    raise MethodNotAllowed(f"Use {route.method}.", headers=allowed)
                caller = here.gate.identify(request.headers)
                if route.scope is not None:
                    if limit:
                        limit(caller)
                    caller.authorize(route.scope)
                if route.method != "GET":
                    size = check_body(request, here.settings.max_body_bytes, route.media)
            with _turn if size > LARGE_BODY else _NO_TURN:
                answer = _call(handler, request)
                status, body = 200, _encode(answer, caller, headers)
            if size:
                check_answer(request, body, here.settings.max_answer_bytes)
    except Problem as problem:
        status, body, level = problem.status, _problem(problem, headers), problem.level
        in_browser = "text/html" in (request.headers.get("Accept") or "")
        if route and route.locked and status == 401 and in_browser:
            body = _encode(route.locked, None, headers)
        failure = {"error": problem.code, "reason": problem.reason}
        answer = Answer(None, model_version=problem.model_version)
    except (Exception, SystemExit) as error:  # no traceback reaches a client
        status, body = 500, _problem(InternalError(_SORRY), headers)
        failure = describe(error)
    seconds = time.perf_counter() - started
    path = route.path if route else None
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
        counts = answer.rows, answer.model_version, failure.get("error")
        served = Served(method, path, status, seconds, *counts)
        tell(lambda observer: observer.request_served(served))
    return body, status, headers


#: In bytes. Larger bodies, which may take thirty times as much memory, are worked on one at a time.
#: This costs little time: most of the work holds Python's lock anyway.
LARGE_BODY = 64 * 1024

_turn = threading.Lock()
_NO_TURN = contextlib.nullcontext()
_SORRY = "The request could not be answered. Its id leads to the reason in the server's log."
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})


def _call(handler: Callable[[Request], Answer], request: Request) -> Answer:
    try:
        answer: object = handler(request)
    except KeyError as error:
        if getattr(error, "code", None) != 400:  # Werkzeug's, for request.args["a"] without an a
            raise
        raise InvalidQuery(f"The query string needs the parameter {error.args[0]}.") from None
    if isinstance(answer, Answer):
        return answer
    returned = f"{handler.__name__} returned a {type(answer).__name__}"
    raise InternalError(_SORRY, reason=f"{returned}; return Answer(…).")


def _encode(answer: Answer, caller: Caller | None, headers: dict[str, str]) -> bytes:
    """Write what this caller may see."""
    if answer.media_type is not None:
        body = answer.body.encode() if isinstance(answer.body, str) else answer.body
        if not isinstance(body, bytes):
            kind = type(body).__name__
            raise InternalError(_SORRY, reason=f"a body with a media type is a {kind}, not bytes")
        headers.update(answer.headers, **{"Content-Type": answer.media_type})
        return body
    whole = answer.public is None or (caller is not None and caller.may("info"))
    with span("encode"):
        body = msgspec.json.encode(answer.body if whole else answer.public)
    headers.update(answer.headers)
    return body


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
        body["errors"] = [
            FieldError(_cut(error.pointer), _cut(error.detail)) for error in problem.errors
        ]
    return msgspec.json.encode(body)


#: In characters. A key that a client sent is in the pointer to it, and may be megabytes long.
LONGEST_TEXT = 500


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"

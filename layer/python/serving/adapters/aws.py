"""AWS Lambda: `handler` answers events through the functions, with no web framework.

FUNCTION_TARGET names the function; without it this one Lambda serves every route. Importing this
module is Lambda's init phase: it loads the functions and the model, also for SnapStart's snapshot.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
from typing import Any, Protocol

from serving.adapters.aws_events import EventRequest, UnknownEventError, read_event
from serving.adapters.aws_metrics import add_metrics
from serving.endpoint import Answer, Request, Response, respond
from serving.errors import ModelUnavailable, UnknownEvent
from serving.process import process, stopping
from serving.routes import load_functions, not_found, scopes
from serving.telemetry.lifecycle import log_start
from serving.telemetry.logs import decorate_lines, line_fields
from serving.telemetry.tracing import flush_telemetry, start_telemetry

__all__ = ["handler"]

_INITIALIZATION = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE")
_TRACE_ROOT = re.compile(r"(?:^|;)Root=([\w-]+)")


class Context(Protocol):
    """What Lambda tells of an invocation."""

    aws_request_id: str


class _Lambda:
    """The functions of this process, and whether an invocation is its first."""

    def __init__(self) -> None:
        folder = os.path.join(os.environ.get("LAMBDA_TASK_ROOT", "."), "functions")
        here = process()
        target = here.settings.function_target
        with stopping():
            found = load_functions(folder, target)
            if target is None:
                here.gate.check_scopes(scopes(found))
        self._by_path = {function.route.path: function for function in found}
        self._only = found[0] if target else None
        self._not_found = not_found([function.route for function in found])
        # Provisioned concurrency starts ahead of any client, who then sees no cold start.
        self._cold = _INITIALIZATION != "provisioned-concurrency"

    def answer(self, event: Any, context: Context | None) -> dict[str, Any]:
        cold, self._cold = self._cold, False
        fields = {
            "function_request_id": getattr(context, "aws_request_id", None),
            "xray_trace_id": _xray_trace_id(),
            "cold_start": cold,
        }
        with line_fields(**fields):
            try:
                known = read_event(event)
            except UnknownEventError as error:
                return _refuse(error)
            return known.answer(self._respond(known.request()))

    def _respond(self, request: EventRequest) -> Response:
        function = self._only or self._by_path.get(request.path)
        response = function(request) if function else respond(request, self._not_found, None)
        # Servers leave out the body of an answer to HEAD; here nobody else does.
        return response if request.method != "HEAD" else (b"", *response[1:])


def _refuse(error: UnknownEventError) -> dict[str, Any]:
    def refuse(_: Request) -> Answer:
        raise UnknownEvent("The event is no HTTP request.")

    with line_fields(event=str(error)):
        nobody = EventRequest("", "", {}, dict, bytes)
        body, status, headers = respond(nobody, refuse, None)
    return {"statusCode": status, "headers": headers, "body": body.decode()}


def _xray_trace_id() -> str | None:
    """Read the trace's root off what the runtime sets for each invocation."""
    found = _TRACE_ROOT.search(os.environ.get("_X_AMZN_TRACE_ID", ""))
    return found[1] if found else None


def _after_restore() -> None:
    """Renew what a snapshot may have kept too long: the model, if another is live by now."""
    with contextlib.suppress(ModelUnavailable):
        process().model.renew()


def _load_model() -> None:
    """Load the model without garbage collection, and exempt all that is loaded from later ones."""
    gc.disable()
    try:
        with contextlib.suppress(ModelUnavailable):  # logged; the first request tries again
            process().model.get()
    finally:
        gc.freeze()
        gc.enable()


decorate_lines(add_metrics)
log_start("AWS Lambda", process().settings, function=process().settings.function_target)
start_telemetry()
_lambda = _Lambda()
_load_model()
if _INITIALIZATION == "snap-start":
    from snapshot_restore_py import register_after_restore  # part of Lambda's Python since 3.12

    register_after_restore(_after_restore)


def handler(event: Any, context: Context | None = None) -> dict[str, Any]:
    """
    Answer one event.

    Args:
        event: API Gateway's (HTTP API 2.0, REST API 1.0), a function URL's or a load balancer's.
        context: Lambda's.

    Returns:
        The answer in the shape that the sender of the event expects; 400 to any other event.
    """
    try:
        return _lambda.answer(event, context)
    finally:
        flush_telemetry()  # what is left would wait for the next event, frozen

"""AWS Lambda: `handler` answers events through the functions, without a web framework.

FUNCTION_TARGET names the function to serve; without it, one Lambda serves every route. Lambda's
init phase imports this module, which loads the functions and the model, also for SnapStart.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

from serving.adapters.aws_events import is_warm_up, read_event
from serving.adapters.aws_metrics import add_metrics
from serving.adapters.aws_request import EventRequest
from serving.endpoint import Response, fail
from serving.errors import ModelUnavailable, NotFound, UnknownEvent
from serving.process import process, stopping
from serving.routes import functions_by_path, list_routes, load_functions, scopes
from serving.telemetry.lifecycle import log_start
from serving.telemetry.logs import decorate_lines, line_fields, log
from serving.telemetry.tracing import flush_telemetry, start_telemetry

__all__ = ["handler"]

_INITIALIZATION = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE")
_TRACE_ROOT = re.compile(r"(?:^|;)Root=([\w-]+)")


class _Lambda:
    """The functions of this process, and whether the next invocation is its first."""

    def __init__(self) -> None:
        folder = os.path.join(os.environ.get("LAMBDA_TASK_ROOT", "."), "functions")
        here = process()
        target = here.settings.function_target
        with stopping():
            found = load_functions(folder, target)
            if target is None:
                here.gate.check_scopes(scopes(found))
        self._by_path = functions_by_path(found, here.settings.base_path)
        self._listed = list_routes(found, here.settings.base_path)
        self._only = found[0] if target else None
        # With provisioned concurrency the start is over before a client sends a request.
        self._cold = _INITIALIZATION != "provisioned-concurrency"

    def answer(self, event: Any, context: Any) -> dict[str, Any] | None:
        cold, self._cold = self._cold, False
        # The runtime sets this variable for each event.
        trace = _TRACE_ROOT.search(os.environ.get("_X_AMZN_TRACE_ID", ""))
        fields = {
            "function_request_id": getattr(context, "aws_request_id", None),
            "xray_trace_id": trace and trace[1],
            "cold_start": cold,
        }
        with line_fields(**fields):
            if is_warm_up(event):
                log("debug", "warm-up event")
                return None
            try:
                known = read_event(event)
            except UnknownEvent as problem:
                body, status, headers = fail(EventRequest("", "", {}, list, bytes), problem)
                return {"statusCode": status, "headers": headers, "body": body.decode()}
            return known.answer(self._respond(known.request()))

    def _respond(self, request: EventRequest) -> Response:
        function = self._only or self._by_path.get(request.path)
        if function:
            response = function(request)
        else:
            response = fail(request, NotFound(f"There is {self._listed}."))
        # Web servers drop the body of an answer to HEAD. Lambda does not.
        return response if request.method != "HEAD" else (b"", *response[1:])


def _after_restore() -> None:
    """Fetch what the snapshot may have kept too long: the provider's keys, and the model."""
    process().gate.fetch_keys()
    with contextlib.suppress(ModelUnavailable):
        process().model.renew()


decorate_lines(add_metrics)
log_start("AWS Lambda", process().settings, function=process().settings.function_target)
start_telemetry()
_lambda = _Lambda()
with contextlib.suppress(ModelUnavailable):  # logged; the first request tries again
    process().model.get()
if _INITIALIZATION == "snap-start":
    from snapshot_restore_py import register_after_restore  # part of Lambda's Python since 3.12

    register_after_restore(_after_restore)


def handler(event: Any, context: Any = None) -> dict[str, Any] | None:
    """
    Answer one event.

    Args:
        event: From API Gateway (HTTP API 2.0, REST API 1.0), a function URL or a load balancer.
        context: From Lambda.

    Returns:
        The answer in the shape that the event's sender expects; None for a warm-up event.

    Raises:
        UnservedEventError: The event is of another kind, such as a batch of records. Lambda then
            keeps it for a retry.
    """
    try:
        return _lambda.answer(event, context)
    finally:
        flush_telemetry()  # Lambda freezes the process until the next event

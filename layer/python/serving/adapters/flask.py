"""One WSGI app with every function, and /metrics: the Heroku dyno, and the laptop."""

from __future__ import annotations

import os
from collections.abc import Callable

import flask
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.routing import Rule

from serving.access.gate import Caller
from serving.endpoint import Answer, Function, Limit, Request, endpoint, respond
from serving.process import process, stopping
from serving.routes import load_functions, not_found, scopes, served_paths
from serving.telemetry.metrics import count_requests, render_metrics

__all__ = ["PROBLEM", "create_app"]

#: The key in the WSGI environment under which a server passes the problem of a request that it
#: could not read. It is answered in our form.
PROBLEM = "canoa.problem"


def create_app(functions: str | os.PathLike[str] = "functions") -> flask.Flask:
    """
    Make the app that serves every function in the folder *functions*.

    Raises:
        SystemExit: A setting cannot be read, or a function cannot be loaded.
    """
    app = flask.Flask("serving", static_folder=None)
    here = process()
    app.url_map.merge_slashes = False  # every other path is a 404, never a redirect
    with stopping():
        metrics = _metrics()
        found = [*load_functions(functions, taken=[metrics.route.path]), metrics]
        here.gate.check_scopes(scopes(found))
        limit = _limit(here.settings.rate_limit, here.settings.rate_limit_storage)
    for function in found:
        # A rule without methods, unlike add_url_rule, leaves them to the endpoint.
        for path in served_paths(function.route, here.settings.base_path):
            # A path that ends in a slash answers without it too, where Werkzeug would redirect to a
            # host that the client names.
            strict = not path.endswith("/")
            app.url_map.add(Rule(path, endpoint=function.route.path, strict_slashes=strict))
        app.view_functions[function.route.path] = _view(function, limit)
    app.before_request(_answer_problem)
    missing = not_found([function.route for function in found], here.settings.base_path)
    app.register_error_handler(HTTPException, _not_found(missing))
    return app


def _metrics() -> Function:
    """Make /metrics. It is here, and not in functions/: other platforms count by themselves."""
    count_requests()

    @endpoint("GET", "/metrics", scope="info")
    def metrics(_: Request) -> Answer:
        """Every count, in Prometheus' text form."""
        body, media_type = render_metrics()
        return Answer(body, media_type=media_type)

    return metrics


def _limit(rate: str | None, storage: str | None) -> Limit | None:
    """Make the rate limit, if one is set: by the caller's name, or else by the address."""
    if rate is None:
        return None
    from serving.access.rate_limit import network, open_rate_limit

    limits = open_rate_limit(rate, storage)

    def limit(caller: Caller) -> None:
        if caller.name is None:
            limits.take(f"address {network(_address())}")
        else:
            limits.take(f"{caller.known_by} {caller.name}")

    return limit


def _address() -> str:
    """
    Return the address that the request comes from.

    Heroku's router appends the address that it sees to X-Forwarded-For; the part before it is the
    client's own claim. Without a router the whole header is.
    """
    if process().platform == "Heroku":
        return flask.request.headers.get("X-Forwarded-For", "").rpartition(",")[2]
    return flask.request.remote_addr or ""


def _view(function: Function, limit: Limit | None) -> flask.typing.RouteCallable:
    def view() -> ResponseReturnValue:
        return function(_request(), limit)

    return view


def _not_found(handler: Callable[[Request], Answer]) -> flask.typing.ErrorHandlerCallable:
    def handle(error: Exception) -> ResponseReturnValue:
        # Flask makes an InternalServerError of whatever fails outside an endpoint.
        if isinstance(error, InternalServerError):
            return respond(_request(), _failing(error.original_exception or error), None)
        return respond(_request(), handler, None)

    return handle


def _answer_problem() -> ResponseReturnValue | None:
    if problem := flask.request.environ.get(PROBLEM):
        return respond(_request(), _failing(problem), None)
    return None


def _failing(failure: BaseException) -> Callable[[Request], Answer]:
    def fail(_: Request) -> Answer:
        raise failure

    return fail


def _request() -> Request:
    return flask.request._get_current_object()  # type: ignore[attr-defined,no-any-return]  # a proxy's own

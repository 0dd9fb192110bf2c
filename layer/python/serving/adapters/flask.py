"""One WSGI app with every function, and /metrics: the Heroku dyno, and the laptop."""

from __future__ import annotations

import os
from wsgiref.types import WSGIEnvironment

import flask
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import InternalServerError

from serving.access.gate import Caller
from serving.endpoint import Answer, Function, Limit, Request, endpoint, fail
from serving.errors import NotFound
from serving.process import process, stopping
from serving.routes import functions_by_path, list_routes, load_functions, scopes
from serving.telemetry.metrics import count_requests, render_metrics

__all__ = ["PROBLEM", "create_app"]

#: The key in the WSGI environment under which a server passes the problem of a request that it
#: could not read. It is answered in our form.
PROBLEM = "canoa.problem"


class _App(flask.Flask):
    def create_url_adapter(self, _: flask.Request | None) -> None:
        """Match no routes, which would redirect and merge slashes; Lambda has none either."""


def create_app(functions: str | os.PathLike[str] = "functions") -> flask.Flask:
    """
    Make the app that serves every function in the folder *functions*.

    Raises:
        SystemExit: A setting cannot be read, or a function cannot be loaded.
    """
    app = _App("serving", static_folder=None)
    here = process()
    with stopping():
        metrics = _metrics()
        found = [*load_functions(functions, taken=[metrics.route.path]), metrics]
        here.gate.check_scopes(scopes(found))
        limit = _limit(here.settings.rate_limit, here.settings.rate_limit_storage)
    by_path = functions_by_path(found, here.settings.base_path)
    listed = list_routes(found, here.settings.base_path)

    @app.before_request
    def answer() -> ResponseReturnValue:
        request, environ = _request(), flask.request.environ
        if problem := environ.get(PROBLEM):
            return fail(request, problem)
        function = by_path.get(_path(environ))
        if function is None:
            return fail(request, NotFound(f"There is {listed}."))
        return function(request, limit)

    @app.errorhandler(InternalServerError)
    def fail_whole(error: InternalServerError) -> ResponseReturnValue:
        return fail(_request(), error.original_exception or error)

    return app


def _path(environ: WSGIEnvironment) -> str:
    """Return the path, with its leading slashes and encoded ones, which Werkzeug would change."""
    if "%2f" in (raw := environ.get("RAW_URI", "").partition("?")[0]).lower():
        return str(raw)
    return str(environ["PATH_INFO"]).encode("latin-1").decode("utf-8", "replace")


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


def _request() -> Request:
    return flask.request._get_current_object()  # type: ignore[attr-defined,no-any-return]  # a proxy's own

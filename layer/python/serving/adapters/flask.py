"""Every function behind one WSGI app, and /metrics: the Heroku dyno, and the laptop."""

from __future__ import annotations

import os

import flask
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from serving.access.gate import Caller
from serving.endpoint import Function, Limit, Request, Route, respond
from serving.errors import SettingsError
from serving.routes import load_functions, not_found
from serving.settings import platform, settings
from serving.telemetry.metrics import metrics_endpoint

__all__ = ["create_app"]


def create_app(functions: str | os.PathLike[str] = "functions") -> flask.Flask:
    """
    Make the app that serves every function found in the folder *functions*.

    Raises:
        SystemExit: A setting cannot be read, or a function cannot be loaded.
    """
    app = flask.Flask("serving", static_folder=None)
    # One byte more: Werkzeug cuts a chunked body at this length, and the endpoint must see that.
    app.config["MAX_CONTENT_LENGTH"] = settings().max_body_bytes + 1
    app.url_map.merge_slashes = False  # a path that is not a function's is 404, never a redirect
    found = [*load_functions(functions), metrics_endpoint()]
    limit = _limit()
    for function in found:
        # A rule without methods, unlike add_url_rule, leaves them to the endpoint.
        app.url_map.add(Rule(function.route.path, endpoint=function.__name__))
        app.view_functions[function.__name__] = _view(function, limit)
    app.register_error_handler(HTTPException, _not_found([function.route for function in found]))
    return app


def _limit() -> Limit | None:
    """Make the rate limit, if there is to be one: by the caller's name, or else by the address."""
    ours = settings()
    if ours.rate_limit is None:
        return None
    from serving.access.rate_limit import network, open_rate_limit

    try:
        rate = open_rate_limit(ours.rate_limit, ours.rate_limit_storage)
    except SettingsError as error:
        raise SystemExit(f"canoa: {error}") from None

    def limit(caller: Caller) -> None:
        if caller.name is None:
            rate.take(f"address {network(_address())}")
        else:
            rate.take(f"{caller.known_by} {caller.name}")

    return limit


def _address() -> str:
    """
    Return where the request comes from.

    Heroku's router appends the address that it sees to X-Forwarded-For; what stands before is the
    client's own claim. With no router in front, all of the header is.
    """
    if platform() == "Heroku":
        return flask.request.headers.get("X-Forwarded-For", "").rpartition(",")[2]
    return flask.request.remote_addr or ""


def _view(function: Function, limit: Limit | None) -> flask.typing.RouteCallable:
    def view() -> ResponseReturnValue:
        return function(_request(), limit)

    return view


def _not_found(routes: list[Route]) -> flask.typing.ErrorHandlerCallable:
    def handle(_: Exception) -> ResponseReturnValue:
        return respond(_request(), not_found(routes), None)

    return handle


def _request() -> Request:
    return flask.request._get_current_object()  # type: ignore[attr-defined,no-any-return]  # a proxy's own

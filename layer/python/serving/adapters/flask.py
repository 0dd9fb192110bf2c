"""Every function behind one WSGI app, and /metrics: the Heroku dyno, and the laptop."""

from __future__ import annotations

from pathlib import Path

import flask
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from serving.adapters.metrics import metrics_endpoint
from serving.endpoint import Function, Request, Route, respond
from serving.routes import load_functions, nowhere
from serving.settings import settings

__all__ = ["create_app"]


def create_app(functions: str | Path = "functions") -> flask.Flask:
    """
    Make the app that serves every function found in the folder *functions*.

    Raises:
        SystemExit: A setting cannot be read, or a function cannot be loaded.
    """
    app = flask.Flask("serving", static_folder=None)
    # One byte more: Werkzeug cuts a chunked body at this length, and the endpoint must see that.
    app.config["MAX_CONTENT_LENGTH"] = settings().max_body_bytes + 1
    app.url_map.merge_slashes = False  # a path that is not a function's is 404, never a redirect
    found = [*load_functions(Path(functions)), metrics_endpoint()]
    for function in found:
        # A rule without methods, unlike add_url_rule, leaves them to the endpoint.
        app.url_map.add(Rule(function.route.path, endpoint=function.__name__))
        app.view_functions[function.__name__] = _view(function)
    app.register_error_handler(HTTPException, _not_found([function.route for function in found]))
    return app


def _view(function: Function) -> flask.typing.RouteCallable:
    def view() -> ResponseReturnValue:
        return function(_request())

    return view


def _not_found(routes: list[Route]) -> flask.typing.ErrorHandlerCallable:
    def handle(_: Exception) -> ResponseReturnValue:
        return respond(_request(), nowhere(routes), None)

    return handle


def _request() -> Request:
    return flask.request._get_current_object()  # type: ignore[attr-defined,no-any-return]

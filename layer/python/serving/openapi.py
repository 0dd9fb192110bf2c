"""The API's description in OpenAPI 3.1, made from the functions, the manifest and the settings."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from serving.bundle.manifest import Manifest
from serving.errors import FieldError, FunctionsError
from serving.model.json_schema import Json, ModelSchema, object_schema, ref
from serving.process import process
from serving.request import JSON
from serving.routes import Function, function_names, load_functions
from serving.settings import Settings
from serving.telemetry.logs import log

__all__ = ["describe_folder"]

_STRING: Json = {"type": "string"}
_OBJECT: Json = {"type": "object"}


def describe_folder(folder: str, manifest: Manifest) -> Json:
    """
    Describe every function in *folder*, as this process's settings and *manifest* have it.

    Each gets a path, a summary (the first line of its docstring) and the schemas of its types. A
    function that cannot be loaded is logged and left out.
    """
    settings, gate = process().settings, process().gate
    schemas: dict[str, Json] = {**_SCHEMAS}
    schemes = {"bearer": _BEARER, **({"apiKey": _API_KEY} if gate.takes_keys else {})}
    paths: dict[str, Json] = {}
    for function in _functions(folder):
        route = function.route
        operation = _operation(function, manifest, settings, schemas)
        if gate.closed:
            _secure(operation, route.scope, schemes)
        if settings.rate_limit and route.scope:
            _refuse(operation, "429")
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "servers": [{"url": settings.base_path or "/"}],
        "info": {
            "title": f"Model {manifest.name}",
            "version": manifest.version,
            "description": f"{manifest.task.capitalize()} by {manifest.estimator.type}.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": {"RequestId": _REQUEST_ID},
            "responses": {"Problem": _PROBLEM_RESPONSE},
            **({"securitySchemes": schemes} if gate.closed else {}),
        },
    }


@functools.cache
def _functions(folder: str) -> list[Function]:
    """Return every function of *folder* but broken ones, which no process can serve."""
    found: list[Function] = []
    for name in function_names(folder):
        try:
            found += load_functions(folder, name)
        except FunctionsError as error:
            log("error", "function not described", reason=str(error))
    return found


def _operation(
    function: Function, manifest: Manifest, settings: Settings, schemas: dict[str, Json]
) -> Json:
    """Describe *function*, and add the schemas that this refers to to *schemas*."""

    def schema(kind: Any) -> Json:
        if kind is None:
            return _OBJECT
        if isinstance(kind, str):  # a media type
            return _STRING
        if isinstance(kind, ModelSchema):
            schemas.update(kind.describe(manifest, settings))
            return ref(kind.name)
        # The function's name comes first: two functions may call their types alike.
        template = f"#/components/schemas/{function.__name__}_{{name}}"
        [described], components = msgspec.json.schema_components([kind], ref_template=template)
        schemas.update(
            {f"{function.__name__}_{name}": _plain(part) for name, part in components.items()}
        )
        return described

    route = function.route
    summary = (function.__doc__ or "").strip() or function.__name__
    media_type = route.answer if isinstance(route.answer, str) else "application/json"
    operation: Json = {
        "operationId": function.__name__,
        "summary": summary.splitlines()[0].rstrip("."),
        "responses": {
            "200": {
                "description": "Done.",
                "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
                "content": {media_type: {"schema": schema(route.answer)}},
            },
        },
    }
    # Besides 500 and 503, what the server answers before it calls a function.
    _refuse(operation, "400", "405", "408", "414", "431", "500", "503")
    if route.method != "GET":
        content: Json = {"schema": schema(route.body)}
        if isinstance(route.body, ModelSchema) and route.body.example and manifest.example.instance:
            content["example"] = route.body.example(manifest)
        if isinstance(route.body, ModelSchema) and route.body.query:
            operation["parameters"] = [
                {"name": name, "in": "query", "schema": kind}
                for name, kind in route.body.query(manifest).items()
            ]
            _refuse(operation, "404")  # the model may have no explainer
        # One form is described: generators of clients cannot choose between several.
        others = "".join(f" {media} is accepted too." for media in route.media if media != JSON)
        operation["requestBody"] = {
            "required": True,
            "description": f"At most {settings.max_body_bytes} bytes of UTF-8.{others}",
            "content": {"application/json": content},
        }
        _refuse(operation, "413", "415", "422")
    return operation


def _plain(schema: Any) -> Any:
    """Remove from a schema by msgspec what generators of clients cannot read."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain: Json = {
        # The names of properties are the user's.
        name: {key: _plain(kind) for key, kind in part.items()}
        if name == "properties"
        else _plain(part)
        for name, part in schema.items()
        if name not in ("default", "propertyNames", "title")
    }
    if "prefixItems" in plain:  # a tuple
        first, *others = plain.pop("prefixItems")
        plain["items"] = first if all(part == first for part in others) else {}
    if isinstance(pattern := plain.get("pattern"), str):
        plain["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
    if all(isinstance(value, str) for value in plain.get("enum", [None])):
        plain["type"] = "string"
    return plain


def _secure(operation: Json, scope: str | None, schemes: Json) -> None:
    # For these schemes the names in the list are roles (OpenAPI 3.1, Security Requirement Object).
    operation["security"] = [{scheme: [scope or "info"]} for scheme in schemes]
    if scope:
        _refuse(operation, "401", "403")
    else:
        operation["security"].insert(0, {})  # nobody has to authenticate


def _refuse(operation: Json, *statuses: str) -> None:
    for status in statuses:
        operation["responses"][status] = {"$ref": "#/components/responses/Problem"}


_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, or a token of the identity provider, if one is configured.",
}
_API_KEY = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
_REQUEST_ID: Json = {
    "description": "The id that was sent in X-Request-Id, traceparent or X-Cloud-Trace-Context, "
    "or a new one.",
    "schema": _STRING,
}
_SCHEMAS: dict[str, Json] = {
    FieldError.__name__: object_schema({"pointer": _STRING, "detail": _STRING}),
    "Problem": object_schema(
        {
            "type": _STRING,
            "title": _STRING,
            "status": {"type": "integer"},
            "detail": _STRING,
            "request_id": _STRING,
            "errors": {"type": "array", "items": ref(FieldError.__name__), "maxItems": 100},
        },
        optional=("errors",),
    ),
}
_PROBLEM_RESPONSE: Json = {
    "description": "What is wrong, in the form of RFC 9457.",
    "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
    "content": {"application/problem+json": {"schema": ref("Problem")}},
}

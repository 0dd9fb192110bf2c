"""What the OpenAPI document says of who gets in, and how often."""

from __future__ import annotations

from typing import Any

from serving.settings import Settings

__all__ = ["add_security"]

Json = dict[str, Any]

#: Operation → the scope that it wants; None is open to everybody.
_SCOPES = {"predict": "predict", "model_info": "info", "openapi": "info", "health": None}
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, or a token of the identity provider, where there is one.",
}
_API_KEY = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
#: What health tells strangers.
_ONLY_OK = {
    "type": "object",
    "properties": {"status": {"const": "ok"}},
    "required": ["status"],
    "additionalProperties": False,
}


def add_security(document: Json, settings: Settings) -> None:
    """Add to *document* what these settings ask of callers, and the answers that refuse them."""
    closed = settings.auth == "required"
    if closed:
        schemes = {"bearer": _BEARER, **({"apiKey": _API_KEY} if settings.api_keys else {})}
        document["components"]["securitySchemes"] = schemes
    for path in document["paths"].values():
        for operation in path.values():
            scope = _SCOPES[operation["operationId"]]
            if closed:
                _secure(operation, scope, schemes)
            if settings.rate_limit and scope:
                _refuse(operation, "429")


def _secure(operation: Json, scope: str | None, schemes: Json) -> None:
    # Of these schemes the names in the list are roles (OpenAPI 3.1, Security Requirement Object).
    operation["security"] = [{scheme: [scope or "info"]} for scheme in schemes]
    if scope:
        _refuse(operation, "401", "403")
        return
    # Nobody must say who they are; strangers are told less.
    operation["security"].insert(0, {})
    content = operation["responses"]["200"]["content"]["application/json"]
    content["schema"] = {"oneOf": [content["schema"], _ONLY_OK]}


def _refuse(operation: Json, *statuses: str) -> None:
    for status in statuses:
        operation["responses"][status] = {"$ref": "#/components/responses/Problem"}

"""The API in OpenAPI 3.1, made from the manifest, so that it cannot say what the model is not."""

from __future__ import annotations

from typing import Any

from serving.bundle.manifest import Feature, Label, Manifest
from serving.model.predictions import label_key
from serving.model.schema import FLOAT32_MAX, MISSING
from serving.openapi_security import add_security
from serving.settings import Settings

__all__ = ["describe_api"]

Json = dict[str, Any]


def describe_api(manifest: Manifest, settings: Settings) -> Json:
    """Describe every function, with this model's features and this server's limits."""
    predicting = _operation("predict", "Score instances", _ref("Answer"))
    predicting["requestBody"] = {
        "required": True,
        "description": f"At most {settings.max_body_bytes} bytes of UTF-8.",
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Body"},
                "example": {"instances": [manifest.example.instance]},
            }
        },
    }
    for status in ("400", "413", "415", "422"):
        predicting["responses"][status] = {"$ref": "#/components/responses/Problem"}
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": f"Model {manifest.name}",
            "version": manifest.version,
            "description": f"A {manifest.task} by {manifest.estimator.type}, served by Canoa.",
        },
        "paths": {
            "/v0/predict": {"post": predicting},
            "/v0/model_info": {
                "get": _operation(
                    "model_info", "What the model is, and its worth", {"type": "object"}
                )
            },
            "/health": {"get": _operation("health", "Is a model loaded, and which", _HEALTH)},
            "/openapi.json": {"get": _operation("openapi", "This document", {"type": "object"})},
        },
        "components": {
            "schemas": {
                "Body": _body(settings.max_instances),
                "Instance": _instance(manifest.features),
                "Row": _row(manifest.features),
                "Prediction": _prediction(manifest),
                "Answer": _answer(),
                "Model": _MODEL,
                "FieldError": _FIELD_ERROR,
                "Problem": _PROBLEM,
            },
            "headers": {"RequestId": _REQUEST_ID},
            "responses": {"Problem": _PROBLEM_RESPONSE},
        },
    }
    add_security(document, settings)
    return document


def _operation(name: str, summary: str, schema: Json) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {
                "description": "Done.",
                "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
                "content": {"application/json": {"schema": schema}},
            },
            "500": {"$ref": "#/components/responses/Problem"},
            "503": {"$ref": "#/components/responses/Problem"},
        },
    }


def _body(max_instances: int) -> Json:
    item = {"oneOf": [_ref("Instance"), _ref("Row")]}
    batch = {
        "type": "object",
        "properties": {
            "instances": {"type": "array", "items": item, "minItems": 1, "maxItems": max_instances}
        },
        "required": ["instances"],
        "additionalProperties": False,
    }
    return {"oneOf": [batch, _ref("Instance")]}


def _instance(features: list[Feature]) -> Json:
    return {
        "type": "object",
        "properties": {feature.name: _value(feature) for feature in features},
        "required": [feature.name for feature in features],
        "additionalProperties": False,
    }


def _row(features: list[Feature]) -> Json:
    return {
        "type": "array",
        "description": "The values in feature order.",
        "prefixItems": [_value(feature) for feature in features],
        "items": False,
        "minItems": len(features),
    }


def _value(feature: Feature) -> Json:
    if feature.kind == "category":
        schema: Json = {"type": "string"}
        if feature.accepts_unseen:
            schema["not"] = {"const": MISSING}
            schema["examples"] = list(feature.categories or [])[:20]
        else:
            # null is one of the values where it is allowed: an enum holds for every type.
            schema["enum"] = [*(feature.categories or []), *([None] if feature.nullable else [])]
    elif feature.kind == "boolean":
        schema = {"type": "boolean"}
    else:
        schema = {"type": "number", "minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX}
        if feature.minimum is not None and feature.maximum is not None:
            seen = f"{feature.minimum:g} to {feature.maximum:g}"
            schema["description"] = f"Seen in training: {seen}."
    if feature.nullable:
        schema["type"] = [schema["type"], "null"]
    return schema


def _prediction(manifest: Manifest) -> Json:
    if manifest.classes is None:
        return _object({"value": {"type": "number"}})
    fields: Json = {"label": {"enum": manifest.classes}}
    if manifest.has_probabilities:
        fields["probability"] = {"type": "number"}
        fields["probabilities"] = _probabilities(manifest.classes)
    return _object(fields)


def _probabilities(classes: list[Label]) -> Json:
    return _object({label_key(label): {"type": "number"} for label in classes})


def _answer() -> Json:
    common = {
        "model": _ref("Model"),
        "warnings": {"type": "array", "items": _ref("FieldError"), "maxItems": 100},
    }
    many = {"predictions": {"type": "array", "items": _ref("Prediction"), "minItems": 1}}
    one = {"prediction": _ref("Prediction")}
    return {"oneOf": [_object({**part, **common}, optional=("warnings",)) for part in (many, one)]}


def _object(properties: Json, optional: tuple[str, ...] = ()) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_STRING: Json = {"type": "string"}
_MODEL = _object({"name": _STRING, "version": _STRING})
_HEALTH = _object({"status": {"enum": ["ok", "degraded"]}, "model": _ref("Model")})
_REQUEST_ID: Json = {
    "description": "The id that was sent in X-Request-Id, traceparent or X-Cloud-Trace-Context, "
    "or a new one.",
    "schema": _STRING,
}
_FIELD_ERROR = _object({"pointer": _STRING, "detail": _STRING})
_PROBLEM = _object(
    {
        "type": _STRING,
        "title": _STRING,
        "status": {"type": "integer"},
        "detail": _STRING,
        "request_id": _STRING,
        "errors": {"type": "array", "items": _ref("FieldError"), "maxItems": 100},
    },
    optional=("errors",),
)
_PROBLEM_RESPONSE: Json = {
    "description": "What was wrong, in the form of RFC 9457.",
    "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
    "content": {"application/problem+json": {"schema": _ref("Problem")}},
}

"""JSON Schemas of requests and predictions, made from the manifest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from serving.bundle.manifest import Feature, Manifest, Output
from serving.errors import FieldError
from serving.model.faults import magnitude
from serving.model.predictions import label_key
from serving.model.schema import MISSING

__all__ = ["INSTANCES", "PREDICTIONS", "Json", "ModelSchema", "object_schema", "ref"]

Json = dict[str, Any]


class ModelSchema(NamedTuple):
    """A type that depends on the model: `@endpoint` takes it as *body* or *answer*."""

    #: The schema's name in /openapi.json.
    name: str
    #: Takes the manifest and MAX_INSTANCES; returns this schema and those it refers to, by name.
    describe: Callable[[Manifest, int], dict[str, Json]]
    #: Takes the manifest; returns an example.
    example: Callable[[Manifest], Any] | None = None


def object_schema(properties: Json, optional: tuple[str, ...] = ()) -> Json:
    """Describe an object with these *properties* and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def ref(name: str) -> Json:
    """Refer to a schema by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _instances(manifest: Manifest, max_instances: int) -> dict[str, Json]:
    rows = {"oneOf": [ref("Instance"), ref("Row")]}
    batch = object_schema(
        {"instances": {"type": "array", "items": rows, "minItems": 1, "maxItems": max_instances}}
    )
    features = manifest.features
    return {
        "Body": {"oneOf": [batch, ref("Instance")]},
        "Instance": object_schema(
            {feature.name: _value(feature) for feature in features}
            | {name: {"description": "The model does not read it."} for name in manifest.ignored},
            optional=tuple(manifest.ignored),
        ),
        "Row": {
            "type": "array",
            "description": "The values in feature order.",
            "prefixItems": [_value(feature) for feature in features],
            "items": False,
            "minItems": len(features),
        },
    }


def _predictions(manifest: Manifest, _: int) -> dict[str, Json]:
    common = {
        "model": ref("Model"),
        "warnings": {"type": "array", "items": ref(FieldError.__name__), "maxItems": 100},
    }
    many = {"predictions": {"type": "array", "items": ref("Prediction"), "minItems": 1}}
    one = {"prediction": ref("Prediction")}
    return {
        "Answer": {
            "oneOf": [object_schema({**part, **common}, ("warnings",)) for part in (many, one)]
        },
        "Model": object_schema({"name": {"type": "string"}, "version": {"type": "string"}}),
        "Prediction": _prediction(manifest),
    }


def _value(feature: Feature) -> Json:
    if feature.kind == "text":
        schema: Json = {"type": "string", "not": {"const": MISSING}}
    elif feature.kind == "category":
        schema = {"type": "integer" if feature.is_whole else "string"}
        if feature.accepts_unseen:
            schema["not"] = {"const": MISSING}
            schema["examples"] = list(feature.categories or [])[:20]
        else:
            # null is one of the values where it is allowed: an enum holds for every type.
            schema["enum"] = [*(feature.categories or []), *([None] if feature.nullable else [])]
    elif feature.kind == "boolean":
        schema = {"type": "boolean"}
    else:
        schema = {
            "type": "number",
            "minimum": -magnitude(feature),
            "maximum": magnitude(feature),
        }
        if feature.minimum is not None and feature.maximum is not None:
            seen = f"{feature.minimum:g} to {feature.maximum:g}"
            schema["description"] = f"Seen in training: {seen}."
    if feature.nullable:
        schema["type"] = [schema["type"], "null"]
    return schema


def _prediction(manifest: Manifest) -> Json:
    number = {"type": "number"}
    if manifest.task == "outliers":
        return object_schema({"outlier": {"type": "boolean"}, "score": number})
    if manifest.task == "clustering":
        fields: Json = {"cluster": {"enum": manifest.classes}}
        if manifest.has_probabilities:
            fields["probabilities"] = {"type": "array", "items": _PROBABILITY}
        return object_schema(fields)
    if manifest.outputs:
        outputs = object_schema({output.name: _output(output) for output in manifest.outputs})
        return object_schema({"outputs": outputs})
    return _output(manifest.parts[0])


def _output(output: Output) -> Json:
    if output.classes is None:
        return object_schema({"value": {"type": "number"}})
    fields: Json = {"label": {"enum": output.classes}}
    if output.has_probabilities:
        fields["probability"] = _PROBABILITY
        fields["probabilities"] = object_schema(
            {label_key(label): _PROBABILITY for label in output.classes}
        )
    return object_schema(fields)


_PROBABILITY: Json = {"type": "number", "minimum": 0, "maximum": 1}


#: The body of /v0/predict, and its answer.
INSTANCES = ModelSchema(
    "Body", _instances, lambda manifest: {"instances": [manifest.example.instance]}
)
PREDICTIONS = ModelSchema("Answer", _predictions)

"""JSON Schemas of requests and predictions, made from the manifest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from serving.bundle.manifest import Feature, Label, Manifest, Output
from serving.errors import FieldError
from serving.model.faults import magnitude
from serving.model.predictions import label_key
from serving.model.schema import MISSING
from serving.settings import Settings

__all__ = [
    "EXPLANATIONS",
    "INSTANCES",
    "PREDICTIONS",
    "TO_EXPLAIN",
    "Json",
    "ModelSchema",
    "object_schema",
    "ref",
]

Json = dict[str, Any]


class ModelSchema(NamedTuple):
    """A type that depends on the model: `@endpoint` takes it as *body* or *answer*."""

    #: The schema's name in /openapi.json.
    name: str
    #: Returns this schema and those it refers to, by name.
    describe: Callable[[Manifest, Settings], dict[str, Json]]
    #: Takes the manifest; returns an example.
    example: Callable[[Manifest], Any] | None = None
    #: Takes the manifest; returns the parameters of the query string, by name.
    query: Callable[[Manifest], dict[str, Json]] | None = None


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


def _body(name: str, manifest: Manifest, max_instances: int) -> dict[str, Json]:
    """Describe the one form that generators can write; the server takes two more."""
    body = object_schema({"instances": {**_array("Instance"), "maxItems": max_instances}})
    body["description"] = (
        "An instance may also be a list of its values in the order of the features. One bare "
        "instance instead of this object is accepted, too; predict answers it with `prediction`."
    )
    instance = object_schema(
        {feature.name: _value(feature) for feature in manifest.features}
        | {name: {"description": "The model does not read it."} for name in manifest.ignored},
        optional=tuple(manifest.ignored),
    )
    return {name: body, "Instance": instance}


def _predictions(manifest: Manifest, _: Settings) -> dict[str, Json]:
    return {"Predictions": _answer("predictions", "Prediction"), **_shared(manifest)}


def _explanations(manifest: Manifest, _: Settings) -> dict[str, Json]:
    reason = object_schema({"feature": _STRING, "value": _ANY_VALUE, "contribution": _NUMBER})
    explanation = object_schema(
        {
            "prediction": ref("Prediction"),
            "target": {**_STRING, "description": "Of several outputs, the one explained."},
            "output": {**_STRING, "description": "The class whose probability is explained."},
            "base": {**_NUMBER, "description": "The mean of the output over the background rows."},
            "reasons": _array("Reason"),
            "others": {**_NUMBER, "description": "What all other features add."},
        },
        optional=("target", "output"),
    )
    return {
        "Explanations": _answer("explanations", "Explanation"),
        "Explanation": explanation,
        "Reason": reason,
        **_shared(manifest),
    }


def _array(name: str) -> Json:
    return {"type": "array", "items": ref(name), "minItems": 1}


def _answer(field: str, name: str) -> Json:
    """Describe an answer, whose *field* is an array of objects of the type *name*."""
    warnings = {"type": "array", "items": ref(FieldError.__name__), "maxItems": 100}
    fields = {field: _array(name), "model": ref("Model"), "warnings": warnings}
    return object_schema(fields, optional=("warnings",))


def _shared(manifest: Manifest) -> dict[str, Json]:
    return {"Model": object_schema({"name": _STRING, "version": _STRING}), **_prediction(manifest)}


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


def _prediction(manifest: Manifest) -> dict[str, Json]:
    """Describe a prediction, and every object in it by a name."""
    if manifest.task == "outliers":
        return {"Prediction": object_schema({"outlier": {"type": "boolean"}, "score": _NUMBER})}
    if manifest.task == "clustering":
        fields: Json = {"cluster": {"type": "integer", "enum": manifest.classes}}
        if manifest.has_probabilities:
            fields["probabilities"] = {"type": "array", "items": _PROBABILITY}
        return {"Prediction": object_schema(fields)}
    if not manifest.outputs:
        return _output("", manifest.parts[0])
    found: dict[str, Json] = {}
    outputs: Json = {}
    for place, output in enumerate(manifest.outputs):
        found |= _output(f"Output{place}", output)
        outputs[output.name] = ref(f"Output{place}Prediction")
    found |= {"Outputs": object_schema(outputs)}
    return found | {"Prediction": object_schema({"outputs": ref("Outputs")})}


def _output(prefix: str, output: Output) -> dict[str, Json]:
    name = f"{prefix}Prediction"
    if output.classes is None:
        return {name: object_schema({"value": _NUMBER})}
    fields: Json = {"label": {"enum": output.classes, **_type_of(output.classes)}}
    if not output.has_probabilities:
        return {name: object_schema(fields)}
    fields["probability"] = _PROBABILITY
    fields["probabilities"] = ref(f"{prefix}Probabilities")
    chances = object_schema({label_key(label): _PROBABILITY for label in output.classes})
    return {name: object_schema(fields), f"{prefix}Probabilities": chances}


def _type_of(classes: list[Label]) -> Json:
    """Return the type of the classes if they have only one, which generators need."""
    kinds = {type(label) for label in classes}
    return {"type": _TYPES[kinds.pop()]} if len(kinds) == 1 else {}


_TYPES: dict[type, str] = {bool: "boolean", int: "integer", str: "string"}
_STRING: Json = {"type": "string"}
_NUMBER: Json = {"type": "number"}
#: A feature's value as it was sent.
_ANY_VALUE: Json = {"type": ["string", "number", "boolean", "null"]}
_PROBABILITY: Json = {"type": "number", "minimum": 0, "maximum": 1}


def _example(manifest: Manifest) -> Json:
    return {"instances": [manifest.example.instance]}


def _question(manifest: Manifest) -> dict[str, Json]:
    found: dict[str, Json] = {"top": {"type": "integer", "minimum": 1, "default": 4}}
    if manifest.outputs:
        names = [output.name for output in manifest.outputs]
        found["target"] = {"type": "string", "enum": names}
    keys = [label_key(label) for part in manifest.parts for label in part.classes or ()]
    if keys:
        found["output"] = {"type": "string", "enum": list(dict.fromkeys(keys))}
    return found


#: The bodies of /v0/predict and /v0/explain, and their answers.
INSTANCES = ModelSchema(
    "Instances",
    lambda manifest, settings: _body("Instances", manifest, settings.max_instances),
    _example,
)
PREDICTIONS = ModelSchema("Predictions", _predictions)
TO_EXPLAIN = ModelSchema(
    "InstancesToExplain",
    lambda manifest, settings: _body("InstancesToExplain", manifest, settings.max_explained),
    _example,
    _question,
)
EXPLANATIONS = ModelSchema("Explanations", _explanations)

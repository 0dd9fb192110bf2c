"""The slow pass over a rejected body: finds every fault, its place, and what was expected."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from unicodedata import is_normalized, normalize

from serving.bundle.manifest import Feature
from serving.errors import FieldError

__all__ = ["MAX_FAULTS", "find_faults", "is_whole", "json_pointer", "magnitude", "value_faults"]

MAX_FAULTS = 100
_NAMES = {
    "number": "a number",
    "boolean": "true or false",
    "category": "a string",
    "text": "a string",
}


def find_faults(
    data: Any, features: list[Feature], ignored: Sequence[str] = ()
) -> list[FieldError]:
    """Compare a decoded body with what *features* ask for; at most 100 faults, in order."""
    known = {feature.name for feature in features}.union(ignored)
    return list(islice(_body(data, features, known), MAX_FAULTS))


def json_pointer(*keys: str | int) -> str:
    """Write an RFC 6901 JSON pointer."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def _body(data: Any, features: list[Feature], known: set[str]) -> Iterator[FieldError]:
    if not isinstance(data, dict):
        yield FieldError("", f'expected {{"instances": […]}} or one instance, got {_kind(data)}')
    elif "instances" not in data:
        yield from _object(data, (), features, known)
    elif not isinstance(data["instances"], list):
        yield FieldError("/instances", f"expected an array, got {_kind(data['instances'])}")
    else:
        for key in data.keys() - {"instances"}:
            yield FieldError(json_pointer(key), "unknown field; only instances is allowed")
        if not data["instances"]:
            yield FieldError("/instances", "expected at least one instance")
        for n, row in enumerate(data["instances"]):
            yield from _row(row, ("instances", n), features, known)


def _row(
    row: Any, path: tuple[str | int, ...], features: list[Feature], known: set[str]
) -> Iterator[FieldError]:
    if isinstance(row, dict):
        yield from _object(row, path, features, known)
    elif not isinstance(row, list):
        yield FieldError(json_pointer(*path), f"expected an object or an array, got {_kind(row)}")
    elif len(row) != len(features):
        detail = f"expected {len(features)} values in feature order, got {len(row)}"
        yield FieldError(json_pointer(*path), detail)
    else:
        for i, (value, feature) in enumerate(zip(row, features, strict=True)):
            yield from value_faults(value, (*path, i), feature)


def _object(
    row: dict[str, Any], path: tuple[str | int, ...], features: list[Feature], known: set[str]
) -> Iterator[FieldError]:
    respelled = _respelled(row, features)
    for feature in features:
        if feature.name in row:
            yield from value_faults(row[feature.name], (*path, feature.name), feature)
        elif feature.name in respelled:
            yield FieldError(json_pointer(*path, respelled[feature.name]), _respell(feature.name))
        else:
            yield FieldError(
                json_pointer(*path, feature.name), f"missing; expected {_wanted(feature)}"
            )
    known = known.union(respelled.values())
    for key in row:
        if key not in known:
            yield FieldError(
                json_pointer(*path, key), "unknown field; the model has no such feature"
            )


def _respelled(row: dict[str, Any], features: list[Feature]) -> dict[str, str]:
    """Find features that *row* names in another Unicode form: their name → the key in *row*."""
    names = {feature.name for feature in features}
    missing = {normalize("NFC", name): name for name in names.difference(row)}
    # Four times is the most that a decomposition adds. To normalise long keys would take minutes.
    longest = 4 * max(map(len, missing), default=0)
    return {
        missing[form]: key
        for key in row
        if not key.isascii()
        and len(key) <= longest
        and key not in names
        and (form := normalize("NFC", key)) in missing
    }


def _respell(name: str) -> str:
    forms = [form for form in ("NFC", "NFD") if is_normalized(form, name)]
    how = f"in {forms[0]}" if forms else "as /v0/model_info has it"
    return f"the model's feature {name!r} has this name in another Unicode form; send it {how}"


def value_faults(value: Any, path: tuple[str | int, ...], feature: Feature) -> Iterator[FieldError]:
    """Yield the faults of the *value* of *feature* at *path*, except unseen categories."""
    kind = _kind(value)
    fits = is_whole(value) if feature.is_whole else kind == _NAMES[feature.kind]
    detail = f"expected {_wanted(feature)}, got {kind}"
    if value is None:
        if not feature.nullable:
            yield FieldError(json_pointer(*path), f"{detail}; training never saw one")
    elif not fits:
        yield FieldError(json_pointer(*path), detail)
    elif feature.kind == "number" and abs(value) > (limit := magnitude(feature)):
        yield FieldError(json_pointer(*path), f"expected a number of magnitude at most {limit}")


def _wanted(feature: Feature) -> str:
    name = "an integer" if feature.is_whole else _NAMES[feature.kind]
    return name + (" or null" if feature.nullable else "")


def is_whole(value: Any) -> bool:
    """Whether a value is a 64-bit integer, whether written 3 or 3.0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**63 and value == int(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return _NAMES["boolean"]
    if isinstance(value, int | float):
        return _NAMES["number"]
    if isinstance(value, str):
        return _NAMES["category"]
    return "an array" if isinstance(value, list) else "an object"


def magnitude(feature: Feature) -> float:
    """Return the largest magnitude of a number that the model takes for *feature*."""
    return sys.float_info.max if feature.magnitude is None else feature.magnitude

"""The slow pass over a body that was refused: every fault, where it is, and what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any
from unicodedata import is_normalized, normalize

from serving.bundle.manifest import Feature
from serving.errors import FieldError

__all__ = ["FLOAT32_MAX", "MAX_FAULTS", "find_faults", "json_pointer"]

#: The largest finite float32: what a graph can hold.
FLOAT32_MAX = 3.4028234663852886e38

MAX_FAULTS = 100
_NAMES = {"number": "a number", "boolean": "true or false", "category": "a string"}


def find_faults(data: Any, features: list[Feature]) -> list[FieldError]:
    """Compare a decoded body with what *features* ask for; at most 100 faults, in order."""
    return list(islice(_body(data, features), MAX_FAULTS))


def json_pointer(*keys: str | int) -> str:
    """Write an RFC 6901 JSON pointer."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def _body(data: Any, features: list[Feature]) -> Iterator[FieldError]:
    if not isinstance(data, dict):
        yield FieldError("", f'expected {{"instances": […]}} or one instance, got {_kind(data)}')
    elif "instances" not in data:
        yield from _object(data, (), features)
    elif not isinstance(data["instances"], list):
        yield FieldError("/instances", f"expected an array, got {_kind(data['instances'])}")
    else:
        for key in data.keys() - {"instances"}:
            yield FieldError(json_pointer(key), "unknown field; beside instances there is none")
        if not data["instances"]:
            yield FieldError("/instances", "expected at least one instance")
        for n, row in enumerate(data["instances"]):
            yield from _row(row, ("instances", n), features)


def _row(row: Any, path: tuple[str | int, ...], features: list[Feature]) -> Iterator[FieldError]:
    if isinstance(row, dict):
        yield from _object(row, path, features)
    elif not isinstance(row, list):
        yield FieldError(json_pointer(*path), f"expected an object or an array, got {_kind(row)}")
    elif len(row) != len(features):
        detail = f"expected {len(features)} values in feature order, got {len(row)}"
        yield FieldError(json_pointer(*path), detail)
    else:
        for i, (value, feature) in enumerate(zip(row, features, strict=True)):
            yield from _value(value, (*path, i), feature)


def _object(
    row: dict[str, Any], path: tuple[str | int, ...], features: list[Feature]
) -> Iterator[FieldError]:
    respelled = _respelled(row, features)
    for feature in features:
        if feature.name in row:
            yield from _value(row[feature.name], (*path, feature.name), feature)
        elif feature.name in respelled:
            yield FieldError(json_pointer(*path, respelled[feature.name]), _respell(feature.name))
        else:
            yield FieldError(
                json_pointer(*path, feature.name), f"missing; expected {_wanted(feature)}"
            )
    known = {feature.name for feature in features} | set(respelled.values())
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


def _value(value: Any, path: tuple[str | int, ...], feature: Feature) -> Iterator[FieldError]:
    if value is None:
        if not feature.nullable:
            yield FieldError(
                json_pointer(*path),
                f"expected {_wanted(feature)}, got null; training never saw one",
            )
    elif _kind(value) != _NAMES[feature.kind]:
        yield FieldError(json_pointer(*path), f"expected {_wanted(feature)}, got {_kind(value)}")
    elif feature.kind == "number" and not _fits_float32(value):
        yield FieldError(
            json_pointer(*path), f"expected a number of magnitude at most {FLOAT32_MAX}"
        )


def _wanted(feature: Feature) -> str:
    return _NAMES[feature.kind] + (" or null" if feature.nullable else "")


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


def _fits_float32(value: float) -> bool:
    try:
        number = float(value)
    except OverflowError:
        return False
    return math.isfinite(number) and abs(number) <= FLOAT32_MAX

"""What clients may send: the manifest's features, compiled into one decoder that also validates.

The compiled step stops at the first fault. Only then does the slow pass of `faults.py` run, to
find every fault and where it is.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from serving.bundle.manifest import Feature, Manifest
from serving.errors import FieldError, InvalidInstances, Malformed, TooLarge
from serving.model.faults import MAX_FAULTS, find_faults, is_whole, json_pointer, magnitude

__all__ = [
    "MISSING",
    "UNSEEN",
    "Instances",
    "Schema",
    "judge_unseen",
    "known_categories",
    "too_many",
]

#: Stands for a missing category inside a graph, which has no null for strings: a Unicode
#: noncharacter, which no client may send.
MISSING = "\ufdd0"

#: Warns of a category that the model answers for.
UNSEEN = "training never saw this category; the model answers anyway"

_CODE = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float
_WHOLE = frozenset({int, type(None)})
TYPES: dict[str, Any] = {"number": float, "boolean": bool, "category": str, "text": str}


class Instances(NamedTuple):
    """Decoded rows, turned into columns."""

    #: One sequence per feature, in the manifest's order.
    columns: Sequence[Sequence[Any]]
    rows: int
    #: Whether the client sent one bare object, and gets a bare answer.
    single: bool
    #: Categories that training never saw, up to 100.
    warnings: list[FieldError]


class Schema:
    """Decodes and validates request bodies for one model."""

    def __init__(self, manifest: Manifest) -> None:
        self._features = manifest.features
        types = [_type(feature) for feature in self._features]
        # Field names need not be identifiers, so the fields are f0, f1, … and renamed on the wire.
        names = [f"f{i}" for i in range(len(types))]
        ignored = {f"i{n}": name for n, name in enumerate(manifest.ignored)}
        self._ignored = ignored
        instance = msgspec.defstruct(
            "Instance",
            [*zip(names, types, strict=True), *((field, Any, msgspec.UNSET) for field in ignored)],
            rename={f"f{i}": feature.name for i, feature in enumerate(self._features)} | ignored,
            forbid_unknown_fields=True,
            gc=False,
        )
        row = instance | tuple[tuple(types)]  # type: ignore[misc]  # a type made at run time
        batch = msgspec.defstruct(
            "Batch",
            [("instances", Annotated[list[row], msgspec.Meta(min_length=1)])],  # type: ignore[valid-type]
            forbid_unknown_fields=True,
        )
        self._batch: msgspec.json.Decoder[Any] = msgspec.json.Decoder(batch)
        self._single = msgspec.json.Decoder(instance)
        self._values = operator.attrgetter(*names) if len(names) > 1 else _one_value
        self._whole = [i for i, feature in enumerate(self._features) if feature.is_whole]
        self._known = [
            (i, known_categories(feature))
            for i, feature in enumerate(self._features)
            if feature.kind == "category"
        ]

    def decode(self, body: bytes, max_instances: int) -> Instances:
        """
        Decode a request body.

        Raises:
            Malformed: It is not JSON.
            TooLarge: It holds more than *max_instances*.
            InvalidInstances: It is JSON that this model does not take.
        """
        single = False
        try:
            try:
                rows = self._batch.decode(body).instances
            except msgspec.ValidationError:
                rows = [self._single.decode(body)]
                single = True
        except msgspec.ValidationError:
            raise self._explain(body, max_instances) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(_why_malformed(error, body)) from None
        if len(rows) > max_instances:
            raise too_many(len(rows), max_instances)
        values = self._values
        columns = list(
            zip(*[row if type(row) is tuple else values(row) for row in rows], strict=True)
        )
        for i in self._whole:
            if not set(map(type, columns[i])) <= _WHOLE:  # 3.0 is an integer, too
                if not all(value is None or is_whole(value) for value in columns[i]):
                    raise self._explain(body, max_instances)
                columns[i] = tuple(None if value is None else int(value) for value in columns[i])
        warnings = self._unseen(columns, rows, single=single)
        if self._ignored:
            warnings += self._unread(rows, single=single)
        return Instances(columns, len(rows), single, warnings)

    def _explain(self, body: bytes, max_instances: int) -> Exception:
        try:
            # The hook takes numbers such as 1e999, which msgspec itself would call malformed.
            data = msgspec.json.Decoder(float_hook=float).decode(body)
        except msgspec.ValidationError:
            return InvalidInstances("A number in the body is too large to be read.")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Malformed(_why_malformed(error, body))
        if isinstance(data, dict) and isinstance(data.get("instances"), list):
            found = len(data["instances"])
            if found > max_instances:
                return too_many(found, max_instances)
        return _invalid(find_faults(data, self._features, list(self._ignored.values())))

    def _unread(self, rows: list[Any], *, single: bool) -> list[FieldError]:
        """Warn once of each column that was sent and that the model does not read."""
        warnings = []
        for field, name in self._ignored.items():
            sent = (
                n
                for n, row in enumerate(rows)
                if type(row) is not tuple and getattr(row, field) is not msgspec.UNSET
            )
            if (first := next(sent, None)) is not None:
                where = json_pointer(name) if single else json_pointer("instances", first, name)
                warnings.append(FieldError(where, "the model does not read this column"))
        return warnings

    def _unseen(self, columns: list[Any], rows: list[Any], *, single: bool) -> list[FieldError]:
        """Reject, or warn of, categories that training never saw."""
        warnings: list[FieldError] = []
        errors: list[FieldError] = []
        for i, known in self._known:
            if known.issuperset(columns[i]):
                continue
            feature = self._features[i]
            for n, value in enumerate(columns[i]):
                if value in known:
                    continue
                answered, detail = judge_unseen(feature, value)
                found = warnings if answered else errors
                if len(found) >= MAX_FAULTS:
                    continue
                key = i if type(rows[n]) is tuple else feature.name
                where = json_pointer(key) if single else json_pointer("instances", n, key)
                found.append(FieldError(where, detail))
        if errors:
            raise _invalid(errors)
        return warnings


def known_categories(feature: Feature) -> frozenset[Any]:
    """Return the categories that training saw, and null if a client may send it."""
    return frozenset((*(feature.categories or ()), *((None,) if feature.nullable else ())))


def too_many(found: int, limit: int) -> TooLarge:
    """Return the answer to a body with more than *limit* instances."""
    return TooLarge(f"The body has {found} instances; at most {limit} are accepted at once.")


def judge_unseen(feature: Feature, value: Any) -> tuple[bool, str]:
    """Return whether the model answers for a category that is not known, and a sentence."""
    if feature.accepts_unseen and value != MISSING:
        return True, UNSEEN
    wanted = ", ".join(map(repr, (feature.categories or ())[:20]))
    return False, f"expected one of {wanted}"


def _type(feature: Feature) -> Any:
    kind = _CODE if feature.is_whole else TYPES[feature.kind]
    if feature.magnitude is not None:
        limit = magnitude(feature)
        kind = Annotated[float, msgspec.Meta(ge=-limit, le=limit)]
    return kind | None if feature.nullable else kind


def _one_value(row: Any) -> tuple[Any]:
    return (row.f0,)


def _invalid(errors: list[FieldError]) -> InvalidInstances:
    count = "one fault" if len(errors) == 1 else f"{len(errors)} faults"
    more = ", and perhaps more" if len(errors) == MAX_FAULTS else ""
    return InvalidInstances(f"The body has {count}{more}; see errors.", errors=errors)


def _why_malformed(error: Exception, body: bytes) -> str:
    if isinstance(error, RecursionError):
        return "The body nests too deeply."
    if isinstance(error, UnicodeDecodeError):
        return "The body is not UTF-8."
    place = re.search(r"\(byte (\d+)\)", str(error))
    if place and (word := re.match(rb"NaN|Infinity", body[int(place[1]) :][:8])):
        return f"{word[0].decode()} is not JSON (byte {place[1]}); send null."
    return f"{str(error).rstrip('.')}."

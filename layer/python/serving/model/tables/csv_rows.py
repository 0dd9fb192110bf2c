"""CSV as a request body and as an answer: UTF-8, a header, RFC 4180, a decimal point.

A row becomes the equivalent JSON object, so that one decoder checks both.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from serving.bundle.manifest import Feature
from serving.errors import Malformed
from serving.model.schema import too_many

__all__ = ["BOOLEANS", "NUMBER", "csv_to_json", "to_csv"]

#: How CSV writes a number, which is how JSON writes it. Any other text is a string.
NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
#: In upper and lower case: pandas writes True, and Excel TRUE.
BOOLEANS = {"true": True, "false": False}

#: What other programs write in place of commas.
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
#: In bytes. JSON repeats the header in each row, so short rows below long names would become a JSON
#: body of gigabytes.
_MOST_NAMES = 32 * 1024 * 1024
_number = re.compile(NUMBER)
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # MAX_BODY_BYTES limits a field


def csv_to_json(body: bytes, features: Sequence[Feature], max_instances: int) -> bytes:
    """
    Write a CSV body as the JSON body with the same rows.

    An empty field is null. A field is a number or a boolean only where the feature is one and the
    text is how JSON writes it (or True, or TRUE); all else is a string, which the decoder judges.

    Args:
        body: CSV with a header.
        features: What the model reads; further columns are passed on.
        max_instances: Further rows are counted, and nothing else.

    Raises:
        Malformed: It is not UTF-8, no CSV, or a row does not fit the header.
        TooLarge: It holds more than *max_instances*, or its header is too long for so many rows.
    """
    try:
        text = body.decode("utf-8-sig")  # Excel writes a byte order mark
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None
    try:
        lines = filter(None, csv.reader(io.StringIO(text, newline=""), strict=True))
        header = next(lines, [])
        limit = min(max_instances, max(1, _MOST_NAMES // (1 + sum(map(len, header)))))
        rows = list(map(msgspec.json.encode, islice(_rows(header, lines, features), limit)))
        if further := sum(1 for _ in lines):
            raise too_many(limit + further, limit)
    except csv.Error as error:
        raise Malformed(f"The body is not CSV: {error}.") from None
    return b'{"instances":[%b]}' % b",".join(rows)


def to_csv(columns: Mapping[str, Iterable[Any]]) -> bytes:
    """Write columns of equal length as CSV: null as an empty field, `true` and `false`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*(map(_text, values) for values in columns.values()), strict=True))
    return text.getvalue().encode()


def _rows(
    header: list[str], lines: Iterator[list[str]], features: Sequence[Feature]
) -> Iterator[dict[str, msgspec.Raw | str | bool | None]]:
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise Malformed(f"The header names the column {min(twice)!r} twice.")
    known = {feature.name: feature for feature in features}
    for separator, name in _SEPARATORS.items():
        if len(header) == 1 and separator in header[0] and header[0] not in known:
            raise Malformed(f"The header has {name} between its columns; separate them by commas.")
    columns = [(name, known.get(name)) for name in header]
    for number, line in enumerate(lines):
        if len(line) != len(header):
            raise Malformed(f"Row {number} has {len(line)} fields; the header has {len(header)}.")
        yield {
            name: _value(text, feature) for (name, feature), text in zip(columns, line, strict=True)
        }


def _value(text: str, feature: Feature | None) -> msgspec.Raw | str | bool | None:
    if not text:
        return None
    if feature is None or feature.is_text:
        return text
    if feature.kind == "boolean":
        return BOOLEANS.get(text.lower(), text)
    # The digits as they are: the decoder rounds and checks them as in JSON.
    return msgspec.Raw(text.encode()) if _number.fullmatch(text) else text


def _text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value

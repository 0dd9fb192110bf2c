"""Errors about an invalid body are short, and name the real mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.bundle.manifest import Feature
from serving.errors import FieldError
from serving.model.faults import find_faults

from tests.helpers.example import ROW, assert_problem, post
from tests.helpers.platforms import Platform, direct


@pytest.fixture(scope="module")
def send(credit: Path) -> Iterator[Platform]:
    """Yield the functions in this process."""
    with direct(credit) as platform:
        yield platform


@pytest.mark.parametrize("character", ["/", "~", "\x00", "k", "\u00e9", "\U0001f600"])
def test_a_long_key_is_cut(send: Platform, character: str) -> None:
    """A key of 600,000 characters is cut in the pointer."""
    body = json.dumps({**ROW, character * 600_000: 1}, ensure_ascii=False).encode()
    reply = post(send, body)

    [error] = assert_problem(reply, 422, "invalid-instances")["errors"]
    assert error["pointer"].startswith("/")
    assert error["pointer"].endswith("…")
    assert len(reply.body) < 5000


def test_many_long_keys_are_cut(send: Platform) -> None:
    """A hundred errors about long keys stay below every platform's limit."""
    body = json.dumps({"instances": [{"\x00" * 6000: 1}] * 100}).encode()
    reply = post(send, body)

    assert len(assert_problem(reply, 422, "invalid-instances")["errors"]) == 100
    assert len(json.dumps(reply.body.decode())) < 900_000


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-32-le", "UTF-32"),
        ("utf-32-be", "UTF-32"),
    ],
)
def test_another_encoding_is_named(send: Platform, encoding: str, name: str) -> None:
    """400 names the encoding, with or without a byte order mark."""
    problem = assert_problem(post(send, json.dumps(ROW).encode(encoding)), 400, "malformed-body")

    assert problem["detail"] == f"The body is {name}; send UTF-8."


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_nan_is_named(send: Platform, word: str) -> None:
    """JSON has no word for it, though Python writes one: 400 says what to send instead."""
    body = json.dumps({**ROW, "age": float(word)}).encode()
    problem = assert_problem(post(send, body), 400, "malformed-body")

    place = body.index(word.strip("-").encode())
    assert problem["detail"] == f"{word.strip('-')} is not JSON (byte {place}); send null."


def test_a_byte_order_mark_is_named(send: Platform) -> None:
    """A byte order mark before UTF-8 gets 400, because JSON does not allow it."""
    problem = assert_problem(post(send, json.dumps(ROW).encode("utf-8-sig")), 400, "malformed-body")

    assert problem["detail"] == (
        "The body begins with a byte order mark (UTF-8 with BOM); send UTF-8 without it."
    )


@pytest.mark.parametrize("body", [b"\x00", b"\xff", b"\xfe\xff", b"{\x00", b"\xef\xbb\xbf", b"0"])
def test_a_short_invalid_body_is_rejected(send: Platform, body: bytes) -> None:
    """A body of one to three odd bytes gets 400 or 422."""
    assert post(send, body).status in (400, 422)


def features(*names: str) -> list[Feature]:
    """Describe numbers with these names."""
    return [Feature(name=name, kind="number", dtype="float64", nullable=False) for name in names]


@pytest.mark.parametrize(
    ("ours", "sent", "form"),
    [
        ("caf\u00e9", "cafe\u0301", "NFC"),
        ("cafe\u0301", "caf\u00e9", "NFD"),
        ("\u1f82", "\u03b1\u0313\u0300\u0345", "NFC"),
        ("\ud55c", "\u1112\u1161\u11ab", "NFC"),
    ],
)
def test_two_unicode_forms_of_a_name_are_one_error(ours: str, sent: str, form: str) -> None:
    """The names look alike, so the error says that they differ in Unicode form only."""
    detail = f"the model's feature {ours!r} has this name in another Unicode form; send it in "

    assert find_faults({sent: 1.0, "age": 2.0}, features(ours, "age")) == [
        FieldError(f"/{sent}", detail + form)
    ]


def test_a_name_in_a_mixed_form_is_explained() -> None:
    """If the name is in no normal form, the error says where to copy it from."""
    [fault] = find_faults({"\u00e9\u00e9": 1.0}, features("e\u0301\u00e9"))

    assert fault.detail.endswith("send it as /v0/model_info has it")


def test_each_feature_matches_one_spelling() -> None:
    """If the feature is sent under its own name, the other spelling is an unknown field."""
    faults = find_faults({"\u00e9": 1.0, "e\u0301": 1.0}, features("\u00e9"))

    assert [(fault.pointer, fault.detail[:13]) for fault in faults] == [
        ("/e\u0301", "unknown field")
    ]


@pytest.mark.timeout(10)
def test_a_long_name_is_not_normalised() -> None:
    """A long name is not normalised, because that can take quadratic time."""
    faults = find_faults({"\u00e9" + "\u0301\u0323" * 500_000: 1.0}, features("\u00e9"))

    assert len(faults) == 2

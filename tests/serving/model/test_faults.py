"""What a client reads of a body that does not fit: short, and about the real mistake."""

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
def test_an_answer_is_not_larger_than_what_was_sent(send: Platform, character: str) -> None:
    """A key of 600,000 characters is cut in the pointer to it."""
    body = json.dumps({**ROW, character * 600_000: 1}, ensure_ascii=False).encode()
    reply = post(send, body)

    [error] = assert_problem(reply, 422, "invalid-instances")["errors"]
    assert error["pointer"].startswith("/")
    assert error["pointer"].endswith("…")
    assert len(reply.body) < 5000


def test_many_long_keys_are_cut_too(send: Platform) -> None:
    """However many faults there are, the answer stays far below what any platform returns."""
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
    """400 says which encoding it is, with a byte order mark or without."""
    problem = assert_problem(post(send, json.dumps(ROW).encode(encoding)), 400, "malformed-body")

    assert problem["detail"] == f"The body is {name}; send UTF-8."


def test_a_byte_order_mark_is_named(send: Platform) -> None:
    """Before UTF-8 it has no meaning, and JSON does not allow it."""
    problem = assert_problem(post(send, json.dumps(ROW).encode("utf-8-sig")), 400, "malformed-body")

    assert problem["detail"] == (
        "The body begins with a byte order mark (UTF-8 with BOM); send UTF-8 without it."
    )


@pytest.mark.parametrize("body", [b"\x00", b"\xff", b"\xfe\xff", b"{\x00", b"\xef\xbb\xbf", b"0"])
def test_a_body_of_a_few_odd_bytes_is_answered(send: Platform, body: bytes) -> None:
    """Whatever the first bytes are, the answer is about the body."""
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
def test_two_unicode_forms_of_a_name_are_one_fault(ours: str, sent: str, form: str) -> None:
    """The names look alike, so the answer says that they differ only in Unicode form."""
    detail = f"the model's feature {ours!r} has this name in another Unicode form; send it in "

    assert find_faults({sent: 1.0, "age": 2.0}, features(ours, "age")) == [
        FieldError(f"/{sent}", detail + form)
    ]


def test_a_name_in_a_mixed_form_is_explained() -> None:
    """A feature may be in no normal form; its name is then to be copied."""
    [fault] = find_faults({"\u00e9\u00e9": 1.0}, features("e\u0301\u00e9"))

    assert fault.detail.endswith("send it as /v0/model_info has it")


def test_one_spelling_stands_for_one_feature() -> None:
    """Where a feature is there in its own form, the other spelling is just unknown."""
    faults = find_faults({"\u00e9": 1.0, "e\u0301": 1.0}, features("\u00e9"))

    assert [(fault.pointer, fault.detail[:13]) for fault in faults] == [
        ("/e\u0301", "unknown field")
    ]


@pytest.mark.timeout(10)
def test_a_long_name_is_not_normalised() -> None:
    """Normalising takes quadratic time where combining characters are out of order."""
    faults = find_faults({"\u00e9" + "\u0301\u0323" * 500_000: 1.0}, features("\u00e9"))

    assert len(faults) == 2

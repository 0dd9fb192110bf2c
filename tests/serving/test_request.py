"""`decode` points to what is wrong in a body (RFC 6901); `check_answer` bounds answers."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from serving.adapters.aws_request import EventRequest
from serving.errors import InvalidBody, TooLarge
from serving.request import check_answer, decode


class Odd(msgspec.Struct, frozen=True, rename={"odd": "a/b~c"}):
    """A field whose name has RFC 6901's own characters."""

    odd: int = 0


class Body(msgspec.Struct):
    """Every kind of container."""

    lists: dict[str, list[float]] = {}
    numbers: dict[int, int] = {}
    pair: tuple[int, str] = (1, "a")
    word: Literal["a"] = "a"
    odd: Odd = Odd()


@pytest.mark.parametrize(
    ("kind", "body", "pointer"),
    [
        (Body, "1", ""),
        (Body, '{"pair": [1, 2]}', "/pair/1"),
        (Body, '{"odd": {"a/b~c": "x"}}', "/odd/a~1b~0c"),
        # msgspec does not say which key.
        (list[dict[str, int]], '[{"a": "b"}]', "/0"),
        (Body, '{"lists": {"x": ["y"]}}', "/lists"),
        (Body, '{"numbers": {"x": 1}}', "/numbers"),
        (Body, '{"word": "b - at `$.lists`"}', "/word"),
    ],
)
def test_an_error_has_a_json_pointer(kind: Any, body: str, pointer: str) -> None:
    """It leads to the value, or to the innermost container whose place is known."""
    request = EventRequest("POST", "/", {}, list, body.encode)
    with pytest.raises(InvalidBody) as caught:
        decode(request, kind)

    [error] = caught.value.errors
    assert error.pointer == pointer
    assert not error.detail.endswith("`$")


@pytest.mark.parametrize(
    ("body", "size"),
    [
        (b"\xff" * 900, 1200),  # as Base64
        (b"a,b\n" * 300, 1502),  # as a JSON string
        (b'"' * 600, 1202),
    ],
)
def test_an_answer_is_as_large_as_in_an_event(body: bytes, size: int) -> None:
    """A load balancer limits the event that holds the answer, and not the answer itself."""
    check_answer(EventRequest("POST", "/", {}, list, bytes), body, 1600)
    limited = EventRequest("POST", "/", {}, list, bytes, max_answer_bytes=1000)
    with pytest.raises(TooLarge, match=f"has {size} bytes, and at most 1000 can be sent"):
        check_answer(limited, body, 1600)

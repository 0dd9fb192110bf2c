"""When a request is whole: never before its last byte, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving.adapters.arrival import Arrival
from serving.errors import HeadersTooLarge, TooLarge

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


def chunked(parts: list[bytes], trailer: bytes) -> bytes:
    """Write parts as chunks."""
    chunks = b"".join(b"%X;a=b\r\n%s\r\n" % (len(part), part) for part in parts if part)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailer + b"\r\n"


bodies = st.binary(max_size=200) | st.sampled_from([b"0\r\n\r\n", b"\r\n0\r\n\r\n", b"\r\n\r\n"])
requests = st.one_of(
    bodies.map(lambda body: HEAD + b"Content-Length:  %d \r\n\r\n" % len(body) + body),
    st.builds(chunked, st.lists(bodies), st.sampled_from([b"", b"X-A: 1\r\n"])),
    st.just(HEAD + b"\r\n"),
)


@given(requests, st.data())
def test_it_is_whole_with_its_last_byte(request: bytes, data: st.DataObject) -> None:
    """In any pieces; and what follows it does not change that."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(request) - 1))))
    pieces = [request[a:b] for a, b in zip([0, *cuts], [*cuts, len(request)], strict=True)]
    arrival = Arrival(1_000_000)

    *early, last = [arrival.add(piece) for piece in pieces]

    assert not any(early)
    assert last
    assert Arrival(1_000_000).add(request + b"GET / HTTP/1.1\r\n")
    assert bytes(arrival.received) == request


@given(st.binary(max_size=500), st.lists(st.binary(min_size=1, max_size=50)))
def test_rubbish_raises_nothing_else(start: bytes, more: list[bytes]) -> None:
    """Whatever comes."""
    arrival = Arrival(100)
    try:
        for piece in [HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + start, *more]:
            arrival.add(piece)
    except TooLarge:
        return
    assert len(arrival.received) <= 3000 + len(HEAD)


def test_what_the_parser_refuses_does_not_wait() -> None:
    """Framing that is wrong, or there twice, is whole at once: nobody can tell where it ends."""
    for framing in (
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: five",
        b"Transfer-Encoding: gzip",
    ):
        assert Arrival(100).add(HEAD + framing + b"\r\n\r\n")
    assert Arrival(100).add(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert Arrival(100).add(HEAD + b"Content-Length: 101\r\n\r\n")


def test_limits() -> None:
    """A head without end, and chunks without end, are refused where they pass the limit."""
    with pytest.raises(HeadersTooLarge):
        Arrival(100).add(HEAD + b"X: 1\r\n" * 20_000)
    with pytest.raises(TooLarge):
        Arrival(100).add(chunked([b"0123456789"] * 10_000, b""))


def test_a_client_that_waits_to_be_asked_is_known() -> None:
    """Expect: 100-continue."""
    arrival = Arrival(100)
    assert not arrival.add(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert arrival.asks_to_go_on

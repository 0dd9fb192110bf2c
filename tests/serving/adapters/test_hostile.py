"""Hostile requests to the server: each is answered with 4xx, and other clients are served."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from serving.adapters.gunicorn_bridge import ARRIVAL_SECONDS

from tests.helpers.example import ROW
from tests.helpers.http.wire import BODY, CHUNKED, check, connect, instances, post, read, talk
from tests.helpers.servers import Server, serving

#: The tests' own side of the thousand connections needs files too: two per connection.
CROWD = 1000


@pytest.fixture(scope="module")
def server(credit: Path) -> Iterator[Server]:
    """Run one server for all tests, so that each test also sees what the others left behind."""
    with serving(credit) as server:
        requests.get(f"{server}/health", timeout=30).raise_for_status()
        yield server


@pytest.fixture(autouse=True)
def still_serving(server: Server) -> Iterator[None]:
    """Check that the next request is answered, and that no traceback was logged."""
    yield
    began = time.monotonic()
    answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=10)
    assert answer.status_code == 200
    assert time.monotonic() - began < 5
    assert "Traceback" not in server.logged()


def row(**changed: object) -> bytes:
    """Write a POST of the example's row, with changes."""
    return post(body=json.dumps(ROW | changed).encode())


DEEP = "[" * 100_000
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
#: Each body, and the statuses that may come back.
JSON = {
    "nested 100,000 deep": (instances(DEEP), {400}),
    "nested in an instance": (instances('{"instances": [{"age": ' + DEEP + "}]}"), {400}),
    "1e308": (row(price=1e308), {422}),
    "1e309": (instances(json.dumps(ROW).replace("846", "1e309")), {400, 422}),
    "the smallest double": (row(price=5e-324), {200}),
    "a float32 denormal": (row(price=1e-42), {200}),
    "an integer of 400 digits": (instances(json.dumps(ROW | {"price": 10**400})), {400, 422}),
    "a string of 200,000 characters": (row(home="x" * 200_000), {200}),
    "a string where a number goes": (row(price="9" * 200_000), {422}),
    "a name of 200,000 characters": (row(**{"x" * 200_000: 1}), {422}),
    "duplicated keys": (instances(json.dumps(ROW)[:-1] + ', "age": 1, "age": 2}'), {200, 400, 422}),
    "10,001 instances": (instances(json.dumps({"instances": [0] * 10_001})), {413}),
    "half a surrogate": (instances('{"home": "\ud800"}'), {400}),
    "an escaped half": (row(home="\ud800"), {400}),
    "a null byte, escaped": (row(home="\x00"), {200}),
    "a byte order mark": (post(body=b"\xef\xbb\xbf" + BODY), {400}),
    "UTF-16": (post(body=json.dumps(ROW).encode("utf-16")), {400}),
    **{
        f"control character {code:#04x}, raw": (
            instances(json.dumps(ROW).replace("rent", f"re{chr(code)}nt")),
            {200} if code == 0x7F else {400},
        )
        for code in [*range(0x20), 0x7F]
    },
}

HTTP = {
    "length and chunks": (
        post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED),
        {400},
    ),
    "chunks and length": (
        post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED),
        {400},
    ),
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6"), {400}),
    "two lengths in one": (post(b"Content-Length: 5, 6"), {400}),
    "a negative length": (post(b"Content-Length: -1"), {400}),
    "a length with a sign": (post(b"Content-Length: +%d" % len(BODY)), {400}),
    "a length in hexadecimal": (post(b"Content-Length: 0x10"), {400}),
    "a length of 30 digits": (post(b"Content-Length: " + b"9" * 30), {400, 413}),
    "a coding that is none": (post(b"Transfer-Encoding: xchunked"), {400, 501}),
    "chunked twice": (post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), {400}),
    "chunked, hidden by a tab": (post(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n"), {400}),
    "a chunk of no size": (post(CHUNKED, body=b"zz\r\n\r\n0\r\n\r\n"), {400}),
    "a chunk of a huge size": (post(CHUNKED, body=b"f" * 20 + b"\r\n0\r\n\r\n"), {400}),
    "two codings": (post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"), {400}),
    "an endless chunk extension": (post(CHUNKED, body=b"1;" + b"a" * 600_000), {400}),
    "a space before the colon": (post(b"X-A : 1"), {400}),
    "a folded header": (post(b"X-A: 1\r\n  more"), {400}),
    "a null byte in a header": (post(b"X-A: a\x00b"), {400}),
    "a bare carriage return": (post(b"X-A: a\rContent-Length: 0"), {400}),
    "a header of no name": (post(b": 1"), {400}),
    "an underscore for a dash": (post(b"Content_Length: 3"), {200, 400}),
    "no Host": (post().replace(b"Host: x\r\n", b""), {400}),
    "two Hosts": (post(b"Host: y"), {400}),
    "no Host in HTTP/1.0": (post(version=b"HTTP/1.0").replace(b"Host: x\r\n", b""), {200}),
    "a long header": (post(b"X-A: " + b"a" * 60_000), {431}),
    "a thousand headers": (post(*[b"X-%d: 1" % n for n in range(1000)]), {431}),
    "headers without end": (b"GET / HTTP/1.1\r\n" + b"X-A: 1\r\n" * 100_000, {431}),
    "a header without end": (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 1_000_000, {431}),
    "a path without end": (b"GET /" + b"a" * 1_000_000, {414}),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", {405}),
    "CONNECT and more": (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n\x16\x03\x01", {405}),
    "a long path": (b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\n\r\n", {414}),
    "two slashes": (b"GET // HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "two slashes first": (b"GET //health HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "an encoded slash": (b"POST /v0%2fpredict HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "no such version": (post(version=b"HTTP/3.7"), {400}),
    "HTTP/0.9": (b"GET /health\r\n\r\n", {400}),
    "HTTP/2 without asking": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "a method of symbols": (b"G<T /health HTTP/1.1\r\n\r\n", {400}),
    "a script in the path": (b"GET /<script>alert(1)</script> HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n", {400}),
    "zeros": (b"\x00" * 100_000, {400}),
}


@pytest.mark.parametrize(("sent", "statuses"), JSON.values(), ids=JSON)
def test_an_invalid_body_is_rejected(server: Server, sent: bytes, statuses: set[int]) -> None:
    """An invalid body gets a problem document with the reason."""
    check(talk(server, sent.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)), statuses)


@pytest.mark.parametrize(("sent", "statuses"), HTTP.values(), ids=HTTP)
def test_an_invalid_request_is_rejected(server: Server, sent: bytes, statuses: set[int]) -> None:
    """An invalid head or framing gets one answer, which repeats nothing of the request."""
    answer = talk(server, sent)

    # Bytes that are not HTTP get uvicorn's plain-text answer.
    if b"text/plain" in answer:
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert 400 in statuses
    else:
        check(answer, statuses)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"smuggled" not in answer
    assert b"<script" not in answer


def test_a_hundred_megabytes_are_rejected(server: Server) -> None:
    """100 MB get 413, from Content-Length or once the limit is passed."""
    said = talk(server, post(b"Content-Length: 104857600", body=b""), b"x" * 104_857_600)
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    found = talk(server, post(CHUNKED, body=b""), *[chunk] * 100, b"0\r\n\r\n")

    check(said, {413})
    check(found, {413})


def test_a_thousand_idle_connections_delay_no_other_client(server: Server) -> None:
    """With a thousand idle connections, other clients are answered within a second."""
    with ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(connect(server))
        assert slowest(server) < 1


def test_slow_clients_delay_no_other_client(server: Server) -> None:
    """Two hundred clients send a byte a second; others are answered, and the slow ones get 408."""
    request = post()
    split = request.index(b"\r\n\r\n") + 4
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(200)]
        for number, client in enumerate(clients):
            client.sendall(request[: 40 if number % 2 else split + 5])
        over = threading.Event()

        def drip() -> None:
            while not over.wait(1):
                for client in clients:
                    try:
                        client.send(b"x")
                    except OSError:
                        return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert slowest(server) < 1
            for client in clients[:2]:
                check(read(client, seconds=ARRIVAL_SECONDS + 10), {408})
        finally:
            over.set()
            dripping.join()


def test_unread_answers_delay_no_other_client(server: Server) -> None:
    """Four clients ask for large answers and read nothing; others are answered within seconds."""
    request = post(body=json.dumps({"instances": [ROW] * 10_000}).encode())
    with ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(connect(server))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(request)
        time.sleep(3)
        assert slowest(server) < 5


def test_a_request_in_pieces_is_answered(server: Server) -> None:
    """A request is answered when it comes in pieces, in chunks or after `100 Continue`."""
    request = post(b"Connection: close")
    pieces = [request[n : n + 7] for n in range(0, len(request), 7)]
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(BODY[n : n + 9]), BODY[n : n + 9]) for n in range(0, len(BODY), 9)
    )
    asked = post(b"Connection: close", b"Expect: 100-continue")
    head, _, body = asked.partition(b"\r\n\r\n")

    check(talk(server, *pieces, pause=0.002), {200})
    check(talk(server, post(b"Connection: close", CHUNKED, body=chunks + b"0\r\n\r\n")), {200})
    answer = talk(server, head + b"\r\n\r\n", body, pause=0.2)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert answer.count(b"100 Continue") == 1
    check(answer[answer.rindex(b"HTTP/1.1 2") :], {200})


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """Three pipelined requests get three answers."""
    answer = talk(server, post() * 2 + post(b"Connection: close"))

    assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_a_pipelined_request_may_have_a_large_body(server: Server) -> None:
    """A client may send two large bodies before it reads the first answer."""
    large = row(home="x" * 1_000_000)
    answer = talk(server, large * 2 + post() + large + post(b"Connection: close"))

    assert answer.count(b"HTTP/1.1 200 OK") == 5


def test_half_a_pipelined_request_holds_no_thread(server: Server) -> None:
    """Twenty clients send a request and half of the next; other clients are answered."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(20)]
        for client in clients:
            client.sendall(post() + post()[:20])
        assert slowest(server) < 1
        for client in clients:
            check(client.recv(65536), {200})
            client.sendall(post()[20:])
            check(client.recv(65536), {200})


def test_bodies_over_the_buffer_get_503(server: Server) -> None:
    """When the workers' buffers are full, the slowest clients get 503, and others are answered."""
    part = post(b"Content-Length: 4000000", body=b" " * 3_000_000)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(60)]
        for client in clients:
            client.sendall(part)
        assert slowest(server) < 1
        # The two workers have room for 44 bodies. Chance decides which worker gets which.
        answered, _, _ = select.select(clients, [], [], ARRIVAL_SECONDS / 2)
        check(read(answered[0], seconds=5), {503})
        assert "overloaded" in server.logged()


def slowest(server: Server) -> float:
    """Return the longest of twenty requests, in seconds, each on a new connection."""
    times = []
    for _ in range(20):
        began = time.monotonic()
        requests.post(f"{server}/v0/predict", json=ROW, timeout=30).raise_for_status()
        times.append(time.monotonic() - began)
    return max(times)


def test_a_client_that_never_closes_delays_no_other_client(server: Server) -> None:
    """A hundred clients ask for `Connection: close` and stay open; other clients are answered."""
    with ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(connect(server))
            client.sendall(post(b"Connection: close"))
        assert slowest(server) < 1

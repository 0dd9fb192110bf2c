"""Floods that once broke the server: other clients are answered, and no worker ends."""

from __future__ import annotations

import json
import resource
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from tests.helpers.example import ROW
from tests.helpers.http.wire import BODY, CHUNKED, check, connect, post, read, talk
from tests.helpers.servers import ROOT, Server, lines, serving, start, wait_for, workers

COMMAND = [
    *(sys.executable, "-m", "gunicorn", "--config", "python:serving.adapters.gunicorn"),
    *("--bind", "127.0.0.1:{port}", "serving.adapters.flask:create_app()"),
]


@pytest.fixture(scope="module")
def server(credit: Path) -> Iterator[Server]:
    """Run one server for all tests, so that each test also sees what the others left behind."""
    with serving(credit) as server:
        requests.get(f"{server}/health", timeout=30).raise_for_status()
        wait_for(lambda: len(workers(server)) == 2)
        yield server


@pytest.fixture(autouse=True)
def same_workers(server: Server) -> Iterator[None]:
    """Check that no worker ended, and that none logged a traceback or an error."""
    before = {worker.pid for worker in workers(server)}
    yield
    assert requests.post(f"{server}/v0/predict", json=ROW, timeout=10).status_code == 200
    assert {worker.pid for worker in workers(server)} == before
    assert "Traceback" not in server.logged()
    assert not [line for line in lines(server) if line.get("logger") == "uvicorn.error"]


@contextmanager
def files(number: int) -> Iterator[None]:
    """Let this process open this many files, if the machine allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < number:
        pytest.skip(f"this needs {number} open files, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def crowd(server: Server, number: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Hold this many connections open, each of which has sent these bytes."""
    with ExitStack() as stack:
        clients = []
        for _ in range(number):
            client = stack.enter_context(connect(server))
            if sent:
                client.sendall(sent)
            clients.append(client)
        yield clients


def slowest(server: Server, number: int = 20) -> float:
    """Return the longest of some requests in seconds, each on a new connection."""
    times = []
    for _ in range(number):
        began = time.monotonic()
        requests.post(f"{server}/v0/predict", json=ROW, timeout=30).raise_for_status()
        times.append(time.monotonic() - began)
    return max(times)


def test_a_reset_after_expect_ends_no_worker(server: Server) -> None:
    """Twenty clients send `Expect: 100-continue` and then reset; every worker lives on."""
    for _ in range(20):
        client = connect(server)
        client.sendall(post(b"Expect: 100-continue", b"Content-Length: 100", body=b""))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert slowest(server, 1) < 1


def test_a_reset_behind_several_requests_is_no_error(server: Server) -> None:
    """The answers under way are dropped, and nothing is logged of it."""
    for _ in range(20):
        client = connect(server)
        client.sendall(post() * 10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert slowest(server, 5) < 1


HALVES = {
    "a length over the limit": post(b"Content-Length: 5000000", body=b""),
    "a length within it": post(b"Content-Length: 4000000", body=b""),
    "two codings": post(b"Transfer-Encoding: identity, chunked", body=b"5\r\n{"),
    "a long chunk extension": post(CHUNKED, body=b"5;" + b"a" * 2000),
    "half a head": post()[:40],
    "half of the next request": post() + post()[:40],
}


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES)
def test_unfinished_requests_delay_no_other_client(server: Server, sent: bytes) -> None:
    """If 24 clients send part of a request and wait, other clients are answered within a second."""
    with crowd(server, 24, sent):
        assert slowest(server) < 1


def test_chunks_of_one_byte_take_linear_time(server: Server) -> None:
    """A body of 600 kB in chunks of one byte is read within seconds, and fits the size limit."""
    body = BODY[:-1] + b" " * (600_000 - len(BODY)) + b"}"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    began = time.monotonic()
    with connect(server) as client:
        client.sendall(post(CHUNKED, b"Connection: close", body=chunks))
        check(read(client), {200})

    assert time.monotonic() - began < 4


def test_8200_idle_connections_delay_no_other_client(server: Server) -> None:
    """With more idle connections than the workers hold, the oldest are closed."""
    with files(9000), crowd(server, 8200):
        assert slowest(server) < 1


@pytest.mark.parametrize("sent", [b"", HALVES["a length within it"]], ids=["idle", "half sent"])
def test_few_file_descriptors_are_enough(credit: Path, sent: bytes) -> None:
    """With 1,024 file descriptors the workers survive 3,000 connections, and log nothing."""
    limited = ["bash", "-c", 'ulimit -n 1024; exec "$0" "$@"', *COMMAND]
    settings = {"MODEL_URI": str(credit), "LOG_LEVEL": "warning", "WEB_CONCURRENCY": "2"}
    with files(4000), start(limited, settings) as server:
        wait_for(lambda: len(workers(server)) == 2)
        before = {worker.pid for worker in workers(server)}
        with crowd(server, 3000, sent):
            assert slowest(server) < 2
        assert {worker.pid for worker in workers(server)} == before
        assert server.logged() == ""


def test_the_soft_limit_of_files_is_raised_to_the_hard_one(credit: Path) -> None:
    """Every worker raises its soft limit of open files to the hard one."""
    limited = ["bash", "-c", 'ulimit -Sn 256; exec "$0" "$@"', *COMMAND]
    with start(limited, {"MODEL_URI": str(credit)}) as server:
        wait_for(lambda: len(workers(server)) == 2)
        requests.get(f"{server}/health", timeout=30).raise_for_status()
        for worker in workers(server):
            soft, hard = worker.rlimit(psutil.RLIMIT_NOFILE)
            assert soft == hard > 256


def test_the_connection_header_is_right(server: Server) -> None:
    """After a rejected body `Connection` says rightly whether the connection is kept."""
    small = post(b"Content-Encoding: gzip", body=b"x" * 200_000)
    with connect(server) as client:
        for _ in range(3):
            client.sendall(small)
            answer = read(client, seconds=1)
            check(answer, {415})
            assert b"connection: close" not in answer
    for large in (post(b"Content-Length: 5000000", body=b"x" * 5_000_000), CHUNKS_OVER_THE_LIMIT):
        with connect(server) as client:
            threading.Thread(target=send_quietly, args=(client, large), daemon=True).start()
            answer = read(client, seconds=10)
            check(answer, {413})
            assert b"connection: close" in answer


CHUNKS_OVER_THE_LIMIT = post(CHUNKED, body=(b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 6)


def send_quietly(client: socket.socket, data: bytes) -> None:
    """Send, and ignore that the server may close the connection first."""
    try:
        client.sendall(data)
    except OSError:
        return


def test_contradicting_proxy_headers_are_accepted(server: Server) -> None:
    """X-Forwarded-Proto may contradict X-Forwarded-Ssl."""
    proxied = (b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off", b"Forwarded: for=unknown")

    check(talk(server, post(*proxied, b"Connection: close")), {200})


def test_a_header_with_an_underscore_is_dropped(server: Server) -> None:
    """WSGI cannot tell an underscore from a dash, so a header with an underscore is dropped."""
    check(talk(server, post(b"Content_Encoding: gzip", b"Connection: close")), {200})


def test_an_offer_of_http2_is_declined(server: Server) -> None:
    """Java's HttpClient offers h2c with every request; the offer is declined and the body read."""
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    plain, whole = post(*offer), post(*offer, b"Expect: 100-continue")
    chunked = post(*offer, CHUNKED, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
    pieces = [plain[n : n + 7] for n in range(0, len(plain), 7)]

    answer = talk(server, plain, plain, chunked, post(), whole, *pieces, pause=0.02)
    assert answer.count(b"HTTP/1.1 200 OK") == 6
    assert answer.count(b"HTTP/1.1 100 Continue") == 1
    assert answer.count(b"HTTP/1.1 ") == 7


def test_a_body_after_an_upgrade_is_not_a_request(server: Server) -> None:
    """The body of a request that offers h2c is never read as the next request."""
    inner = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    offer = post(b"Connection: Upgrade", b"Upgrade: h2c", body=inner)
    head, _, _ = offer.partition(inner)

    for pieces in ((offer,), (head, inner), (post() + head, inner)):
        answer = talk(server, *pieces, pause=0.2)
        assert b'"status":"ok"' not in answer


def test_many_requests_at_once_are_bounded(server: Server) -> None:
    """A client that pipelines 5,000 requests gets some answers; then the connection is closed."""
    answer = talk(server, post() * 5000)

    assert 1 <= answer.count(b"HTTP/1.1 200 OK") < 100
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer


def test_a_client_may_be_eight_requests_ahead(server: Server) -> None:
    """A client that always has eight requests under way gets all of its answers."""
    with connect(server) as client:
        client.sendall(post() * 8)
        answer = b""
        for sent in range(1, 201):
            while answer.count(b"HTTP/1.1 200 OK") < sent:
                piece = client.recv(65536)
                assert piece
                answer += piece
            client.sendall(post())


def test_a_request_before_invalid_bytes_is_answered(server: Server) -> None:
    """The request before the invalid bytes is answered, and then the connection is closed."""
    answer = talk(server, post() + b"\x16\x03\x01\r\n\r\n")

    check(answer, {200})
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_half_closed_connection_is_answered(server: Server) -> None:
    """A client that shuts down its sending side after the request gets its answer."""
    with connect(server) as client:
        client.sendall(post())
        client.shutdown(socket.SHUT_WR)
        check(read(client, seconds=5), {200})


def memory(server: Server) -> float:
    """Return the workers' private memory in MB."""
    return float(sum(worker.memory_full_info().uss for worker in workers(server))) / 1e6


@pytest.mark.slow
def test_unread_answers_are_bounded(server: Server) -> None:
    """If fifty clients ask for a megabyte each and read nothing, the oldest lose their answers."""
    rows = json.dumps({"instances": [ROW] * 10_000}).encode()
    request = post(b"Connection: close", body=rows)
    with ExitStack() as stack:
        clients = []
        for _ in range(50):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(60)
            client.connect(("127.0.0.1", int(server.rpartition(":")[2])))
            client.sendall(request)
            clients.append(client)
        wait_for(lambda: server.logged().count('"rows":10000,') == 50, 60)
        assert slowest(server) < 1
        whole = sum(len(read(client, seconds=1)) > 1_000_000 for client in clients)

    # Each of the two workers buffers at most 16 MiB of answers, and one more answer.
    assert 1 <= whole <= 36


def test_unfinished_heads_are_bounded(server: Server) -> None:
    """Four thousand clients send 30 kB of an unfinished head; the workers stay below 400 MB."""
    with files(5000), crowd(server, 4000, b"GET / HTTP/1.1\r\nX-A: " + b"a" * 30_000):
        assert slowest(server) < 1
        assert memory(server) < 400


def test_gunicorn_s_own_workers_serve_the_app(credit: Path) -> None:
    """Without our gunicorn configuration the app is a plain WSGI app."""
    command = [*(sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:{port}"), COMMAND[-1]]
    with start(command, {"MODEL_URI": str(credit)}, ROOT) as server:
        answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=30)

    assert answer.status_code == 200

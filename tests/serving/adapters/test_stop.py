"""Workers and servers are stopped and killed under load, by real signals."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from urllib3.util.retry import Retry

from tests.helpers.example import ROW
from tests.helpers.http.load import CLIENTS, Clients
from tests.helpers.http.wire import check, connect, post, read
from tests.helpers.servers import Server, end_a_worker, serving, start, workers

ROUNDS = 5


@pytest.mark.slow
def test_sigterm_to_a_worker_loses_no_request(credit: Path) -> None:
    """Clients with kept-alive connections and no retries get every answer."""
    with serving(credit, WEB_CONCURRENCY="2", LOG_LEVEL="warning") as server:
        clients = Clients(server)
        with clients.asking():
            for _ in range(ROUNDS):
                time.sleep(1)
                end_a_worker(server, signal.SIGTERM)
            time.sleep(1)

    assert clients.outcomes.keys() == {"200"}
    assert clients.outcomes["200"] > 100 * ROUNDS


@pytest.mark.slow
def test_sigkill_loses_no_request_that_is_retried(credit: Path) -> None:
    """A client that retries after a closed connection gets every answer."""
    retry = Retry(3, allowed_methods=None, backoff_factor=0.05)
    with serving(credit, WEB_CONCURRENCY="2", LOG_LEVEL="warning") as server:
        clients = Clients(server, retry)
        with clients.asking():
            for _ in range(ROUNDS):
                time.sleep(1)
                end_a_worker(server, signal.SIGKILL)
            time.sleep(1)

    assert clients.outcomes.keys() == {"200"}
    # A dying worker loses at most one request of each client.
    assert clients.retried <= ROUNDS * CLIENTS


def test_a_stopping_worker_answers_its_connections(credit: Path) -> None:
    """A stopping worker answers connections that are idle, new, half sent or in pieces."""
    request = post()
    with serving(credit, WEB_CONCURRENCY="1") as server, ExitStack() as stack:
        requests.get(f"{server}/health", timeout=30).raise_for_status()
        clients = [stack.enter_context(connect(server)) for _ in range(4)]
        kept, _silent, half, body = clients
        kept.sendall(request)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        half.sendall(request[:20])
        body.sendall(request[:-5])
        time.sleep(0.3)
        [worker] = workers(server)
        worker.terminate()
        time.sleep(0.7)
        rests = (request, request, request[20:], request[-5:])
        for client, rest in zip(clients, rests, strict=True):
            client.sendall(rest)
        for client in clients:
            answer = read(client)
            check(answer, {200})
            assert b"connection: close" in answer


def test_a_new_client_is_answered_while_the_only_worker_stops(credit: Path) -> None:
    """The next worker answers new clients while the old one still waits for a client."""
    request = post()
    with serving(credit, WEB_CONCURRENCY="1") as server, ExitStack() as stack:
        requests.get(f"{server}/health", timeout=30).raise_for_status()
        half = stack.enter_context(connect(server))
        half.sendall(request[:-5])
        time.sleep(0.3)
        [worker] = workers(server)
        worker.terminate()
        with ThreadPoolExecutor(5) as pool:
            asked = []
            for _ in range(5):
                time.sleep(0.3)
                asked.append(pool.submit(requests.post, f"{server}/v0/predict", json=ROW))
            assert worker.is_running()
            half.sendall(request[-5:])
            check(read(half), {200})
            assert {one.result(30).status_code for one in asked} == {200}
        worker.wait(10)


def test_sigterm_to_the_server_finishes_requests_in_flight(credit: Path) -> None:
    """Under load every client gets its answer, with `Connection: close`."""
    lost: list[str] = []
    told = threading.Semaphore(0)

    def ask(server: Server) -> None:
        with requests.Session() as session:
            try:
                while True:
                    answer = session.post(f"{server}/v0/predict", json=ROW, timeout=30)
                    if answer.status_code != 200 or len(answer.json()["prediction"]) != 3:
                        lost.append(answer.text)
                    if answer.headers.get("Connection") == "close":
                        told.release()
                        return
            except requests.RequestException as error:
                lost.append(repr(error))

    with serving(credit) as server, ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask, server) for _ in range(CLIENTS)]
        time.sleep(1)
        server.process.terminate()
        for one in asking:
            one.result()
        assert server.process.wait(20) == 0

    assert lost == []
    assert all(told.acquire(blocking=False) for _ in range(CLIENTS))


def test_unaccepted_connections_are_answered_at_a_stop(credit: Path) -> None:
    """Connections that no worker has accepted yet are answered before the server stops."""
    body = json.dumps({"instances": [ROW] * 10_000}).encode()
    with serving(credit, WEB_CONCURRENCY="1") as server, ExitStack() as stack:
        requests.get(f"{server}/health", timeout=30).raise_for_status()
        [worker] = workers(server)
        worker.suspend()
        clients = [stack.enter_context(connect(server)) for _ in range(20)]
        for client in clients:
            client.sendall(post(body=body if client is clients[0] else b"{}"))
        server.process.terminate()
        time.sleep(0.5)
        worker.resume()
        answers = [read(client) for client in clients]

    check(answers[0], {200})
    for answer in answers[1:]:
        check(answer, {422})


def test_a_stop_reaches_workers_that_are_starting(credit: Path) -> None:
    """A worker that starts while the server stops ends as soon as it handles signals."""
    script = (
        "import serving.adapters.gunicorn as config, sys, time\n"
        "from gunicorn.app.wsgiapp import run\n"
        "config.post_fork = lambda server, worker: time.sleep(2)\n"
        "sys.argv[1:] = ['--config', 'python:serving.adapters.gunicorn',"
        " '--bind', '127.0.0.1:{port}', 'serving.adapters.flask:create_app()']; run()"
    )
    with start([sys.executable, "-c", script], {"MODEL_URI": str(credit)}) as server:
        while len(workers(server)) < 2:
            time.sleep(0.05)
        server.process.terminate()
        # If the worker missed the signal, gunicorn would kill it after 25 s.
        assert server.process.wait(15) == 0
        assert "SIGKILL" not in server.logged()


@pytest.mark.slow
def test_a_server_stops_before_it_is_killed(credit: Path) -> None:
    """Slow bodies, unfinished heads and unread answers do not delay a stop beyond 26 s."""
    large = json.dumps({"instances": [ROW] * 10_000}).encode()
    with serving(credit) as server, ExitStack() as stack:
        requests.get(f"{server}/health", timeout=30).raise_for_status()
        for sent in (b"", post()[:20], post()[:-5], post(body=large)) * 4:
            client = stack.enter_context(connect(server))
            client.sendall(sent)
        time.sleep(1)
        server.process.terminate()
        assert server.process.wait(26) == 0
        assert "SIGKILL" not in server.logged()


def test_ctrl_c_ends_the_server_at_once(credit: Path) -> None:
    """Ctrl+C ends the server also if only the master gets the signal."""
    with serving(credit) as server, connect(server):
        requests.get(f"{server}/health", timeout=30).raise_for_status()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0

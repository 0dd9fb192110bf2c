"""The rate limit: one sliding window per caller, kept in each process or in a real Redis."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from limits.storage import storage_from_string
from serving.access import rate_limit
from serving.access.rate_limit import RateLimit, network, open_rate_limit
from serving.errors import SettingsError, TooManyRequests

from tests.helpers.access.keys import API_KEYS, KEYS
from tests.helpers.example import ROW
from tests.helpers.servers import Server, emulator, lines, serving, start


@contextlib.contextmanager
def redis(*options: str) -> Iterator[Server]:
    """Run Redis in memory, and yield its URL."""
    if shutil.which("redis-server") is None and "CI" not in os.environ:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    command = ["redis-server", "--bind", "127.0.0.1", "--port", "{port}", "--save", "", *options]
    with start(command, {}) as server:
        url = Server(server.replace("http://", "redis://"))
        url.process, url.log = server.process, server.log
        yield url


@pytest.fixture(scope="module", name="store")
def _store() -> Iterator[Server]:
    with redis() as url:
        yield url


def waits(limit: RateLimit, caller: str, count: int) -> list[int]:
    """Send *count* requests of *caller*; return each Retry-After, or 0 where it was accepted."""
    found = []
    for _ in range(count):
        try:
            limit.take(caller)
            found.append(0)
        except TooManyRequests as error:
            found.append(int(error.headers["Retry-After"]))
    return found


@pytest.fixture(params=["memory", "redis"])
def make_limit(request: pytest.FixtureRequest) -> Callable[[str], RateLimit]:
    """Make limits that count in this process, and then limits that count in Redis."""
    if request.param == "memory":
        return lambda rate: open_rate_limit(rate, None)
    url = request.getfixturevalue("store")
    storage_from_string(url).reset()
    return lambda rate: open_rate_limit(rate, url)


def test_a_window_moves(make_limit: Callable[[str], RateLimit]) -> None:
    """A slot is free again once the window has passed since the request that took it."""
    limit = make_limit("3 per 2 seconds")
    limit.take("a")
    time.sleep(1.0)
    assert waits(limit, "a", 4) == [0, 0, 1, 1]
    time.sleep(1.05)
    assert waits(limit, "a", 2) == [0, 1]
    time.sleep(1.0)
    assert waits(limit, "a", 3) == [0, 0, 1]


def test_each_caller_has_its_own_window(make_limit: Callable[[str], RateLimit]) -> None:
    """Retry-After is the time until the caller's oldest request leaves the window."""
    limit = make_limit("10/hour")

    assert waits(limit, "a", 12) == [0] * 10 + [3600] * 2
    assert waits(limit, "b", 1) == [0]


def test_retry_after_is_right(make_limit: Callable[[str], RateLimit]) -> None:
    """A caller is accepted after Retry-After seconds, and rejected one second before."""
    limit = make_limit("1 per 2 seconds")
    limit.take("a")
    time.sleep(0.5)
    [wait] = waits(limit, "a", 1)
    time.sleep(wait - 1)
    assert waits(limit, "a", 1) == [1]
    time.sleep(1)

    assert waits(limit, "a", 1) == [0]


def test_threads_share_a_window(make_limit: Callable[[str], RateLimit]) -> None:
    """Of 200 simultaneous requests, exactly as many as the limit allows are accepted."""
    limits = [make_limit("50/day")]
    if limits[0]._shared:  # as several processes would
        limits += [make_limit("50/day") for _ in range(3)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: waits(limits[n % len(limits)], "crowd", 1), range(200)))

    assert found.count([0]) == 50


def test_callers_are_forgotten() -> None:
    """Five thousand addresses that came once take no memory after their window."""
    limit = open_rate_limit("1/second", None)
    for number in range(5_000):
        limit.take(str(number))
    time.sleep(1.5)
    limit.take("a")  # makes the library remove what has expired
    time.sleep(0.5)
    for number in range(5_001):
        limit.take(f"new {number}")

    assert len(limit._own._storage.events) < 6_000


def test_keys_in_redis_expire(store: str) -> None:
    """A caller's key in Redis expires with the window."""
    open_rate_limit("10/minute", store).take("expiring")
    redis = storage_from_string(store).get_connection()  # type: ignore[union-attr]
    [key] = redis.keys("*expiring*")

    assert 0 < redis.pttl(key) <= 60_000


def ask(server: str, *, path: str = "/v0/model_info", **headers: str) -> requests.Response:
    """Send a request on a new connection, so that any worker may answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(f"{server}{path}", headers=named, timeout=10)


def test_a_request_over_the_limit_is_429(credit: Path) -> None:
    """A request over the limit gets 429 with Retry-After in seconds; each key has its window."""
    limits = {"RATE_LIMIT": "3 per 30 minutes", "WEB_CONCURRENCY": "1", "API_KEYS": API_KEYS}
    with serving(credit, CORS_ORIGINS="https://shop.example", **limits) as server:
        sent = {"X_API_Key": KEYS["all"], "Origin": "https://shop.example"}
        answers = [ask(server, **sent) for _ in range(4)]
        other = ask(server, X_API_Key=KEYS["reads"])
        health = [ask(server, path="/health").status_code for _ in range(9)]
        logged = lines(server)

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    refused = answers[-1]
    assert 1790 < int(refused.headers["Retry-After"]) <= 1800
    assert refused.json()["type"] == "urn:canoa:problem:too-many-requests"
    assert refused.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "Retry-After" in refused.headers["Access-Control-Expose-Headers"]
    assert other.status_code == 200
    assert set(health) == {200}
    [line] = [line for line in logged if line.get("status") == 429]
    assert (line["caller"], line["error"]) == ("all", "too-many-requests")


def test_429_comes_before_the_body_is_read(credit: Path) -> None:
    """The limit is checked before the body is read and before the scope is checked."""
    limits = {"RATE_LIMIT": "2/hour", "WEB_CONCURRENCY": "1", "API_KEYS": API_KEYS}
    with serving(credit, **limits) as server:
        sent = {"X-API-Key": KEYS["predicts"]}
        statuses = [
            requests.post(f"{server}/v0/predict", data, headers=sent, timeout=10).status_code
            for data in (json.dumps(ROW), "{", "{")
        ]
        statuses.append(ask(server, X_API_Key=KEYS["predicts"]).status_code)

    assert statuses == [200, 400, 429, 429]


def test_wrong_keys_are_limited(credit: Path) -> None:
    """A client that sends wrong keys gets 401, and then 429 once it reaches the limit."""
    limits = {"RATE_LIMIT": "2/hour", "WEB_CONCURRENCY": "1", "API_KEYS": API_KEYS}
    with serving(credit, **limits) as server:
        guesses = [ask(server, X_API_Key=f"guess{n}").status_code for n in range(3)]
        known = ask(server, X_API_Key=KEYS["all"]).status_code

    assert (guesses, known) == ([401, 401, 429], 200)


def test_on_heroku_the_router_s_address_counts(credit: Path) -> None:
    """The last address of X-Forwarded-For counts, whatever the client writes before it."""
    cloud = {"DYNO": "web.1", "AUTH": "none", "RATE_LIMIT": "2/hour", "WEB_CONCURRENCY": "1"}
    with serving(credit, **cloud) as server:
        first = [
            ask(server, X_Forwarded_For=f"10.0.0.{number}, 203.0.113.7").status_code
            for number in range(3)
        ]
        second = ask(server, X_Forwarded_For="203.0.113.7, 203.0.113.8").status_code
        household = [
            ask(server, X_Forwarded_For=f"2001:db8:1:2::{number}").status_code
            for number in range(3)
        ]

    assert first == [200, 200, 429]
    assert second == 200
    assert household == [200, 200, 429]


def test_on_a_laptop_x_forwarded_for_is_ignored(credit: Path) -> None:
    """Without a router, X-Forwarded-For is ignored."""
    with serving(credit, RATE_LIMIT="2/hour", WEB_CONCURRENCY="1") as server:
        statuses = [
            ask(server, X_Forwarded_For=f"203.0.113.{number}").status_code for number in range(3)
        ]

    assert statuses == [200, 200, 429]


def test_workers_share_a_window_in_redis(credit: Path, store: str) -> None:
    """With Redis, three workers together accept only as many requests as the limit allows."""
    limits = {"RATE_LIMIT": "20/day", "RATE_LIMIT_STORAGE": store, "WEB_CONCURRENCY": "3"}
    with serving(credit, LOG_LEVEL="error", **limits) as server, ThreadPoolExecutor(8) as pool:
        statuses = [answer.status_code for answer in pool.map(lambda _: ask(server), range(60))]

        assert statuses.count(200) == 20
        assert statuses.count(429) == 40
        assert server.logged().count('"level":"error"') == 0


def test_the_limit_works_while_redis_is_down(credit: Path) -> None:
    """If Redis is killed, each worker counts by itself, and logs the failure once."""
    with redis() as store:
        limits = {"RATE_LIMIT": "30/day", "RATE_LIMIT_STORAGE": store, "WEB_CONCURRENCY": "1"}
        with serving(credit, **limits) as server:
            assert [ask(server).status_code for _ in range(10)] == [200] * 10
            store.process.send_signal(signal.SIGKILL)
            store.process.wait()
            statuses = [ask(server).status_code for _ in range(40)]
            logged = server.logged()

    assert statuses == [200] * 30 + [429] * 10
    assert logged.count("the rate limit's Redis is down") == 1
    assert "Connection" in logged


def test_a_hanging_redis_delays_one_request_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If Redis hangs, one request waits for the timeout, and the next ones do not."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://:secret@127.0.0.1:{silent.getsockname()[1]}"
        limit = open_rate_limit("5/day", url)
        for _ in range(5):
            limit.take("a")
        with pytest.raises(TooManyRequests):
            limit.take("a")
        silent.settimeout(1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()  # Only one connection was made.

    logged = capsys.readouterr().out
    assert logged.count("is down") == 1
    assert "Timeout" in logged
    assert "secret" not in logged


def test_redis_is_used_again_when_it_returns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When Redis answers again, it is used again, and the log says so."""
    monkeypatch.setattr(rate_limit, "PAUSE_SECONDS", 0.0)
    with redis() as store:
        limit = open_rate_limit("5/day", store)
        store.process.send_signal(signal.SIGSTOP)
        limit.take("a")
        store.process.send_signal(signal.SIGCONT)
        for _ in range(5):
            limit.take("a")
        with pytest.raises(TooManyRequests):
            limit.take("a")
        said = [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()]

    assert said == [
        "the rate limit's Redis is down: each process counts",
        "the rate limit's Redis is up again",
    ]


def test_a_password_is_never_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """If Redis rejects the password, requests are served, and the log does not contain it."""
    with redis("--requirepass", "right-password") as store:
        host = store.removeprefix("redis://")
        right = open_rate_limit("5/day", f"redis://:right-password@{host}")
        right.take("a")
        assert capsys.readouterr().out == ""
        open_rate_limit("5/day", f"redis://user:wrong-password@{host}").take("a")
        logged = capsys.readouterr().out

    assert "is down" in logged
    assert "password@" not in logged
    assert "wrong-password" not in logged


@pytest.mark.parametrize(
    ("address", "who"),
    [
        (" 203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", "unknown"),
        ("unknown", "unknown"),
        ("203.0.113.7:443", "unknown"),
        ("x" * 10_000, "unknown"),
    ],
)
def test_an_address_maps_to_a_network(address: str, who: str) -> None:
    """IPv6 addresses of one /64 count as one caller, and so do all invalid addresses."""
    assert network(address) == who


@pytest.mark.parametrize("rate", ["often", "0/minute", "1/minute; 9/hour", "-1/day", "1/fortnight"])
def test_an_invalid_rate_is_named(rate: str) -> None:
    """The error for an invalid RATE_LIMIT shows a valid one."""
    with pytest.raises(SettingsError, match=r"RATE_LIMIT is .* such as 100/minute"):
        open_rate_limit(rate, None)


def test_an_invalid_rate_stops_the_start(credit: Path) -> None:
    """The server does not start with an invalid RATE_LIMIT."""
    with pytest.raises(RuntimeError, match="canoa: RATE_LIMIT is 'often', but must be"):
        serving(credit, RATE_LIMIT="often").__enter__()


def test_on_google_cloud_the_limit_only_warns(credit: Path) -> None:
    """On Google Cloud RATE_LIMIT has no effect, and one log line says so."""
    cloud = {"K_SERVICE": "model-info", "AUTH": "none", "RATE_LIMIT": "1/day"}
    with emulator("model_info", credit, **cloud) as server:
        assert [ask(server).status_code for _ in range(3)] == [200] * 3
        assert server.logged().count("RATE_LIMIT does nothing on Google Cloud") == 1

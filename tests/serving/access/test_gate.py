"""Who gets in, the same on every platform; and nobody where nobody said who may."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests
from serving.access import cors
from serving.adapters.aws_request import EventRequest
from serving.endpoint import Answer, Request, endpoint

from tests.helpers.access.keys import API_KEYS, KEYS
from tests.helpers.aws.lambdas import http_event, runtime
from tests.helpers.aws.osls import offline
from tests.helpers.example import ROW, assert_problem, post
from tests.helpers.platforms import PLATFORMS, Platform, Reply, direct
from tests.helpers.servers import Server, emulator, lines, serving

PROTECTED = {
    "predict": "POST",
    "explain": "POST",
    "model_info": "GET",
    "openapi": "GET",
    "index": "GET",
}
ORIGIN = "https://shop.example"
STRANGER = 'Bearer realm="canoa"'
REFUSED = f'{STRANGER}, error="invalid_token"'


@pytest.fixture(scope="module", params=PLATFORMS)
def send(request: pytest.FixtureRequest, credit: Path) -> Iterator[Platform]:
    """Yield each platform in turn, with three keys."""
    limits = {"MAX_BODY_BYTES": "20000", "CORS_ORIGINS": ORIGIN}
    with PLATFORMS[request.param](credit, API_KEYS=API_KEYS, **limits) as platform:
        yield platform


def call(send: Platform, function: str, **headers: str) -> Reply:
    """Call *function* as it wants to be called."""
    if function == "predict":
        return post(send, ROW, **headers)
    if function == "explain":
        return send(function, "POST", json.dumps(ROW).encode(), **headers)
    return send(function, PROTECTED.get(function, "GET"), None, **headers)


def bearer(name: str) -> dict[str, str]:
    """Send the key of that name."""
    return {"Authorization": f"Bearer {KEYS[name]}"}


@pytest.mark.parametrize("function", PROTECTED)
def test_a_stranger_is_asked_who_it_is(send: Platform, function: str) -> None:
    """401 with a plain challenge, which a page of a listed origin may read."""
    reply = call(send, function, Origin=ORIGIN)

    problem = assert_problem(reply, 401, "unauthorized")
    assert problem["title"] == "A valid key or token is needed"
    assert reply.headers["WWW-Authenticate"] == STRANGER
    assert reply.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("function", PROTECTED)
def test_a_key_that_is_none_is_refused(send: Platform, function: str) -> None:
    """401, and the challenge says that what was sent is not valid."""
    wrong = KEYS["all"][:-1] + "x"
    for headers in ({"Authorization": f"Bearer {wrong}"}, {"X_API_Key": wrong}):
        reply = call(send, function, **headers)

        problem = assert_problem(reply, 401, "unauthorized")
        assert problem["detail"] == "The key or token that was sent is not valid."
        assert reply.headers["WWW-Authenticate"] == REFUSED


@pytest.mark.parametrize("function", PROTECTED)
def test_a_key_lets_in(send: Platform, function: str) -> None:
    """In either header, the scheme in any case."""
    key = KEYS["all"]
    for value in (f"Bearer {key}", f"bearer {key}", f"BEARER   {key}"):
        assert call(send, function, Authorization=value).status == 200
    assert call(send, function, X_API_Key=key).status == 200
    # The platform's own credentials may be in the other.
    assert call(send, function, X_API_Key=key, Authorization="Bearer a.b.c").status == 200


@pytest.mark.parametrize(
    ("name", "function", "lacks"),
    [
        ("predicts", "model_info", "info"),
        ("predicts", "openapi", "info"),
        ("reads", "predict", "predict"),
    ],
)
def test_a_key_does_what_it_is_for_alone(
    send: Platform, name: str, function: str, lacks: str
) -> None:
    """403 says which scope is missing, and a page may read it."""
    reply = call(send, function, Origin=ORIGIN, **bearer(name))

    problem = assert_problem(reply, 403, "forbidden")
    assert problem["detail"] == f"It needs the scope {lacks}."
    challenge = f'{STRANGER}, error="insufficient_scope", scope="{lacks}"'
    assert reply.headers["WWW-Authenticate"] == challenge
    assert reply.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_a_key_does_what_it_is_for(send: Platform) -> None:
    """Each scope opens its own endpoints."""
    assert call(send, "predict", **bearer("predicts")).status == 200
    assert call(send, "model_info", **bearer("reads")).status == 200
    assert call(send, "openapi", **bearer("reads")).status == 200


def test_health_tells_strangers_only_that_it_works(send: Platform) -> None:
    """The version is for those who may see model_info; nobody is refused."""
    for headers in ({}, bearer("predicts"), {"Authorization": "Bearer nonsense"}):
        reply = call(send, "health", **headers)
        assert (reply.status, reply.json()) == (200, {"status": "ok"})

    seen = call(send, "health", **bearer("reads")).json()
    assert seen["status"] == "ok"
    assert seen["model"]["name"] == "credit"


def test_a_preflight_needs_no_key(send: Platform, request: pytest.FixtureRequest) -> None:
    """Browsers send none with it; it allows the headers that keys come in."""
    if "osls offline" in request.node.name:
        request.applymarker(pytest.mark.xfail(reason="serverless-offline answers it by itself"))
    asks = {"Access_Control_Request_Method": "POST", "Origin": ORIGIN}
    reply = send("predict", "OPTIONS", None, **asks)

    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Access-Control-Allow-Headers"] == cors.ALLOWED
    assert {"Authorization", "X-API-Key"} <= set(cors.ALLOWED.split(", "))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": KEYS["all"]},
        {"Authorization": f"Bearer{KEYS['all']}"},
        {"Authorization": f"Bearer {KEYS['all']}, Bearer {KEYS['all']}"},
        {"Authorization": f"Bearer {KEYS['all']} {KEYS['all']}"},
        {"Authorization": "Bearer \xe9\xff\x80"},
        {"Authorization": "Bearer " + "k" * 5000},
        {"Authorization": "Bearer a.b.c"},
        {"Authorization": "Bearer null"},
        {"X_API_Key": ""},
        {"X_API_Key": f"{KEYS['all']},{KEYS['all']}"},
        {"X_API_Key": f"Bearer {KEYS['all']}"},
        {"X_API_Key": "\xe9"},
        {"X_API_Key": KEYS["all"].upper()},
        {"Cookie": f"X-API-Key={KEYS['all']}"},
    ],
)
def test_odd_headers_are_no_key(send: Platform, headers: dict[str, str]) -> None:
    """Empty, doubled, of another scheme, of odd bytes: 401, and never a fault of ours."""
    reply = call(send, "model_info", **headers)

    assert_problem(reply, 401, "unauthorized")
    assert reply.headers["WWW-Authenticate"] in (STRANGER, REFUSED)


def test_strangers_learn_nothing_of_the_body(send: Platform) -> None:
    """Whatever it is, and however large, it is not looked at before the key."""
    for body in (b"{", b" " * 20001, b"{}"):
        assert_problem(post(send, body), 401, "unauthorized")
    assert_problem(post(send, ROW, Content_Type="text/plain"), 401, "unauthorized")
    assert_problem(send("predict", "GET"), 405, "method-not-allowed")
    assert_problem(post(send, b"{", **bearer("all")), 400, "malformed-body")


def test_the_key_is_not_taken_from_the_body_or_the_address(credit: Path) -> None:
    """Addresses end up in logs: a key there is no key."""
    with serving(credit, API_KEYS=API_KEYS) as server:
        query = {"api_key": KEYS["all"], "access_token": KEYS["all"]}
        answer = requests.get(f"{server}/v0/model_info", params=query, timeout=10)

    assert answer.status_code == 401


def on_heroku(credit: Path, **said: str) -> AbstractContextManager[Server]:
    """Start what the dyno runs, as on a dyno."""
    return serving(credit, DYNO="web.1", WEB_CONCURRENCY="2", **said)


def on_google(credit: Path, **said: str) -> AbstractContextManager[Server]:
    """Start one function, as on Google Cloud."""
    return emulator("model_info", credit, K_SERVICE="model-info", **said)


def by_offline(credit: Path, **said: str) -> AbstractContextManager[Server]:
    """Start serverless-offline, which sets what Lambda does."""
    return offline(credit, **{"AUTH": "", **said})


@pytest.mark.parametrize("run", [on_heroku, on_google, by_offline])
def test_a_cloud_is_closed_unless_told_otherwise(
    run: Callable[..., AbstractContextManager[Server]], credit: Path
) -> None:
    """Without keys, tokens or AUTH=none nobody gets in, whatever they send; one line says why."""
    with run(credit) as server:
        for headers in ({}, {"Authorization": f"Bearer {KEYS['all']}"}):
            answer = requests.get(f"{server}/v0/model_info", headers=headers, timeout=60)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith(STRANGER)
        logged = server.logged()

    assert logged.count("closed: nobody is let in") == 1
    assert logged.count("closed: neither API_KEYS nor JWT_ISSUER is set") == 2
    assert "AUTH=none" in logged


def test_lambda_is_closed_unless_told_otherwise(credit: Path) -> None:
    """The same under AWS's own runtime; and health goes on."""
    with runtime({"MODEL_URI": str(credit), "AUTH": ""}) as api:
        assert api.invoke(http_event("GET", "/v0/model_info", None, {}))["statusCode"] == 401
        health = api.invoke(http_event("GET", "/health", None, {}))
        logged = lines(api)

    assert json.loads(health["body"]) == {"status": "ok"}
    [loud] = [line for line in logged if line["level"] == "error"]
    assert loud["message"] == "closed: nobody is let in"
    assert "On AWS Lambda" in loud["reason"]


@pytest.mark.parametrize("run", [on_heroku, on_google])
def test_a_cloud_is_opened_by_name(
    run: Callable[..., AbstractContextManager[Server]], credit: Path
) -> None:
    """AUTH=none lets everybody in, and one line says so."""
    with run(credit, AUTH="none") as server:
        assert requests.get(f"{server}/v0/model_info", timeout=30).status_code == 200
        logged = server.logged()

    assert logged.count("open: everybody is let in") == 1
    assert "closed" not in logged


def test_a_laptop_is_open_and_says_nothing(credit: Path) -> None:
    """The first run of the README: no key, no warning, and health names the version."""
    with serving(credit) as server:
        assert requests.get(f"{server}/health", timeout=10).json().keys() == {"status", "model"}
        assert requests.get(f"{server}/v0/model_info", timeout=10).status_code == 200
        logged = server.logged()

    assert "closed" not in logged
    assert "open:" not in logged


def test_the_line_says_who_and_why(credit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key's name, or the reason of a refusal; never a key or a digest."""
    with direct(credit, API_KEYS=API_KEYS) as send:
        call(send, "health")
        call(send, "predict", **bearer("predicts"))
        call(send, "model_info", **bearer("predicts"))
        call(send, "model_info", X_API_Key=KEYS["all"] + "x")
        call(send, "model_info")
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    fields = ("status", "caller", "error", "reason")
    said: list[Any] = [
        tuple(map(line.get, fields)) for line in logged if line["message"] == "request"
    ]

    assert said == [
        (200, None, None, None),
        (200, "predicts", None, None),
        (403, "predicts", "forbidden", "lacks the scope info"),
        (401, None, "unauthorized", "unknown key"),
        (401, None, "unauthorized", "no credentials"),
    ]


def test_an_endpoint_that_says_nothing_is_protected(credit: Path) -> None:
    """A new file of functions/ is closed to strangers until it says otherwise."""
    with direct(credit, API_KEYS=API_KEYS):

        @endpoint("GET", "/v0/new")
        def new(_: Request) -> Answer:
            return Answer({})

        assert new(EventRequest("GET", "/v0/new", {}, dict, bytes))[1] == 401
        sent = {"X-API-Key": KEYS["predicts"]}
        assert new(EventRequest("GET", "/v0/new", sent, dict, bytes))[1] == 200

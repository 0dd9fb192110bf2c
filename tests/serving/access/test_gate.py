"""Access control is the same on every platform, and a cloud is closed until it is configured."""

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
    """Call *function* with its own method and body."""
    if function == "predict":
        return post(send, ROW, **headers)
    if function == "explain":
        return send(function, "POST", json.dumps(ROW).encode(), **headers)
    return send(function, PROTECTED.get(function, "GET"), None, **headers)


def bearer(name: str) -> dict[str, str]:
    """Make the header that sends the key of that name."""
    return {"Authorization": f"Bearer {KEYS[name]}"}


@pytest.mark.parametrize("function", PROTECTED)
def test_a_request_without_credentials_is_401(send: Platform, function: str) -> None:
    """A request without credentials gets 401 with a challenge that a listed origin may read."""
    reply = call(send, function, Origin=ORIGIN)

    problem = assert_problem(reply, 401, "unauthorized")
    assert problem["title"] == "A valid key or token is needed"
    assert reply.headers["WWW-Authenticate"] == STRANGER
    assert reply.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("function", PROTECTED)
def test_a_wrong_key_is_401(send: Platform, function: str) -> None:
    """A wrong key gets 401, and the challenge says that the key is not valid."""
    wrong = KEYS["all"][:-1] + "x"
    for headers in ({"Authorization": f"Bearer {wrong}"}, {"X_API_Key": wrong}):
        reply = call(send, function, **headers)

        problem = assert_problem(reply, 401, "unauthorized")
        assert problem["detail"] == "The key or token that was sent is not valid."
        assert reply.headers["WWW-Authenticate"] == REFUSED


@pytest.mark.parametrize("function", PROTECTED)
def test_a_valid_key_is_accepted(send: Platform, function: str) -> None:
    """A valid key is accepted in either header, with the scheme in any case."""
    key = KEYS["all"]
    for value in (f"Bearer {key}", f"bearer {key}", f"BEARER   {key}"):
        assert call(send, function, Authorization=value).status == 200
    assert call(send, function, X_API_Key=key).status == 200
    # The platform's own credentials may be in the other header.
    assert call(send, function, X_API_Key=key, Authorization="Bearer a.b.c").status == 200


@pytest.mark.parametrize(
    ("name", "function", "lacks"),
    [
        ("predicts", "model_info", "info"),
        ("predicts", "openapi", "info"),
        ("reads", "predict", "predict"),
    ],
)
def test_a_missing_scope_is_403(send: Platform, name: str, function: str, lacks: str) -> None:
    """A key without the scope gets 403, which names the scope and which a page may read."""
    reply = call(send, function, Origin=ORIGIN, **bearer(name))

    problem = assert_problem(reply, 403, "forbidden")
    assert problem["detail"] == f"This request needs the scope {lacks}."
    challenge = f'{STRANGER}, error="insufficient_scope", scope="{lacks}"'
    assert reply.headers["WWW-Authenticate"] == challenge
    assert reply.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_a_scope_opens_its_endpoints(send: Platform) -> None:
    """Each scope opens its own endpoints."""
    assert call(send, "predict", **bearer("predicts")).status == 200
    assert call(send, "model_info", **bearer("reads")).status == 200
    assert call(send, "openapi", **bearer("reads")).status == 200


def test_health_shows_the_version_with_the_scope_info_only(send: Platform) -> None:
    """/health answers every request, and shows the version only to a key with the scope info."""
    for headers in ({}, bearer("predicts"), {"Authorization": "Bearer nonsense"}):
        reply = call(send, "health", **headers)
        assert (reply.status, reply.json()) == (200, {"status": "ok"})

    seen = call(send, "health", **bearer("reads")).json()
    assert seen["status"] == "ok"
    assert seen["model"]["name"] == "credit"


def test_a_preflight_needs_no_key(send: Platform, request: pytest.FixtureRequest) -> None:
    """A preflight is answered without a key, and allows the headers that carry keys."""
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
def test_malformed_headers_are_401(send: Platform, headers: dict[str, str]) -> None:
    """Empty, repeated, malformed or non-ASCII credentials get 401, never a 500."""
    reply = call(send, "model_info", **headers)

    assert_problem(reply, 401, "unauthorized")
    assert reply.headers["WWW-Authenticate"] in (STRANGER, REFUSED)


def test_the_key_is_checked_before_the_body(send: Platform) -> None:
    """Without a valid key the answer is 401, whatever the type, content and size of the body."""
    for body in (b"{", b" " * 20001, b"{}"):
        assert_problem(post(send, body), 401, "unauthorized")
    assert_problem(post(send, ROW, Content_Type="text/plain"), 401, "unauthorized")
    assert_problem(send("predict", "GET"), 405, "method-not-allowed")
    assert_problem(post(send, b"{", **bearer("all")), 400, "malformed-body")


def test_a_key_in_the_url_is_ignored(credit: Path) -> None:
    """A key in the query string is ignored, because URLs end up in logs."""
    with serving(credit, API_KEYS=API_KEYS) as server:
        query = {"api_key": KEYS["all"], "access_token": KEYS["all"]}
        answer = requests.get(f"{server}/v0/model_info", params=query, timeout=10)

    assert answer.status_code == 401


def on_heroku(credit: Path, **said: str) -> AbstractContextManager[Server]:
    """Start the server as on a Heroku dyno."""
    return serving(credit, DYNO="web.1", WEB_CONCURRENCY="2", **said)


def on_google(credit: Path, **said: str) -> AbstractContextManager[Server]:
    """Start one function as on Google Cloud."""
    return emulator("model_info", credit, K_SERVICE="model-info", **said)


def by_offline(credit: Path, **said: str) -> AbstractContextManager[Server]:
    """Start serverless-offline, which sets the same variables as Lambda."""
    return offline(credit, **{"AUTH": "", **said})


@pytest.mark.parametrize("run", [on_heroku, on_google, by_offline])
def test_a_cloud_is_closed_by_default(
    run: Callable[..., AbstractContextManager[Server]], credit: Path
) -> None:
    """Without keys, tokens or AUTH=none every request gets 401, and one log line says why."""
    with run(credit) as server:
        for headers in ({}, {"Authorization": f"Bearer {KEYS['all']}"}):
            answer = requests.get(f"{server}/v0/model_info", headers=headers, timeout=60)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith(STRANGER)
        logged = server.logged()

    assert logged.count("closed: every request is rejected") == 1
    assert logged.count("closed: neither API_KEYS nor JWT_ISSUER is set") == 2
    assert "AUTH=none" in logged


def test_lambda_is_closed_by_default(credit: Path) -> None:
    """Under AWS's own runtime, Lambda is closed too, and /health still answers."""
    with runtime({"MODEL_URI": str(credit), "AUTH": ""}) as api:
        assert api.invoke(http_event("GET", "/v0/model_info", None, {}))["statusCode"] == 401
        health = api.invoke(http_event("GET", "/health", None, {}))
        logged = lines(api)

    assert json.loads(health["body"]) == {"status": "ok"}
    [loud] = [line for line in logged if line["level"] == "error"]
    assert loud["message"] == "closed: every request is rejected"
    assert "On AWS Lambda" in loud["reason"]


@pytest.mark.parametrize("run", [on_heroku, on_google])
def test_auth_none_opens_a_cloud(
    run: Callable[..., AbstractContextManager[Server]], credit: Path
) -> None:
    """AUTH=none opens the API, and one log line says so."""
    with run(credit, AUTH="none") as server:
        assert requests.get(f"{server}/v0/model_info", timeout=30).status_code == 200
        logged = server.logged()

    assert logged.count("open: AUTH=none accepts every request") == 1
    assert "closed" not in logged


def test_a_laptop_is_open_without_a_warning(credit: Path) -> None:
    """On a laptop no key is needed, nothing is logged about it, and /health names the version."""
    with serving(credit) as server:
        assert requests.get(f"{server}/health", timeout=10).json().keys() == {"status", "model"}
        assert requests.get(f"{server}/v0/model_info", timeout=10).status_code == 200
        logged = server.logged()

    assert "closed" not in logged
    assert "open:" not in logged


def test_the_log_line_names_the_caller_and_the_reason(
    credit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log line has the key's name or the reason for the 401, never a key or a digest."""
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


def test_a_new_endpoint_is_protected(credit: Path) -> None:
    """A new endpoint needs a key unless it declares otherwise."""
    with direct(credit, API_KEYS=API_KEYS):

        @endpoint("GET", "/v0/new")
        def new(_: Request) -> Answer:
            return Answer({})

        assert new(EventRequest("GET", "/v0/new", {}, dict, bytes))[1] == 401
        sent = {"X-API-Key": KEYS["predicts"]}
        assert new(EventRequest("GET", "/v0/new", sent, dict, bytes))[1] == 200

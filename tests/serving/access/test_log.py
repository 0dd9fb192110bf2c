"""No log contains credentials that a client sent, neither valid nor invalid ones."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from serving.access.api_keys import digest

from tests.helpers.access.identity import AUDIENCE, Provider, provider
from tests.helpers.access.keys import API_KEYS, KEYS
from tests.helpers.aws.lambdas import http_event, runtime
from tests.helpers.example import ROW
from tests.helpers.servers import emulator, serving

#: The password of a Redis that does not exist.
PASSWORD = "a-password-of-redis"  # noqa: S105  # invented


@pytest.fixture(name="idp")
def _idp() -> Iterator[Provider]:
    with provider() as one:
        yield one


@pytest.fixture
def sent(idp: Provider) -> list[str]:
    """List keys and tokens: valid, wrong, cut, changed, expired, and signed by others."""
    token, key = idp.token(), KEYS["all"]
    return [
        *KEYS.values(),
        *(key[:-1], key + "x", key.upper(), digest(key), f"{key},{key}", f"{key} {key}"),
        *(token, token[:-6], token + "x", token.replace(".", ".."), token + "\xe9"),
        idp.token(exp=1),
        idp.token(aud="another", sub="mallory"),
        idp.token(sub="a\nb", scope="predict"),
        idp.token(key=idp.strangers["rsa"]),
        idp.token(headers={"kid": key}),
    ]


def secrets(sent: list[str]) -> set[str]:
    """List the strings that no log may contain: the credentials, their parts, and their digests."""
    parts = {part for one in sent for part in one.replace(",", ".").replace(" ", ".").split(".")}
    digests = {digest(key) for key in KEYS.values()}
    return {part for part in parts | digests if len(part) > 8}


def assert_none_is_in(log: str, sent: list[str]) -> None:
    """Check that the log has a line for each request, and no secret."""
    assert log.count('"message":"request"') >= len(sent)
    for secret in (*secrets(sent), PASSWORD):
        assert secret not in log
        assert secret.lower() not in log.lower()


def test_a_dyno_logs_no_secret(credit: Path, idp: Provider, sent: list[str]) -> None:
    """At level debug no secret is logged from headers, URLs, malformed requests or failures."""
    environment = {
        "API_KEYS": API_KEYS,
        "JWT_ISSUER": idp.issuer,
        "JWT_AUDIENCE": AUDIENCE,
        "RATE_LIMIT": "1000/second",
        "RATE_LIMIT_STORAGE": f"redis://:{PASSWORD}@127.0.0.1:9",
        "LOG_LEVEL": "debug",
        "DYNO": "web.1",
    }
    with serving(credit, **environment) as server:
        statuses = set()
        for one in sent:
            for headers in ({"Authorization": f"Bearer {one}"}, {"X-API-Key": one}):
                for path in ("/v0/predict", "/v0/model_info", "/health", "/nowhere"):
                    address = f"{server}{path}"
                    answer = requests.request(
                        "POST" if path == "/v0/predict" else "GET",
                        address,
                        json=ROW,
                        headers={name: value.encode("latin-1") for name, value in headers.items()},
                        params={"api_key": one},
                        timeout=10,
                    )
                    statuses.add(answer.status_code)
        for rubbish in (KEYS["all"].encode(), b"Authorization: Bearer " + sent[0].encode() * 2000):
            with socket.create_connection(server[7:].split(":"), timeout=10) as client:  # type: ignore[arg-type]
                client.sendall(b"GET / HTTP/1.1\r\n" + rubbish + b"\r\n\r\n")
                client.recv(65536)
        idp.fault = 500
        requests.get(f"{server}/v0/model_info", headers={"X-API-Key": KEYS["all"]}, timeout=10)
        log = server.logged()

    assert statuses == {200, 401, 403, 404}
    assert_none_is_in(log, sent)
    assert {'"caller":"all"', '"caller":"auth0|ada"', '"reason":"expired"'} <= {
        part for line in log.splitlines() for part in line.strip("{}").split(",")
    }


def test_one_function_alone_logs_no_secret(credit: Path, idp: Provider, sent: list[str]) -> None:
    """On Google Cloud, where one function runs alone, no secret is logged."""
    environment = {"API_KEYS": API_KEYS, "JWT_ISSUER": idp.issuer, "JWT_AUDIENCE": AUDIENCE}
    with emulator("model_info", credit, K_SERVICE="x", LOG_LEVEL="debug", **environment) as server:
        for one in sent:
            value = f"Bearer {one}".encode("latin-1")
            requests.get(server, headers={"Authorization": value}, timeout=10)
        log = server.logged()

    assert_none_is_in(log, sent)


def test_lambda_logs_no_secret(credit: Path, sent: list[str]) -> None:
    """Under AWS's own runtime client no secret is logged."""
    with runtime({"MODEL_URI": str(credit), "API_KEYS": API_KEYS, "LOG_LEVEL": "debug"}) as api:
        for one in sent:
            event = http_event("GET", "/v0/model_info", None, {"Authorization": f"Bearer {one}"})
            assert api.invoke(event)["statusCode"] in (200, 401, 403)
        log = api.logged()

    assert_none_is_in(log, sent)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("=", " "),
        lambda text: text.replace(":predict", ":fly"),
        lambda text: text + "0",
        lambda text: f"{text},{text}",
        lambda _: KEYS["all"],
    ],
)
def test_a_failed_start_prints_no_secret(credit: Path, change: Callable[[str], str]) -> None:
    """If API_KEYS cannot be read, the error contains neither a key nor a digest."""
    with pytest.raises(RuntimeError, match="canoa: API_KEYS: ") as caught:
        serving(credit, API_KEYS=change(API_KEYS)).__enter__()

    said = json.dumps(str(caught.value))
    assert not any(secret in said for secret in secrets(list(KEYS.values())))

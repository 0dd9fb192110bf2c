"""Credentials of a Lambda with SnapStart, from a real HTTP address, with moto as the store."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from serving.errors import BundleError
from serving.stores.location import open_store

from tests.helpers.stores import Bucket

TOKEN = "a-token-of-lambdas-own"  # noqa: S105  # invented


class Credentials:
    """Hands out credentials to requests with the token, and counts requests."""

    def __init__(self) -> None:
        self.asked = 0
        self.expiration = "2099-01-01T00:00:00Z"
        self.answer: Any = None

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Make the HTTP side of this."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                right = self.headers["Authorization"] == TOKEN
                said = {
                    "AccessKeyId": f"ASIA{outer.asked}",
                    "SecretAccessKey": "a-secret-of-lambdas-own",
                    "Token": "a-session",
                    "Expiration": outer.expiration,
                }
                body = json.dumps(said if outer.answer is None else outer.answer).encode()
                self.send_response(200 if right else 403)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        return Handler


@pytest.fixture
def credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Credentials]:
    """Set the variables that Lambda sets, without a key; the bucket holds one object."""
    found = Credentials()
    server = ThreadingHTTPServer(("127.0.0.1", 0), found.handler())
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    for name, value in bucket.location.environment.items():
        if name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    address = f"http://127.0.0.1:{server.server_port}/credentials"
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN)
    bucket.put("x", b"one")
    yield found
    server.shutdown()
    server.server_close()


def test_requests_are_signed_with_them(bucket: Bucket, credentials: Credentials) -> None:
    """Requests carry the key and the session token; valid credentials are fetched once."""
    location = open_store(bucket.location.uri, timeout=10)

    assert location.read("x").content == location.read("x").content == b"one"
    assert credentials.asked == 1
    for asked in bucket.proxy.asked:
        sent = {name.lower(): value for name, value in asked.headers.items()}
        assert "Credential=ASIA1/" in sent["authorization"]
        assert sent["x-amz-security-token"] == "a-session"


def test_expired_credentials_are_fetched_again(bucket: Bucket, credentials: Credentials) -> None:
    """A restored snapshot holds old credentials."""
    location = open_store(bucket.location.uri, timeout=10)
    credentials.expiration = "2001-01-01T00:00:00Z"
    location.read("x")
    credentials.expiration = "2099-01-01T00:00:00Z"
    location.read("x")
    asked = credentials.asked

    assert asked > 1
    assert f"Credential=ASIA{asked}/" in bucket.proxy.asked[-1].headers["authorization"]


@pytest.mark.parametrize("answer", [{}, [], {"AccessKeyId": 7}, "text"])
def test_an_answer_without_credentials_is_one_sentence(
    bucket: Bucket, credentials: Credentials, answer: Any
) -> None:
    """The sentence says where it failed, and quotes neither the token nor the answer."""
    credentials.answer = answer
    with pytest.raises(BundleError) as failed:
        open_store(bucket.location.uri, timeout=10).read("x")

    said = str(failed.value)
    assert said.startswith(f"{bucket.location.uri}/x: no credentials were found")
    assert TOKEN not in said
    assert bucket.proxy.asked == []


def test_a_wrong_token_is_one_sentence(
    bucket: Bucket, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address rejects it before any request reaches the store; the sentence has the status."""
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "another")
    with pytest.raises(
        BundleError, match=r"no credentials were found \(127\.0\.0\.1:\d+, 403\)\.$"
    ):
        open_store(bucket.location.uri, timeout=10).read("x")

    assert credentials.asked > 0
    assert bucket.proxy.asked == []

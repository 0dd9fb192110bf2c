"""Credentials as a Lambda with SnapStart gets them: a real address on loopback, and moto beyond."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from serving.errors import BundleError
from serving.stores.store import open_store

from tests.helpers.stores import Bucket

TOKEN = "a-token-of-lambdas-own"  # noqa: S105  # invented


class Credentials:
    """Hands out credentials to who sends the token, and remembers how often."""

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
                """Say nothing."""

        return Handler


@pytest.fixture
def credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Credentials]:
    """Lambda's address in the variables, and no key there; the bucket holds one object."""
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


def test_the_store_is_asked_with_them(bucket: Bucket, credentials: Credentials) -> None:
    """They sign the request, the session with them; good ones are asked for once."""
    location = open_store(bucket.location.uri, timeout=10)

    assert location.read("x").content == location.read("x").content == b"one"
    assert credentials.asked == 1
    for asked in bucket.proxy.asked:
        sent = {name.lower(): value for name, value in asked.headers.items()}
        assert "Credential=ASIA1/" in sent["authorization"]
        assert sent["x-amz-security-token"] == "a-session"


def test_what_has_expired_is_asked_for_again(bucket: Bucket, credentials: Credentials) -> None:
    """As after a restore, whose snapshot holds credentials of long ago."""
    location = open_store(bucket.location.uri, timeout=10)
    credentials.expiration = "2001-01-01T00:00:00Z"
    location.read("x")
    credentials.expiration = "2099-01-01T00:00:00Z"
    location.read("x")
    asked = credentials.asked

    assert asked > 1
    assert f"Credential=ASIA{asked}/" in bucket.proxy.asked[-1].headers["authorization"]


@pytest.mark.parametrize("answer", [{}, [], {"AccessKeyId": 7}, "text"])
def test_what_is_no_credentials_is_one_sentence(
    bucket: Bucket, credentials: Credentials, answer: Any
) -> None:
    """The operator is told where it failed; no token and no answer is quoted."""
    credentials.answer = answer
    with pytest.raises(BundleError) as failed:
        open_store(bucket.location.uri, timeout=10).read("x")

    assert str(failed.value) == f"{bucket.location.uri}/x: no credentials were found."
    assert bucket.proxy.asked == []


def test_who_may_not_have_them_is_one_sentence(
    bucket: Bucket, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that the address does not know is refused there, before the store is asked."""
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "another")
    with pytest.raises(BundleError, match=r"no credentials were found\.$"):
        open_store(bucket.location.uri, timeout=10).read("x")

    assert credentials.asked > 0
    assert bucket.proxy.asked == []

"""An identity provider on loopback: it serves its keys over HTTP, signs tokens, and can fail."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

__all__ = ["AUDIENCE", "Provider", "encode", "provider"]

AUDIENCE = "https://canoa.example"
DISCOVERY, KEYS = "/.well-known/openid-configuration", "/keys"

#: Made once, because making an RSA key is slow.
_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # weak


class Provider:
    """
    An identity provider: the keys that it publishes, and the answers that it gives.

    Attributes:
        keys: Kid → private key; its public part is published.
        listed: Further JWKs, published unchanged.
        asked: The paths that were requested.
        fault: A status or bytes that replace every answer.
        hold: While it is clear, no request is answered.
    """

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {
            "rsa": _RSA,
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        }
        self.strangers = {"rsa": _OTHER_RSA, "weak": _WEAK_RSA}
        self.listed: list[Any] = []
        self.asked: list[str] = []
        self.fault: int | bytes | None = None
        self.documents: dict[str, Any] = {}
        self.hold = threading.Event()
        self.hold.set()
        self.issuer = ""

    def token(
        self, kid: str = "rsa", *, key: Any = None, headers: Any = None, **claims: Any
    ) -> str:
        """
        Sign a token that is valid apart from the given changes.

        A claim of None is left out; a timedelta counts from now.
        """
        key = key or self.keys[kid]
        now = int(time.time())
        good = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "auth0|ada",
            "iat": now,
            "exp": now + 300,
            "scope": "openid predict info",
        }
        payload = {
            name: now + int(value.total_seconds()) if isinstance(value, timedelta) else value
            for name, value in {**good, **claims}.items()
            if value is not None
        }
        return jwt.encode(payload, key, _algorithm(key), {"kid": kid, **(headers or {})})

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Answer a request for *path*."""
        self.asked.append(path)
        self.hold.wait(30)
        if isinstance(self.fault, int):
            return self.fault, b"", {"Location": f"{self.issuer}/elsewhere"}
        if self.fault is not None:
            return 200, self.fault, {}
        found = self.documents.get(path)
        if found is None and path == DISCOVERY:
            found = {"issuer": self.issuer, "jwks_uri": self.issuer + KEYS, "other": [1]}
        elif found is None and path in (KEYS, "/elsewhere"):
            found = {"keys": [*self.listed, *(_public(*item) for item in self.keys.items())]}
        return (404, b"", {}) if found is None else (200, json.dumps(found).encode(), {})


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    """Run an identity provider."""
    one = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, headers = one.answer(self.path)
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    one.issuer = f"http://127.0.0.1:{server.server_port}"
    try:
        yield one
    finally:
        one.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def encode(part: Any) -> str:
    """Encode one part of a token by hand."""
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _algorithm(key: Any) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    return "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "EdDSA"


def _public(kid: str, key: Any) -> dict[str, Any]:
    algorithm = _algorithm(key)
    kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
    jwk = json.loads(kinds[algorithm].to_jwk(key.public_key()))
    return {**jwk, "kid": kid, "use": "sig", "alg": algorithm}

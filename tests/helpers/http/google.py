"""Google Cloud Storage's XML API, translated for a server of S3's."""

from __future__ import annotations

import itertools
import threading
from urllib.parse import quote, unquote

from tests.helpers.http.proxy import Answer, Asked, Proxy

__all__ = ["GoogleProxy"]


class GoogleProxy(Proxy):
    """
    A proxy before moto's S3, for Google's clients.

    Lists, reads and whole uploads are the same in both APIs. Here differ: each write gives an
    object a new generation, a write's condition names a generation, and a delete of a missing
    object is an error. Every request must come through the proxy, which counts the generations.

    It cannot prove that Google compares them in this way, nor anything about tokens, signatures,
    permissions, uploads in parts, limits of rate, or Google's own errors.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._generations: dict[str, int] = {}
        self._next = itertools.count(1_764_000_000_000_001)
        self._alone = threading.Lock()

    def ask(self, asked: Asked, body: bytes) -> Answer:
        """Forward a request if its condition is met."""
        path, mark, query = asked.path.partition("?")
        path = unquote(path)
        headers = {name.lower(): value for name, value in asked.headers.items()}
        # moto does not check the signature, but requires one.
        headers["authorization"] = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/x"
        expected = headers.pop("x-goog-if-generation-match", None)
        with self._alone:
            now = self._generations.get(path)
            if expected is not None and int(expected) != (now or 0):
                return _error(412, "PreconditionFailed")
            if asked.method == "DELETE" and now is None:
                return _error(404, "NoSuchKey")
            answer = super().ask(Asked(asked.method, quote(path) + mark + query, headers), body)
            if asked.method == "PUT" and answer.status == 200:
                self._generations[path] = now = next(self._next)
            elif asked.method == "DELETE":
                del self._generations[path]
        if now is not None:
            answer.headers["x-goog-generation"] = str(now)
        return answer


def _error(status: int, code: str) -> Answer:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return Answer(status, {"Content-Length": str(len(body))}, body)

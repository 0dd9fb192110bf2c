"""
The public keys of an identity provider: fetched at the start, and again when they may have changed.

PyJWT has a client for this. But its requests wait while it fetches, and it forgets the keys while
the provider is unreachable.
"""

from __future__ import annotations

import http.client
import threading
import time
import urllib.request
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from jwt import PyJWK

from serving.errors import KeysUnavailable
from serving.settings import is_https
from serving.telemetry.logs import describe, log

__all__ = ["ALGORITHMS", "KeySet"]

#: The accepted algorithms of signatures. Keys for other algorithms are not kept.
ALGORITHMS = ("RS256", "ES256", "EdDSA")

#: How long fetching the keys may take, and how long an event on AWS Lambda waits for it.
TIMEOUT_SECONDS = 3.0
#: Keys older than this are fetched again. Meanwhile they stay in use.
FRESH_SECONDS = 600.0
#: On AWS Lambda an event waits for newer keys than this, since the process may have stood still.
STALE_SECONDS = 3600.0
#: The shortest time between two fetches, however many unknown keys tokens name.
PAUSE_SECONDS = 10.0
LARGEST_ANSWER = 256 * 1024


class KeySet:
    """The public keys of one provider, by id. Safe to use from several threads."""

    def __init__(self, issuer: str, url: str | None = None, *, waits: bool = False) -> None:
        """
        Fetch nothing yet.

        Args:
            issuer: Its `.well-known/openid-configuration` names the address of the keys.
            url: The address of the keys, if it is known.
            waits: Whether `find` may wait for a fetch. It must on AWS Lambda, where threads stop
                between events. Elsewhere no request waits for the provider.
        """
        self._issuer = issuer
        self._url = url
        self._waits = waits
        self._keys: Mapping[str, PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = threading.Lock()
        self._fetching = threading.Thread(name="jwks")  # none yet
        #: Whether the last fetch failed, and the reason that was logged, so that it is logged once.
        self._failed = True
        self._logged: str | None = None

    def fetch(self) -> None:
        """Fetch the keys, which takes about `TIMEOUT_SECONDS` at most. A failure is logged."""
        self._tried_at = time.monotonic()
        reason = None
        try:
            self._keys = self._read()
            self._fetched_at = time.monotonic()
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"[:300]
        except Exception as error:  # any exception is logged
            log("error", _NOT_FETCHED, **describe(error))
        if reason and reason != self._logged:
            log("error", _NOT_FETCHED, reason=reason)
        self._failed = self._fetched_at < self._tried_at
        self._logged = reason

    def find(self, kid: str) -> PyJWK | None:
        """
        Return the key with the id *kid*, or None if the provider has no such key.

        If the key is unknown or old, a thread fetches the keys again.

        Raises:
            KeysUnavailable: The key is unknown, and the keys are being fetched, or the last fetch
                failed.
        """
        key = self._keys.get(kid)
        age = time.monotonic() - self._fetched_at
        if key is not None and age < FRESH_SECONDS:
            return key
        fetching = self._fetch_in_thread()
        if self._waits and fetching.is_alive() and (key is None or age > STALE_SECONDS):
            fetching.join(max(0.0, self._tried_at + TIMEOUT_SECONDS - time.monotonic()))
        running = fetching.is_alive()  # read before the keys, so that new keys count
        key = self._keys.get(kid)
        if key is None and (running or self._failed):
            raise KeysUnavailable(retry_seconds=1 if running else int(PAUSE_SECONDS))
        return key

    def _fetch_in_thread(self) -> threading.Thread:
        """Return the thread that fetches the keys: a new one, unless one runs or just ran."""
        with self._lock:
            now = time.monotonic()
            if not self._fetching.is_alive() and now - self._tried_at >= PAUSE_SECONDS:
                self._tried_at = now
                self._fetching = threading.Thread(target=self.fetch, name="jwks", daemon=True)
                self._fetching.start()
            return self._fetching

    def _read(self) -> dict[str, PyJWK]:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        url = self._url or self._discover(deadline)
        return _keep(_get(url, _KeyList, deadline))

    def _discover(self, deadline: float) -> str:
        """Ask for the address of the keys (OpenID Connect Discovery 1.0, section 4)."""
        url = self._issuer.rstrip("/") + "/.well-known/openid-configuration"
        found = _get(url, _Provider, deadline)
        if found.issuer != self._issuer:
            raise ValueError(f"JWT_ISSUER is {self._issuer}, but it calls itself {found.issuer}")
        if not is_https(found.jwks_uri):
            raise ValueError(f"the address of the keys is {found.jwks_uri}, which is not https")
        return found.jwks_uri


_NOT_FETCHED = "the identity provider's keys could not be fetched"


class _Provider(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _KeyList(msgspec.Struct):
    keys: list[Any]


T = TypeVar("T")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: it might lead to an address without encryption."""

    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect."""


def _get(url: str, kind: type[T], deadline: float) -> T:
    """
    Read JSON of *kind*.

    Args:
        url: Where it is.
        kind: A msgspec type.
        deadline: By time.monotonic().

    Raises:
        OSError, HTTPException, ValueError: It did not arrive in time, or is something else.
    """
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310  # https
    opener = urllib.request.build_opener(_NoRedirects)
    content = b""
    with opener.open(request, timeout=max(0.001, deadline - time.monotonic())) as answer:
        while received := answer.read1(65536):
            content += received
            if len(content) > LARGEST_ANSWER:
                raise ValueError(f"{url} sent more than {LARGEST_ANSWER} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} took more than {TIMEOUT_SECONDS:g} s")
    return msgspec.json.decode(content, type=kind)


def _keep(listed: _KeyList) -> dict[str, PyJWK]:
    """
    Return the keys that tokens may be signed with, by id.

    Raises:
        ValueError: There is none.
    """
    keys: dict[str, PyJWK] = {}
    for described in listed.keys:
        if not isinstance(described, dict):
            continue
        kid = described.get("kid")
        if not isinstance(kid, str) or described.get("use", "sig") != "sig" or "d" in described:
            continue  # nameless, not for signatures, or private
        try:
            key = PyJWK(described)
        except Exception:  # noqa: S112  # one bad entry must not hide the others
            continue
        if key.algorithm_name in ALGORITHMS:
            keys.setdefault(kid, key)
    if not keys:
        raise ValueError("it has no public key for RS256, ES256 or EdDSA with an id")
    return keys

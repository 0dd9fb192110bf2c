"""The identity provider's public keys: fetched, kept, and fetched again when they may be others.

PyJWT has a client for this; but while it fetches everybody waits, for each of its tries, and it
forgets the keys that it had while the provider is away.
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
from jwt.exceptions import PyJWTError

from serving.errors import KeysUnavailable
from serving.settings import is_https
from serving.telemetry.logs import describe, log

__all__ = ["ALGORITHMS", "KeySet"]

#: What tokens may be signed with. A key that is for anything else is not even kept.
ALGORITHMS = ("RS256", "ES256", "EdDSA")

#: How long a request waits for keys at the most, and how long one step of fetching them may take.
TIMEOUT_SECONDS = 3.0
#: Keys older than this are fetched again, while those that there are go on.
FRESH_SECONDS = 600.0
#: Keys older than this are waited for: a process that stood still may have slept through a change.
STALE_SECONDS = 3600.0
#: However many unknown keys are named, the provider is asked at most so often.
PAUSE_SECONDS = 10.0
LARGEST_ANSWER = 256 * 1024


class KeySet:
    """The public keys of one provider, by id. Any number of threads may ask for one."""

    def __init__(self, issuer: str, url: str | None = None) -> None:
        """
        Fetch nothing yet.

        Args:
            issuer: Its `.well-known/openid-configuration` says where the keys are.
            url: Where the keys are, if that is known.
        """
        self._issuer = issuer
        self._url = url
        self._keys: Mapping[str, PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = threading.Lock()
        self._fetching = threading.Thread(name="jwks")  # none yet
        #: What was said last of a failure, so that it is said once.
        self._said: str | None = None

    def find(self, kid: str) -> PyJWK | None:
        """
        Return the key of that id, or None if the provider has none such.

        Raises:
            KeysUnavailable: The provider was never reached.
        """
        key = self._keys.get(kid)
        age = time.monotonic() - self._fetched_at
        if key is not None and age < FRESH_SECONDS:
            return key
        fetching = self._fetch_once()
        if fetching.is_alive() and (key is None or age > STALE_SECONDS):
            fetching.join(max(0.0, self._tried_at + TIMEOUT_SECONDS - time.monotonic()))
        if not self._keys:
            raise KeysUnavailable
        return self._keys.get(kid)

    def _fetch_once(self) -> threading.Thread:
        """Return the thread that fetches the keys; a new one, unless there is or just was one."""
        with self._lock:
            now = time.monotonic()
            if not self._fetching.is_alive() and now - self._tried_at >= PAUSE_SECONDS:
                self._tried_at = now
                self._fetching = threading.Thread(target=self._fetch, name="jwks", daemon=True)
                self._fetching.start()
            return self._fetching

    def _fetch(self) -> None:
        reason = None
        try:
            self._keys = _read_keys(_get(self._url or self._discover(), _KeyList))
            self._fetched_at = time.monotonic()
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"[:300]
        except Exception as error:  # whatever a library raises, it is said in our log
            log("error", "the identity provider's keys did not come", **describe(error))
        if reason and reason != self._said:
            log("error", "the identity provider's keys did not come", reason=reason)
        self._said = reason

    def _discover(self) -> str:
        """Ask the provider where its keys are (OpenID Connect Discovery 1.0, section 4)."""
        found = _get(self._issuer.rstrip("/") + "/.well-known/openid-configuration", _Provider)
        if found.issuer != self._issuer:
            raise ValueError(f"JWT_ISSUER is {self._issuer}, but calls itself {found.issuer}")
        if not is_https(found.jwks_uri):
            raise ValueError(f"the keys are said to be at {found.jwks_uri}, which is not https")
        return found.jwks_uri


class _Provider(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _KeyList(msgspec.Struct):
    keys: list[dict[str, Any]]


T = TypeVar("T")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: it might lead to where nothing is encrypted."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def _get(url: str, kind: type[T]) -> T:
    """
    Read JSON of *kind*.

    Raises:
        OSError, HTTPException, ValueError: It did not come, or is something else.
    """
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
    opener = urllib.request.build_opener(_NoRedirects)
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        content = answer.read(LARGEST_ANSWER + 1)
    if len(content) > LARGEST_ANSWER:
        raise ValueError(f"{url} sent more than {LARGEST_ANSWER} bytes")
    return msgspec.json.decode(content, type=kind)


def _read_keys(listed: _KeyList) -> dict[str, PyJWK]:
    """
    Keep the keys that tokens may be signed with.

    Raises:
        ValueError: There is none.
    """
    keys: dict[str, PyJWK] = {}
    for described in listed.keys:
        kid = described.get("kid")
        if not isinstance(kid, str) or described.get("use", "sig") != "sig" or "d" in described:
            continue  # nameless, not for signatures, or not public
        try:
            key = PyJWK(described)
        except (PyJWTError, ValueError, TypeError):  # of a kind that we do not take anyway
            continue
        if key.algorithm_name in ALGORITHMS:
            keys.setdefault(kid, key)
    if not keys:
        raise ValueError("it has no public key for RS256, ES256 or EdDSA with an id")
    return keys

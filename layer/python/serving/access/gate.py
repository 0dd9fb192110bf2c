"""Identifies the caller of a request, and checks what the caller may do."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from serving.access.api_keys import KEY_PREFIX, find_api_key, read_api_keys
from serving.errors import Forbidden, KeysUnavailable, Problem, SettingsError, Unauthorized
from serving.settings import Settings
from serving.telemetry.logs import log

if TYPE_CHECKING:
    from serving.access.tokens import TokenVerifier

__all__ = ["Caller", "Gate"]


class Caller(NamedTuple):
    """The caller of a request."""

    #: A key's name, or a token's subject; None for an unauthenticated client.
    name: str | None
    #: What the caller may do; None for everything.
    scopes: frozenset[str] | None
    #: The answer to an unauthenticated client that needs a key or token.
    refusal: Problem | None = None
    #: "key" or "token".
    known_by: str | None = None

    def may(self, scope: str) -> bool:
        """Whether *scope* is granted."""
        return self.scopes is None or scope in self.scopes

    def authorize(self, scope: str) -> None:
        """
        Let the caller pass if *scope* is granted.

        Raises:
            Unauthorized: The client is not authenticated.
            KeysUnavailable: Its token cannot be verified now.
            Forbidden: The caller is known, and lacks the scope.
        """
        if self.refusal:
            raise self.refusal
        if not self.may(scope):
            raise Forbidden(scope)


_EVERYBODY = Caller(None, None)


class Gate:
    """Authenticates requests by API keys and by tokens of an identity provider."""

    def __init__(self, settings: Settings, platform: str | None) -> None:
        """
        Read the API keys. `fetch_keys` fetches the identity provider's.

        Args:
            settings: API_KEYS, JWT_…, AUTH and RATE_LIMIT count here.
            platform: The cloud that runs this process; None on a laptop.

        Raises:
            SettingsError: API_KEYS cannot be read.
        """
        self._auth = settings.auth
        self._platform = platform
        self._limited = settings.rate_limit is not None
        self._keys = read_api_keys(settings.api_keys) if settings.api_keys else ()
        self._tokens: TokenVerifier | None = None
        if settings.jwt_issuer:
            # Imported at the start, so that the first caller does not wait for it.
            from serving.access.jwks import KeySet
            from serving.access.tokens import TokenVerifier

            issuer, audience = settings.jwt_issuer, settings.jwt_audience or ""
            keys = KeySet(issuer, settings.jwt_jwks_url, waits=platform == "AWS Lambda")
            self._tokens = TokenVerifier(issuer, audience, keys)

    @property
    def closed(self) -> bool:
        """Whether callers need a key or a token."""
        return self._auth == "required"

    @property
    def takes_keys(self) -> bool:
        """Whether there are API keys."""
        return bool(self._keys)

    def announce(self) -> None:
        """Log what may surprise an operator: an open API, a closed one, a limit without effect."""
        if self._auth == "none":
            log("warning", "open: AUTH=none accepts every request")
        elif self.closed and not (self._keys or self._tokens):
            log(
                "error",
                "closed: every request is rejected",
                reason=f"On {self._platform} the API is closed until you configure access. Set "
                "API_KEYS (python -m training key NAME makes one), or JWT_ISSUER and JWT_AUDIENCE; "
                "or AUTH=none to open it.",
            )
        if self._limited and self._platform not in (None, "Heroku"):
            log(
                "warning",
                f"RATE_LIMIT does nothing on {self._platform}: use the platform's throttling",
            )

    def announce_reachable(self) -> None:
        """Log that others may reach an API that is open only because no setting closes it."""
        if self._auth is None:
            log(
                "warning",
                "open: this address accepts every request",
                reason="Other machines may reach it. Set API_KEYS (python -m training key "
                "NAME makes one), or JWT_ISSUER and JWT_AUDIENCE; or AUTH=none to keep it open.",
            )

    def fetch_keys(self) -> None:
        """Fetch the identity provider's keys, so that the first token finds them."""
        if self._tokens:
            self._tokens.keys.fetch()

    def check_scopes(self, known: Collection[str]) -> None:
        """
        Make sure that the keys name only scopes that functions ask for.

        Args:
            known: The scopes of all functions.

        Raises:
            SettingsError: A key has another scope, which would let it do nothing.
        """
        for key in self._keys:
            if unknown := sorted((key.scopes or frozenset()).difference(known)):
                raise SettingsError(
                    f"API_KEYS: {key.name} has the scope {unknown[0]!r}, but the functions ask for "
                    f"{', '.join(sorted(known))}."
                )

    def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return who sent a request with these *headers*. Raises nothing."""
        if not self.closed:
            return _EVERYBODY
        try:
            return self._identify(headers)
        except Problem as refusal:
            return Caller(None, frozenset(), refusal)

    def _identify(self, headers: Mapping[str, str]) -> Caller:
        bearer = _bearer(headers.get("Authorization"))
        if not (self._keys or self._tokens):
            raise Unauthorized("closed: neither API_KEYS nor JWT_ISSUER is set", sent=bool(bearer))
        key = headers.get("X-API-Key") if self._keys else None
        if key and bearer:
            # One of the two may be for a proxy or the platform, so either may be the valid one.
            with contextlib.suppress(Unauthorized, KeysUnavailable):
                return self._find(key)
        sent = bearer or key
        if not sent:
            raise Unauthorized("no credentials", sent=False)
        return self._find(sent)

    def _find(self, sent: str) -> Caller:
        if self._tokens and sent.count(".") == 2 and not sent.startswith(KEY_PREFIX):
            subject, scopes = self._tokens.verify(sent)
            return Caller(subject, scopes, known_by="token")
        key = find_api_key(self._keys, sent)
        if key is None:
            raise Unauthorized("unknown key" if self._keys else "not a token")
        return Caller(key.name, key.scopes, known_by="key")


def _bearer(header: str | None) -> str | None:
    """Take the credential out of an Authorization header of the Bearer scheme (RFC 6750)."""
    match (header or "").split(None, 1):
        case [scheme, sent] if scheme.lower() == "bearer":
            return sent.strip()
    return None

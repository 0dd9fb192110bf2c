"""Who sent a request, and whether they may do what it asks for."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

from serving.access.api_keys import KEY_PREFIX, SCOPES, find_api_key
from serving.errors import Forbidden, Problem, Unauthorized
from serving.settings import platform, settings
from serving.telemetry.logs import log

__all__ = ["Caller", "authorize", "identify", "prepare"]


class Caller(NamedTuple):
    """Who sent a request."""

    #: A key's name, or a token's subject; None is a stranger.
    name: str | None
    scopes: frozenset[str]
    #: What a stranger is answered where one may not go.
    refusal: Problem | None = None
    #: "key" or "token".
    known_by: str | None = None


_EVERYBODY = Caller(None, frozenset(SCOPES))


def identify(headers: Mapping[str, str]) -> Caller:
    """Tell who sent a request with these headers. Raises nothing, whatever stands in them."""
    if settings().auth != "required":
        return _EVERYBODY
    try:
        return _identify(headers)
    except Problem as refusal:
        return Caller(None, frozenset(), refusal)


def authorize(caller: Caller, scope: str) -> None:
    """
    Let *caller* pass, if they may do what *scope* stands for.

    Raises:
        Unauthorized: The caller is a stranger.
        KeysUnavailable: Nobody can tell, for now.
        Forbidden: The caller is known, and may not.
    """
    if caller.refusal:
        raise caller.refusal
    if scope not in caller.scopes:
        raise Forbidden(scope)


@functools.cache
def prepare() -> None:
    """Get ready, once in a process, and say loudly what would surprise an operator."""
    ours, where = settings(), platform()
    if ours.jwt_issuer:
        from serving.access.tokens import provider_keys  # now, not while the first caller waits

        provider_keys()
    if ours.auth == "none":
        log("warning", "open: everybody is let in, because AUTH=none")
    elif ours.auth == "required" and not (ours.api_keys or ours.jwt_issuer):
        log(
            "error",
            "closed: nobody is let in",
            reason=f"On {where} somebody must say who gets in. Set API_KEYS (python -m training "
            "key NAME makes one), or JWT_ISSUER and JWT_AUDIENCE; or AUTH=none for everybody.",
        )
    if ours.rate_limit and where not in (None, "Heroku"):
        log("warning", f"RATE_LIMIT does nothing on {where}: its own throttling is what counts")


def _identify(headers: Mapping[str, str]) -> Caller:
    ours = settings()
    sent = (ours.api_keys and headers.get("X-API-Key")) or _bearer(headers.get("Authorization"))
    if not (ours.api_keys or ours.jwt_issuer):
        raise Unauthorized("closed: neither API_KEYS nor JWT_ISSUER is set", sent=bool(sent))
    if not sent:
        raise Unauthorized("no credentials", sent=False)
    if ours.jwt_issuer and sent.count(".") == 2 and not sent.startswith(KEY_PREFIX):
        from serving.access.tokens import verify

        subject, scopes = verify(sent)
        return Caller(subject, scopes, known_by="token")
    key = find_api_key(ours.api_keys, sent)
    if key is None:
        raise Unauthorized("unknown key" if ours.api_keys else "not a token")
    return Caller(key.name, key.scopes, known_by="key")


def _bearer(header: str | None) -> str | None:
    """Take the credential out of an Authorization header, if it is of that scheme (RFC 6750)."""
    match (header or "").split(None, 1):
        case [scheme, sent] if scheme.lower() == "bearer":
            return sent.strip()
    return None

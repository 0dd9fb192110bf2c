"""Tokens of an identity provider: JSON Web Tokens (RFC 7519), verified by PyJWT."""

from __future__ import annotations

import functools
from typing import Any

import jwt
import msgspec
from jwt import exceptions
from jwt.utils import base64url_decode

from serving.access.api_keys import SCOPES
from serving.access.jwks import ALGORITHMS, KeySet
from serving.errors import Unauthorized
from serving.settings import settings

__all__ = ["provider_keys", "verify"]

#: How far the provider's clock may be from ours.
LEEWAY_SECONDS = 60
#: More than a server takes in a header.
LONGEST_TOKEN = 8192
#: OpenID Connect's own limit.
LONGEST_SUBJECT = 255

#: Where providers write what a token is good for: words in a string, or a list.
_SCOPE_CLAIMS = ("scope", "scp", "permissions")
_REASONS: dict[type[Exception], str] = {
    exceptions.ExpiredSignatureError: "expired",
    exceptions.ImmatureSignatureError: "not valid yet",
    exceptions.InvalidAudienceError: "wrong audience",
    exceptions.InvalidIssuerError: "wrong issuer",
    exceptions.InvalidAlgorithmError: "wrong algorithm",
    exceptions.InvalidSignatureError: "wrong signature",
    exceptions.InvalidSubjectError: "wrong subject",
    exceptions.InvalidKeyError: "weak key",
}
_OPTIONS: Any = {
    "require": ["exp", "iss", "aud", "sub"],
    "enforce_minimum_key_length": True,
}


def verify(token: str) -> tuple[str, frozenset[str]]:
    """
    Return the subject of *token*, and those of our scopes that it names.

    Raises:
        Unauthorized: It is not valid, or not for us.
        KeysUnavailable: The provider's keys are not here yet.
    """
    if len(token) > LONGEST_TOKEN or not token.isascii():
        raise Unauthorized("malformed")
    claims = _verify(token)
    subject = claims["sub"]
    if not subject or len(subject) > LONGEST_SUBJECT or not subject.isprintable():
        raise Unauthorized("wrong subject")
    return subject, frozenset(SCOPES) & _scopes(claims)


@functools.cache
def provider_keys() -> KeySet:
    """Return the keys of JWT_ISSUER, to be fetched when they are first needed."""
    ours = settings()
    return KeySet(ours.jwt_issuer or "", ours.jwt_jwks_url)


def _verify(token: str) -> dict[str, Any]:
    """Whatever the token says of how to verify it, but for its key's id, goes unheeded."""
    ours = settings()
    try:
        # PyJWT would read all of the token for it, and once more to verify it.
        header = msgspec.json.decode(base64url_decode(token.partition(".")[0]), type=_Header)
        if header.alg not in ALGORITHMS:
            raise Unauthorized("wrong algorithm")
        key = provider_keys().find(header.kid)
        if key is None:
            raise Unauthorized("unknown key")
        return jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=ours.jwt_audience,
            issuer=ours.jwt_issuer,
            leeway=LEEWAY_SECONDS,
            options=_OPTIONS,
        )
    except exceptions.MissingRequiredClaimError as error:
        raise Unauthorized(f"no {error.claim}") from None
    except (exceptions.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise Unauthorized(_REASONS.get(type(error), "malformed")) from None


class _Header(msgspec.Struct):
    alg: str = ""
    kid: str = ""


def _scopes(claims: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for name in _SCOPE_CLAIMS:
        said = claims.get(name)
        if isinstance(said, str):
            found.update(said.split())
        elif isinstance(said, list):
            found.update(scope for scope in said if isinstance(scope, str))
    return found

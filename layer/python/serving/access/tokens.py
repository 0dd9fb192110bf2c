"""Tokens of an identity provider: JSON Web Tokens (RFC 7519), verified by PyJWT."""

from __future__ import annotations

from typing import Any

import jwt
import msgspec
from jwt import exceptions
from jwt.utils import base64url_decode

from serving.access.jwks import ALGORITHMS, KeySet
from serving.errors import Unauthorized

__all__ = ["TokenVerifier"]

#: How far the provider's clock may differ from ours.
LEEWAY_SECONDS = 60
#: In characters; more than servers accept in a header.
LONGEST_TOKEN = 8192
#: OpenID Connect's own limit.
LONGEST_SUBJECT = 255

#: The claims in which providers list scopes: words in a string, or a list.
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


class TokenVerifier:
    """Verifies the tokens of one identity provider."""

    def __init__(self, issuer: str, audience: str, keys: KeySet) -> None:
        """
        Make a verifier.

        Args:
            issuer: What the tokens' `iss` must be.
            audience: What the tokens' `aud` must hold.
            keys: The provider's public keys.
        """
        self._issuer = issuer
        self._audience = audience
        self.keys = keys

    def verify(self, token: str) -> tuple[str, frozenset[str]]:
        """
        Return the subject of *token*, and the scopes that it names.

        Raises:
            Unauthorized: It is not valid, or not for this server.
            KeysUnavailable: The provider's keys are being fetched, or cannot be.
        """
        if len(token) > LONGEST_TOKEN or not token.isascii():
            raise Unauthorized("malformed")
        claims = self._claims(token)
        subject = claims["sub"]
        if not subject or len(subject) > LONGEST_SUBJECT or not subject.isprintable():
            raise Unauthorized("wrong subject")
        return subject, _scopes(claims)

    def _claims(self, token: str) -> dict[str, Any]:
        """Verify the signature; of the token's own header only the key's id counts."""
        try:
            # PyJWT would decode the whole token to read the header, and again to verify it.
            header = msgspec.json.decode(base64url_decode(token.partition(".")[0]), type=_Header)
            if header.alg not in ALGORITHMS:
                raise Unauthorized("wrong algorithm")
            key = self.keys.find(header.kid)
            if key is None:
                raise Unauthorized("unknown key")
            return jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
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


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    found: set[str] = set()
    for name in _SCOPE_CLAIMS:
        claim = claims.get(name)
        if isinstance(claim, str):
            found.update(claim.split())
        elif isinstance(claim, list):
            found.update(scope for scope in claim if isinstance(scope, str))
    return frozenset(found)

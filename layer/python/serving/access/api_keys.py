"""API keys: the server knows their names, scopes and digests, never the keys themselves."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import NamedTuple

from serving.errors import SettingsError

__all__ = ["KEY_PREFIX", "NAME", "SCOPE", "ApiKey", "digest", "find_api_key", "read_api_keys"]

#: Generated keys start with this, so that people and scanners for leaked secrets recognise them.
KEY_PREFIX = "canoa_"
#: The form of a key's name. It is shorter than a key or a digest, so that neither passes as a name.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
#: The form of a scope, which a function names in its decorator.
SCOPE = re.compile(r"[a-z][a-z0-9._-]{0,39}")

#: In characters. A longer key is rejected unhashed.
_LONGEST = 256
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_FORM = "NAME=DIGEST or NAME:SCOPE+SCOPE=DIGEST"


class ApiKey(NamedTuple):
    """What the server knows about a key."""

    name: str
    #: None grants everything.
    scopes: frozenset[str] | None
    #: SHA-256 of the key.
    digest: bytes


def digest(key: str) -> str:
    """
    Return the SHA-256 of *key*, as API_KEYS holds it.

    A fast hash is enough: a key has 256 random bits, so nobody can guess it.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def find_api_key(keys: Iterable[ApiKey], sent: str) -> ApiKey | None:
    """Return the one of *keys* that was *sent*, in a time that does not depend on the match."""
    if len(sent) > _LONGEST or not sent.isascii():
        return None
    sent_digest = hashlib.sha256(sent.encode()).digest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, sent_digest):
            found = key
    return found


def read_api_keys(text: str) -> tuple[ApiKey, ...]:
    """
    Read `web:predict=DIGEST, ops=DIGEST`, separated by commas or blanks.

    A key without scopes may do everything. Two keys may share a name during a rotation.

    Raises:
        SettingsError: An entry is wrong. The sentence names it without its key or digest.
    """
    keys: list[ApiKey] = []
    for number, entry in enumerate(re.split(r"[\s,]+", text.strip(", \t\r\n")), 1):
        key = _read(entry, number)
        if any(key.digest == other.digest for other in keys):
            raise SettingsError(f"API_KEYS: entry {number} ({key.name}) repeats a digest.")
        keys.append(key)
    return tuple(keys)


def _read(entry: str, number: int) -> ApiKey:
    who, equals, hexadecimal = entry.partition("=")
    name, colon, scopes = who.partition(":")
    if not equals or not NAME.fullmatch(name):
        raise SettingsError(
            f"API_KEYS: entry {number} must be {_FORM}, with a name of at most 40 letters, digits, "
            "'.', '_' and '-'."
        )
    if not _DIGEST.fullmatch(hexadecimal):
        raise SettingsError(
            f"API_KEYS: after the = of entry {number} ({name}) must be the SHA-256 of the key, in "
            "64 hexadecimal digits; not the key."
        )
    granted = frozenset(scopes.split("+")) if colon else None
    if granted is not None and not all(map(SCOPE.fullmatch, granted)):
        raise SettingsError(
            f"API_KEYS: entry {number} ({name}) has a scope that is not a word of small letters, "
            "digits, '.', '_' and '-'; join several by +."
        )
    return ApiKey(name, granted, bytes.fromhex(hexadecimal))

"""API keys: the server knows their names, their scopes and their digests, never the keys."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import NamedTuple

from serving.errors import SettingsError

__all__ = ["KEY_PREFIX", "NAME", "SCOPES", "ApiKey", "digest", "find_api_key", "read_api_keys"]

#: What a caller may be allowed to do, and what each endpoint but the public ones asks for.
SCOPES = ("predict", "info")
#: Keys that we make begin so: people, and scanners for leaked secrets, know them by it.
KEY_PREFIX = "canoa_"
#: What a key may be called. Shorter than a key or a digest, lest one is taken for a name.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")

#: No key that anybody makes is longer; more is not even hashed.
_LONGEST = 256
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_FORM = "NAME=DIGEST or NAME:SCOPE+SCOPE=DIGEST"


class ApiKey(NamedTuple):
    """What is known of a key."""

    name: str
    scopes: frozenset[str]
    #: SHA-256 of the key.
    digest: bytes


def digest(key: str) -> str:
    """
    Return the SHA-256 of *key*, as API_KEYS holds it.

    A fast hash will do: a key is 256 bits of chance, and no list of guesses leads to it.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def find_api_key(keys: Iterable[ApiKey], sent: str) -> ApiKey | None:
    """Return which of *keys* was *sent*; the time it takes says nothing of how near it was."""
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
    Read `web:predict=DIGEST, ops=DIGEST`: no scopes mean all. Commas or blanks stand between.

    Two keys may have one name, while one takes the other's place.

    Raises:
        SettingsError: An entry is wrong. It is named, but neither a key nor a digest is repeated.
    """
    keys: list[ApiKey] = []
    for number, entry in enumerate(re.split(r"[\s,]+", text.strip(", \t\r\n")), 1):
        key = _read(entry, number)
        if any(key.digest == other.digest for other in keys):
            raise SettingsError(f"API_KEYS: entry {number} ({key.name}) has another's digest.")
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
    granted = frozenset(scopes.split("+")) if colon else frozenset(SCOPES)
    if not granted <= frozenset(SCOPES):
        raise SettingsError(
            f"API_KEYS: entry {number} ({name}) has a scope that is none; there is "
            f"{' and '.join(SCOPES)}, joined by +."
        )
    return ApiKey(name, granted, bytes.fromhex(hexadecimal))

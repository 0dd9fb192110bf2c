"""Signatures of bundles: Ed25519 over the manifest, which holds every file's digest.

Each key's signature is a small file beside the manifest, named after the key. A new key adds a
file, so keys rotate without changing what is written. The `latest` file is not signed: anyone who
can write it can make another signed version of the same model live, such as an old one.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable, Sequence

from serving.errors import AccessDenied, BundleError, ObjectMissing
from serving.stores.store import Store

__all__ = [
    "begin_verification",
    "is_valid",
    "key_id",
    "signature_file",
    "signed_bytes",
    "signer_of",
]

#: Precedes the manifest, so that no signature for another purpose counts.
_PURPOSE = b"canoa manifest v1\n"
_FILE = re.compile(r"\Amanifest\.([0-9a-f]{16})\.sig\Z")
#: In bytes. A signature has 64 bytes, in base64 and with a line's end.
_LIMIT = 200


def begin_verification(location: Store, keys: Sequence[bytes]) -> Callable[[bytes], str | None]:
    """
    Begin to fetch the signatures at *location* by any of the public *keys*.

    Returns:
        A function that takes the manifest's bytes and returns the id of the key that signed them.
        It raises BundleError if none of the keys did. Without *keys* it verifies nothing and
        returns None.
    """
    begun = [(key, location.begin(signature_file(key), limit=_LIMIT)) for key in keys]

    def verify(manifest: bytes) -> str | None:
        wrong = None
        for key, result in begun:
            try:
                signature = result().content
            except (ObjectMissing, AccessDenied):
                continue  # another of the keys may have signed
            if is_valid(key, signature, manifest):
                return key_id(key)
            wrong = key
        if not keys:
            return None
        raise BundleError(_refusal(location, wrong))

    return verify


def key_id(key: bytes) -> str:
    """Return the id of a public key, which has 32 bytes."""
    return hashlib.sha256(key).hexdigest()[:16]


def signature_file(key: bytes) -> str:
    """Return the name of the file with the signature by a public key."""
    return f"manifest.{key_id(key)}.sig"


def signer_of(file: str) -> str | None:
    """Return the id of the key in a signature file's name; None for other files."""
    match = _FILE.match(file)
    return match[1] if match else None


def signed_bytes(manifest: bytes) -> bytes:
    """Return the bytes that are signed for a manifest."""
    return _PURPOSE + manifest


def is_valid(key: bytes, signature: bytes, manifest: bytes) -> bool:
    """Whether *signature*, a signature file's content, is by *key* and over *manifest*."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        raw = binascii.a2b_base64(signature.strip(), strict_mode=True)
        Ed25519PublicKey.from_public_bytes(key).verify(raw, signed_bytes(manifest))
    except (InvalidSignature, ValueError):
        return False
    return True


def _refusal(location: Store, wrong: bytes | None) -> str:
    if wrong is not None:
        return (
            f"{location.at(signature_file(wrong))} does not match the manifest: one of the two was "
            "changed after signing."
        )
    try:
        others = [signer for name in location.names() if (signer := signer_of(name))]
    except BundleError:
        return f"{location} has no signature by a key of MODEL_PUBLIC_KEYS."
    if others:
        return (
            f"{location} is signed by another key ({', '.join(others)}), which is not in "
            "MODEL_PUBLIC_KEYS."
        )
    return f"{location} is not signed, but MODEL_PUBLIC_KEYS requires it."

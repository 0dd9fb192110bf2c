"""`keygen` and `sign`: the key that signs bundles, of which servers need only the public half."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from serving.bundle.reader import open_bundle
from serving.bundle.signature import key_id, signature_file, signed_bytes
from serving.errors import BundleError, Conflict

from training.errors import TrainingError
from training.registry.location import open_location
from training.report import say

__all__ = ["Signer", "make_signing_key", "read_signer", "sign"]

_VARIABLE = "env:"


class Signer:
    """A private key. Call it with a manifest's bytes to sign them."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        #: The public key's 32 bytes.
        self.public = key.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        """The public key's id."""
        return key_id(self.public)

    def __call__(self, manifest: bytes) -> tuple[str, bytes]:
        """Sign a manifest; return the signature file's name and content."""
        signature = self._key.sign(signed_bytes(manifest))
        return signature_file(self.public), base64.b64encode(signature) + b"\n"


def make_signing_key(path: Path) -> None:
    """
    Write a new private key to *path*, readable by its owner alone, and print how to use it.

    Raises:
        TrainingError: The file exists already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
    except FileExistsError:
        raise TrainingError(f"{path} is there already, and a key is never overwritten.") from None
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror}.") from error
    signer = Signer(key)
    public = base64.b64encode(signer.public).decode()
    say(
        f"{path} holds the private key {signer.key_id}: it signs, and stays with you.",
        f"  python -m training train --sign {path}",
        "Where models are served, its public half, beside any other, after a comma:",
        f"  MODEL_PUBLIC_KEYS={public}",
    )


def read_signer(source: str) -> Signer:
    """
    Read a private key.

    Args:
        source: A file, or `env:NAME` for an environment variable.

    Raises:
        TrainingError: There is no such key, or it is no Ed25519 key in PEM without a passphrase.
    """
    try:
        if source.startswith(_VARIABLE):
            name = source.removeprefix(_VARIABLE)
            if not (pem := os.environ.get(name, "").encode()):
                raise TrainingError(f"the environment variable {name} holds no key.")
        else:
            pem = Path(source).read_bytes()
        key = load_pem_private_key(pem, password=None)
    except OSError as error:
        raise TrainingError(f"{source} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):  # whose texts may quote the key
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise TrainingError(
            f"{source} holds no private key as `python -m training keygen` writes it."
        )
    return Signer(key)


def sign(uri: str, key: str) -> None:
    """
    Write the signature of a bundle beside its manifest. No other file changes.

    First every file is read and compared with the manifest. None is opened.

    Args:
        uri: A model's location, whose live version is signed, or one version's.
        key: The private key, as `read_signer` takes it.

    Raises:
        TrainingError: There is no such key.
        BundleError: The bundle is not whole, or a different signature of this key is there.
    """
    signer = read_signer(key)
    bundle = open_bundle(open_location(uri))
    for name in bundle.manifest.files:
        bundle.read(name)
    file, content = signer(bundle.raw)
    try:
        bundle.location.create(file, content)
    except Conflict:
        if bundle.location.read(file).content != content:
            raise BundleError(
                f"{bundle.location.at(file)} is there already with other content: it, or "
                "the manifest, was changed. Remove it if the bundle is the one you mean."
            ) from None
    say(
        f"{bundle.manifest.name} {bundle.manifest.version} is signed by {signer.key_id}: "
        f"{bundle.location.at(file)}"
    )

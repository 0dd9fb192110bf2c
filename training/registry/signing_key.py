"""`keygen`: the key that signs bundles. Servers need only its public half."""

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
from rich.console import Console
from serving.bundle.signature import key_id, signature_file, signed_bytes

from training.errors import TrainingError

__all__ = ["Signer", "make_signing_key", "read_signer"]

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
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{path} holds the private key {signer.key_id}: it signs, and stays with you.")
    console.print(f"  python -m training train --sign {path}")
    console.print("Where models are served, its public half, beside any other, after a comma:")
    console.print(f"  MODEL_PUBLIC_KEYS={public}")


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

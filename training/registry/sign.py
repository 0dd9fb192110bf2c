"""`sign`: sign a bundle that is written already, in a folder or in a store."""

from __future__ import annotations

from rich.console import Console
from serving.bundle.reader import open_bundle
from serving.errors import BundleError, Conflict

from training.registry.location import open_location
from training.registry.signing_key import read_signer

__all__ = ["sign"]


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
    Console(soft_wrap=True, highlight=False).print(
        f"{bundle.manifest.name} {bundle.manifest.version} is signed by {signer.key_id}: "
        f"{bundle.location.at(file)}"
    )

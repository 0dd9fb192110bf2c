"""Copies of a bundle for tests, with other signatures, files or fields."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import joblib
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from serving.bundle.manifest import GRAPH_FILE, PIPELINE_FILE, EngineRecord, Manifest
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.writer import Sign, write_bundle
from serving.stores.folder import FolderStore

from tests.helpers.stores import Bucket
from training.registry.signing import Signer

__all__ = [
    "copied",
    "manifest_of",
    "new_signer",
    "public_keys",
    "trap",
    "upload",
    "upload_folder",
]


def new_signer() -> Signer:
    """Make a new signing key."""
    return Signer(Ed25519PrivateKey.generate())


def public_keys(*signers: Signer) -> dict[str, str]:
    """Return the setting MODEL_PUBLIC_KEYS with the keys of *signers*."""
    keys = (base64.b64encode(signer.public).decode() for signer in signers)
    return {"MODEL_PUBLIC_KEYS": ",".join(keys)}


def manifest_of(model: Path) -> Manifest:
    """Read the live version's manifest, without checking signatures."""
    return open_bundle(FolderStore(model)).manifest


def copied(
    model: Path,
    folder: Path,
    *,
    sign: Sign | None = None,
    files: dict[str, bytes] | None = None,
    promote: bool = True,
    **changes: Any,
) -> Path:
    """
    Write *model*'s live version under *folder*, with *changes* to its manifest.

    Args:
        model: A model's folder.
        folder: Another, where `latest` moves.
        sign: The signer; None leaves the copy unsigned.
        files: Files that replace the model's own.
        promote: Whether `latest` moves.
        changes: Fields of the manifest.

    Returns:
        The new version's folder.
    """
    bundle = open_bundle(FolderStore(model))
    manifest = msgspec.structs.replace(bundle.manifest, **changes)
    if files is None:
        names = [GRAPH_FILE] if manifest.engine.name == "onnx" else [PIPELINE_FILE]
        files = {name: bundle.read(name) for name in names}
    return write_bundle(folder, manifest, files, sign=sign, promote=promote)


class _Touch:
    """Make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def trap(path: Path) -> dict[str, Any]:
    """Return changes for `copied` whose pickle makes the file *path* when it is opened."""
    pickled = io.BytesIO()
    joblib.dump(_Touch(path), pickled)
    engine = EngineRecord(name="sklearn", reason="a test")
    # Unpickling does not read the last byte, so a test may change it.
    return {"engine": engine, "files": {PIPELINE_FILE: pickled.getvalue() + b"0"}}


def upload(bundle: Bundle, bucket: Bucket, model: str = "credit") -> None:
    """Put a bundle into *bucket* and make it live."""
    prefix = f"{model}/{bundle.manifest.version}"
    for name in bundle.manifest.files:
        bucket.put(f"{prefix}/{name}", bundle.read(name))
    bucket.put(f"{prefix}/manifest.json", bundle.raw)
    bucket.put(f"{model}/latest", bundle.manifest.version.encode())


def upload_folder(folder: Path, bucket: Bucket) -> str:
    """Put a model's folder into *bucket*; return its address."""
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(path.relative_to(folder.parent).as_posix(), path.read_bytes())
    return f"{bucket.location.uri}/{folder.name}"

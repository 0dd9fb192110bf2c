"""Writes a bundle: files, then signatures, then the manifest. What is written never changes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from serving.bundle.codec import encode_manifest
from serving.bundle.latest import Latest, move_latest, read_latest
from serving.bundle.manifest import MANIFEST_FILE, Manifest, describe_file
from serving.bundle.reader import Bundle
from serving.errors import BundleError, Conflict, ObjectMissing
from serving.stores.folder import FolderStore
from serving.stores.store import READ_LIMIT, Store

__all__ = ["Sign", "copy_bundle", "write_bundle"]

#: Signs a manifest: takes its bytes, returns the signature file's name and content.
Sign = Callable[[bytes], tuple[str, bytes]]


def write_bundle(
    folder: Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    sign: Sign | None = None,
    promote: bool = True,
) -> Path:
    """
    Write a bundle under *folder* (`models/credit`), and make it the live version.

    The version's folder appears in one step: an interrupt leaves nothing behind.

    Args:
        folder: The model's folder. It is made if it does not exist.
        manifest: Its `files` field is filled in here.
        files: The files' contents by name.
        sign: Signs the manifest.
        promote: Whether the version goes live.

    Returns:
        The new folder, `<folder>/<version>`.

    Raises:
        BundleError: The version exists already, or the manifest would not read back.
    """
    manifest = msgspec.structs.replace(
        manifest, files={name: describe_file(content) for name, content in files.items()}
    )
    raw = encode_manifest(manifest)
    if len(raw) > READ_LIMIT:
        raise BundleError(
            f"the manifest has {len(raw)} bytes, and at most {READ_LIMIT} are read: a column with "
            "so many values should not be a category."
        )
    target = folder / manifest.version
    if target.exists():
        raise BundleError(f"{target} is there already, and a bundle is never changed.")
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        signed = dict([sign(raw)]) if sign else {}
        for name, content in {**files, **signed, MANIFEST_FILE: raw}.items():
            FolderStore(scratch).create(name, content)
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not promote:
        return target
    model = FolderStore(folder)
    try:
        latest: Latest | None = read_latest(model)
    except ObjectMissing:
        latest = None
    move_latest(model, manifest.version, latest)
    return target


def copy_bundle(bundle: Bundle, target: Store, report: Callable[[str, int], None]) -> None:
    """
    Copy *bundle* to *target*: files, signatures, then the manifest. Each is read back.

    An object that exists with the same content is left alone. So a copy may be repeated, and two
    copies may run at once.

    Args:
        bundle: The bundle to copy.
        target: The version's location.
        report: Called for each step with a text and a number of bytes: once when an object was
            sent, and once when it was checked.

    Raises:
        BundleError: Another object is there, or it arrived damaged.
    """
    for name in bundle.manifest.files:
        _copy(name, bundle.read(name), target, report)
    for name, content in bundle.signatures().items():
        _copy(name, content, target, report)
    _copy(MANIFEST_FILE, bundle.raw, target, report)


def _copy(name: str, content: bytes, target: Store, report: Callable[[str, int], None]) -> None:
    sent = "sent"
    try:
        target.create(name, content)
    except Conflict:
        sent = "there already"
    report(f"{name}: {sent}", len(content))
    if target.read(name, limit=max(len(content), READ_LIMIT)).content != content:
        why = "arrived damaged" if sent == "sent" else "is there already with other content"
        raise BundleError(f"{target.at(name)} {why}, and a bundle is never changed.")
    report(f"{name}: checked", len(content))

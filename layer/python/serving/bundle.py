"""The artifact: `<model>/<version>/` in a store, immutable once written.

Reader and writer stand side by side, so that neither can learn something the other does not know.
A reader goes from the pointer to the manifest to the files; a writer the other way round.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from serving.errors import AccessDenied, BundleError, Conflict, ObjectMissing
from serving.folder import FolderStore
from serving.manifest import GRAPH_FILE, File, Manifest, decode_manifest, encode_manifest
from serving.pointer import POINTER_FILE, Pointer, move_pointer, read_pointer
from serving.store import Store

__all__ = ["MANIFEST_FILE", "Bundle", "copy_bundle", "open_bundle", "read_manifest", "write_bundle"]

MANIFEST_FILE = "manifest.json"


class Bundle:
    """One version, where it lies. Its files are verified as they are read."""

    def __init__(self, place: Store, *, began: float | None = None) -> None:
        """
        Read the manifest of the version at *place*, after what *began* at that time.

        From afar the graph is fetched at the same time: it is what mostly runs.

        Raises:
            BundleError: There is no manifest, or none that can be used.
        """
        began = began or time.perf_counter()
        self.place = place
        self._ahead = {GRAPH_FILE: place.begin(GRAPH_FILE)} if place.remote else {}
        #: The manifest as it is written, and as it is read.
        self.raw, self.manifest = read_manifest(place)
        #: Seconds that reading took so far, and proving what was read.
        self.fetch_seconds = time.perf_counter() - began
        self.verify_seconds = 0.0

    def read(self, name: str) -> bytes:
        """
        Read a file and prove that it is the one the manifest means.

        The bytes that were checked are the bytes returned: nothing is read twice.

        Raises:
            BundleError: The manifest does not name it, it is missing, or its size or digest
                differs.
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            raise BundleError(f"the manifest of {self.place} names no {name}.")
        # Size first: a file swapped for a huge one is refused without reading it.
        started = time.perf_counter()
        begun = self._ahead.pop(name, None)
        found = begun() if begun else self.place.read(name, size=expected.size)
        fetched = time.perf_counter()
        self.fetch_seconds += fetched - started
        same = _describe(found.content) == expected
        self.verify_seconds += time.perf_counter() - fetched
        if not same:
            raise BundleError(
                f"{self.place.at(name)} is not the file its manifest means: "
                f"the {'sha256' if len(found.content) == expected.size else 'size'} differs."
            )
        return found.content


def read_manifest(place: Store) -> tuple[bytes, Manifest]:
    """
    Read the manifest of the version at *place*, as it is written and as it is read.

    Raises:
        BundleError: There is none, or none that can be used.
    """
    raw = place.read(MANIFEST_FILE).content
    return raw, decode_manifest(raw, str(place.at(MANIFEST_FILE)))


def open_bundle(store: Store) -> Bundle:
    """
    Open the bundle that the pointer in *store* names, or that *store* itself is.

    Raises:
        BundleError: There is neither, or its manifest cannot be used.
    """
    began = time.perf_counter()
    try:
        place = store.at(read_pointer(store).version)
    except (ObjectMissing, AccessDenied) as no_pointer:
        try:
            return Bundle(store, began=began)
        except ObjectMissing as error:
            raise BundleError(
                f"no model in {store}: neither '{POINTER_FILE}' nor {MANIFEST_FILE} is there."
            ) from error
        except AccessDenied:
            raise no_pointer from None
    return Bundle(place, began=began)


def write_bundle(
    folder: Path, manifest: Manifest, files: Mapping[str, bytes], *, promote: bool = True
) -> Path:
    """
    Write a bundle under *folder* (`models/credit`), and point `latest` at it.

    The version's folder appears in one step, whole or not at all; an interrupt leaves nothing.

    Args:
        folder: The model's; made if it is not there.
        manifest: Its `files` field is filled in here, from *files*.
        files: Name to content.
        promote: Whether the pointer moves.

    Returns:
        The new folder, `<folder>/<version>`.

    Raises:
        BundleError: That version is there already, or the manifest would not read back.
    """
    manifest = msgspec.structs.replace(
        manifest, files={name: _describe(content) for name, content in files.items()}
    )
    raw = encode_manifest(manifest)
    target = folder / manifest.version
    if target.exists():
        raise BundleError(f"{target} is there already, and a bundle is never changed.")
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        for name, content in {**files, MANIFEST_FILE: raw}.items():
            FolderStore(scratch).create(name, content)
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not promote:
        return target
    model = FolderStore(folder)
    try:
        pointer: Pointer | None = read_pointer(model)
    except ObjectMissing:
        pointer = None
    move_pointer(model, manifest.version, pointer)
    return target


def copy_bundle(bundle: Bundle, target: Store, report: Callable[[str, int], None]) -> None:
    """
    Write *bundle* to *target*, files before manifest, each read back before the next.

    What is there already, the same to the byte, is left: so it may be repeated, and two may do it
    at once.

    Args:
        bundle: The bundle.
        target: The version's place.
        report: Told of each step, and of how many bytes: twice for each byte, sent and checked.

    Raises:
        BundleError: Something else is there, or what arrived is not what was sent.
    """
    for name in bundle.manifest.files:
        _copy(name, bundle.read(name), target, report)
    _copy(MANIFEST_FILE, bundle.raw, target, report)


def _copy(name: str, content: bytes, target: Store, report: Callable[[str, int], None]) -> None:
    sent = "sent"
    try:
        target.create(name, content)
    except Conflict:
        sent = "there already"
    report(f"{name}: {sent}", len(content))
    if target.read(name).content != content:
        why = "arrived damaged" if sent == "sent" else "is there already with other content"
        raise BundleError(f"{target.at(name)} {why}, and a bundle is never changed.")
    report(f"{name}: checked", len(content))


def _describe(content: bytes) -> File:
    return File(sha256=hashlib.sha256(content).hexdigest(), size=len(content))

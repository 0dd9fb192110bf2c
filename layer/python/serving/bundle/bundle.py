"""The artifact: `<model>/<version>/` in a store, immutable once written.

Reader and writer stand side by side, so that neither can learn something the other does not know.
A reader goes from the pointer to the manifest to the files; a writer the other way round.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from serving.bundle.latest import LATEST_FILE, Latest, move_latest, read_latest
from serving.bundle.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    PIPELINE_FILE,
    File,
    Manifest,
    decode_manifest,
    encode_manifest,
)
from serving.bundle.signature import begin_verification, signer_of
from serving.errors import AccessDenied, BundleError, Conflict, ObjectMissing
from serving.settings import settings
from serving.stores.folder import FolderStore
from serving.stores.store import READ_LIMIT, Store

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "MANIFEST_FILE",
    "Bundle",
    "Sign",
    "copy_bundle",
    "open_bundle",
    "read_manifest",
    "write_bundle",
]

#: Signs a manifest: its bytes, to the signature's file name and content.
Sign = Callable[[bytes], tuple[str, bytes]]


class Bundle:
    """One version, where it lies. Its files are verified as they are read."""

    def __init__(
        self,
        location: Store,
        version: str | None = None,
        *,
        keys: Sequence[bytes] | None = None,
        began: float | None = None,
    ) -> None:
        """
        Read the manifest of the version at *location*, and verify who signed it.

        From afar signatures and the graph, which is what mostly runs, are fetched at the same time.

        Args:
            location: The version's.
            version: What the pointer calls it; a manifest of another version is refused.
            keys: The public keys of those whose signature is asked for: MODEL_PUBLIC_KEYS if None.
                Without any, nobody's is.
            began: When the reading began, if something was read before.

        Raises:
            BundleError: There is no manifest, none that can be used, or none that was signed by one
                of the keys for this name and version.
        """
        began = began or time.perf_counter()
        self.location = location
        verify = begin_verification(
            location, settings().model_public_keys if keys is None else keys
        )
        self._ahead = {}
        if location.remote:
            self._ahead[GRAPH_FILE] = location.begin(GRAPH_FILE, limit=settings().max_model_bytes)
        #: The manifest as it is written.
        self.raw = location.read(MANIFEST_FILE).content
        fetched = time.perf_counter()
        #: The id of the key that signed it; None if that was not asked for.
        self.signer = verify(self.raw)
        #: The manifest as it is read.
        self.manifest = decode_manifest(self.raw, str(location.at(MANIFEST_FILE)))
        self._check_identity(version)
        #: Seconds that reading took so far, and proving what was read.
        self.fetch_seconds = fetched - began
        self.verify_seconds = time.perf_counter() - fetched

    def _check_identity(self, version: str | None) -> None:
        """What is good in its own location need not be so in another's."""
        manifest, location = self.manifest, self.location
        if version is not None and manifest.version != version:
            raise BundleError(
                f"{location} holds {manifest.name} {manifest.version}, and was asked for {version}."
            )
        if self.signer is None:
            return
        folder = str(location) if location.remote else os.path.realpath(str(location))
        if folder.split("/")[-2:] != [manifest.name, manifest.version]:
            raise BundleError(
                f"{location} holds {manifest.name} {manifest.version}, and a signed bundle is only "
                f"taken from a location that ends in {manifest.name}/{manifest.version}."
            )

    def read_model(self) -> bytes:
        """
        Read the file that the manifest's engine runs.

        Raises:
            BundleError: As `read`; or it is over MAX_MODEL_BYTES.
        """
        name = GRAPH_FILE if self.manifest.engine.name == "onnx" else PIPELINE_FILE
        file, limit = self.manifest.files.get(name), settings().max_model_bytes
        if file is not None and file.size > limit:
            raise BundleError(
                f"{self.location.at(name)} has {file.size} bytes, over MAX_MODEL_BYTES, which is "
                f"{limit}."
            )
        return self.read(name)

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
            raise BundleError(f"the manifest of {self.location} names no {name}.")
        # Size first: a file swapped for a huge one is refused without reading it.
        started = time.perf_counter()
        begun = self._ahead.pop(name, None)
        if expected.size > settings().max_model_bytes:
            begun = None  # it was not fetched whole
        found = begun() if begun else self.location.read(name, size=expected.size)
        fetched = time.perf_counter()
        self.fetch_seconds += fetched - started
        same = _describe(found.content) == expected
        self.verify_seconds += time.perf_counter() - fetched
        if not same:
            raise BundleError(
                f"{self.location.at(name)} is not the file its manifest means: "
                f"the {'sha256' if len(found.content) == expected.size else 'size'} differs."
            )
        return found.content

    def signatures(self) -> dict[str, bytes]:
        """Read every signature there is, by the name of its file; none of them is verified."""
        names = [name for name in self.location.names() if signer_of(name)]
        return {name: self.location.read(name).content for name in names}


def read_manifest(location: Store) -> tuple[bytes, Manifest]:
    """
    Read the manifest of the version at *location*, as it is written and as it is read.

    To look at, not to run: who signed it is not asked.

    Raises:
        BundleError: There is none, or none that can be used.
    """
    raw = location.read(MANIFEST_FILE).content
    return raw, decode_manifest(raw, str(location.at(MANIFEST_FILE)))


def open_bundle(store: Store, *, keys: Sequence[bytes] | None = None) -> Bundle:
    """
    Open the bundle that the pointer in *store* names, or that *store* itself is.

    Args:
        store: A model's location, or a version's.
        keys: As for `Bundle`.

    Raises:
        BundleError: There is neither, or `Bundle` refuses it.
    """
    began = time.perf_counter()
    try:
        version = read_latest(store).version
    except (ObjectMissing, AccessDenied) as no_pointer:
        try:
            return Bundle(store, keys=keys, began=began)
        except ObjectMissing as error:
            raise BundleError(
                f"no model in {store}: neither '{LATEST_FILE}' nor {MANIFEST_FILE} is there."
            ) from error
        except AccessDenied:
            raise no_pointer from None
    return Bundle(store.at(version), version, keys=keys, began=began)


def write_bundle(
    folder: Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    sign: Sign | None = None,
    promote: bool = True,
) -> Path:
    """
    Write a bundle under *folder* (`models/credit`), and point `latest` at it.

    The version's folder appears in one step, whole or not at all; an interrupt leaves nothing.

    Args:
        folder: The model's; made if it is not there.
        manifest: Its `files` field is filled in here, from *files*.
        files: Name to content.
        sign: Gets the manifest's bytes, and returns the signature's file and what is in it.
        promote: Whether the pointer moves.

    Returns:
        The new folder, `<folder>/<version>`.

    Raises:
        BundleError: That version is there already, or the manifest would not read back.
    """
    import shutil  # a server, which only reads, starts without them
    import tempfile
    from pathlib import Path

    manifest = msgspec.structs.replace(
        manifest, files={name: _describe(content) for name, content in files.items()}
    )
    raw = encode_manifest(manifest)
    if len(raw) > READ_LIMIT:
        raise BundleError(
            f"the manifest has {len(raw)} bytes, and at most {READ_LIMIT} are read: a column with "
            "so many categories is no category."
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
    Write *bundle* to *target*: files, signatures, manifest, each read back before the next.

    What is there already, the same to the byte, is left: so it may be repeated, two may do it at
    once, and a bundle that was signed since gets its signature.

    Args:
        bundle: The bundle.
        target: The version's location.
        report: Told of each step, and of how many bytes: twice for each byte, sent and checked.

    Raises:
        BundleError: Something else is there, or what arrived is not what was sent.
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


def _describe(content: bytes) -> File:
    return File(sha256=hashlib.sha256(content).hexdigest(), size=len(content))

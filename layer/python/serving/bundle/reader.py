"""Reads a bundle: the `latest` file, then the manifest, then the files, each one verified."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from serving.bundle.codec import decode_manifest
from serving.bundle.latest import LATEST_FILE, read_latest
from serving.bundle.manifest import (
    BACKGROUND_FILE,
    GRAPH_FILE,
    MANIFEST_FILE,
    PIPELINE_FILE,
    Manifest,
    describe_file,
)
from serving.bundle.signature import begin_verification, signer_of
from serving.bundle.trust import Trust
from serving.errors import AccessDenied, BundleError, ObjectMissing

if TYPE_CHECKING:
    from serving.stores.store import Store

__all__ = ["Bundle", "open_bundle", "read_background", "read_manifest"]

#: No signature is required, and pickles stay closed.
_DEFAULT = Trust()


class Bundle:
    """One version at its location. Each file is verified as it is read."""

    def __init__(
        self,
        location: Store,
        version: str | None = None,
        *,
        trust: Trust = _DEFAULT,
        began: float | None = None,
    ) -> None:
        """
        Read the manifest at *location* and verify its signature.

        In an object store, the signatures and the graph are fetched at the same time.

        Args:
            location: The version's folder or prefix.
            version: The version that the `latest` file names. A manifest that holds another
                version is rejected.
            trust: Which signatures are required, and how large a file may be.
            began: When reading began, by `time.perf_counter`, if something was read before.

        Raises:
            BundleError: There is no manifest, it cannot be used, or none of the trusted keys
                signed it for this name and version.
        """
        began = began or time.perf_counter()
        self.location = location
        self.trust = trust
        verify = begin_verification(location, trust.public_keys)
        self._ahead = {}
        if location.remote:
            self._ahead[GRAPH_FILE] = location.begin(GRAPH_FILE, limit=trust.max_model_bytes)
        #: The manifest's bytes, which signatures cover.
        self.raw = location.read(MANIFEST_FILE).content
        fetched = time.perf_counter()
        #: The id of the key whose signature was verified; None if no signature was required.
        self.signer = verify(self.raw)
        self.manifest = decode_manifest(self.raw, str(location.at(MANIFEST_FILE)))
        self._check_identity(version)
        #: Seconds spent on reading and on verifying so far.
        self.fetch_seconds = fetched - began
        self.verify_seconds = time.perf_counter() - fetched

    def _check_identity(self, version: str | None) -> None:
        """Reject a bundle that was copied to another version's or another model's location."""
        manifest, location = self.manifest, self.location
        if version is not None and manifest.version != version:
            raise BundleError(
                f"{location} holds {manifest.name} {manifest.version}, but {version} was requested."
            )
        if self.signer is None:
            return
        folder = str(location) if location.remote else os.path.realpath(str(location))
        if folder.split("/")[-2:] != [manifest.name, manifest.version]:
            raise BundleError(
                f"{location} holds {manifest.name} {manifest.version}, and a signed bundle is only "
                f"accepted at a location that ends in {manifest.name}/{manifest.version}."
            )

    def read_model(self) -> bytes:
        """
        Read the file that the manifest's engine runs.

        Raises:
            BundleError: See `read`; or the file is larger than MAX_MODEL_BYTES.
        """
        name = GRAPH_FILE if self.manifest.engine.name == "onnx" else PIPELINE_FILE
        file, limit = self.manifest.files.get(name), self.trust.max_model_bytes
        if file is not None and file.size > limit:
            raise BundleError(
                f"{self.location.at(name)} has {file.size} bytes, over MAX_MODEL_BYTES, which is "
                f"{limit}."
            )
        return self.read(name)

    def read(self, name: str) -> bytes:
        """
        Read a file and verify it against the manifest.

        The bytes that were verified are the bytes returned: no file is read twice.

        Raises:
            BundleError: The manifest does not list the file, the file is missing, or its size or
                digest differs.
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            raise BundleError(f"the manifest of {self.location} lists no {name}.")
        # The size comes first: a file that was swapped for a huge one is rejected unread.
        started = time.perf_counter()
        begun = self._ahead.pop(name, None)
        if expected.size > self.trust.max_model_bytes:
            begun = None  # the fetch stopped at the limit
        found = begun() if begun else self.location.read(name, size=expected.size)
        fetched = time.perf_counter()
        self.fetch_seconds += fetched - started
        same = describe_file(found.content) == expected
        self.verify_seconds += time.perf_counter() - fetched
        if not same:
            raise BundleError(
                f"{self.location.at(name)} is not the file that its manifest describes: "
                f"the {'sha256' if len(found.content) == expected.size else 'size'} differs."
            )
        return found.content

    @property
    def is_own_pickle(self) -> bool:
        """Whether this bundle runs a pickle that may be opened for the only reason of being own."""
        if self.manifest.engine.name == "onnx" or self._allows_pickle():
            return False
        return self.trust.opens_own(self.location)

    def check_pickle(self) -> None:
        """
        Make sure that this bundle's pickle may be opened.

        Raises:
            BundleError: It may not. The sentence lists the ways to allow it.
        """
        if not (self._allows_pickle() or self.is_own_pickle):
            raise BundleError(
                f"{self.location} runs on scikit-learn, and opening its {PIPELINE_FILE} can run "
                "any code that is in it. Sign the bundle and set MODEL_PUBLIC_KEYS; or deploy it "
                "inside the package; or serve it by `make run` from a folder of your own, on "
                "loopback only; or, if you trust everyone who can write there, set ALLOW_PICKLE=1."
            )

    def _allows_pickle(self) -> bool:
        return self.trust.allows_pickle(self.location, signed=self.signer is not None)

    def signatures(self) -> dict[str, bytes]:
        """Read all signature files, by name. They are not verified."""
        names = [name for name in self.location.names() if signer_of(name)]
        return {name: self.location.read(name).content for name in names}


def read_manifest(location: Store) -> tuple[bytes, Manifest]:
    """
    Read the manifest of the version at *location*, as bytes and decoded.

    Use it to display a version, not to run it: no signature is verified.

    Raises:
        BundleError: There is no manifest, or it cannot be used.
    """
    raw = location.read(MANIFEST_FILE).content
    return raw, decode_manifest(raw, str(location.at(MANIFEST_FILE)))


def read_background(store: Store, manifest: Manifest, limit: int) -> bytes:
    """
    Read the background rows of the version that *manifest* is of, and verify them.

    Args:
        store: The model's location, or the version's.
        manifest: Verified. It lists the file.
        limit: The largest file that is read, in bytes.

    Raises:
        BundleError: The file is missing, damaged or too large.
    """
    expected = manifest.files[BACKGROUND_FILE]
    if expected.size > limit:
        raise BundleError(f"{store}: {BACKGROUND_FILE} is larger than MAX_MODEL_BYTES.")
    try:
        found = store.at(manifest.version).read(BACKGROUND_FILE, size=expected.size)
    except (ObjectMissing, AccessDenied):  # the location is one version
        found = store.read(BACKGROUND_FILE, size=expected.size)
    if describe_file(found.content) != expected:
        raise BundleError(f"{store}: {BACKGROUND_FILE} differs from its manifest.")
    return found.content


def open_bundle(store: Store, *, trust: Trust = _DEFAULT) -> Bundle:
    """
    Open the version that the `latest` file in *store* names, or the version that *store* is.

    Args:
        store: A model's location, or a version's.
        trust: Which signatures are required, and how large a file may be.

    Raises:
        BundleError: There is neither, or `Bundle` rejects it.
    """
    began = time.perf_counter()
    try:
        version = read_latest(store).version
    except (ObjectMissing, AccessDenied) as no_latest:
        try:
            return Bundle(store, trust=trust, began=began)
        except ObjectMissing as error:
            raise BundleError(
                f"no model in {store}: neither '{LATEST_FILE}' nor {MANIFEST_FILE} is there."
            ) from error
        except AccessDenied:
            raise no_latest from None
    return Bundle(store.at(version), version, trust=trust, began=began)

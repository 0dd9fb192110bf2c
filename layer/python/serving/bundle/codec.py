"""Reads and writes manifests, and rejects those that contradict themselves."""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from serving.bundle.manifest import FLOAT32_MAX, READABLE_FORMATS, Manifest
from serving.errors import BundleError

__all__ = ["decode_manifest", "encode_manifest", "is_field"]


def decode_manifest(raw: bytes, where: str) -> Manifest:
    """
    Read and check a manifest; *where* it came from goes into the error.

    Raises:
        BundleError: It is not a manifest, has another format, contradicts itself, or lists a file
            by something else than a plain name.
    """
    try:
        found = msgspec.json.decode(raw, type=_Format).format
        if found not in READABLE_FORMATS:
            known = " and ".join(map(str, READABLE_FORMATS))
            raise BundleError(f"{where} has format {found}; this server reads {known}.")
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where} is not a manifest: {error}.") from error
    if contradiction := _contradiction(manifest):
        raise BundleError(f"{where} contradicts itself: {contradiction}.")
    return _with_limits(manifest) if found == 1 else manifest


def is_field(name: str) -> bool:
    """Whether a feature may have this name: the decoder accepts no name that JSON escapes."""
    return not re.search(r'["\\\x00-\x1f]', name)


def encode_manifest(manifest: Manifest) -> bytes:
    """
    Write a manifest, for people to read as well.

    Raises:
        BundleError: It would not read back: JSON has no NaN, no huge integer, no half surrogate.
    """
    try:
        raw = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError) as error:
        raise BundleError(f"the manifest cannot be written as JSON: {error}.") from error
    decode_manifest(raw, "the manifest as it would be written")
    return raw


class _Format(msgspec.Struct):
    format: int


def _with_limits(manifest: Manifest) -> Manifest:
    """Add the limit that format 1 implies: its graphs take float32."""
    features = [
        msgspec.structs.replace(feature, magnitude=FLOAT32_MAX)
        if feature.kind == "number"
        else feature
        for feature in manifest.features
    ]
    return msgspec.structs.replace(manifest, features=features)


def _contradiction(manifest: Manifest) -> str | None:
    """Describe a contradiction that the types of the manifest do not rule out."""
    names = [feature.name for feature in manifest.features]
    if not names:
        return "it has no features"
    twice, count = Counter(names).most_common(1)[0]
    if count > 1:
        return f"the feature {twice!r} appears twice"
    if strange := next((name for name in names if not is_field(name)), None):
        return f"no JSON field can be named {strange!r}"
    return _contradicted_task(manifest)


def _contradicted_task(manifest: Manifest) -> str | None:
    task, classes = manifest.task, manifest.classes
    if (task in ("classification", "clustering")) != (classes is not None):
        return f"it is a {task}, and its classes are {classes}"
    if (task == "outputs") != bool(manifest.outputs):
        return f"it is a {task}, and has {len(manifest.outputs)} outputs"
    if classes is None or task == "clustering":
        return None
    if len(classes) < 2 or len(set(classes)) < len(classes):
        return f"its classes are {classes}"
    return None

"""The bundle: everything that can be written can be read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serving.bundle.codec import decode_manifest
from serving.bundle.latest import read_latest
from serving.bundle.manifest import Manifest
from serving.bundle.reader import open_bundle
from serving.bundle.writer import write_bundle
from serving.errors import BundleError
from serving.stores.folder import FolderStore


def test_a_manifest_that_is_not_json_is_not_written(credit: Path, tmp_path: Path) -> None:
    """If JSON cannot hold the manifest, no folder appears and `latest` does not move."""
    manifest = open_bundle(FolderStore(credit)).manifest
    write_bundle(tmp_path, manifest, {})
    importances = msgspec.structs.replace(manifest.importances, permutation={"age": float("nan")})
    broken = msgspec.structs.replace(manifest, version="broken", importances=importances)

    with pytest.raises(BundleError, match="not a manifest"):
        write_bundle(tmp_path, broken, {})

    assert {path.name for path in tmp_path.iterdir()} == {"latest", manifest.version}
    assert read_latest(FolderStore(tmp_path)).version == manifest.version


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: {"features": [*m.features, m.features[0]]}, "appears twice"),
        (lambda m: {"features": [msgspec.structs.replace(m.features[0], name='a"')]}, "JSON field"),
        (lambda _: {"features": []}, "no features"),
        (lambda _: {"classes": ["good"]}, "its classes are"),
        (lambda _: {"classes": None}, "its classes are None"),
        (lambda _: {"task": "regression"}, "it is a regression"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_rejected(
    credit: Path, change: Callable[[Manifest], dict[str, Any]], words: str
) -> None:
    """A manifest that decodes but describes no possible model is rejected with a sentence."""
    manifest = open_bundle(FolderStore(credit)).manifest
    raw = msgspec.json.encode(msgspec.structs.replace(manifest, **change(manifest)))

    with pytest.raises(BundleError, match=f"contradicts itself: .*{words}"):
        decode_manifest(raw, "here")


def test_a_deeply_nested_manifest_is_rejected() -> None:
    """A manifest that nests deeper than the decoder allows is rejected with a sentence."""
    with pytest.raises(BundleError, match="here is not a manifest"):
        decode_manifest(b'{"format": 1, "metrics": ' + b'{"a":' * 100_000, "here")

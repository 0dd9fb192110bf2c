"""The artifact: what is written can be read again, or is not written at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from serving.bundle import open_bundle, write_bundle
from serving.errors import BundleError
from serving.folder import FolderStore
from serving.pointer import read_pointer


def test_a_manifest_that_json_cannot_hold_is_not_written(credit: Path, tmp_path: Path) -> None:
    """No folder appears, and `latest` stays where it was."""
    manifest = open_bundle(FolderStore(credit)).manifest
    write_bundle(tmp_path, manifest, {})
    importances = msgspec.structs.replace(manifest.importances, permutation={"age": float("nan")})
    broken = msgspec.structs.replace(manifest, version="broken", importances=importances)

    with pytest.raises(BundleError, match="no manifest"):
        write_bundle(tmp_path, broken, {})

    assert {path.name for path in tmp_path.iterdir()} == {"latest", manifest.version}
    assert read_pointer(FolderStore(tmp_path)).version == manifest.version

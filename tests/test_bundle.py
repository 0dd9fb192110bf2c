"""The artifact: what is written can be read again, or is not written at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from serving.bundle import read_manifest, resolve, write_bundle
from serving.errors import BundleError


def test_a_manifest_that_json_cannot_hold_is_not_written(credit: Path, tmp_path: Path) -> None:
    """No folder appears, and `latest` stays where it was."""
    manifest = read_manifest(resolve(credit))
    first = write_bundle(tmp_path, manifest, {})
    importances = msgspec.structs.replace(manifest.importances, permutation={"age": float("nan")})
    broken = msgspec.structs.replace(manifest, version="broken", importances=importances)

    with pytest.raises(BundleError, match="cannot be written as JSON"):
        write_bundle(tmp_path, broken, {})

    assert {path.name for path in tmp_path.iterdir()} == {"latest", manifest.version}
    assert resolve(tmp_path) == first

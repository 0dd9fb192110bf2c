"""`check`: load a bundle as the server would, and see that it answers as training recorded."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from rich.console import Console
from serving.bundle import open_bundle
from serving.model import open_model
from serving.settings import settings
from serving.store import open_store

from training.errors import TrainingError
from training.publish import TRANSFER_SECONDS

__all__ = ["check"]


def check(uri: str) -> None:
    """
    Verify every file's digest, score the example, compare.

    Args:
        uri: A model's place, or one version's: a folder, or an address in an object store.

    Raises:
        BundleError: A file is missing or is not the one that the manifest means.
        TrainingError: The example's answer is another one.
    """
    console = Console()
    bundle = open_bundle(open_store(uri, timeout=TRANSFER_SECONDS))
    manifest = bundle.manifest
    for name, file in manifest.files.items():
        bundle.read(name)
        console.print(f"{name}: {file.size:,} bytes, sha256 {file.sha256[:12]}… as recorded")
    model = open_model(bundle, allow_pickle=settings().allow_pickle)
    body = msgspec.json.encode(manifest.example.instance)
    [answer] = model.predict(model.schema.decode(body, 1).columns)
    if not _same(answer, manifest.example.prediction):
        raise TrainingError(
            f"the example is answered {answer}, but training recorded "
            f"{manifest.example.prediction}."
        )
    console.print(f"example: answered as recorded, {answer}")
    console.print(f"{manifest.name} {manifest.version} is good, on {manifest.engine.name}.")


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            _same(found[key], expected[key]) for key in expected
        )
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-5)
    return bool(found == expected)

"""`card`: the model's page as one file, for the archive and for people without a server."""

from __future__ import annotations

import tempfile
from pathlib import Path

from serving.bundle.reader import open_bundle
from serving.page.page import Place, render

from training.errors import TrainingError
from training.registry.location import open_location
from training.report import say

__all__ = ["write_card"]


def write_card(source: str, out: Path | None) -> None:
    """
    Write the page of a bundle, without the form.

    Args:
        source: The bundle's location. A model's name alone means its folder under models/.
        out: The file; NAME.html in this folder if None.

    Raises:
        BundleError: There is no bundle that can be read.
        TrainingError: The file cannot be written.
    """
    if "/" not in source and not Path(source).exists():
        source = f"models/{source}"
    manifest = open_bundle(open_location(source)).manifest
    path = out or Path(f"{manifest.name}.html")
    content = render(manifest, Place())
    try:
        # In one step, so that no reader sees half a page.
        with tempfile.TemporaryDirectory(prefix=".card-", dir=path.parent) as scratch:
            page = Path(scratch, "page.html")
            page.write_bytes(content)
            page.replace(path)
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror}.") from error
    say(f"{path}: {len(content):,} bytes")

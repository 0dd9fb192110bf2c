"""`publish`: bring a bundle to where the functions fetch it, and make it the live one."""

from __future__ import annotations

from rich.console import Console
from serving.bundle import copy_bundle, open_bundle
from serving.errors import ObjectMissing
from serving.pointer import move_pointer, read_pointer
from serving.store import open_store

from training.report import transfer

__all__ = ["TRANSFER_SECONDS", "publish"]

#: How long one file may take, from a desk and over its line.
TRANSFER_SECONDS = 300.0


def publish(source: str, to: str) -> None:
    """
    Upload a bundle to `<to>/<name>/<version>`, read it back, then point `latest` at it.

    With MODEL_PUBLIC_KEYS set, only one that is signed by one of them.

    It may be repeated, and be done by several at once: a version is written once and never
    changed, and the pointer is moved only from where it was found at the start.

    Args:
        source: The model's folder, whose `latest` is taken, or one version's.
        to: The place of all models: s3://bucket/models, gs://…, az://… or a folder.

    Raises:
        BundleError: The bundle is not good, the store fails, another bundle of that name and
            version is there, or someone else moved the pointer meanwhile.
    """
    bundle = open_bundle(open_store(source, timeout=TRANSFER_SECONDS))
    manifest = bundle.manifest
    model = open_store(to, timeout=TRANSFER_SECONDS).at(manifest.name)
    try:
        live = read_pointer(model)
    except ObjectMissing:
        live = None
    sizes = [len(bundle.raw), *(file.size for file in manifest.files.values())]
    sizes += [len(content) for content in bundle.signatures().values()]
    with transfer(2 * sum(sizes)) as report:
        copy_bundle(bundle, model.at(manifest.version), report)
    if live is None or live.version != manifest.version:
        move_pointer(model, manifest.version, live)
        was = f"; it was {live.version}" if live else ""
    else:
        was = ", as before"
    console = Console(soft_wrap=True)
    console.print(f"{manifest.name} {manifest.version} is live{was}. Serve it: MODEL_URI={model}")

"""`publish`: upload a bundle to where the functions fetch it, and make it the live one."""

from __future__ import annotations

from serving.bundle.latest import LATEST_FILE
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.trust import Trust
from serving.bundle.writer import copy_bundle
from serving.errors import Conflict
from serving.stores.store import Store

from training.errors import on_interrupt
from training.registry.location import find_live, open_location
from training.registry.promote import how_to_promote, make_live
from training.report import say, transfer

__all__ = ["publish", "upload"]


def publish(source: str, to: str, trust: Trust, *, promote: bool = True) -> None:
    """
    Upload a bundle to `<to>/<name>/<version>`, read it back, then point `latest` at it.

    Publishing is safe to repeat. Concurrent publishers never mix: a version is written once and
    never changed, and `latest` is moved only from where it was at the start.

    Args:
        source: The model's folder, whose `latest` is taken, or one version's.
        to: The location of all models: s3://bucket/models, gs://…, az://… or a folder.
        trust: Which signatures are required.
        promote: Whether `latest` moves.

    Raises:
        BundleError: The bundle is not good, the store fails, another bundle of that name and
            version is there, or someone else moved `latest` meanwhile.
    """
    bundle = open_bundle(open_location(source), trust=trust)
    name, version = bundle.manifest.name, bundle.manifest.version
    model = open_location(to).at(name)
    live = find_live(model)
    with on_interrupt("publish again to continue"):
        upload(bundle, model)
        if live is not None and live.version == version:
            now = find_live(model)
            if now is None or now.version != version:
                raise Conflict(
                    f"{model.at(LATEST_FILE)} was moved to {now.version if now else 'none'} in the "
                    "meantime, and was left there."
                )
            say(f"{name} {version} is live, as before. Serve it: MODEL_URI={model}")
        elif promote:
            make_live(model, version, live)
            was = f"; it was {live.version}" if live else ""
            say(f"{name} {version} is live{was}. Serve it: MODEL_URI={model}")
        else:
            stays = f"{live.version} stays live" if live else "none is live"
            say(
                f"{name} {version} is there, and {stays}. To promote it:",
                f"  {how_to_promote(version, model)}",
            )


def upload(bundle: Bundle, model: Store) -> None:
    """
    Write *bundle* to its version's location in *model*, and read it back.

    Raises:
        BundleError: The bundle is not good, the store fails, or something else is there.
    """
    sizes = [len(bundle.raw), *(file.size for file in bundle.manifest.files.values())]
    sizes += [len(content) for content in bundle.signatures().values()]
    with transfer(2 * sum(sizes)) as report:
        copy_bundle(bundle, model.at(bundle.manifest.version), report)

"""GET /health: is a model loaded, and which."""

from typing import Literal

import msgspec
from serving.endpoint import Answer, Request, endpoint
from serving.loader import is_outdated, load_model


class Served(msgspec.Struct, forbid_unknown_fields=True):
    """The model that answers."""

    name: str
    version: str


class Health(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Callers without the scope "info" see only the status "ok"."""

    status: Literal["ok", "degraded"]
    model: Served | msgspec.UnsetType = msgspec.UNSET


@endpoint("GET", "/health", scope=None, answer=Health)
def health(_: Request) -> Answer:
    """
    Is a model loaded, and which.

    The answer is 503 until there is a model, and "degraded" while a newer version was rejected and
    the previous one goes on.
    """
    manifest = load_model().manifest
    body = Health("degraded" if is_outdated() else "ok", Served(manifest.name, manifest.version))
    return Answer(body, model_version=manifest.version, public=Health("ok"))

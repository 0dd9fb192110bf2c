"""GET /health: is a model loaded, and which."""

from serving.endpoint import Answer, Request, endpoint
from serving.loader import is_outdated, load_model


@endpoint("GET", "/health", scope=None)
def health(_: Request) -> Answer:
    """
    Answer 200 with the model's version, or 503 until there is one.

    It is "degraded" while the live version was refused, and the one before goes on. Strangers are
    told only that it works.
    """
    manifest = load_model().manifest
    body = {
        "status": "degraded" if is_outdated() else "ok",
        "model": {"name": manifest.name, "version": manifest.version},
    }
    return Answer(body, model_version=manifest.version, for_strangers={"status": "ok"})

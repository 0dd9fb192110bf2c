"""GET /health: is a model loaded, and which."""

from serving.endpoint import Answer, Request, endpoint
from serving.loader import load_model


@endpoint("GET", "/health")
def health(_: Request) -> Answer:
    """Answer 200 with the model's version, or 503 until there is one."""
    manifest = load_model().manifest
    body = {"status": "ok", "model": {"name": manifest.name, "version": manifest.version}}
    return Answer(body, model_version=manifest.version)

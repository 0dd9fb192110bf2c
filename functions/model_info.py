"""GET /v0/model_info: what the model is, was trained on, and is worth."""

from serving.endpoint import Answer, Request, endpoint
from serving.loader import load_model
from serving.model.card import model_card


@endpoint("GET", "/v0/model_info", scope="info")
def model_info(_: Request) -> Answer:
    """Answer with the manifest's public part."""
    manifest = load_model().manifest
    return Answer(model_card(manifest), model_version=manifest.version)

"""GET /v0/model_info: what the model is, what it was trained on, and how good it is."""

from serving.endpoint import Answer, Request, endpoint
from serving.loader import load_model
from serving.model.card import ModelCard, model_card


@endpoint("GET", "/v0/model_info", scope="info", answer=ModelCard)
def model_info(_: Request) -> Answer:
    """What the model is, what it was trained on, and how good it is."""
    manifest = load_model().manifest
    return Answer(model_card(manifest), model_version=manifest.version)

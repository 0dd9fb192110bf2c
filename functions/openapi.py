"""GET /openapi.json: this API in OpenAPI 3.1, with the model's own features and limits."""

from serving.endpoint import Answer, Request, endpoint
from serving.loader import load_model
from serving.openapi import describe_api
from serving.settings import settings


@endpoint("GET", "/openapi.json", scope="info")
def openapi(_: Request) -> Answer:
    """Answer with the document, made from the manifest."""
    manifest = load_model().manifest
    return Answer(describe_api(manifest, settings()), model_version=manifest.version)

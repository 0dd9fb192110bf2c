"""GET /openapi.json: this API in OpenAPI 3.1, with the model's own features and limits."""

import os

from serving.endpoint import Answer, Request, endpoint
from serving.loader import load_model
from serving.openapi import describe_folder


@endpoint("GET", "/openapi.json", scope="info")
def openapi(_: Request) -> Answer:
    """This document."""
    manifest = load_model().manifest
    document = describe_folder(os.path.dirname(__file__), manifest)
    return Answer(document, model_version=manifest.version)

"""POST /v0/predict: score instances."""

from typing import Any

from serving.endpoint import Answer, Request, endpoint
from serving.loader import load_model
from serving.model.json_schema import INSTANCES, PREDICTIONS
from serving.request import max_answer_bytes
from serving.telemetry.tracing import span


@endpoint("POST", "/v0/predict", scope="predict", body=INSTANCES, answer=PREDICTIONS)
def predict(request: Request) -> Answer:
    """
    Score instances.

    The body is `{"instances": […]}`, or one bare instance, which is answered in the singular.
    """
    model = load_model()
    with span("decode"):
        instances = model.decode(request.get_data(), max_answer_bytes(request))
    with span("inference"):
        predictions = model.predict(instances.columns)

    body: dict[str, Any] = {"predictions": predictions}
    if instances.single:
        body = {"prediction": predictions[0]}
    body["model"] = {"name": model.manifest.name, "version": model.manifest.version}
    if instances.warnings:
        body["warnings"] = instances.warnings
    return Answer(body, rows=instances.rows, model_version=model.manifest.version)

"""POST /v0/predict: score instances."""

import re
from typing import Any

from serving.endpoint import Answer, Request, endpoint
from serving.loader import load_model
from serving.model.json_schema import INSTANCES, PREDICTIONS
from serving.request import JSON, max_answer_bytes, media_type
from serving.telemetry.tracing import span

CSV = "text/csv"
_RANGE = re.compile(
    r"\s*(text/csv|application/json)\s*(;.*?)??(;\s*q=([01](\.\d{0,3})?)\s*)?", re.I
)


@endpoint(
    "POST", "/v0/predict", scope="predict", body=INSTANCES, answer=PREDICTIONS, media=(JSON, CSV)
)
def predict(request: Request) -> Answer:
    """
    Score instances.

    The body is `{"instances": […]}`, or one bare instance, which is answered in the singular; or
    CSV with a header. The answer is JSON, or CSV if Accept says so.
    """
    model = load_model()
    with span("decode"):
        data, from_csv = request.get_data(), media_type(request.headers.get("Content-Type")) == CSV
        instances = model.decode(data, max_answer_bytes(request), csv=from_csv)
    with span("inference"):
        if wants_csv := _wants_csv(request.headers.get("Accept", "")):
            table = model.predict_csv(instances)
        else:
            predictions = model.predict(instances.columns)
    counted: dict[str, Any] = {"rows": instances.rows, "model_version": model.manifest.version}
    if wants_csv:
        return Answer(table, media_type="text/csv; charset=utf-8", **counted)
    body: dict[str, Any] = {"predictions": predictions}
    if instances.single:
        body = {"prediction": predictions[0]}
    body["model"] = {"name": model.manifest.name, "version": model.manifest.version}
    if instances.warnings:
        body["warnings"] = instances.warnings
    return Answer(body, **counted)


def _wants_csv(accept: str) -> bool:
    """Whether an Accept header ranks CSV above JSON; of equals, its first counts."""
    ranges = filter(None, map(_RANGE.fullmatch, accept.split(",")))
    weights = [(float(found[4] or 1), found[1].lower()) for found in ranges]
    weight, first = max(weights, key=lambda pair: pair[0], default=(1.0, JSON))
    return weight > 0 and first == CSV

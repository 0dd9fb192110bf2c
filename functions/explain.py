"""POST /v0/explain: why the model answers as it does."""

from typing import Any

from serving.endpoint import Answer, Request, endpoint
from serving.loader import load_explainer, load_model
from serving.model.explain import read_question
from serving.model.json_schema import EXPLANATIONS, TO_EXPLAIN
from serving.process import process
from serving.telemetry.tracing import span


@endpoint("POST", "/v0/explain", scope="explain", body=TO_EXPLAIN, answer=EXPLANATIONS)
def explain(request: Request) -> Answer:
    """
    Why the model answers as it does.

    The body is that of predict. For each instance the answer lists the features that moved the
    output most, away from its mean over the background rows.
    """
    model = load_model()
    question = read_question(model.manifest, request.args)
    instances = model.schema.decode(request.get_data(), process().settings.max_explained)
    explainer = load_explainer(model)
    with span("explain"):
        explanations = explainer.explain(instances, question)

    body: dict[str, Any] = {
        "explanations": explanations,
        "model": {"name": model.manifest.name, "version": model.manifest.version},
    }
    if instances.warnings:
        body["warnings"] = instances.warnings
    return Answer(body, rows=instances.rows, model_version=model.manifest.version)

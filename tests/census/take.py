"""Fits and packs one shape, serves it over HTTP, and compares the answers."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from serving.loader import load_model
from serving.model.model import Model

from tests.census.shapes import Shape
from tests.helpers.platforms import Platform, own_server
from training.export.build import build_bundle
from training.export.features import as_frame, to_columns

__all__ = ["Entry", "take"]

ROWS = 200


class Entry(NamedTuple):
    """The result for one shape."""

    kind: str
    name: str
    engine: str
    reason: str
    precision: str
    #: The largest difference of a served answer, relative to the largest value.
    difference: float
    #: Served answers with another label.
    wrong: int
    #: Milliseconds for one row: from JSON to the answer without HTTP, and by scikit-learn.
    served: float
    pipeline: float


def take(shape: Shape, folder: Path) -> Entry:
    """Fit *shape*, pack it into *folder*, serve it, and send it 200 of its rows as JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of fitting do not matter here
        pipeline, data = shape.fitted()
        build_bundle(folder, "model", pipeline, data)
        with own_server(folder, ALLOW_PICKLE="1", LOG_LEVEL="error") as send:
            model = load_model()
            difference, wrong = _compare(model, send, pipeline, data[:ROWS])
            engine = model.manifest.engine
            one = data[:1]
            body = _body(model, one)
            return Entry(
                shape.kind,
                shape.name,
                engine.name,
                engine.reason or "",
                ", ".join(engine.inexact) or "float64",
                difference,
                wrong,
                _milliseconds(lambda: model.predict(model.decode(body).columns)),
                _milliseconds(lambda: pipeline.predict(one)),
            )


def _body(model: Model, data: Any) -> bytes:
    features = model.manifest.features
    columns = to_columns(as_frame(data)[0], features)
    rows = [
        {f.name: value for f, value in zip(features, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]
    return msgspec.json.encode({"instances": rows})


def _compare(model: Model, send: Platform, pipeline: Any, rows: Any) -> tuple[float, int]:
    body = _body(model, rows)
    reply = send("predict", "POST", body, Content_Type="application/json")
    assert reply.status == 200, reply.body[:1000]
    answers = reply.json()["predictions"]
    task = model.manifest.task
    if task == "outliers":
        scores = np.array([answer["score"] for answer in answers])
        said = [answer["outlier"] for answer in answers]
        wrong = int(np.not_equal(said, pipeline.predict(rows) < 0).sum())
        return float(np.abs(scores - pipeline.decision_function(rows)).max()), wrong
    predicted = np.asarray(pipeline.predict(rows)).reshape(len(answers), -1)
    if task == "clustering":
        return 0.0, int((np.array([a["cluster"] for a in answers]) != predicted[:, 0]).sum())
    outputs = [[answer] for answer in answers]
    if task == "outputs":
        outputs = [list(answer["outputs"].values()) for answer in answers]
    chances: Any = None
    if any(output.has_probabilities for output in model.manifest.parts):
        chances = pipeline.predict_proba(rows)
        if not isinstance(chances, list):  # of several outputs at once: that of 1 for each
            pairs = [np.c_[1 - chance, chance] for chance in np.transpose(chances)]
            chances = pairs if task == "outputs" else [chances]
    worst, wrong = 0.0, 0
    for i, output in enumerate(model.manifest.parts):
        found = [parts[i] for parts in outputs]
        if output.classes is None:
            expected = predicted[:, i].astype(float)
            scale = max(float(np.abs(expected).max()), 1e-300)
            worst = max(worst, float(np.abs([f["value"] for f in found] - expected).max()) / scale)
            continue
        wrong += sum(f["label"] != label for f, label in zip(found, predicted[:, i], strict=True))
        if chances is not None:
            given = np.array([list(f["probabilities"].values()) for f in found])
            worst = max(worst, float(np.abs(given - chances[i]).max()))
    return worst, wrong


def _milliseconds(call: Any) -> float:
    call()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best * 1000

"""For each pipeline of the matrix, the served answers equal the pipeline's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle
from serving.stores.folder import FolderStore

from tests.helpers.pipelines import CASES, Case
from tests.helpers.servers import serving
from training.export.build import build_bundle
from training.export.features import as_frame, to_columns

pytestmark = pytest.mark.slow

#: At most this many rows of a data set are sent.
ROWS = 300


@pytest.mark.filterwarnings("ignore")  # warnings of fitting do not matter here
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_served_answers_equal_the_pipeline_s(case: Case, tmp_path: Path) -> None:
    """Labels, probabilities and values over HTTP equal predict and predict_proba."""
    data, target = case.data()
    pipeline = case.pipeline().fit(data, target)
    path = build_bundle(tmp_path / "model", "model", pipeline, data)
    manifest = Bundle(FolderStore(path)).manifest

    with serving(tmp_path / "model", ALLOW_PICKLE="1", WEB_CONCURRENCY="1") as server:
        answers = _ask(server, manifest, data)

    if case.engine is not None:
        assert case.engine == manifest.engine.name, manifest.engine.reason
    assert case.names in (manifest.engine.reason or "")
    _compare(manifest, answers, pipeline, data)


def _ask(server: str, manifest: Manifest, data: Any) -> list[dict[str, Any]]:
    frame, _ = as_frame(data)
    columns = to_columns(frame, manifest.features)
    names = [feature.name for feature in manifest.features]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)][:ROWS]
    response = requests.post(f"{server}/v0/predict", json={"instances": rows}, timeout=30)
    assert response.status_code == 200, response.text
    answers: list[dict[str, Any]] = response.json()["predictions"]
    return answers


def _compare(manifest: Manifest, answers: list[dict[str, Any]], pipeline: Any, data: Any) -> None:
    expected = np.asarray(pipeline.predict(data))[:ROWS].reshape(-1)
    if manifest.classes is None:
        found = [answer["value"] for answer in answers]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
        return
    assert [type(label.item()) for label in expected[:1]] == [type(answers[0]["label"])]
    if not hasattr(pipeline, "predict_proba"):
        assert [answer["label"] for answer in answers] == expected.tolist()
        assert "probabilities" not in answers[0]
        return
    probabilities = pipeline.predict_proba(data)[:ROWS]
    found = [list(answer["probabilities"].values()) for answer in answers]
    np.testing.assert_allclose(found, probabilities, atol=1e-5)
    labels = np.array([answer["label"] for answer in answers])
    if manifest.engine.label_rule == "model":
        assert labels.tolist() == expected.tolist()
        return
    best = np.sort(probabilities, axis=1)
    clear = best[:, -1] - best[:, -2] > manifest.engine.tie_tolerance
    assert labels[clear].tolist() == expected[clear].tolist()

"""What `score` writes for each task and engine is what HTTP answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from tests.helpers.bundles import manifest_of
from tests.helpers.example import JSON
from tests.helpers.pipelines import city_block
from tests.helpers.platforms import direct
from training.__main__ import main
from training.export.build import build_bundle

WORDS = ["late again", "very good", "", 'said "no",\nand left', "good, late", "schön"]
RANDOM = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "a": RANDOM.normal(size=60).round(3),
        "b": RANDOM.normal(size=60).round(3),
        "note": [WORDS[i % 5] + " word" for i in range(60)],
    }
)
NUMBERS = TABLE[["a", "b"]]
LABELS = np.where(TABLE["a"] > 0, "yes", "no")
TEXT = make_column_transformer((TfidfVectorizer(), "note"), remainder="passthrough")
YES_NO = ["label", "probability_no", "probability_yes"]
#: A pipeline, its rows and its target; the engine; the columns of the answer.
CASES: dict[str, tuple[Any, pd.DataFrame, Any, str, list[str]]] = {
    "text": (
        make_pipeline(TEXT, LogisticRegression()),
        TABLE,
        LABELS,
        "onnx",
        YES_NO,
    ),
    "values": (
        LinearRegression(),
        NUMBERS,
        np.column_stack([TABLE["a"], TABLE["b"] * 2]),
        "onnx",
        ["y0.value", "y1.value"],
    ),
    "labels": (
        RandomForestClassifier(3, random_state=0),
        NUMBERS,
        np.column_stack([LABELS, LABELS[::-1]]),
        "onnx",
        [f"{y}.{name}" for y in ("y0", "y1") for name in YES_NO],
    ),
    "outliers": (
        IsolationForest(n_estimators=5, random_state=0),
        NUMBERS,
        None,
        "onnx",
        ["outlier", "score"],
    ),
    "clusters": (KMeans(3, n_init=1), NUMBERS, None, "onnx", ["cluster"]),
    "mixture": (
        GaussianMixture(2),
        NUMBERS,
        None,
        "onnx",
        ["cluster", "probability_0", "probability_1"],
    ),
    "scikit-learn's engine": (
        make_pipeline(KNeighborsClassifier(metric=city_block)),
        NUMBERS,
        LABELS,
        "sklearn",
        YES_NO,
    ),
}


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("case", CASES)
def test_each_task_is_answered_as_over_http(
    case: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers, labels and texts, and the columns of the task."""
    pipeline, data, target, engine, columns = CASES[case]
    model, source = tmp_path / "x", tmp_path / f"rows.{form}"
    build_bundle(model, "x", pipeline.fit(data, target), data)
    assert manifest_of(model).engine.name == engine
    rows = data.head(40).reset_index(names="id")
    rows.to_csv(source, index=False) if form == "csv" else rows.to_parquet(source)
    monkeypatch.setattr(sys, "path", [*sys.path])  # main() adds to it
    monkeypatch.setenv("ALLOW_PICKLE", "1")
    command = ["score", str(model), "--from", str(source), "--to", str(tmp_path / "out")]

    assert main([*command, "--keep", "id", "--workers", "1"]) == 0
    part = tmp_path / "out" / f"rows.{form}-00000.{form}"
    found = pd.read_csv(part) if form == "csv" else pd.read_parquet(part)
    assert list(found) == ["id", *columns, "warning", "error"]
    with direct(model, LOG_LEVEL="error") as send:
        body = json.dumps({"instances": data.head(40).to_dict("records")}).encode()
        answers = send("predict", "POST", body, **JSON).json()["predictions"]
    told = pd.DataFrame([_flat(answer) for answer in answers])[columns]
    pd.testing.assert_frame_equal(found[columns], told, check_dtype=False, rtol=0, atol=1e-15)


def _flat(answer: dict[str, Any]) -> dict[str, Any]:
    """Write an answer of HTTP with the names of columns."""
    flat = dict(answer)
    for name, part in flat.pop("outputs", {}).items():
        flat |= {f"{name}.{key}": value for key, value in _flat(part).items()}
    chances = flat.pop("probabilities", {})
    pairs = chances.items() if isinstance(chances, dict) else enumerate(chances)
    return flat | {f"probability_{name}": chance for name, chance in pairs}

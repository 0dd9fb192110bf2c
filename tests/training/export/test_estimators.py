"""Every estimator of scikit-learn is served as it answers, or rejected in one sentence."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving.bundle.reader import Bundle
from serving.model.engines.onnx import OnnxEngine
from serving.model.engines.sklearn import SklearnEngine
from serving.stores.folder import FolderStore
from sklearn.base import is_clusterer, is_outlier_detector, is_regressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import all_estimators

from training.errors import TrainingError, blame
from training.export.build import build_bundle
from training.export.features import as_frame, to_columns

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
X = np.abs(RANDOM.normal(size=(100, 4))) + 0.1
LABELS = np.where(X[:, 0] > X[:, 1], "a", "b")
VALUES = X[:, 0] * 2 + X[:, 1] + RANDOM.normal(size=100) * 0.1
#: So many of them are fitted as they come, without arguments; and so many get a graph.
FITTED, GRAPHS = 160, 117


def _fit(kind: type) -> Any:
    """Fit an estimator to the rows; None if it needs arguments, or rows of another kind."""
    try:
        model: Any = kind()
        alone = is_clusterer(model) or is_outlier_detector(model) or hasattr(model, "means_init")
        if not alone and hasattr(model, "transform") and not hasattr(model, "predict"):
            model = make_pipeline(model, LogisticRegression())
        target = VALUES if is_regressor(model) else LABELS
        return model.fit(X) if alone else model.fit(X, target)
    except Exception:  # scikit-learn's own, each in its own words
        return None


def _packed(folder: Path, model: Any) -> str:
    """Pack it and check its answers; return the engine, or "" if it is rejected in one sentence."""
    try:
        with blame("the pipeline cannot be made a bundle"):
            path = build_bundle(folder, "m", model, X)
    except TrainingError as error:
        sentence = str(error)
        path = None
    if path is None:
        assert sentence.endswith(".")
        assert "\n" not in sentence
        return ""
    bundle = Bundle(FolderStore(path))
    manifest = bundle.manifest
    if manifest.engine.name == "sklearn":
        assert manifest.engine.reason
        assert "Error" not in manifest.engine.reason, manifest.engine.reason
        engine: Any = SklearnEngine(manifest, model)
    else:
        engine = OnnxEngine(manifest, bundle.read_model())
    [scores] = engine.score(to_columns(as_frame(X)[0], manifest.features)).parts
    if manifest.task == "outliers":
        np.testing.assert_allclose(scores.values, model.decision_function(X), atol=1e-5)
    elif manifest.classes is None:
        np.testing.assert_allclose(scores.values, np.ravel(model.predict(X)), atol=1e-5)
    else:
        assert np.asarray(manifest.classes)[scores.values].tolist() == model.predict(X).tolist()
    return manifest.engine.name


def test_each_is_served_as_it_answers_or_rejected_in_one_sentence(tmp_path: Path) -> None:
    """With the parameters that it has by default."""
    engines = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what an estimator warns of while it fits is not at issue
        for name, kind in all_estimators():
            model = _fit(kind)
            if model is not None:
                engines[name] = _packed(tmp_path / name, model)
    graphs = [name for name, engine in engines.items() if engine == "onnx"]

    assert len(engines) >= FITTED
    assert len(graphs) >= GRAPHS, sorted(set(engines) - set(graphs))

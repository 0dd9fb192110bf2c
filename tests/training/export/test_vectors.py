"""Support vector machines, and classes decided by parts, answer as scikit-learn does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnxruntime import InferenceSession
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsOneClassifier, OutputCodeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.svm import SVC, LinearSVC, NuSVC

import training.export.compile  # noqa: F401  # registers every converter
from training.export.converters import registry
from training.export.features import as_frame, read_features
from training.export.graph import Graph

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 3))
SCORE = X[:, 0] + X[:, 1] ** 2 + 0.3 * RANDOM.normal(size=len(X))
#: Near and far from the training rows, and the same row twice.
ROWS = np.vstack([X, X * 30, RANDOM.normal(size=(200, 3)) * 2, np.zeros((2, 3))])


def _classes(count: int) -> Any:
    names = np.array(list("abcdefghij"))
    return names[np.digitize(SCORE, np.quantile(SCORE, np.arange(1, count) / count))]


def _calibrated(method: str) -> Any:
    return CalibratedClassifierCV(SVC(), ensemble=False, method=method)


MODELS = {
    "two": (SVC(), 2),
    "three": (SVC(kernel="poly"), 3),
    "three, ties broken": (SVC(break_ties=True), 3),
    "three by shares": (NuSVC(nu=0.3), 3),
    "calibrated, two": (_calibrated("sigmoid"), 2),
    "calibrated, four": (_calibrated("sigmoid"), 4),
    "calibrated by steps": (_calibrated("isotonic"), 3),
    "pairs of margins": (OneVsOneClassifier(LinearSVC()), 3),
    "pairs of chances": (OneVsOneClassifier(GaussianNB()), 4),
    "one pair": (OneVsOneClassifier(LogisticRegression()), 2),
    **{f"libsvm's own chances, {n}": (SVC(probability=True), n) for n in (2, 3, 10)},
    "centres": (NearestCentroid(), 2),
    "centres, with priors": (NearestCentroid(priors="empirical"), 3),
    "codes of margins": (OutputCodeClassifier(LinearSVC(), random_state=0), 4),
    "codes of chances": (OutputCodeClassifier(GaussianNB(), random_state=1), 3),
    "libsvm's own chances, by shares": (NuSVC(nu=0.3, probability=True), 3),
}


@pytest.mark.filterwarnings("ignore:The `probability` parameter")
@pytest.mark.parametrize(("model", "classes"), MODELS.values(), ids=MODELS)
def test_a_model_answers_as_scikit_learn_does(model: Any, classes: int) -> None:
    """Labels and probabilities, near and far from the training rows."""
    model.fit(X, _classes(classes))
    graph = Graph(read_features(as_frame(X)[0]))
    outputs: dict[str, tuple[str, Any, int | None]] = {
        "label": (registry.label(graph, model, graph.raw()), np.int64, None)
    }
    if hasattr(model, "predict_proba"):
        found = registry.probabilities(graph, model, graph.raw())
        outputs["probabilities"] = (found, np.float64, classes)
    session = InferenceSession(graph.finish(outputs).SerializeToString())
    labels, *chances = session.run(None, {session.get_inputs()[0].name: ROWS})

    assert model.classes_[labels].tolist() == model.predict(ROWS).tolist()
    for found in chances:
        np.testing.assert_allclose(found, model.predict_proba(ROWS), atol=1e-12)
    assert graph.inexact == []

"""Trees in the graph: thresholds for float32 input, and no duplicate leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime import InferenceSession
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import training.export.compile  # noqa: F401  # registers every converter
from training.export.converters import registry
from training.export.converters.trees import ensemble as trees
from training.export.converters.trees.ensemble import from_float32
from training.export.features import as_frame, read_features
from training.export.graph import Graph

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 5))
X_MISSING = np.where(RNG.uniform(size=X.shape) < 0.1, np.nan, X)
BINARY = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)
THREE = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.7])
VALUE = X[:, 0] * 3 + np.sin(X[:, 1])
FEW: dict[str, Any] = {"n_estimators": 30, "random_state": 0}
ROUNDS: dict[str, Any] = {"max_iter": 30, "random_state": 0}

MODELS = {
    "decision tree": (DecisionTreeClassifier(max_depth=5), X, BINARY),
    "three classes": (DecisionTreeClassifier(max_depth=5), X, THREE),
    "missing": (DecisionTreeClassifier(max_depth=5), X_MISSING, THREE),
    "random forest": (RandomForestClassifier(20, random_state=0), X, BINARY),
    "random forest, missing": (RandomForestClassifier(20, random_state=0), X_MISSING, BINARY),
    "random forest, three classes": (RandomForestClassifier(20, random_state=0), X, THREE),
    "extra trees": (ExtraTreesClassifier(20, random_state=0), X, BINARY),
    "gradient boosting": (GradientBoostingClassifier(**FEW), X, BINARY),
    "gradient boosting, exponential": (
        GradientBoostingClassifier(loss="exponential", **FEW),
        X,
        BINARY,
    ),
    "gradient boosting from zero": (GradientBoostingClassifier(init="zero", **FEW), X, THREE),
    "gradient boosting, three classes": (GradientBoostingClassifier(**FEW), X, THREE),
    "histograms": (HistGradientBoostingClassifier(**ROUNDS), X, BINARY),
    "histograms, missing": (HistGradientBoostingClassifier(**ROUNDS), X_MISSING, BINARY),
    "histograms, three classes": (HistGradientBoostingClassifier(**ROUNDS), X, THREE),
    "histograms of counts": (
        HistGradientBoostingRegressor(loss="poisson", **ROUNDS),
        X,
        BINARY + THREE,
    ),
    "regression tree": (DecisionTreeRegressor(max_depth=5), X, VALUE),
    "random forest of values": (RandomForestRegressor(20, random_state=0), X, VALUE),
    "extra trees of values": (ExtraTreesRegressor(20, random_state=0), X, VALUE),
    "gradient boosting of values": (GradientBoostingRegressor(**FEW), X, VALUE),
    "histograms of values": (HistGradientBoostingRegressor(**ROUNDS), X_MISSING, VALUE),
    "two values": (RandomForestRegressor(10, random_state=0), X, np.c_[VALUE, -VALUE]),
    "trees of one leaf": (GradientBoostingRegressor(n_estimators=3), X, np.ones(400)),
}


def compiled(estimator: Any, data: Any, target: Any) -> onnx.ModelProto:
    """Fit and compile an estimator."""
    estimator.fit(data, target)
    graph = Graph(read_features(as_frame(data)[0]))
    method = registry.values
    if hasattr(estimator, "classes_"):
        method = registry.probabilities
    found = method(graph, estimator, graph.raw())
    return graph.finish({"y": (found, np.float64, None)})


def answers(graph: onnx.ModelProto, data: Any) -> Any:
    """Run the graph."""
    session = InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: data})[0]


@pytest.mark.parametrize("together", [300, trees.NODES_TOGETHER], ids=["apart", "together"])
@pytest.mark.parametrize(("estimator", "data", "target"), MODELS.values(), ids=MODELS)
def test_trees_agree_with_scikit_learn(
    estimator: Any, data: Any, target: Any, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers agree to the last bits, on training rows and others, for one row and for many."""
    monkeypatch.setattr(trees, "NODES_TOGETHER", together)
    graph = compiled(estimator, data, target)
    others = RNG.normal(size=(2000, 5), scale=3)
    if np.isnan(data).any():
        others[RNG.uniform(size=others.shape) < 0.2] = np.nan
    ask = getattr(estimator, "predict_proba", estimator.predict)

    for rows in (data, others, others[:1]):
        expected = ask(rows)
        found = answers(graph, rows).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-14, rtol=1e-14)


@given(st.floats(-1e30, 1e30), st.integers(-2, 2), st.booleans())
def test_a_threshold_splits_float64_like_float32(value: float, steps: int, midway: bool) -> None:
    """A float64 is at most the new threshold exactly if its float32 is at most the old one."""
    near = np.float32(value)
    old = float(near)
    if midway:
        old = (old + float(np.nextafter(near, np.float32(np.inf)))) / 2
    new = float(from_float32(np.array([old]))[0])
    number = new
    for _ in range(abs(steps)):
        number = float(np.nextafter(number, np.inf * np.sign(steps)))

    assert (number <= new) == (float(np.float32(number)) <= old)


def test_equal_leaves_are_written_once() -> None:
    """A forest with pure leaves has two leaves in the graph."""
    graph = compiled(RandomForestClassifier(20, random_state=0), X, BINARY).graph
    [node] = [node for node in graph.node if node.op_type == "TreeEnsemble"]
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    assert len(found["leaf_targetids"]) == 2
    assert sorted(onnx.numpy_helper.to_array(found["leaf_weights"])) == [0.0, 1.0]


def test_categories_of_histogram_boosting_agree() -> None:
    """Known, unseen and missing categories take the same branch as in scikit-learn."""
    random = np.random.default_rng(0)
    names = np.array([f"town {i}" for i in range(40)])
    data = pd.DataFrame(
        {
            "n": random.normal(size=2000),
            "town": pd.Categorical(random.choice(names, 2000)),
            "m": random.normal(size=2000),
        }
    )
    data.loc[random.random(2000) < 0.1, "town"] = None
    target = data["town"].cat.codes % 7 + data["n"]
    model = HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=20)
    model.fit(data, target)
    graph = Graph(read_features(data))
    found = registry.values(graph, model, graph.raw())
    session = InferenceSession(graph.finish({"y": (found, np.float64, 1)}).SerializeToString())
    towns = (
        data["town"].astype(object).where(data["town"].notna(), "\ufdd0").to_numpy(object).copy()
    )
    towns[:10] = "elsewhere"
    rows = data.assign(town=pd.Categorical([None if town == "\ufdd0" else town for town in towns]))
    feed = {
        node.name: towns.reshape(-1, 1)
        if node.type == "tensor(string)"
        else data[["n", "m"]].to_numpy()
        for node in session.get_inputs()
    }

    np.testing.assert_allclose(session.run(None, feed)[0].ravel(), model.predict(rows), rtol=1e-13)

"""Trees written anew answer as before, and those that cannot be are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from serving.bundle.reader import Bundle
from serving.stores.folder import FolderStore
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingRegressor,
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

import training.export.build
from training.export import trees
from training.export.build import build_bundle
from training.export.compile import OPSET, _plain_integers
from training.export.trees import rewrite_trees

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 5)).astype(np.float32)
X_MISSING = np.where(RNG.uniform(size=X.shape) < 0.1, np.nan, X).astype(np.float32)
BINARY = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)
THREE = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.7])
VALUE = X[:, 0] * 3 + np.sin(X[:, 1])

REWRITTEN = {
    "decision tree": (DecisionTreeClassifier(max_depth=5), X, BINARY),
    "decision tree of strings": (DecisionTreeClassifier(max_depth=5), X, BINARY.astype(str)),
    "random forest": (RandomForestClassifier(20, random_state=0), X, BINARY),
    "extra trees": (ExtraTreesClassifier(20, random_state=0), X, BINARY),
    "gradient boosting": (GradientBoostingClassifier(random_state=0), X, BINARY),
    "gradient boosting, three classes": (GradientBoostingClassifier(random_state=0), X, THREE),
    "histograms": (HistGradientBoostingClassifier(random_state=0), X, BINARY),
    "histograms, missing": (HistGradientBoostingClassifier(random_state=0), X_MISSING, BINARY),
    "histograms, three classes": (HistGradientBoostingClassifier(random_state=0), X, THREE),
    "regression tree": (DecisionTreeRegressor(max_depth=5), X, VALUE),
    "random forest of values": (RandomForestRegressor(20, random_state=0), X, VALUE),
    "extra trees of values": (ExtraTreesRegressor(20, random_state=0), X, VALUE),
    "gradient boosting of values": (GradientBoostingRegressor(random_state=0), X, VALUE),
    "histograms of values": (HistGradientBoostingRegressor(random_state=0), X_MISSING, VALUE),
    "bagged trees": (BaggingRegressor(n_estimators=5, random_state=0), X, VALUE),
}
LEFT = {
    "several weights in a leaf": (RandomForestClassifier(5, random_state=0), X, THREE),
    "several values": (DecisionTreeRegressor(max_depth=3), X, np.c_[VALUE, -VALUE]),
    "trees of one leaf": (GradientBoostingRegressor(n_estimators=3), X, np.ones(400)),
}


def compiled(estimator: Any, data: Any, target: Any) -> bytes:
    """Fit and compile."""
    estimator.fit(data, target)
    options = {"zipmap": False} if hasattr(estimator, "predict_proba") else None
    inputs = [("x", FloatTensorType([None, data.shape[1]]))]
    with _plain_integers():
        graph = convert_sklearn(estimator, "p", inputs, options=options, target_opset=OPSET)
    return bytes(graph.SerializeToString())


def answers(graph: bytes, data: Any) -> list[Any]:
    """Run it."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": data}))


@pytest.mark.parametrize("together", [300, trees.NODES_TOGETHER], ids=["apart", "together"])
@pytest.mark.parametrize(("estimator", "data", "target"), REWRITTEN.values(), ids=REWRITTEN)
def test_they_answer_as_before(
    estimator: Any, data: Any, target: Any, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels, probabilities and values, on the training rows and on others; in fewer bytes."""
    monkeypatch.setattr(trees, "NODES_TOGETHER", together)
    old = compiled(estimator, data, target)
    new = rewrite_trees(old)
    others = RNG.normal(size=(2000, 5), scale=3).astype(np.float32)

    assert new is not None
    onnx.checker.check_model(onnx.load_from_string(new))
    assert len(new) < len(old)
    assert new == rewrite_trees(old)
    for rows in (data, others, others[:1]):
        found = answers(new, rows)
        for before, after in zip(answers(old, rows), found, strict=True):
            assert before.dtype == after.dtype
            assert before.shape == after.shape
            if before.dtype.kind == "f":
                np.testing.assert_allclose(after, before, atol=2e-6, rtol=2e-6)
            else:
                # At a tie of two probabilities the order of sums decides.
                best = np.sort(found[1], axis=1)
                assert (after == before)[best[:, -1] - best[:, -2] > 2e-6].all()


def test_many_nodes_are_opened_in_parts_of_like_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree stays whole; and what is averaged stays together."""
    monkeypatch.setattr(trees, "NODES_TOGETHER", 1000)
    old = compiled(RandomForestClassifier(50, max_depth=4, random_state=0), X, BINARY)
    graph = onnx.load_from_string(rewrite_trees(old) or b"").graph
    counts = [
        len(attribute.ints)
        for node in graph.node
        for attribute in node.attribute
        if attribute.name == "nodes_featureids"
    ]
    roots = [len(a.ints) for n in graph.node for a in n.attribute if a.name == "tree_roots"]

    assert len(counts) == 2
    assert max(counts) < 1.2 * min(counts)
    assert sum(roots) == 50
    assert [node.op_type for node in graph.node].count("Sum") == 1


@pytest.mark.parametrize(
    ("estimator", "target", "most"),
    [
        (RandomForestClassifier(20, random_state=0), BINARY, 2),  # all leaves are pure
        (GradientBoostingClassifier(random_state=0), THREE, 1e9),
    ],
    ids=["one sum", "a sum for each class"],
)
def test_leaves_that_add_the_same_are_written_once(estimator: Any, target: Any, most: int) -> None:
    """The commonest first; and every one of them is reached."""
    graph = onnx.load_from_string(rewrite_trees(compiled(estimator, X, target)) or b"").graph
    [node] = [node for node in graph.node if node.op_type == "TreeEnsemble"]
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    weights = onnx.numpy_helper.to_array(found["leaf_weights"])
    leaves = list(zip(found["leaf_targetids"], weights.tolist(), strict=True))
    uses = np.bincount(
        np.concatenate(
            [
                np.array(found[f"nodes_{side}nodeids"])[np.array(found[f"nodes_{side}leafs"]) == 1]
                for side in ("true", "false")
            ]
        )
    )

    assert len(leaves) == len(set(leaves)) == len(uses) <= most
    assert uses.tolist() == sorted(uses, reverse=True)
    assert uses.min() > 0


@pytest.mark.parametrize(("estimator", "data", "target"), LEFT.values(), ids=LEFT)
def test_what_the_operator_cannot_hold_is_left(estimator: Any, data: Any, target: Any) -> None:
    """The caller keeps the old graph."""
    assert rewrite_trees(compiled(estimator, data, target)) is None


def test_it_is_all_trees_or_none() -> None:
    """The old operators and the new do not go together in one graph."""
    estimator = AdaBoostClassifier(RandomForestClassifier(3), n_estimators=2, random_state=0)
    assert rewrite_trees(compiled(estimator, X, THREE)) is None


def test_the_old_graph_is_served_where_the_new_one_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof is of the graph that is served; another that passes is taken instead."""
    wrong = rewrite_trees(compiled(RandomForestRegressor(5), X, VALUE + 1))
    monkeypatch.setattr(training.export.build, "rewrite_trees", lambda _: wrong)
    right = RandomForestRegressor(5, random_state=0).fit(X, VALUE)
    path = build_bundle(
        tmp_path / "m", "m", right, X, metrics={}, permutation=None, seed=0, report=lambda _: None
    )
    bundle = Bundle(FolderStore(path))

    assert bundle.manifest.engine.name == "onnx"
    assert b"TreeEnsembleRegressor" in bundle.read("model.onnx")

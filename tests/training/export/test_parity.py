"""Parity can fail: what the graph gets wrong is never served from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.trust import Trust
from serving.errors import InvalidInstances
from serving.model.engines import Scores
from serving.model.engines.onnx import OnnxEngine
from serving.model.model import open_model
from serving.stores.folder import FolderStore
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures

import training.export.build
from training.export.build import build_bundle
from training.export.compile import compile_pipeline
from training.export.features import read_features
from training.export.perturb import CELLS, perturbed


def build(folder: Path, pipeline: Any, data: Any) -> Manifest:
    """Make a bundle; its manifest."""
    path = build_bundle(
        folder,
        "model",
        pipeline,
        data,
        metrics={},
        permutation=None,
        seed=None,
        report=lambda _: None,
    )
    return Bundle(FolderStore(path)).manifest


def two_clouds() -> tuple[pd.DataFrame, Any]:
    """Make rows of two classes."""
    random = np.random.default_rng(0)
    data = pd.DataFrame(random.normal(size=(300, 3)), columns=list("abc"))
    return data, np.where(data["a"] + random.normal(0, 0.5, 300) > 0, "yes", "no")


def test_a_graph_off_by_a_thousandth_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted error of 1e-3 in one coefficient: engine sklearn, and the reason says how much."""
    data, target = two_clouds()
    pipeline = make_pipeline(LogisticRegression()).fit(data, target)

    def planted(*arguments: Any) -> bytes:
        graph = onnx.load_from_string(compile_pipeline(*arguments))
        [linear] = [node for node in graph.graph.node if node.op_type == "LinearClassifier"]
        [weights] = [a for a in linear.attribute if a.name == "intercepts"]
        weights.floats[:] = [
            value + 1e-3 * sign for value, sign in zip(weights.floats, (-1, 1), strict=True)
        ]
        return bytes(graph.SerializeToString())

    assert build(tmp_path / "right", pipeline, data).engine.name == "onnx"
    monkeypatch.setattr(training.export.build, "compile_pipeline", planted)
    engine = build(tmp_path / "wrong", pipeline, data).engine

    assert engine.name == "sklearn"
    assert "differs from the pipeline" in (engine.reason or "")
    assert engine.parity is not None
    assert 1e-4 < (engine.parity.max_difference or 0) < 1e-2


@pytest.mark.filterwarnings("ignore:invalid value")  # 0 / 0 is the point
def test_a_graph_with_holes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that is right on every training row, but NaN where a feature is 0."""
    data, target = two_clouds()
    data["a"] += 20
    pipeline = make_pipeline(LinearRegression()).fit(data, (target == "yes") + data["b"])

    def planted(*arguments: Any) -> bytes:
        graph = onnx.load_from_string(compile_pipeline(*arguments))
        first, output = graph.graph.input[0].name, graph.graph.output[0].name
        for node in graph.graph.node:
            node.output[:] = ["whole" if name == output else name for name in node.output]
        nodes = [
            onnx.helper.make_node("Gather", [first, "zero"], ["a"], axis=1),
            onnx.helper.make_node("Div", ["a", "a"], ["one"]),
            onnx.helper.make_node("Mul", ["whole", "one"], [output]),
        ]
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "zero"))
        graph.graph.node.extend(nodes)
        return bytes(graph.SerializeToString())

    monkeypatch.setattr(training.export.build, "compile_pipeline", planted)
    engine = build(tmp_path, pipeline, data).engine

    assert engine.name == "sklearn"
    assert "rows changed around them" in (engine.reason or "")


def test_numbers_far_off_may_overflow_but_not_lie(tmp_path: Path) -> None:
    """A square overflows float32 where doubles go on: counted, and answered 422, not refused."""
    data, _ = two_clouds()
    pipeline = make_pipeline(PolynomialFeatures(3), LinearRegression()).fit(data, data["a"] ** 2)
    manifest = build(tmp_path, pipeline, data)
    assert manifest.engine.name == "onnx"
    assert manifest.engine.parity is not None
    assert manifest.engine.parity.refused_rows > 0
    model = open_model(open_bundle(FolderStore(tmp_path)))

    with pytest.raises(InvalidInstances, match="no finite answer"):
        model.predict([[1e30], [0.0], [0.0]])


def test_a_threshold_of_its_own_decides_the_label(tmp_path: Path) -> None:
    """Also where no training row lies between the threshold and one half."""
    data, target = two_clouds()
    data["a"] = np.where(target == "yes", 3.0, -3.0)
    inner = LogisticRegression(C=0.01)
    pipeline = FixedThresholdClassifier(inner, threshold=0.2).fit(data, target)
    manifest = build(tmp_path, pipeline, data)
    model = open_model(open_bundle(FolderStore(tmp_path), trust=Trust(allow_pickle=True)))
    around = pd.DataFrame({"a": np.linspace(-3, 3, 61), "b": 0.0, "c": 0.0})
    answers = model.predict([around[name].tolist() for name in "abc"])

    assert manifest.engine.label_rule == "model"
    assert [answer["label"] for answer in answers] == pipeline.predict(around).tolist()
    assert any(a["label"] == "yes" and a["probability"] < 0.5 for a in answers)


def test_doubles_that_float32_cannot_tell_apart_fall_back(tmp_path: Path) -> None:
    """A threshold between two doubles of one float32: the graph cannot see it, and is refused."""
    base = np.tile([0.1, 0.1 + 1e-10], 100)
    data = pd.DataFrame({"a": base, "b": np.arange(200.0)})
    target = np.where(base > 0.1, "high", "low")
    pipeline = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5).fit(data, target)

    assert pipeline.score(data, target) == 1
    assert build(tmp_path, pipeline, data).engine.name == "sklearn"


def test_whole_numbers_beyond_float32_fall_back(tmp_path: Path) -> None:
    """Identifiers over 2^24 that differ by one decide: only scikit-learn sees them."""
    ids = 2**24 + np.arange(200)
    data = pd.DataFrame({"id": ids, "b": np.zeros(200)})
    target = np.where(ids % 2 == 0, "even", "odd")
    pipeline = HistGradientBoostingClassifier(
        max_iter=20, min_samples_leaf=1, max_leaf_nodes=None
    ).fit(data, target)

    assert build(tmp_path, pipeline, data).engine.name == "sklearn"


def test_a_tie_gets_the_first_class(tmp_path: Path) -> None:
    """Where a forest's trees are split evenly, the graph's label is scikit-learn's."""
    random = np.random.default_rng(1)
    data = pd.DataFrame({"a": random.integers(0, 4, 400), "b": random.integers(0, 4, 400)})
    target = np.where(random.random(400) < 0.5, "no", "yes")
    pipeline = RandomForestClassifier(2, max_depth=1, random_state=0).fit(data, target)
    manifest = build(tmp_path, pipeline, data)
    graph = (tmp_path / manifest.version / "model.onnx").read_bytes()
    engine = OnnxEngine(manifest, graph)
    planted = np.array([[0.5, 0.5], [0.49999997, 0.50000003], [0.49, 0.51]], dtype=np.float32)

    class Session:
        def run(self, *_: Any) -> list[Any]:
            return [planted]

    engine._session = Session()
    scores: Scores = engine.score([[0.0] * 3, [0.0] * 3])

    assert scores.values == [0, 0, 1]
    assert manifest.engine.tie_tolerance == 1e-6


def test_the_smallest_values_are_compared_too(tmp_path: Path) -> None:
    """Values below float32's smallest: the graph would answer 0, and is refused."""
    data, _ = two_clouds()
    pipeline = make_pipeline(LinearRegression()).fit(data, data["a"] * 1e-42)

    assert build(tmp_path, pipeline, data).engine.name == "sklearn"


def test_whole_numbers_in_training_do_not_hide_fractions(tmp_path: Path) -> None:
    """A difference of two large prices: in cents, float32 loses what is asked for."""
    random = np.random.default_rng(0)
    opening = random.integers(90_000, 99_000, 300)
    data = pd.DataFrame({"opening": opening, "closing": opening + random.integers(-9, 10, 300)})
    pipeline = make_pipeline(LinearRegression()).fit(data, data["closing"] - data["opening"])

    assert build(tmp_path, pipeline, data).engine.name == "sklearn"


def test_a_boolean_that_may_be_none_is_rebuilt_as_it_was(tmp_path: Path) -> None:
    """A column of dtype object: what stood for a missing value stands there again."""
    flags = np.array([True, None, False] * 40, dtype=object)
    data = pd.DataFrame({"flag": flags, "b": np.arange(120.0)})
    encode = ColumnTransformer([("flag", OneHotEncoder(), ["flag"])], remainder="passthrough")
    target = np.where(data["b"] > 60, "high", "low")
    pipeline = make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(data, target)

    assert build(tmp_path, pipeline, data).features[0].missing == "None"


def test_a_graph_of_text_needs_no_language_of_the_server(tmp_path: Path) -> None:
    """Lower case is made as C makes it, which every machine has."""
    texts = np.array(["good deal", "Bad deal", "good thing", "bad Thing"] * 20, dtype=object)
    data = pd.DataFrame({"text": texts})
    count = ColumnTransformer([("text", CountVectorizer(), "text")])
    pipeline = make_pipeline(count, LogisticRegression()).fit(data, texts > "a")
    graph = compile_pipeline(pipeline, read_features(data))
    nodes = [n for n in onnx.load_from_string(graph).graph.node if n.op_type == "StringNormalizer"]
    locales = {a.s for node in nodes for a in node.attribute if a.name == "locale"}

    assert nodes
    assert locales == {b"C"}


def test_many_features_are_tried_within_bounds() -> None:
    """The rows that are made grow no faster than the features do."""
    columns = [[float(i + j) for i in range(20)] for j in range(800)]
    frame = pd.DataFrame({f"x{j}": column for j, column in enumerate(columns)})
    rows = perturbed(columns, read_features(frame), 40, np.random.default_rng(0))

    assert len(rows) * len(rows[0]) <= CELLS * 1.1

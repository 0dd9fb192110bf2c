"""The parity check: a graph that differs from its pipeline is not served."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pandas as pd
import pytest
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.trust import Trust
from serving.errors import InvalidInstances
from serving.model.model import open_model
from serving.stores.folder import FolderStore
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

import training.export.build
from training.export.build import build_bundle
from training.export.compile import Compiled, compile_pipeline
from training.export.features import read_features
from training.export.perturb import CELLS, perturbed


def build(folder: Path, pipeline: Any, data: Any) -> Manifest:
    """Build a bundle; return its manifest."""
    path = build_bundle(folder, "model", pipeline, data)
    return Bundle(FolderStore(path)).manifest


def two_clouds() -> tuple[pd.DataFrame, Any]:
    """Make rows of two classes."""
    random = np.random.default_rng(0)
    data = pd.DataFrame(random.normal(size=(300, 3)), columns=list("abc"))
    return data, np.where(data["a"] + random.normal(0, 0.5, 300) > 0, "yes", "no")


def test_a_graph_off_by_a_millionth_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of 1e-6 in the intercept selects the sklearn engine, and the reason has the size."""
    data, target = two_clouds()
    pipeline = make_pipeline(LogisticRegression()).fit(data, target)

    def planted(*arguments: Any) -> Compiled:
        compiled = compile_pipeline(*arguments)
        graph = onnx.load_from_string(compiled.graph)
        [linear] = [node for node in graph.graph.node if node.op_type == "Gemm"]
        [base] = [t for t in graph.graph.initializer if t.name == linear.input[2]]
        moved = onnx.numpy_helper.to_array(base) + 1e-6
        base.CopyFrom(onnx.numpy_helper.from_array(moved, base.name))
        return compiled._replace(graph=graph.SerializeToString())

    assert build(tmp_path / "right", pipeline, data).engine.name == "onnx"
    monkeypatch.setattr(training.export.build, "compile_pipeline", planted)
    engine = build(tmp_path / "wrong", pipeline, data).engine

    assert engine.name == "sklearn"
    assert re.search(
        r"for example on row \d+: [\d., e-]+ instead of [\d., e-]+$", engine.reason or ""
    )
    assert engine.parity is not None
    assert 1e-8 < (engine.parity.max_difference or 0) < 1e-5


@pytest.mark.parametrize("operator", [("Div", "a"), ("Mul", "sign")], ids=["NaN", "another"])
def test_a_graph_with_a_wrong_value_is_rejected(
    operator: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that is right on every training row, but wrong where a feature is 0, is rejected."""
    data, target = two_clouds()
    data["a"] += 20
    pipeline = make_pipeline(LinearRegression()).fit(data, (target == "yes") + data["b"])

    def planted(*arguments: Any) -> Compiled:
        compiled = compile_pipeline(*arguments)
        graph = onnx.load_from_string(compiled.graph)
        first, output = graph.graph.input[0].name, graph.graph.output[0].name
        for node in graph.graph.node:
            node.output[:] = ["whole" if name == output else name for name in node.output]
        nodes = [
            onnx.helper.make_node("Gather", [first, "zero"], ["a"], axis=1),
            onnx.helper.make_node("Sign", ["a"], ["sign"]),
            onnx.helper.make_node(operator[0], [operator[1]] * 2, ["one"]),
            onnx.helper.make_node("Mul", ["whole", "one"], [output]),
        ]
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "zero"))
        graph.graph.node.extend(nodes)
        return compiled._replace(graph=graph.SerializeToString())

    monkeypatch.setattr(training.export.build, "compile_pipeline", planted)
    engine = build(tmp_path, pipeline, data).engine

    assert engine.name == "sklearn"
    assert "rows changed around them" in (engine.reason or "")
    assert re.search(r"one where a is -?0.0: (nan|-?0) instead of -?\d", engine.reason or "")


def test_where_rounding_picks_a_neighbour_either_is_right(tmp_path: Path) -> None:
    """Halfway between two training rows, scikit-learn's order of summing picks the nearest."""
    data = pd.DataFrame({"a": np.tile(np.arange(20.0), 20) / 10})
    data["b"] = np.repeat(np.arange(20.0), 20) / 10
    target = np.random.default_rng(0).choice(["yes", "no"], 400)
    pipeline = KNeighborsClassifier(2, weights="distance").fit(data, target)
    engine = build(tmp_path, pipeline, data).engine

    assert engine.name == "onnx", engine.reason
    assert engine.parity is not None
    assert engine.parity.ties > 0


def test_an_overflow_is_rejected(tmp_path: Path) -> None:
    """If a cube overflows float64, the pipeline and the served graph both reject the row."""
    data, _ = two_clouds()
    pipeline = make_pipeline(PolynomialFeatures(3), LinearRegression()).fit(data, data["a"] ** 2)
    assert build(tmp_path, pipeline, data).engine.name == "onnx"
    model = open_model(open_bundle(FolderStore(tmp_path)))

    with pytest.raises(InvalidInstances, match="no finite answer"):
        model.predict([[1e200], [0.0], [0.0]])
    row = pd.DataFrame({"a": [1e30], "b": [0.0], "c": [0.0]})
    [answer] = model.predict([row[name].tolist() for name in "abc"])
    assert answer["value"] == pytest.approx(pipeline.predict(row)[0], rel=1e-9)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # the test causes it
def test_a_scaled_number_beyond_float32_is_rejected(tmp_path: Path) -> None:
    """A number that overflows the forest's float32 is rejected at scikit-learn's own limit."""
    data, target = two_clouds()
    data["a"] *= 1e-5
    forest = RandomForestClassifier(5, random_state=0)
    pipeline = make_pipeline(StandardScaler(), forest).fit(data, target)
    manifest = build(tmp_path, pipeline, data)
    limit = manifest.features[0].magnitude
    assert manifest.engine.name == "onnx"
    assert limit is not None

    def row(value: float) -> pd.DataFrame:
        return pd.DataFrame({"a": [value], "b": [0.0], "c": [0.0]})

    model = open_model(open_bundle(FolderStore(tmp_path)))
    [answer] = model.predict([[limit], [0.0], [0.0]])
    assert list(answer["probabilities"].values()) == pipeline.predict_proba(row(limit)).tolist()[0]
    with pytest.raises(ValueError, match="too large for dtype"):
        pipeline.predict(row(limit * 1.0001))
    with pytest.raises(InvalidInstances) as error:
        model.decode(msgspec.json.encode({"a": limit * 1.0001, "b": 0, "c": 0}))
    assert [fault.pointer for fault in error.value.errors] == ["/a"]


def test_a_custom_threshold_decides_the_label(tmp_path: Path) -> None:
    """The label follows the threshold, also where no training row lies between it and 0.5."""
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


def test_close_doubles_stay_different(tmp_path: Path) -> None:
    """Histogram boosting compares float64, and so does its graph."""
    base = np.tile([0.1, 0.1 + 1e-10], 100)
    data = pd.DataFrame({"a": base, "b": np.arange(200.0)})
    target = np.where(base > 0.1, "high", "low")
    pipeline = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5).fit(data, target)

    assert pipeline.score(data, target) == 1
    assert build(tmp_path, pipeline, data).engine.name == "onnx"


def test_large_integers_stay_different(tmp_path: Path) -> None:
    """Ids over 2**24 that differ by one, which float32 cannot tell apart, get different answers."""
    ids = 2**24 + np.arange(200)
    data = pd.DataFrame({"id": ids, "b": np.zeros(200)})
    target = np.where(ids % 2 == 0, "even", "odd")
    pipeline = HistGradientBoostingClassifier(
        max_iter=20, min_samples_leaf=1, max_leaf_nodes=None
    ).fit(data, target)

    assert build(tmp_path, pipeline, data).engine.name == "onnx"


def test_a_tie_returns_the_first_class(tmp_path: Path) -> None:
    """If a forest's trees are split evenly, the graph's label equals scikit-learn's."""
    data = pd.DataFrame({"a": np.arange(60.0)})
    target = np.where(np.random.default_rng(0).random(60) < 0.5, "no", "yes")
    pipeline = RandomForestClassifier(2, random_state=0).fit(data, target)
    assert build(tmp_path, pipeline, data).engine.name == "onnx"
    model = open_model(open_bundle(FolderStore(tmp_path)))
    rows = pd.DataFrame({"a": np.linspace(-1, 61, 311)})
    answers = model.predict([rows["a"].tolist()])

    assert [0.5, 0.5] in [list(answer["probabilities"].values()) for answer in answers]
    assert [answer["label"] for answer in answers] == pipeline.predict(rows).tolist()


def test_subnormal_values_are_compared(tmp_path: Path) -> None:
    """Values below float32's smallest are answered exactly."""
    data, _ = two_clouds()
    pipeline = make_pipeline(LinearRegression()).fit(data, data["a"] * 1e-42)
    engine = build(tmp_path, pipeline, data).engine

    assert engine.name == "onnx"
    assert engine.parity is not None
    assert 0 <= (engine.parity.max_difference or 0) < 1e-9


def test_a_small_difference_of_large_numbers_is_exact(tmp_path: Path) -> None:
    """The difference of two large prices is exact to the cent; float32 would lose the digits."""
    random = np.random.default_rng(0)
    opening = random.integers(90_000, 99_000, 300)
    data = pd.DataFrame({"opening": opening, "closing": opening + random.integers(-9, 10, 300)})
    pipeline = make_pipeline(LinearRegression()).fit(data, data["closing"] - data["opening"])

    assert build(tmp_path, pipeline, data).engine.name == "onnx"


def test_a_boolean_column_with_none_is_rebuilt(tmp_path: Path) -> None:
    """In a boolean column of dtype object, missing values are rebuilt as None."""
    flags = np.array([True, None, False] * 40, dtype=object)
    data = pd.DataFrame({"flag": flags, "b": np.arange(120.0)})
    encode = ColumnTransformer([("flag", OneHotEncoder(), ["flag"])], remainder="passthrough")
    target = np.where(data["b"] > 60, "high", "low")
    pipeline = make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(data, target)

    assert build(tmp_path, pipeline, data).features[0].missing == "None"


def test_booleans_of_pandas_own_dtype_have_a_graph(tmp_path: Path) -> None:
    """A column of pandas' nullable booleans, with a gap, is compiled as numbers are."""
    flags = pd.array([True, None, False] * 40, dtype="boolean")
    data = pd.DataFrame({"flag": flags, "b": np.arange(120.0)})
    pipeline = make_pipeline(SimpleImputer(), LinearRegression()).fit(data, data["b"])

    assert build(tmp_path, pipeline, data).engine.name == "onnx"


@pytest.mark.parametrize(("gap", "marker"), [(None, None), (None, np.nan), (np.nan, np.nan)])
def test_none_is_no_nan_to_an_imputer_of_texts(tmp_path: Path, gap: Any, marker: Any) -> None:
    """An imputer fills the one that it was told of, and leaves the other to the encoder."""
    towns = pd.Series(["Lima", "Ica", gap] * 40, dtype=object)
    data = pd.DataFrame({"town": towns, "b": np.arange(120.0)})
    imputer = SimpleImputer(missing_values=marker, strategy="constant", fill_value="?")
    encode = make_pipeline(imputer, OneHotEncoder(handle_unknown="ignore"))
    columns = ColumnTransformer([("town", encode, ["town"])], remainder="passthrough")
    pipeline = make_pipeline(columns, LinearRegression()).fit(data, data["b"] + (towns == "Ica"))

    assert build(tmp_path, pipeline, data).engine.name == "onnx"


def test_a_tied_mixture_has_a_graph(tmp_path: Path) -> None:
    """Numbers are limited where rounding alone decides what scikit-learn itself answers."""
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=["a", "b", "c"])
    mixture = GaussianMixture(3, covariance_type="tied", random_state=0)
    manifest = build(tmp_path, make_pipeline(StandardScaler(), mixture).fit(data), data)

    assert manifest.engine.name == "onnx"
    assert all(100 < (feature.magnitude or 0) < 1e5 for feature in manifest.features)


def test_the_step_of_several_targets_is_named(tmp_path: Path) -> None:
    """The reason names the classifier of several targets, and not the pipeline around it."""
    data = pd.DataFrame({"a": np.arange(120.0), "b": np.arange(120.0) % 7})
    targets = np.column_stack([data["a"] > 60, data["b"] > 3]).astype(int)
    pipeline = make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(data, targets)

    assert "step 'kneighborsclassifier' " in str(build(tmp_path, pipeline, data).engine.reason)


def test_the_changed_rows_are_bounded() -> None:
    """The number of changed rows does not grow faster than the number of features."""
    columns = [[float(i + j) for i in range(20)] for j in range(800)]
    frame = pd.DataFrame({f"x{j}": column for j, column in enumerate(columns)})
    rows, _ = perturbed(columns, read_features(frame), 40, np.random.default_rng(0))

    assert len(rows) * len(rows[0]) <= CELLS * 1.1

"""Compiling: the same pipeline gives the same graph, and simple steps take few nodes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pandas as pd
import pytest
from onnxruntime import InferenceSession
from serving.bundle.reader import open_bundle
from serving.errors import BundleError
from serving.model.engines.onnx import OnnxEngine
from serving.model.schema import MISSING
from serving.stores.folder import FolderStore
from sklearn.compose import ColumnTransformer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from sklearn.tree import DecisionTreeRegressor

from tests.helpers.servers import ROOT
from training.export.compile import CannotCompileError, compile_pipeline
from training.export.converters import registry
from training.export.describe import draft_manifest
from training.export.features import read_features
from training.export.graph import Graph

COMPILE = """
import hashlib
from pathlib import Path
from training.credit import build_pipeline, load_data
from training.export.build import build_bundle
data, target = load_data()
pipeline = build_pipeline().set_params(**{"randomforestclassifier__n_estimators": 3})
path = build_bundle(
    Path("FOLDER"), "m", pipeline.fit(data, target), data)
print(hashlib.sha256((path / "model.onnx").read_bytes()).hexdigest())
"""


def test_the_same_pipeline_gives_the_same_graph(tmp_path: Path) -> None:
    """The graph does not depend on the hash seed, as a version's name contains its digest."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", COMPILE.replace("FOLDER", str(tmp_path / seed))],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "3")
    }

    assert len(digests) == 1


TEXT = pd.DataFrame(
    {
        "a": ["x", "y", "y", None, "zebra crossing, of more than a few letters"],
        "b": [None, "no", "no", "yes", "no"],
        "n": [1.0, 2.0, 3.0, 4.0, 5.0],
    }
)


class Served:
    """A compiled pipeline, which returns what its last step would get."""

    def __init__(self, transformer: Any, data: pd.DataFrame) -> None:
        """Put a regressor behind *transformer* that returns each of its columns."""
        width = np.shape(_dense(transformer.fit_transform(data)))[1]
        last = LinearRegression()
        last.coef_, last.intercept_, last.n_features_in_ = np.eye(width), np.zeros(width), width
        graph = Graph(read_features(data))
        found = registry.values(graph, make_pipeline(transformer, last), graph.raw())
        self.graph = graph.finish({"values": (found, np.float64, width)})
        self._groups = list(graph.groups.values())
        self._session = InferenceSession(self.graph.SerializeToString())

    def transform(self, rows: pd.DataFrame) -> Any:
        """Run the graph."""
        feed = {}
        for node, group in zip(self._session.get_inputs(), self._groups, strict=True):
            part = rows.iloc[:, group]
            text = node.type == "tensor(string)"
            feed[node.name] = (
                part.astype(object).where(part.notna(), MISSING).to_numpy(object)
                if text
                else part.to_numpy(np.float64)
            )
        return self._session.run(None, feed)[0]


def _dense(values: Any) -> Any:
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)


NEW = pd.DataFrame(
    {"a": [None, "y", "", "Z"], "b": [None, None, "no", "?"], "n": [0.0, None, 5.0, 2.5]}
)
ONE_HOT = OneHotEncoder(handle_unknown="ignore")
STEPS = {
    "most frequent": (make_pipeline(SimpleImputer(strategy="most_frequent"), ONE_HOT), ["a", "b"]),
    "constant": (
        make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), ONE_HOT),
        ["b", "a"],
    ),
    "a category that is missing": (ONE_HOT, ["b"]),
    "rare categories": (
        OneHotEncoder(min_frequency=2, handle_unknown="infrequent_if_exist"),
        ["a", "b"],
    ),
    "few categories": (OneHotEncoder(max_categories=2, handle_unknown="ignore"), ["a", "b"]),
    "a category that is dropped": (OneHotEncoder(drop="first", handle_unknown="ignore"), ["a"]),
    **{
        f"rare categories behind one that is dropped, {unknown}": (
            OneHotEncoder(drop="first", min_frequency=2, handle_unknown=unknown),
            ["a", "b", "n"],
        )
        for unknown in ("infrequent_if_exist", "warn", "ignore")
    },
    "numbers as categories": (ONE_HOT, ["n"]),
    "numbers and text as categories": (ONE_HOT, ["n", "a", "b"]),
    "ordinal": (
        OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
        ),
        ["a", "n", "b"],
    ),
    "ordinal, rare": (
        make_pipeline(
            OrdinalEncoder(
                handle_unknown="use_encoded_value",
                unknown_value=9,
                encoded_missing_value=-2,
                min_frequency=2,
            ),
            "passthrough",
        ),
        ["a"],
    ),
    "mean and where": (SimpleImputer(add_indicator=True), ["n"]),
    "where alone": (MissingIndicator(features="all"), ["n", "a"]),
    "scaled": (make_pipeline(SimpleImputer(), StandardScaler(), MinMaxScaler(clip=True)), ["n"]),
    "robust": (make_pipeline(SimpleImputer(), RobustScaler(), MaxAbsScaler()), ["n"]),
    "powers": (make_pipeline(SimpleImputer(), PolynomialFeatures(3), StandardScaler()), ["n"]),
    "bins": (make_pipeline(SimpleImputer(), KBinsDiscretizer(3)), ["n"]),
    "ordinal bins": (make_pipeline(SimpleImputer(), KBinsDiscretizer(3, encode="ordinal")), ["n"]),
    "yeo-johnson": (make_pipeline(SimpleImputer(), PowerTransformer()), ["n"]),
    "box-cox": (
        make_pipeline(SimpleImputer(), MinMaxScaler((1, 2)), PowerTransformer("box-cox")),
        ["n"],
    ),
    **{
        f"splines, {beyond}, of degree {degree}": (
            make_pipeline(
                SimpleImputer(),
                SplineTransformer(4, degree=degree, extrapolation=beyond, include_bias=degree > 1),
            ),
            ["n"],
        )
        for beyond in ("constant", "linear", "continue", "periodic")
        for degree in (1, 2, 3)
    },
    "quantiles": (make_pipeline(SimpleImputer(), QuantileTransformer(n_quantiles=4)), ["n"]),
    "normal quantiles": (
        make_pipeline(
            QuantileTransformer(n_quantiles=5, output_distribution="normal"), "passthrough"
        ),
        ["n"],
    ),
    "quantiles with gaps": (
        make_pipeline(QuantileTransformer(n_quantiles=9), "passthrough"),
        ["n"],
    ),
    "splines with gaps": (SplineTransformer(3, handle_missing="zeros"), ["n"]),
    **{
        f"nearest by {weights}": (
            make_pipeline(
                FeatureUnion([("n", "passthrough"), ("l", FunctionTransformer(np.square))]),
                KNNImputer(n_neighbors=2, weights=weights, add_indicator=True),
            ),
            ["n"],
        )
        for weights in ("uniform", "distance")
    },
    **{
        f"imputed in rounds, {name}": (
            make_pipeline(
                FeatureUnion([("n", "passthrough"), ("l", FunctionTransformer(np.square))]),
                IterativeImputer(random_state=0, max_iter=3, **options),
            ),
            ["n"],
        )
        for name, options in {
            "by lines": {},
            "by trees": {"estimator": DecisionTreeRegressor(max_depth=2), "add_indicator": True},
            "within bounds": {"min_value": 0, "max_value": 6, "skip_complete": True},
        }.items()
    },
    "normalized": (
        make_pipeline(SimpleImputer(), PolynomialFeatures(2), Normalizer(norm="l1")),
        ["n"],
    ),
    "log1p": (make_pipeline(SimpleImputer(), FunctionTransformer(np.log1p)), ["n"]),
    "clipped": (
        make_pipeline(
            SimpleImputer(), FunctionTransformer(np.clip, kw_args={"a_min": 1, "a_max": 3})
        ),
        ["n"],
    ),
    "both": (
        make_pipeline(
            SimpleImputer(), FeatureUnion([("s", StandardScaler()), ("b", Binarizer(threshold=2))])
        ),
        ["n"],
    ),
}


@pytest.mark.filterwarnings("ignore")  # of unknown categories, which the test sends
@pytest.mark.parametrize(("step", "columns"), STEPS.values(), ids=STEPS)
def test_a_step_computes_the_same_as_scikit_learn(step: Any, columns: list[str]) -> None:
    """Each step agrees on the rows it was fitted on, and on gaps and unseen values."""
    transformer = ColumnTransformer([("step", step, columns)], sparse_threshold=0)
    served = Served(transformer, TEXT)

    for rows in (TEXT, NEW):
        expected = _dense(transformer.transform(rows))
        np.testing.assert_allclose(served.transform(rows), expected, rtol=1e-12, atol=1e-12)


def test_strings_are_filled_by_two_nodes() -> None:
    """Filling strings takes two nodes, however many columns there are."""
    step = make_pipeline(SimpleImputer(strategy="most_frequent"), ONE_HOT)
    served = Served(ColumnTransformer([("step", step, ["a", "b"])], sparse_threshold=0), TEXT)
    nodes = Counter(node.op_type for node in served.graph.graph.node)

    assert nodes["Where"] == 1
    assert nodes["LabelEncoder"] == 1
    assert nodes["Concat"] == 0


def test_a_string_for_missing_values_has_no_converter() -> None:
    """An imputer of the string "?" is rejected; the error says that clients send null instead."""
    data = TEXT[["a"]].fillna("?")
    imputer = SimpleImputer(strategy="most_frequent", missing_values="?").fit(data)
    graph = Graph(read_features(data))

    with pytest.raises(CannotCompileError, match="clients send null"):
        registry.transform(graph, imputer, graph.raw())


def test_a_step_without_a_converter_is_named() -> None:
    """The error has the step's name in the pipeline, its class, and what would help."""
    data = TEXT[["n"]].fillna(0)
    model = make_pipeline(FunctionTransformer(np.floor), FunctionTransformer(np.fix))
    model = make_pipeline(*(step for _, step in model.steps), LinearRegression())
    model.fit(data, data["n"])
    draft = draft_manifest(
        "m", model, data, named=True, rows=data, metrics={}, permutation=None, seed=None
    )

    with pytest.raises(
        CannotCompileError, match=r"'functiontransformer-2' .*'fix' has no operator"
    ):
        compile_pipeline(model, draft)


def test_the_graph_has_no_nodes_for_the_label_alone(credit: Path) -> None:
    """If the label is the likeliest class, the graph returns the probabilities only."""
    bundle = open_bundle(FolderStore(credit))
    graph = onnx.load_from_string(bundle.read_model()).graph
    reads = {name for node in graph.node for name in node.input}

    assert bundle.manifest.label_is_likeliest
    assert [value.name for value in graph.output] == ["probabilities"]
    assert {name for node in graph.node for name in node.output} <= reads | {"probabilities"}
    assert {value.name for value in graph.initializer} <= reads


def test_the_example_has_one_input_for_numbers_and_one_for_categories(credit: Path) -> None:
    """Each feature is in one of two inputs, with the others of its kind."""
    bundle = open_bundle(FolderStore(credit))
    found = onnx.load_from_string(bundle.read_model()).graph.input
    groups = bundle.manifest.engine.inputs

    assert groups is not None
    assert [value.type.tensor_type.shape.dim[1].dim_value for value in found] == [
        len(group) for group in groups
    ]
    assert sorted(itertools.chain(*groups)) == [*range(13)]
    kinds = [{bundle.manifest.features[i].kind for i in group} for group in groups]
    assert sorted(map(sorted, kinds)) == [["category"], ["number"]]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (None, "the graph has 2 inputs for 13 features"),
        ([[*range(13)]], "the graph has 2 inputs for 13 features"),
        ([[*range(12)], [11]], "the graph has 2 inputs for 13 features"),
        ([[*range(13)], []], "the graph has 2 inputs for 13 features"),
        ([[*range(12)], [12, 13]], "the graph has 2 inputs for 13 features"),
        ([[*range(6)], [*range(6, 13)]], "has numbers and categories"),
        ([[*range(7)], [*range(7, 13)]], "has numbers and categories"),
    ],
)
def test_a_manifest_with_other_inputs_is_rejected(
    credit: Path, inputs: list[list[int]] | None, reason: str
) -> None:
    """A manifest whose inputs miss, repeat or mix features is rejected."""
    bundle = open_bundle(FolderStore(credit))
    engine = msgspec.structs.replace(bundle.manifest.engine, inputs=inputs)
    manifest = msgspec.structs.replace(bundle.manifest, engine=engine)

    with pytest.raises(BundleError, match=f"{reason}|13 features"):
        OnnxEngine(manifest, bundle.read_model())

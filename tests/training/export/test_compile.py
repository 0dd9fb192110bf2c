"""Compiling: the same pipeline gives the same graph, and few nodes for what is simple."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnxruntime import InferenceSession
from serving.bundle.reader import open_bundle
from serving.model.schema import MISSING
from serving.stores.folder import FolderStore
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.helpers.servers import ROOT
from training.export.compile import CannotCompileError, compile_pipeline
from training.export.features import as_frame, read_features
from training.export.outputs import leave_out_label

COMPILE = """
import hashlib
from training.export.build import rewrite_trees
from training.export.compile import compile_pipeline
from training.credit import build_pipeline, load_data
from training.export.features import read_features
from training.export.inputs import merge_inputs
from training.export.outputs import leave_out_label
data, target = load_data()
pipeline = build_pipeline().set_params(**{"randomforestclassifier__n_estimators": 3})
graph = compile_pipeline(pipeline.fit(data, target), read_features(data))
served, _ = merge_inputs(leave_out_label(rewrite_trees(graph)))
print(hashlib.sha256(served).hexdigest())
"""


def test_the_same_pipeline_gives_the_same_graph() -> None:
    """A version's name holds the graph's digest: the same model is then seen to be the same."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", COMPILE],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "3", "5")
    }

    assert len(digests) == 1


TEXT = pd.DataFrame(
    {
        "a": ["x", "y", "y", None, "zebra crossing, of more than a few letters"],
        "b": [None, "no", "no", "yes", "no"],
        "n": [1.0, 2.0, 3.0, 4.0, 5.0],
    }
)


@pytest.mark.parametrize("columns", [["a"], ["a", "b"], ["b", "a"]], ids=" ".join)
@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(strategy="most_frequent"),
        SimpleImputer(strategy="constant", fill_value="none"),
        SimpleImputer(strategy="constant", fill_value="y"),
    ],
    ids=["most frequent", "constant", "constant that was there"],
)
def test_an_imputer_of_strings_is_two_nodes(imputer: Any, columns: list[str]) -> None:
    """However many columns it has; and it answers what scikit-learn does, of new strings too."""
    new = pd.DataFrame({"a": [None, "y", "", "Z"], "b": [None, None, "no", "?"], "n": 0.0})
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = [("text", make_pipeline(imputer, encoder), columns), ("n", "passthrough", ["n"])]
    pipeline = ColumnTransformer(steps).fit(TEXT)
    graph = compile_pipeline(pipeline, read_features(TEXT))
    feed = {
        name: new[[name]].fillna(MISSING).to_numpy(np.float32 if name == "n" else object)
        for name in new
    }
    nodes = Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)

    assert nodes["Equal"] == nodes["Where"] == 1
    assert "LabelEncoder" not in nodes
    [encoded] = InferenceSession(graph).run(None, feed)
    assert encoded.tolist() == pipeline.transform(new).tolist()


def test_a_whole_frame_of_strings_is_imputed() -> None:
    """Column by column as it comes, with nothing before that would join them."""
    data = TEXT[["a", "b"]]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    pipeline = make_pipeline(SimpleImputer(strategy="most_frequent"), encoder).fit(data)
    graph = compile_pipeline(pipeline, read_features(data))
    feed = {name: data[[name]].fillna(MISSING).to_numpy(object) for name in data}

    [encoded] = InferenceSession(graph).run(None, feed)
    assert encoded.tolist() == pipeline.transform(data).tolist()


def test_a_word_that_means_missing_is_not_compiled() -> None:
    """To such an imputer null is a value like any other."""
    data = TEXT[["a"]].fillna("?")
    pipeline = make_pipeline(
        SimpleImputer(strategy="most_frequent", missing_values="?"), OneHotEncoder()
    ).fit(data)

    with pytest.raises(CannotCompileError, match=r"'simpleimputer' \(SimpleImputer\)"):
        compile_pipeline(pipeline, read_features(data))


def test_numbers_are_imputed_as_before() -> None:
    """By skl2onnx's own converter."""
    data = pd.DataFrame({"n": [1.0, None, 3.0]})
    pipeline = ColumnTransformer([("n", SimpleImputer(), ["n"])]).fit(data)
    graph = compile_pipeline(pipeline, read_features(data))

    [filled] = InferenceSession(graph).run(None, {"n": np.array([[np.nan]], np.float32)})
    assert filled.tolist() == [[2.0]]


def test_what_has_nothing_to_fill_in_is_not_compiled() -> None:
    """A column with nothing in it, which scikit-learn leaves empty or leaves out."""
    data = TEXT.assign(b=np.array([None] * 5, object))
    imputer = SimpleImputer(strategy="most_frequent", keep_empty_features=True)
    steps = [("text", make_pipeline(imputer, OneHotEncoder()), ["a", "b"])]
    pipeline = ColumnTransformer(steps).fit(data)

    with pytest.raises(CannotCompileError, match=r"'simpleimputer' \(SimpleImputer\)"):
        compile_pipeline(pipeline, read_features(TEXT))


def test_nothing_is_left_that_only_the_label_needs(credit: Path) -> None:
    """Where it is the likeliest class, which the server finds by itself."""
    bundle = open_bundle(FolderStore(credit))
    graph = onnx.load_from_string(bundle.read_model()).graph
    reads = {name for node in graph.node for name in node.input}

    assert bundle.manifest.label_is_likeliest
    assert [value.name for value in graph.output] == ["probabilities"]
    assert {name for node in graph.node for name in node.output} <= reads | {"probabilities"}
    assert {value.name for value in graph.initializer} <= reads


def test_a_graph_that_repeats_another_is_left_alone() -> None:
    """Its inner graph may read what no node outside does."""
    data, target = load_iris(return_X_y=True)
    pipeline = KNeighborsClassifier().fit(data, target)
    graph = compile_pipeline(pipeline, read_features(as_frame(data)[0]))

    assert leave_out_label(graph) == graph
    assert len(onnx.load_from_string(graph).graph.output) == 2

"""Merging what a graph joins first: the same answers, from fewer inputs, and no other graph."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from serving.bundle.reader import open_bundle
from serving.errors import BundleError
from serving.model.engines.onnx import OnnxEngine
from serving.stores.folder import FolderStore

from training.export.inputs import merge_inputs


def graph(nodes: list[Any], inputs: int, outputs: list[str]) -> bytes:
    """Make a graph of so many columns of numbers, named a, b and so on."""
    column = [None, 1]
    return bytes(
        helper.make_model(
            helper.make_graph(
                nodes,
                "g",
                [
                    helper.make_tensor_value_info("abcdef"[i], TensorProto.FLOAT, column)
                    for i in range(inputs)
                ],
                [
                    helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None])
                    for name in outputs
                ],
            ),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=8,
        ).SerializeToString()
    )


def join(inputs: str, output: str, axis: int = 1) -> Any:
    """Make a node that joins columns, or stacks rows."""
    return helper.make_node("Concat", list(inputs), [output], axis=axis)


def test_the_example_has_an_input_for_numbers_and_one_for_categories(credit: Path) -> None:
    """Each feature stands in one of them, with others of its kind."""
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


def test_columns_go_where_the_graph_reads_them() -> None:
    """In whatever order it joins them; what is read otherwise stays an input of its own."""
    nodes = [join("ca", "ca"), join("ed", "ed"), helper.make_node("Neg", ["b"], ["minus"])]
    nodes.append(helper.make_node("Concat", ["ca", "minus", "ed"], ["y"], axis=1))
    merged, groups = merge_inputs(graph(nodes, 5, ["y"]))

    assert groups is not None
    assert sorted(groups) == [[1], [2, 0], [4, 3]]
    rows = np.arange(10, dtype=np.float32).reshape(2, 5)
    session = onnxruntime.InferenceSession(merged)
    names = [node.name for node in session.get_inputs()]
    feed = {name: rows[:, group] for name, group in zip(names, groups, strict=True)}
    assert (
        session.run(None, feed)[0].tolist()
        == (rows * [1, -1, 1, 1, 1])[:, [2, 0, 1, 4, 3]].tolist()
    )


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([join("ab", "y", axis=0)], ["y"]),
        ([join("aa", "x"), helper.make_node("Mul", ["x", "b"], ["y"])], ["y"]),
        ([join("ab", "x"), helper.make_node("Mul", ["x", "b"], ["y"])], ["y"]),
        ([join("ab", "y")], ["y", "a"]),
        ([helper.make_node("Mul", ["a", "b"], ["y"])], ["y"]),
        (
            [
                helper.make_node("Neg", ["a"], ["minus"]),
                helper.make_node("Concat", ["minus", "b"], ["y"], axis=1),
            ],
            ["y"],
        ),
    ],
    ids=["rows", "twice", "read again", "answered", "multiplied", "computed"],
)
def test_what_is_read_in_another_way_stays(nodes: list[Any], outputs: list[str]) -> None:
    """Byte for byte."""
    before = graph(nodes, 2, outputs)

    assert merge_inputs(before) == (before, None)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (None, "the graph has 2 inputs for 13 features"),
        ([[*range(13)]], "the graph has 2 inputs for 13 features"),
        ([[*range(12)], [11]], "the graph has 2 inputs for 13 features"),
        ([[*range(13)], []], "the graph has 2 inputs for 13 features"),
        ([[*range(12)], [12, 13]], "the graph has 2 inputs for 13 features"),
        ([[0, 1], [*range(2, 13)]], "has numbers and categories"),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(
    credit: Path, inputs: list[list[int]] | None, reason: str
) -> None:
    """No value may reach another feature's place, and none may be missing."""
    bundle = open_bundle(FolderStore(credit))
    engine = msgspec.structs.replace(bundle.manifest.engine, inputs=inputs)
    manifest = msgspec.structs.replace(bundle.manifest, engine=engine)

    with pytest.raises(BundleError, match=reason):
        OnnxEngine(manifest, bundle.read_model())

"""Graphs made node by node: small ones, trees of any shape, and bytes that hide something."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = [
    "CONSTANT",
    "NEG",
    "also",
    "body",
    "chain",
    "elsewhere",
    "floats",
    "hidden",
    "model",
    "older_chain",
    "older_trees",
    "scan",
    "trees",
    "trees_of_two_names",
]


def model(nodes: list[NodeProto], *initializers: TensorProto, **domains: int) -> ModelProto:
    """Make a model with one input x, four numbers a row, and one output y."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(initializers),
    )
    opsets = {"": 18, "ai.onnx.ml": 5, **domains}
    ids = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(graph, opset_imports=ids, ir_version=8)


def floats(name: str, *values: float) -> TensorProto:
    """Make a constant."""
    return numpy_helper.from_array(np.array(values, np.float32), name)


def elsewhere(location: str, name: str = "w") -> TensorProto:
    """Make a constant of four numbers whose data is in another file."""
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value=location)
    return tensor


def trees(true: list[int], false: list[int], leaf: tuple[list[int], list[int]]) -> ModelProto:
    """Make a TreeEnsemble with one tree and two leaves; each branch names the next node."""
    count = len(true)
    node = helper.make_node(
        "TreeEnsemble",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_featureids=[0] * count,
        nodes_splits=floats("", *[0.5] * count),
        nodes_modes=numpy_helper.from_array(np.zeros(count, np.uint8)),
        nodes_truenodeids=true,
        nodes_falsenodeids=false,
        nodes_trueleafs=leaf[0],
        nodes_falseleafs=leaf[1],
        leaf_targetids=[0, 0],
        leaf_weights=floats("", 1.0, 2.0),
        tree_roots=[0],
    )
    return model([node])


def chain(depth: int) -> ModelProto:
    """Make a tree that only descends on one side."""
    down = [*range(1, depth), 0]
    leaf = [*[0] * (depth - 1), 1]
    return trees(down, [1] * depth, (leaf, [1] * depth))


def older_trees(**changes: Any) -> ModelProto:
    """Make a TreeEnsembleRegressor of one branch and two leaves."""
    attributes: dict[str, Any] = {
        "n_targets": 1,
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        **changes,
    }
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **attributes
    )
    return model([node], **{"ai.onnx.ml": 3})


def older_chain(depth: int) -> ModelProto:
    """Make a tree that only descends on one side, with the older operator."""
    count = 2 * depth + 1
    zeros = [0] * (depth + 1)
    return older_trees(
        nodes_treeids=[0] * count,
        nodes_nodeids=[*range(count)],
        nodes_featureids=[0] * count,
        nodes_modes=["BRANCH_LEQ"] * depth + ["LEAF"] * (depth + 1),
        nodes_values=[0.5] * count,
        nodes_truenodeids=[*range(1, depth + 1), *zeros],
        nodes_falsenodeids=[*range(depth + 1, count), *zeros],
    )


def body(*nodes: NodeProto) -> onnx.GraphProto:
    """Make the inner graph of a Scan; its input is a row z."""
    value = helper.make_tensor_value_info
    return helper.make_graph(
        list(nodes), "body", [value("z", 1, None)], [value("r", TensorProto.FLOAT, None)]
    )


def scan(name: str, inner: onnx.GraphProto) -> NodeProto:
    """Make a Scan over rows."""
    return helper.make_node("Scan", [name], ["y"], body=inner, num_scan_inputs=1)


def also(node: bytes) -> bytes:
    """Make a model of one valid node, and merge another node into its graph, as protobuf does."""
    good: bytes = model([helper.make_node("Neg", ["x"], ["y"])]).SerializeToString()
    graph = b"\x0a" + _length(node) + node
    return good + b"\x3a" + _length(graph) + graph


def hidden() -> bytes:
    """Hide a Loop in a field whose number becomes that of `graph` if its upper half is dropped."""
    loop = model([helper.make_node("Loop", ["x"], ["y"])]).graph.SerializeToString()
    good = model([helper.make_node("Neg", ["x"], ["y"])]).SerializeToString()
    return b"".join([good, b"\xba\x80\x80\x80\x20", _length(loop), loop])


def trees_of_two_names() -> bytes:
    """Name each part of a deep tree twice; onnxruntime takes the second name."""
    [node] = chain(5000).graph.node
    parts = [part.SerializeToString() for part in node.attribute]
    del node.attribute[:]
    other = AttributeProto(name="x").SerializeToString()
    named = b"".join(b"\x2a" + _length(other + part) + other + part for part in parts)
    return also(node.SerializeToString() + named)


def _length(content: bytes) -> bytes:
    rest, written = len(content), b""
    while rest > 127:
        rest, written = rest >> 7, written + bytes([rest & 127 | 128])
    return written + bytes([rest])


NEG = helper.make_node("Neg", ["x"], ["y"])

CONSTANT = helper.make_node("Constant", [], ["y"], value=elsewhere("w"))

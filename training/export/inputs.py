"""Merges a graph's inputs that it joins first of all: each one costs onnxruntime a microsecond.

skl2onnx gives every column an input of its own, and begins with a Concat of those that are scaled
or encoded together. What that makes can be handed over instead: the example's 13 inputs are two.
"""

from __future__ import annotations

from collections import Counter

from onnx import ModelProto, NodeProto, helper, load_from_string

from training.export.trees import has_subgraph

__all__ = ["merge_inputs"]


def merge_inputs(graph: bytes) -> tuple[bytes, list[list[int]] | None]:
    """
    Let the graph take as one input those that nothing but one Concat reads.

    Args:
        graph: With an input a feature, of shape (rows, 1), in the order of the features.

    Returns:
        The other graph, and for each of its inputs the features in it, by place; the same graph and
        None where nothing is to be merged.
    """
    model = load_from_string(graph)
    places = {value.name: [i] for i, value in enumerate(model.graph.input)}
    nodes = list(model.graph.node)
    if any(map(has_subgraph, nodes)):
        return graph, None
    read = Counter(name for node in nodes for name in node.input)
    read.update(value.name for value in model.graph.output)
    joints = [
        node
        for node in nodes
        if _joins_columns(node) and all(name in places and read[name] == 1 for name in node.input)
    ]
    if not joints:
        return graph, None
    for joint in joints:
        _take_output_as_input(model, joint)
        places[joint.output[0]] = [place for name in joint.input for place in places.pop(name)]
    return model.SerializeToString(), [places[value.name] for value in model.graph.input]


def _joins_columns(node: NodeProto) -> bool:
    axes = [helper.get_attribute_value(a) for a in node.attribute if a.name == "axis"]
    return node.op_type == "Concat" and axes == [1]


def _take_output_as_input(model: ModelProto, joint: NodeProto) -> None:
    joined = [value for value in model.graph.input if value.name in joint.input]
    kind = joined[0].type.tensor_type.elem_type
    merged = helper.make_tensor_value_info(joint.output[0], kind, [None, len(joined)])
    for value in joined:
        model.graph.input.remove(value)
    model.graph.input.append(merged)
    model.graph.node.remove(joint)

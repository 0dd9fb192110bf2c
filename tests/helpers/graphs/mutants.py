"""Damaged graphs: random bytes are changed, or parts of the graph by means of onnx."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from onnx import AttributeProto, ModelProto, TensorProto, load_from_string

__all__ = ["mutate"]

NUMBERS = [-1, 0, 1, 2, 3, 7, -2, 100, 255, 256, 65535, 2**31 - 1, -(2**31), 2**31, 2**32, 2**40]
NUMBERS += [2**62, 2**63 - 1, -(2**63)]
FRACTIONS = [float("nan"), float("inf"), -float("inf"), -1e38, 1e-45, 0.0, -1.0]
TEXTS = [b"", b"\xff\x00", b"x" * 1000, b"LEAF", b"BRANCH_LEQ", b"SOFTMAX", b"PROBIT", b"AVERAGE"]
TEXTS += [b"MIN", b"POLY", b"RBF", b"L1", b"L2"]


def mutate(chance: random.Random, graph: bytes, others: Sequence[bytes]) -> bytes:
    """Change *graph* in one of many ways; some take a piece of the *others*."""
    if chance.random() < 0.5:
        kind = chance.choice((_flip, _overwrite, _cut_off, _cut_out, _splice, _lengthen))
        return kind(chance, graph, others)
    model = load_from_string(graph)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if model.graph.node:
            _change(chance, model)
    return bytes(model.SerializeToString())


def _flip(chance: random.Random, graph: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(graph)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _overwrite(chance: random.Random, graph: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(graph)
    for _ in range(chance.choice((1, 2, 4))):
        changed[chance.randrange(len(changed))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(changed)


def _cut_off(chance: random.Random, graph: bytes, others: Sequence[bytes]) -> bytes:
    return graph[: chance.randrange(len(graph))]


def _cut_out(chance: random.Random, graph: bytes, others: Sequence[bytes]) -> bytes:
    start = chance.randrange(len(graph))
    return graph[:start] + graph[start + chance.randrange(1, 50) :]


def _splice(chance: random.Random, graph: bytes, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others)
    start, length = chance.randrange(len(other)), chance.randrange(1, 200)
    at = chance.randrange(len(graph))
    return graph[:at] + other[start : start + length] + graph[at + chance.choice((0, length)) :]


def _lengthen(chance: random.Random, graph: bytes, others: Sequence[bytes]) -> bytes:
    """Change the length of a part: the byte after a tag of wire type 2."""
    tags = [i for i in range(len(graph) - 1) if graph[i] & 7 == 2 and graph[i + 1] < 0x80]
    at = chance.choice(tags) + 1
    return graph[:at] + bytes([chance.randrange(0x80)]) + graph[at + 1 :]


def _change(chance: random.Random, model: ModelProto) -> None:
    """Change one part of the graph."""
    change = chance.choice((*[_attribute] * 5, _tensor_of, *_CHANGES))
    change(chance, model)


def _attribute(chance: random.Random, model: ModelProto) -> None:
    found = [attribute for node in model.graph.node for attribute in node.attribute]
    if not found:
        return
    attribute = chance.choice(found)
    kind = attribute.type
    if kind == AttributeProto.INT:
        attribute.i = chance.choice(NUMBERS)
    elif kind == AttributeProto.FLOAT:
        attribute.f = chance.choice(FRACTIONS)
    elif kind == AttributeProto.STRING:
        attribute.s = chance.choice(TEXTS)
    elif kind == AttributeProto.TENSOR:
        _tensor(chance, attribute.t)
    elif kind == AttributeProto.INTS:
        length = len(attribute.ints)
        _values(chance, attribute.ints, [*NUMBERS, length, length - 1, length // 2])
    elif kind == AttributeProto.FLOATS:
        _values(chance, attribute.floats, FRACTIONS)
    elif kind == AttributeProto.STRINGS:
        _values(chance, attribute.strings, TEXTS)


def _values(chance: random.Random, values: Any, choice: Sequence[Any]) -> None:
    if not values:
        return
    kind = chance.randrange(4)
    if kind == 0:
        del values[chance.randrange(len(values)) :]
    elif kind == 1:
        values.extend([chance.choice(choice)] * chance.choice((1, 5)))
    else:
        for _ in range(chance.choice((1, 1, 8))):
            values[chance.randrange(len(values))] = chance.choice(choice)


def _tensor_of(chance: random.Random, model: ModelProto) -> None:
    if model.graph.initializer:
        _tensor(chance, chance.choice(model.graph.initializer))


def _tensor(chance: random.Random, tensor: TensorProto) -> None:
    kind = chance.randrange(6)
    if kind == 0 and tensor.dims:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(NUMBERS)
    elif kind == 1:
        tensor.dims.append(chance.choice(NUMBERS))
    elif kind == 2:
        tensor.data_type = chance.randrange(24)
    elif kind == 3 and tensor.raw_data:
        tensor.raw_data = tensor.raw_data[: chance.randrange(len(tensor.raw_data))]
    elif kind == 4 and tensor.raw_data:
        tensor.raw_data = _flip(chance, tensor.raw_data, ())
    else:
        for values in (tensor.float_data, tensor.int64_data, tensor.int32_data):
            del values[len(values) // 2 :]


def _edge(chance: random.Random, model: ModelProto) -> None:
    """Give a node another input: one that makes a cycle, none, or an unknown name."""
    graph = model.graph
    node = chance.choice(graph.node)
    names = [value.name for value in (*graph.input, *graph.initializer)]
    names += [name for other in graph.node for name in other.output]
    if node.input:
        node.input[chance.randrange(len(node.input))] = chance.choice([*names, "", "nothing"])


def _twin(chance: random.Random, model: ModelProto) -> None:
    """Give two nodes the same output, or repeat a node."""
    node, other = chance.choices(model.graph.node, k=2)
    if chance.random() < 0.5 and node.output and other.output:
        node.output[0] = other.output[0]
    else:
        model.graph.node.append(node)


def _without(chance: random.Random, model: ModelProto) -> None:
    """Leave out a node, an attribute, a tensor."""
    graph = model.graph
    node = chance.choice(graph.node)
    found: Any = chance.choice((graph.node, node.attribute, node.input, graph.initializer))
    if found:
        del found[chance.randrange(len(found))]


def _another_operator(chance: random.Random, model: ModelProto) -> None:
    node, other = chance.choices(model.graph.node, k=2)
    node.op_type, node.domain = other.op_type, other.domain


def _declared(chance: random.Random, model: ModelProto) -> None:
    """Change the graph's declared inputs and outputs."""
    value = chance.choice([*model.graph.input, *model.graph.output])
    tensor = value.type.tensor_type
    kind = chance.randrange(3)
    if kind == 0:
        tensor.elem_type = chance.randrange(24)
    elif kind == 1 or not tensor.shape.dim:
        tensor.shape.dim.add(dim_value=chance.choice(NUMBERS))
    else:
        chance.choice(tensor.shape.dim).dim_value = chance.choice(NUMBERS)


def _version(chance: random.Random, model: ModelProto) -> None:
    if chance.random() < 0.5:
        model.ir_version = chance.choice((0, 1, 3, 9, 13, 100, -1))
    else:
        chance.choice(model.opset_import).version = chance.choice((0, 1, 5, 11, 22, 25, -1, 2**40))


_CHANGES: tuple[Callable[[random.Random, ModelProto], None], ...] = (
    _edge,
    _twin,
    _without,
    _another_operator,
    _declared,
    _version,
)

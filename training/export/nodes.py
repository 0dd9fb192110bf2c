"""Writes the nodes and constants of an ONNX graph, and leaves out those that are not needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["ML", "Nodes", "needed", "without_identities"]

ML = "ai.onnx.ml"


class Nodes:
    """Nodes and constants. Each method that adds a node returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._count = 0

    def name(self) -> str:
        """Return a name that is new to the graph."""
        self._count += 1
        return f"v{self._count}"

    def node(self, operator: str, *inputs: Any, domain: str = "", **attributes: Any) -> str:
        """Add a node that has one output. Inputs are tensors' names, or constants of float64."""
        [name] = self.outputs_of(operator, *inputs, domain=domain, **attributes)
        return name

    def outputs_of(
        self, operator: str, *inputs: Any, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node that has several outputs."""
        read = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, read, names, domain=domain, **attributes))
        return names

    def constant(self, value: Any, dtype: Any = np.float64) -> str:
        """Add a constant, once however often it is used."""
        array = np.asarray(value, dtype=dtype)
        content = tuple(array.ravel().tolist()) if array.dtype == object else array.tobytes()
        key = (str(array.dtype), array.shape, content)
        if key not in self._constants:
            name = self._constants[key] = f"c{len(self._constants)}"
            if array.dtype == object:
                texts = [text.encode() for text in array.ravel()]
                tensor = helper.make_tensor(name, TensorProto.STRING, array.shape, texts)
            else:
                tensor = numpy_helper.from_array(array, name)
            self._initializers.append(tensor)
        return self._constants[key]

    def adopt(self, tensor: TensorProto) -> str:
        """Add a constant that was written elsewhere."""
        copy = TensorProto()
        copy.CopyFrom(tensor)
        copy.name = self.name()
        self._initializers.append(copy)
        return copy.name

    def integers(self, *values: int) -> str:
        """Add a constant of int64, shape (len(values),)."""
        return self.constant(values, np.int64)

    def cast(self, value: str, dtype: Any = np.float64) -> str:
        """Convert a tensor to a numpy type."""
        return self.node("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def columns(self, value: str, *places: int) -> str:
        """Pick columns of *value*, shape (rows, columns)."""
        return self.node("Gather", value, self.integers(*places), axis=1)

    def row_sums(self, value: str) -> str:
        """Add up each row of *value*, shape (rows, columns), to shape (rows, 1)."""
        return self.node("ReduceSum", value, self.integers(1), keepdims=1)

    def likeliest(self, value: str) -> str:
        """Find the place of the largest number in each row, shape (rows,)."""
        return self.node("ArgMax", value, axis=1, keepdims=0)

    def index(self, second: str) -> str:
        """Turn booleans of shape (rows, 1) into indices, shape (rows,)."""
        return self.node("Reshape", self.cast(second, np.int64), self.integers(-1))


def without_identities(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Leave out nodes that only rename: each node costs a row half a microsecond."""
    makers = {name: node for node in nodes for name in node.output}
    names: dict[str, str] = {}
    kept = []
    for node in nodes:
        if node.op_type == "Identity":
            [source], [target] = node.input, node.output
            source = names.get(source, source)
            if target not in outputs:
                names[target] = source
                continue
            if source in makers and source not in outputs:
                names[source] = target
                continue
        kept.append(node)
    for node in kept:
        for names_of in (node.input, node.output):
            for i, name in enumerate(names_of):
                names_of[i] = _final(name, names)
    return kept


def _final(name: str, names: dict[str, str]) -> str:
    while name in names:
        name = names[name]
    return name


def needed(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Leave out nodes whose results nothing reads."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):  # each stands after those it reads
        if not wanted.isdisjoint(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]

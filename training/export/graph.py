"""Builds an ONNX graph node by node, and keeps track of which columns a step is given.

Numbers are float64 throughout. A `Table` is what one step hands to the next: a list of columns,
each of which lies in a tensor of the graph or is a feature as the client sends it. Nothing is
gathered or joined before a step asks for a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from serving.bundle.manifest import Feature, TextRule

from training.export.tidy import needed, without_identities

__all__ = ["ML", "CannotCompileError", "Column", "Graph", "Table"]

#: Fixed, so that the same pipeline gives the same bytes.
OPSET = {"": 19, "ai.onnx.ml": 5}
IR_VERSION = 10
FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT64_MAX = float(np.finfo(np.float64).max)
ML = "ai.onnx.ml"


class CannotCompileError(Exception):
    """The pipeline has no graph. The text is the end of a sentence that names the step."""


class Column(NamedTuple):
    """One column of a table, and what is known of its values."""

    #: The tensor of shape (rows, width) that holds it; None for a feature as it is sent.
    source: str | None
    place: int
    #: Strings, with `MISSING` for null; otherwise float64, with NaN for null.
    text: bool = False
    #: Whole numbers of int64, which only encoders read.
    whole: bool = False
    #: Whether a value may be missing (NaN, or `MISSING`).
    gaps: bool = False
    #: Whether no value is ever infinite or beyond float32.
    small: bool = False
    #: The feature that it is computed from as `slope * x + offset`, if it is.
    feature: int | None = None
    slope: float = 1.0
    offset: float = 0.0


Table = list[Column]


class Graph:
    """A graph under construction. Each method that adds a node returns its output's name."""

    def __init__(self, features: list[Feature]) -> None:
        self.features = features
        self.nodes: list[NodeProto] = []
        self.groups: dict[str, list[int]] = {}
        #: Inputs that take the terms of a text.
        self.rules: dict[str, TextRule] = {}
        #: By feature: the largest magnitude that the steps it goes through can hold.
        self.limits: dict[int, float] = {}
        #: Steps whose operators compute in float32 where scikit-learn does not.
        self.inexact: list[str] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._initializers: list[TensorProto] = []
        self._widths: dict[str, int] = {}
        self._joined: dict[tuple[Any, ...], str] = {}
        self._poisons: list[str] = []
        #: The most numbers that one row takes in one tensor.
        self.row_size = 1
        self._count = 0

    def raw(self, names: Sequence[str] | None = None) -> Table:
        """
        Return the columns as the client sends them.

        Args:
            names: All that the pipeline was fitted on; those that are no feature are not sent.
        """
        known = [
            Column(
                None,
                i,
                text=feature.is_text,
                whole=feature.is_whole and not feature.nullable,
                gaps=feature.nullable,
                small=feature.kind == "boolean",
                feature=i,
            )
            for i, feature in enumerate(self.features)
        ]
        if names is None:
            return known
        by_name = {f.name: column for f, column in zip(self.features, known, strict=True)}
        return [by_name.get(name, Column(None, -1)) for name in names]

    def terms(self, feature: int, rule: TextRule) -> str:
        """Add an input that takes the terms of a text, shape (rows, terms)."""
        name = f"terms{len(self.rules)}"
        self.groups[name], self.rules[name] = [feature], rule
        return name

    def name(self) -> str:
        """Return a name that is new to the graph."""
        self._count += 1
        return f"v{self._count}"

    def node(
        self, operator: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any
    ) -> Any:
        """Add a node; the name of its output, or the names if there are several."""
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

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
        return str(self.node("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))

    def table(self, tensor: str, like: Table, **known: Any) -> Table:
        """Describe *tensor* as columns that stand where those of *like* stood."""
        self._widths[tensor] = len(like)
        return [column._replace(source=tensor, place=i, **known) for i, column in enumerate(like)]

    def computed(
        self, tensor: str, width: int, *, small: bool = False, gaps: bool = False
    ) -> Table:
        """Describe *tensor*, shape (rows, width), as columns of numbers that are new."""
        self._widths[tensor] = width
        self.spread(width)
        return [Column(tensor, i, small=small, gaps=gaps) for i in range(width)]

    def matrix(self, table: Table) -> str:
        """Join the columns of *table* to one tensor; all are numbers, or all are text."""
        if not table:
            raise CannotCompileError("it is given no columns")
        if any(column.source is None and column.place < 0 for column in table):
            raise CannotCompileError("it reads a column that the contract leaves out")
        if len({(column.text, column.whole) for column in table}) > 1:
            raise CannotCompileError("it takes numbers and categories in one table")
        key = tuple((column.source, column.place) for column in table)
        if key not in self._joined:
            parts = [
                self._part(source, [column.place for column in run])
                for source, run in groupby(table, key=lambda column: column.source)
            ]
            joined = parts[0] if len(parts) == 1 else str(self.node("Concat", *parts, axis=1))
            self._joined[key] = joined
            self._widths[joined] = len(table)
            self.spread(len(table))
        return self._joined[key]

    def _part(self, source: str | None, indices: list[int]) -> str:
        if source is None:
            known = (n for n, group in self.groups.items() if group == indices)
            name = next((n for n in known if n not in self.rules), None)
            if name is None:
                name = f"input{len(self.groups)}"
                self.groups[name] = indices
                self._widths[name] = len(indices)
            return name
        if indices == list(range(self._widths[source])):
            return source
        return str(self.node("Gather", source, self.integers(*indices), axis=1))

    def finite(
        self, table: Table, *, gaps: bool = False, float32: bool = False, most: float = FLOAT64_MAX
    ) -> str:
        """
        Return the matrix of *table*, for a step that rejects numbers that are infinite or missing.

        A row that the step rejects gets no finite answer. Where a number is a linear function of
        one feature, that feature gets a limit in the contract instead.

        Args:
            table: Columns of numbers.
            gaps: Whether the step takes missing numbers.
            float32: Whether the step also rejects what float32 cannot hold.
            most: The largest magnitude that the step can tell apart from others.
        """
        matrix = self.matrix(table)
        most = FLOAT32_MAX if float32 else most
        unsure = [column for column in table if not self._limit(column, most)]
        holes = [] if gaps else [column for column in table if column.gaps]
        doubtful = [column for column in table if column in unsure or column in holes]
        if doubtful:
            values = self.matrix(doubtful)
            kind = np.float32 if float32 else np.float64
            if gaps and any(column.gaps for column in doubtful):
                values = self.node("Where", self.node("IsNaN", values), self.constant(0.0), values)
            if float32:
                values = self.cast(values, np.float32)
            zeros = self.constant(np.zeros((len(doubtful), 1)), kind)
            poison = self.node("MatMul", values, zeros)  # 0 times infinity or NaN is NaN
            self.poison(self.cast(poison) if float32 else poison)
        return matrix

    def _limit(self, column: Column, most: float) -> bool:
        """Bound the feature behind *column*, if that is enough to keep it within *most*."""
        if column.small:
            return True
        if column.feature is None or not np.isfinite(column.slope):
            return False
        if column.slope and (most < FLOAT64_MAX or abs(column.slope) > 1 or column.offset):
            limit = (most * (1 - 1e-9) - abs(column.offset)) / abs(column.slope)
            if limit < FLOAT64_MAX:
                self.limits[column.feature] = min(self.limits.get(column.feature, limit), limit)
        return True

    def spread(self, numbers: int) -> None:
        """Note that a row takes this many numbers in one tensor."""
        self.row_size = max(self.row_size, numbers)

    def _element(self, feature: int) -> int:
        found = self.features[feature]
        if found.is_text:
            return int(TensorProto.STRING)
        return int(
            TensorProto.INT64 if found.is_whole and not found.nullable else TensorProto.DOUBLE
        )

    def poison(self, values: str) -> None:
        """Give no answer to rows where *values*, shape (rows, 1), is NaN; elsewhere it is 0."""
        self._poisons.append(values)

    def finish(self, outputs: dict[str, tuple[str, Any, int | None]]) -> ModelProto:
        """
        Make the model.

        Args:
            outputs: By name: the tensor, its numpy type, and its width; None for shape (rows,).
        """
        poisons = list(dict.fromkeys(self._poisons))
        total = poisons[0] if len(poisons) == 1 else self.node("Sum", *poisons) if poisons else None
        for name, (value, dtype, _) in outputs.items():
            if total is None:
                self.nodes.append(helper.make_node("Identity", [value], [name]))
            elif np.issubdtype(dtype, np.integer):
                flat = self.node("Reshape", total, self.integers(-1))
                bad = self.node("IsNaN", flat)
                refused = self.constant(-1, np.int64)
                self.nodes.append(helper.make_node("Where", [bad, refused, value], [name]))
            else:
                self.nodes.append(helper.make_node("Add", [value, total], [name]))
        nodes = without_identities(self.nodes, set(outputs))
        nodes = needed(nodes, set(outputs))
        read = {name for node in nodes for name in node.input}
        self.groups = {name: group for name, group in self.groups.items() if name in read}
        graph = helper.make_graph(
            nodes,
            "pipeline",
            [
                helper.make_tensor_value_info(
                    name,
                    self._element(group[0]),
                    [None, None if name in self.rules else len(group)],
                )
                for name, group in self.groups.items()
            ],
            [
                helper.make_tensor_value_info(
                    name,
                    helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
                    [None] if width is None else [None, width],
                )
                for name, (_, dtype, width) in outputs.items()
            ],
            [tensor for tensor in self._initializers if tensor.name in read],
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, OPSET[domain]) for domain in sorted(OPSET)],
            ir_version=IR_VERSION,
        )

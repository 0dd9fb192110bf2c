"""Builds an ONNX graph, and keeps track of which columns a step is given.

Numbers are float64 throughout; where scikit-learn computes in float32, because it is given float32,
they are rounded to it. A `Table` is what one step hands to the next: a list of columns,
each of which lies in a tensor of the graph or is a feature as the client sends it. Nothing is
gathered or joined before a step asks for a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from onnx import ModelProto, helper
from serving.bundle.manifest import Feature, TextRule

from training.export.columns import (
    CannotCompileError,
    Column,
    Hashed,
    Table,
    check_written,
    element_of,
    held_in,
    is_float32,
)
from training.export.nodes import ML, Nodes, needed, without_identities

__all__ = ["FLOAT64_MAX", "ML", "CannotCompileError", "Column", "Graph", "Hashed", "Table"]

#: Fixed, so that the same pipeline gives the same bytes.
OPSET = {"": 19, "ai.onnx.ml": 5}
IR_VERSION = 10
FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT64_MAX = float(np.finfo(np.float64).max)
#: Further off, float32 overflows in squares and sums where float64 does not.
FAR_FOR_FLOAT32 = 1e15


class Graph(Nodes):
    """A graph under construction."""

    def __init__(self, features: list[Feature]) -> None:
        super().__init__()
        self.features = features
        self.groups: dict[str, list[int]] = {}
        #: Inputs that take the terms of a text.
        self.rules: dict[str, TextRule] = {}
        #: By feature: the largest magnitude that the steps it goes through can hold.
        self.limits: dict[int, float] = {}
        #: Steps that compute in float32, here or in scikit-learn, and so differ in the last digits.
        self.inexact: list[str] = []
        #: The class of the step that is being written.
        self.step = ""
        self._widths: dict[str, int] = {}
        self._joined: dict[tuple[Any, ...], str] = {}
        self._doubles: dict[str, str] = {}
        self._poisons: list[str] = []
        #: The most numbers that one row takes in one tensor.
        self.row_size = 1

    def raw(self, names: Sequence[str] | None = None) -> Table:
        """
        Return the columns as the client sends them.

        *names* are all that the pipeline was fitted on; those that are no feature are not sent.
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
                dtype=held_in(feature),
            )
            for i, feature in enumerate(self.features)
        ]
        for i, feature in enumerate(self.features):
            if is_float32(feature):
                self.limits[i] = FLOAT32_MAX
        if names is None:
            return known
        by_name = {f.name: column for f, column in zip(self.features, known, strict=True)}
        return [by_name.get(name, Column(None, -1)) for name in names]

    def terms(self, feature: int, rule: TextRule) -> str:
        """Add an input that takes the terms of a text, shape (rows, terms)."""
        name = f"terms{len(self.rules)}"
        self.groups[name], self.rules[name] = [feature], rule
        return name

    def table(self, tensor: str, like: Table, **known: Any) -> Table:
        """Describe *tensor* as columns that stand where those of *like* stood."""
        self._widths[tensor] = len(like)
        known["dtype"] = "float32" if self.is_single(like) else "float64"
        return [column._replace(source=tensor, place=i, **known) for i, column in enumerate(like)]

    def is_single(self, table: Table) -> bool:
        """Whether scikit-learn holds *table* in float32."""
        return bool(table) and np.result_type(*{column.dtype for column in table}) == np.float32

    def stacked(self, parts: list[Table]) -> Table:
        """Join what several steps made: one column of float64 makes all float64."""
        if len(parts) == 1:
            return parts[0]
        for part in parts:
            check_written(part)
        table = [column for part in parts for column in part]
        if self.is_single(table):
            return table
        return [column._replace(dtype="float64") for column in table]

    def rounded(self, value: str) -> str:
        """Round *value* to float32."""
        return self.cast(self.cast(value, np.float32))

    def computed(
        self, tensor: str, width: int, *, small: bool = False, gaps: bool = False, **known: Any
    ) -> Table:
        """Describe *tensor*, shape (rows, width), as columns of numbers that are new."""
        self._widths[tensor] = width
        self.spread(width)
        return [Column(tensor, i, small=small, gaps=gaps, **known) for i in range(width)]

    def matrix(self, table: Table, *, exact: bool = False) -> str:
        """
        Join the columns of *table* to one tensor; all are numbers, or all are text.

        *exact* says that the step answers the same of float32 as scikit-learn, to the last bit.
        """
        if self.is_single(table) and not exact:
            self.inexact.append(self.step)
            for column in table:
                self._limit(column, FAR_FOR_FLOAT32)
        check_written(table)
        if not table:
            raise CannotCompileError("it is given no columns")
        if any(column.source is None and column.place < 0 for column in table):
            raise CannotCompileError("it reads a column that the contract leaves out")
        if len({(column.text, column.whole) for column in table}) > 1:
            raise CannotCompileError(
                "it takes numbers and categories in one table: encode the categories before it"
            )
        key = tuple((column.source, column.place) for column in table)
        if key not in self._joined:
            parts = [
                self._part(source, [column.place for column in run])
                for (source, _), run in groupby(table, key=self._tensor_of)
            ]
            joined = parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=1)
            self._joined[key] = joined
            self._widths[joined] = len(table)
            self.spread(len(table))
        return self._joined[key]

    def _tensor_of(self, column: Column) -> tuple[str | None, bool]:
        raw = column.source is None
        return column.source, raw and is_float32(self.features[column.place])

    def _part(self, source: str | None, indices: list[int]) -> str:
        if source is None:
            known = (n for n, group in self.groups.items() if group == indices)
            name = next((n for n in known if n not in self.rules), None)
            if name is None:
                name = f"input{len(self.groups)}"
                self.groups[name] = indices
                self._widths[name] = len(indices)
            if not is_float32(self.features[indices[0]]):
                return name
            if name not in self._doubles:
                self._doubles[name] = self.cast(name)
            return self._doubles[name]
        if indices == list(range(self._widths[source])):
            return source
        return self.node("Gather", source, self.integers(*indices), axis=1)

    def finite(
        self,
        table: Table,
        *,
        gaps: bool = False,
        float32: bool = False,
        most: float = FLOAT64_MAX,
        exact: bool = False,
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
            exact: As for `matrix`; steps that cast to float32 themselves are.
        """
        matrix = self.matrix(table, exact=exact or float32)
        if float32 or self.is_single(table):
            most = min(most, FLOAT32_MAX)
        unsure = [column for column in table if not self._limit(column, most)]
        holes = [] if gaps else [column for column in table if column.gaps]
        doubtful = [column for column in table if column in unsure or column in holes]
        if doubtful:
            values = self.matrix(doubtful)
            kind = np.float32 if float32 else np.float64
            if gaps and any(column.gaps for column in doubtful):
                values = self.node("Where", self.node("IsNaN", values), 0.0, values)
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

    def poison(self, values: str) -> None:
        """Give no answer to rows where *values*, shape (rows, 1), is NaN; elsewhere it is 0."""
        self._poisons.append(values)

    def finish(self, outputs: dict[str, tuple[str, Any, int | None]]) -> ModelProto:
        """Make the model; an output is a tensor, its numpy type, its width (None for (rows,))."""
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
                    element_of(self.features[group[0]], rule := self.rules.get(name)),
                    [None, len(group)] if rule is None else [None, None, *[2] * bool(rule.hashes)],
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

"""Encoders of categories, be they strings or numbers."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from serving.model.schema import MISSING
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from training.export.converters.registry import converts
from training.export.graph import ML, CannotCompileError, Column, Graph, Table

__all__ = ["category_of", "lookup"]


@converts("transform", OneHotEncoder)
def _one_hot_encoder(graph: Graph, encoder: Any, table: Table) -> Table:
    # For each column, its outputs: each is one where the value is among a set of categories.
    outputs = [_one_hot_outputs(encoder, j, column) for j, column in enumerate(table)]
    if encoder.handle_unknown == "error":
        _refuse_unknown(graph, encoder, table)
    made: Table = []
    for _, run in groupby(enumerate(table), key=lambda item: (item[1].text, item[1].whole)):
        places, columns = zip(*run, strict=True)
        made += _indicators(graph, list(columns), [outputs[j] for j in places])
    return made


def _refuse_unknown(graph: Graph, encoder: Any, table: Table) -> None:
    """Give no answer for a number that is no category; of others the contract has a list."""
    for j, column in enumerate(table):
        if not (column.text or column.whole):
            known = [category_of(value, column) for value in encoder.categories_[j]]
            graph.poison(lookup(graph, column, known, np.zeros(len(known)), np.nan))


class _Rest(list[Any]):
    """The categories of an output that also stands for all that are not known."""

    #: A category that is known and has no output, if there is one.
    dropped: tuple[Any, ...] = ()


def _one_hot_outputs(encoder: Any, j: int, column: Column) -> list[list[Any]]:
    known = [category_of(value, column) for value in encoder.categories_[j]]
    rare = _infrequent(encoder, j, column)
    outputs = [[value] for value in known if not _within(value, rare)]
    if rare:
        unknown = encoder.handle_unknown in ("infrequent_if_exist", "warn")
        outputs.append(_Rest(rare) if unknown else rare)
    if encoder.drop_idx_ is not None and encoder.drop_idx_[j] is not None:
        dropped = known[encoder.drop_idx_[j]]
        outputs = [output for output in outputs if not _within(dropped, output)]
        if outputs and isinstance(outputs[-1], _Rest):
            outputs[-1].dropped = (dropped,)
    return outputs


def _infrequent(encoder: Any, j: int, column: Column) -> list[Any]:
    if encoder.min_frequency is None and encoder.max_categories is None:
        return []
    rare = encoder.infrequent_categories_[j]
    return [] if rare is None else [category_of(value, column) for value in rare]


def _within(value: Any, values: list[Any]) -> bool:
    return any(value == other or (value != value and other != other) for other in values)  # noqa: PLR0124


def category_of(value: Any, column: Column) -> Any:
    """Return a category as it is inside the graph."""
    missing = value is None or value != value  # noqa: PLR0124  # NaN differs from itself
    if column.text:
        if not missing and not isinstance(value, str):
            raise CannotCompileError(
                "it knows categories that are not strings in a column of text: make all strings"
            )
        return MISSING if missing else value
    if isinstance(value, str):
        raise CannotCompileError(
            "it knows strings in a column of numbers: make all numbers, or all strings"
        )
    if column.whole:
        if int(value) >= 2**63:
            raise CannotCompileError("it knows integers of 2**63 and more, which int64 cannot hold")
        return int(value)
    return np.nan if missing else float(value)


def _indicators(graph: Graph, table: Table, outputs: list[list[list[Any]]]) -> Table:
    """Write 0/1 columns: one for each set of categories in *outputs*, by column of *table*."""
    # A pair is a column and one of its categories; most outputs are of one pair.
    flat = [(j, values) for j, sets in enumerate(outputs) for values in sets]
    pairs = [(j, value) for j, values in flat for value in values]
    owner = [k for k, (_, values) in enumerate(flat) for _ in values]
    rests = [(j, k, values) for k, (j, values) in enumerate(flat) if isinstance(values, _Rest)]
    width = len(flat)
    for j, _, rest in rests:  # a category that is dropped is no part of the rest
        pairs += [(j, value) for value in rest.dropped]
        owner += [-1 for _ in rest.dropped]
    if not width:
        return []
    equal = _equal(graph, table, pairs)
    if width == len(pairs) and not rests:
        return graph.computed(equal, width, small=True)
    merge = np.equal.outer(owner, np.arange(width)).astype(float)
    base = np.zeros(width)
    for j, k, _ in rests:  # what is none of the column's other categories
        mine = [p for p, (i, _) in enumerate(pairs) if i == j]
        merge[mine, k] = [-1.0 if owner[p] != k else 0.0 for p in mine]
        base[k] = 1.0
    merged = graph.node("Gemm", equal, merge, base)
    return graph.computed(merged, width, small=True)


def _equal(graph: Graph, table: Table, pairs: list[tuple[int, Any]]) -> str:
    """Write, for each pair of a column and a category, 1 where the column holds it, else 0."""
    value = graph.matrix(table, exact=True)
    places = [j for j, _ in pairs]
    if table[0].text:
        codes = {text: i for i, text in enumerate(dict.fromkeys(text for _, text in pairs))}
        value = _codes(graph, value, codes)
        wanted = graph.integers(*(codes[text] for _, text in pairs))
    elif table[0].whole:
        wanted = graph.integers(*(number for _, number in pairs))
    else:
        wanted = graph.constant([number for _, number in pairs])
    if places != list(range(len(table))):
        value = graph.columns(value, *places)
    if table[0].text or table[0].whole:
        return graph.cast(graph.node("Equal", value, wanted))
    equal = graph.cast(graph.node("Equal", value, wanted))
    gaps = np.array([number != number for _, number in pairs])  # noqa: PLR0124
    if not gaps.any():
        return equal
    missing = graph.cast(graph.node("IsNaN", value))
    return graph.node("Where", graph.constant(gaps, bool), missing, equal)


def _codes(graph: Graph, value: str, codes: dict[str, int]) -> str:
    """Write the code of each string, -1 for any other."""
    return graph.node(
        "LabelEncoder",
        value,
        domain=ML,
        keys_strings=list(codes),
        values_int64s=list(codes.values()),
        default_int64=-1,
    )


def lookup(graph: Graph, column: Column, categories: list[Any], numbers: Any, default: Any) -> str:
    """
    Write the number that belongs to each category of *column*, shape (rows, width).

    *categories* are as inside the graph. *numbers* has shape (categories,) or (categories, width).
    Any other value gets *default*, one number or shape (width,).
    """
    rows = np.asarray(numbers, dtype=np.float64).reshape(len(categories), -1)
    rows = np.vstack([rows, np.broadcast_to(np.asarray(default, float), (1, rows.shape[1]))])
    value = graph.matrix([column], exact=True)
    if column.text:
        value = _codes(graph, value, {text: i for i, text in enumerate(categories)})
        # The code -1 is the last row.
    else:
        equal = _equal(graph, [column], [(0, number) for number in categories])
        places = graph.constant(np.arange(1.0, len(categories) + 1).reshape(-1, 1))
        value = graph.cast(graph.node("MatMul", equal, places), np.int64)  # 0 is none of them
        rows = np.vstack([rows[-1:], rows[:-1]])
    chosen = graph.node("Gather", rows, value, axis=0)
    return graph.node("Reshape", chosen, graph.integers(-1, rows.shape[1]))


@converts("transform", OrdinalEncoder)
def _ordinal_encoder(graph: Graph, encoder: Any, table: Table) -> Table:
    if encoder.handle_unknown == "error":
        _refuse_unknown(graph, encoder, table)
    made: Table = []
    for j, column in enumerate(table):
        known = [category_of(value, column) for value in encoder.categories_[j]]
        rare = _infrequent(encoder, j, column)
        gap = MISSING if column.text else np.nan
        frequent = [v for v in known if not (_within(v, [gap]) or _within(v, rare))]
        places = {value: float(place) for place, value in enumerate(frequent)}
        last = float(len(frequent))  # the rare ones share the code behind the others
        empty = float(encoder.encoded_missing_value)
        codes = [empty if _within(v, [gap]) else places.get(v, last) for v in known]
        default = np.nan
        if encoder.handle_unknown == "use_encoded_value":
            default = float(encoder.unknown_value)
        found = lookup(graph, column, known, codes, default)
        gaps = bool(np.isnan([*codes, default]).any())
        made += graph.computed(found, 1, small=True, gaps=gaps)
    return _joined(graph, made)


def _joined(graph: Graph, table: Table) -> Table:
    """Join columns at once: they are read together."""
    tensor = graph.matrix(table)
    return [column._replace(source=tensor, place=i) for i, column in enumerate(table)]


@converts("transform", TargetEncoder)
def _target_encoder(graph: Graph, encoder: Any, table: Table) -> Table:
    classes = len(encoder.classes_) if encoder.target_type_ == "multiclass" else 1
    made: Table = []
    for j, column in enumerate(table):
        known = [category_of(value, column) for value in encoder.categories_[j]]
        parts = encoder.encodings_[j * classes : (j + 1) * classes]
        default = np.atleast_1d(encoder.target_mean_)
        found = lookup(graph, column, known, np.transpose(parts), default)
        made += graph.computed(found, classes, small=True)
    return _joined(graph, made)

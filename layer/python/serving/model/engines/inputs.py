"""Reads what a graph takes, and makes it of the columns that clients send."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.errors import BundleError
from serving.model.engines import Columns
from serving.model.schema import MISSING
from serving.model.texts import hashes, is_linear, terms

if TYPE_CHECKING:
    import numpy.typing as npt

    from serving.bundle.manifest import Feature, Manifest, TextRule

__all__ = ["Input", "feed_of", "read_inputs", "rows_at_once"]

#: How many terms of texts are held at once, those that only pad counted.
TERMS_AT_ONCE = 4_000_000

#: What a graph may ask for: format 1 has numbers as float32, format 2 as float64.
_INPUTS: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(string)": object,
}


class Input(NamedTuple):
    """An input of the graph, of shape (n, features), and the features in it, by place."""

    name: str
    group: list[int]
    #: numpy's: object for strings.
    dtype: Any
    #: How a text is split into terms, if this input takes terms.
    rule: TextRule | None


def read_inputs(nodes: list[Any], manifest: Manifest) -> list[Input]:
    """
    Match the inputs of a graph with the features.

    Args:
        nodes: The graph's inputs, as onnxruntime lists them.
        manifest: The features.

    Raises:
        BundleError: They do not fit.
    """
    groups = manifest.engine.inputs
    # By place: the compiler changes names that are no identifiers.
    features = manifest.features
    count = len(features)
    if groups is None:
        groups = [[*range(count)]] if len(nodes) == 1 else [[i] for i in range(count)]
    known = all(0 <= i < count for i in itertools.chain(*groups))
    texts = manifest.engine.texts
    fit = len(nodes) == len(groups) and all(
        len(group) == 1 if place in texts else node.shape[-1:] == [len(group)]
        for place, (node, group) in enumerate(zip(nodes, groups, strict=False))
    )
    if not fit or not known:
        raise BundleError(f"the graph has {len(nodes)} inputs for {count} features.")
    return [
        _input(features, node, group, texts.get(place))
        for place, (node, group) in enumerate(zip(nodes, groups, strict=True))
    ]


def _input(features: list[Feature], node: Any, group: list[int], rule: TextRule | None) -> Input:
    categories = [features[i].is_text for i in group]
    if any(categories) != all(categories):
        raise BundleError(f"the graph's input {node.name[:80]!r} has numbers and categories.")
    dtype = _INPUTS.get(node.type)
    wanted = np.int64 if rule is not None and rule.hashes else object
    if dtype is None or (dtype is wanted) != categories[0]:
        raise BundleError(f"the graph's input {node.name[:80]!r} takes {node.type}.")
    if rule is not None and rule.pattern and not is_linear(rule.pattern):
        raise BundleError(f"the pattern {rule.pattern[:80]!r} is not served.")
    return Input(node.name, group, dtype, rule)


def feed_of(inputs: list[Input], columns: Columns) -> dict[str, npt.NDArray[Any]]:
    """Make the arrays that the graph takes of *columns*, by the name of its input."""
    feed = {}
    for name, group, dtype, rule in inputs:
        rows: Any = [columns[i] for i in group]
        if rule is not None and rule.hashes:
            feed[name] = _hashed([hashes(text, rule) for text in rows[0]])
        elif rule is not None:
            feed[name] = _padded([terms(text, rule) for text in rows[0]])
        else:
            if dtype is object:
                rows = [[MISSING if value is None else value for value in row] for row in rows]
            feed[name] = np.array(rows, dtype=dtype).T  # None becomes NaN
    return feed


def rows_at_once(inputs: list[Input], columns: Columns) -> int:
    """Say how many rows may be padded to the longest text: one row may take what all rows have."""
    longest = 1
    for _, [place, *_], _, rule in inputs:
        if rule is not None:
            kinds = rule.ngrams[1] - rule.ngrams[0] + 1
            longest = max(longest, kinds * max(len(text or "") for text in columns[place]))
    return max(1, TERMS_AT_ONCE // longest)


def _padded(lists: list[list[str]]) -> npt.NDArray[Any]:
    """Make an array of lists of unequal length; an empty string is no term."""
    array = np.full((len(lists), max(1, *map(len, lists))), "", dtype=object)
    for row, found in zip(array, lists, strict=True):
        row[: len(found)] = found
    return array


def _hashed(rows: list[dict[int, int]]) -> npt.NDArray[Any]:
    """Make an array of shape (rows, longest, 2): columns and their counts; -1 is no column."""
    array = np.zeros((len(rows), max(1, *map(len, rows)), 2), dtype=np.int64)
    array[:, :, 0] = -1
    for row, found in zip(array, rows, strict=True):
        row[: len(found)] = [*found.items()] or row[:0]
    return array

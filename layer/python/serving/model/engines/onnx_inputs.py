"""What a graph is fed: the features as arrays, in the groups and types that its inputs take."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.errors import BundleError
from serving.model.engines import Columns
from serving.model.schema import MISSING
from serving.model.texts import is_linear, terms

if TYPE_CHECKING:
    import numpy.typing as npt

    from serving.bundle.manifest import Manifest, TextRule

__all__ = ["Inputs"]

#: What a graph may ask for: format 1 has numbers as float32, format 2 as float64.
_INPUTS: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(string)": object,
}


class _Input(NamedTuple):
    """An input of the graph, of shape (n, features), and the features in it, by place."""

    name: str
    group: list[int]
    #: numpy's: object for strings.
    dtype: Any
    #: How a text is split into terms, if this input takes terms.
    rule: TextRule | None


class Inputs:
    """The inputs of one graph."""

    def __init__(self, manifest: Manifest, nodes: Sequence[Any]) -> None:
        """
        Match the graph's input *nodes*, as onnxruntime lists them, to the features of *manifest*.

        Raises:
            BundleError: They do not fit.
        """
        groups = manifest.engine.inputs
        # By place: the compiler changes names that are no identifiers.
        self._features = manifest.features
        count = len(self._features)
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
        self._inputs = [
            self._input(node, group, texts.get(place))
            for place, (node, group) in enumerate(zip(nodes, groups, strict=True))
        ]

    def _input(self, node: Any, group: list[int], rule: TextRule | None) -> _Input:
        categories = [self._features[i].is_text for i in group]
        if any(categories) != all(categories):
            raise BundleError(f"the graph's input {node.name[:80]!r} has numbers and categories.")
        dtype = _INPUTS.get(node.type)
        if dtype is None or (dtype is object) != categories[0]:
            raise BundleError(f"the graph's input {node.name[:80]!r} takes {node.type}.")
        if rule is not None and rule.pattern and not is_linear(rule.pattern):
            raise BundleError(f"the pattern {rule.pattern[:80]!r} is not served.")
        return _Input(node.name, group, dtype, rule)

    def feed(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        """
        Make the arrays of n rows that the graph takes, by the input's name.

        Args:
            columns: One sequence of n values per feature, in the manifest's order.
        """
        feed = {}
        for name, group, dtype, rule in self._inputs:
            rows: Any = [columns[i] for i in group]
            if rule is not None:
                feed[name] = _padded([terms(text, rule) for text in rows[0]])
                continue
            if dtype is object:
                rows = [[MISSING if value is None else value for value in row] for row in rows]
            feed[name] = np.array(rows, dtype=dtype).T  # None becomes NaN
        return feed


def _padded(lists: list[list[str]]) -> npt.NDArray[Any]:
    """Make an array of lists of unequal length; an empty string is no term."""
    array = np.full((len(lists), max(1, *map(len, lists))), "", dtype=object)
    for row, found in zip(array, lists, strict=True):
        row[: len(found)] = found
    return array

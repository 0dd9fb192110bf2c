"""Measures the trees of a graph. onnxruntime recurses into them; a deep one ends the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    #: The integers in a node's attributes, in parts, by the attribute's name.
    _Numbers = Mapping[str, Sequence[npt.NDArray[np.int64]]]
    #: For each node its true and its false child, -1 if that is a leaf; and the nodes to start at.
    _Trees = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]

__all__ = ["MAX_TREE_DEPTH", "TREES", "TreesError", "check_depth"]

MAX_TREE_DEPTH = 1_000


class TreesError(Exception):
    """The trees are rejected. The text continues a sentence about them."""


def check_depth(operator: str, numbers: _Numbers, leaves: Sequence[bool]) -> None:
    """
    Walk down all trees of a graph's node at once, level by level.

    Args:
        operator: One of `TREES`.
        numbers: The integers in its attributes.
        leaves: For each tree node, whether its mode is LEAF; empty if nodes have no mode.

    Raises:
        TreesError: The trees are too deep, or are not trees.
    """
    true, false, level = TREES[operator](numbers, np.array(leaves, bool))
    for _ in range(MAX_TREE_DEPTH):
        if level.size > true.size:
            raise TreesError("share branches")
        if level.size and not 0 <= level.min() <= level.max() < true.size:
            raise TreesError("lead nowhere")
        level = np.concatenate([true[level], false[level]])
        level = level[level != -1]
        if not level.size:
            return
    raise TreesError(f"are deeper than {MAX_TREE_DEPTH}")


def _trees(numbers: _Numbers, _: npt.NDArray[np.bool_]) -> _Trees:
    """Read a TreeEnsemble, which numbers the branches of all its trees in one sequence."""
    if "membership_values" in numbers:
        raise TreesError("ask for members of sets")
    count = len(_joined(numbers, "nodes_truenodeids"))
    sides = []
    for side in ("true", "false"):
        leaf = _joined(numbers, f"nodes_{side}leafs", count) != 0
        sides.append(np.where(leaf, -1, _joined(numbers, f"nodes_{side}nodeids", count)))
    return sides[0], sides[1], _joined(numbers, "tree_roots")


def _older_trees(numbers: _Numbers, leaf: npt.NDArray[np.bool_]) -> _Trees:
    """Read TreeEnsembleClassifier and Regressor, which number the nodes of each tree."""
    trees = _joined(numbers, "nodes_treeids", len(leaf))
    keys = _keys(trees, _joined(numbers, "nodes_nodeids", len(leaf)))
    order = np.argsort(keys)
    sides = []
    for side in ("true", "false"):
        wanted = _keys(trees, _joined(numbers, f"nodes_{side}nodeids", len(leaf)))[~leaf]
        found = np.searchsorted(keys, wanted, sorter=order)
        if (found == len(leaf)).any() or (keys[order[found]] != wanted).any():
            raise TreesError("lead nowhere")
        places = np.full(len(leaf), -1)
        places[~leaf] = np.where(leaf[order[found]], -1, order[found])
        sides.append(places)
    return sides[0], sides[1], np.flatnonzero(~leaf)


#: The reader of the trees of each operator.
TREES: dict[str, Callable[[_Numbers, npt.NDArray[np.bool_]], _Trees]] = {
    "TreeEnsemble": _trees,
    "TreeEnsembleClassifier": _older_trees,
    "TreeEnsembleRegressor": _older_trees,
}


def _joined(numbers: _Numbers, name: str, count: int | None = None) -> Any:
    joined = np.concatenate([np.empty(0, np.int64), *numbers.get(name, ())])
    if count is not None and len(joined) != count:
        raise TreesError("have parts missing")
    return joined


def _keys(trees: Any, nodes: Any) -> Any:
    """Join pairs of integers below 2³¹ into one integer each."""
    for part in (trees, nodes):
        if part.size and not 0 <= part.min() <= part.max() < 2**31:
            raise TreesError("have numbers out of range")
    return trees << 32 | nodes

"""Follows the trees of a graph: onnxruntime opens them by recursion, and a deep one ends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    #: The whole numbers that a node's attributes hold, in parts, by the attribute's name.
    _Numbers = Mapping[str, Sequence[npt.NDArray[np.int64]]]
    #: For each node the two that may come next, -1 where that is a leaf; and those to start from.
    _Trees = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]

__all__ = ["MAX_TREE_DEPTH", "TREES", "TreesError", "check_depth"]

MAX_TREE_DEPTH = 1_000


class TreesError(Exception):
    """The text says what the trees do that they may not."""


def check_depth(operator: str, numbers: _Numbers, leaves: Sequence[bool]) -> None:
    """
    Go down all trees of a node at once, a level at a time.

    Args:
        operator: One of `TREES`.
        numbers: Its attributes.
        leaves: Which of its nodes are called a leaf, where nodes have a mode.

    Raises:
        TreesError: They are too deep, or are no trees.
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
    """Read TreeEnsemble, which numbers the branches of all its trees in one row."""
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


#: How the trees of each operator that has some are read.
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
    """Join two numbers below 2³¹ into one."""
    for part in (trees, nodes):
        if part.size and not 0 <= part.min() <= part.max() < 2**31:
            raise TreesError("have numbers out of range")
    return trees << 32 | nodes

"""The operator TreeEnsemble in float64: trees as arrays, and sums over their leaves.

https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper

from training.export.graph import ML, Graph

__all__ = ["LEQ", "LT", "Tree", "from_float32", "raw_sum", "tree_sums"]

_Array = npt.NDArray[Any]
#: onnxruntime opens 100,000 nodes a third faster in four parts, and a row takes 2 µs more.
NODES_TOGETHER = 30_000
#: How many numbers a row may take between the leaves and their sum.
VALUES_TOGETHER = 512
LEQ, LT = 0, 1  # the operator's modes: go left where x <= threshold, or x < threshold


class Tree(NamedTuple):
    """One tree: arrays with an entry a node; the first node is the root."""

    #: The next node where the comparison holds; -1 marks a leaf.
    left: _Array
    right: _Array
    feature: _Array
    threshold: _Array
    #: Whether a missing number goes left.
    missing_left: _Array
    #: What a leaf adds.
    weight: _Array
    #: The output that it adds to.
    target: int = 0


def from_float32(thresholds: _Array) -> _Array:
    """Return the largest float64 numbers that, rounded to float32, are at most *thresholds*."""
    with np.errstate(over="ignore"):
        below = thresholds.astype(np.float32)
    over = below.astype(np.float64) > thresholds
    below[over] = np.nextafter(below[over], np.float32(-np.inf))
    above = np.nextafter(below, np.float32(np.inf))
    with np.errstate(invalid="ignore"):
        middle = (below.astype(np.float64) + above.astype(np.float64)) / 2
    # A number halfway between two float32 rounds to the one whose last bit is 0.
    odd = (below.view(np.uint32) & 1).astype(bool)
    middle[odd] = np.nextafter(middle[odd], -np.inf)
    beyond = ~np.isfinite(above) | ~np.isfinite(below)
    middle[beyond] = thresholds[beyond]
    return middle


def tree_sums(
    graph: Graph, value: str, trees: list[Tree], targets: int, *, base: Any = 0.0, mode: int = LEQ
) -> str:
    """
    Write the sums of what *trees*, which split columns of *value*, add to *base*.

    The result has shape (rows, targets); *mode* says how a number is compared with a threshold.
    """
    start = np.broadcast_to(np.asarray(base, np.float64).reshape(-1), targets).copy()
    grown = []
    for tree in trees:
        if tree.left[0] == -1:
            start[tree.target] += tree.weight[0]
        else:
            grown.append(tree)
    parts = [_ensemble(graph, value, group, targets, mode) for group in _groups(grown)]
    if not parts:
        first = graph.columns(value, 0)
        return graph.node("Mul", graph.node("Pow", first, 0.0), start.reshape(1, -1))
    total = parts[0] if len(parts) == 1 else graph.node("Sum", *parts)
    if start.any():
        total = graph.node("Add", total, start.reshape(1, -1))
    return str(total)


def _groups(
    trees: list[Tree], most: int = NODES_TOGETHER, at_most: int = 10**9
) -> list[list[Tree]]:
    """Divide trees into groups of about *most* nodes, with a limit on their number."""
    groups: list[list[Tree]] = []
    nodes = 0
    for tree in trees:
        nodes += len(tree.left)
        if not groups or nodes > most or len(groups[-1]) >= at_most:
            groups.append([])
            nodes = len(tree.left)
        groups[-1].append(tree)
    return groups


def _ensemble(graph: Graph, value: str, trees: list[Tree], targets: int, mode: int) -> str:
    sizes = np.array([len(tree.left) for tree in trees])
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    left, right, feature, threshold, missing, weight = (
        np.concatenate([tree[i] for tree in trees]) for i in range(6)
    )
    target = np.repeat([tree.target for tree in trees], sizes)
    is_leaf = left == -1
    left, right = left + first, right + first
    # Branches and leaves are numbered apart; leaves that add the same are one.
    numbers = np.empty(len(is_leaf), np.int64)
    numbers[~is_leaf] = np.arange(int((~is_leaf).sum()))
    numbers[is_leaf], leaf_targets, leaf_weights = _distinct(target[is_leaf], weight[is_leaf])
    left, right = left[~is_leaf], right[~is_leaf]
    more: dict[str, Any] = {}
    if missing[~is_leaf].any():
        more["nodes_missing_value_tracks_true"] = missing[~is_leaf].astype(int).tolist()
    return graph.node(
        "TreeEnsemble",
        value,
        domain=ML,
        n_targets=targets,
        aggregate_function=1,  # the sum
        post_transform=0,
        nodes_featureids=feature[~is_leaf].tolist(),
        nodes_splits=numpy_helper.from_array(threshold[~is_leaf].astype(np.float64)),
        nodes_modes=numpy_helper.from_array(np.full(len(left), mode, np.uint8)),
        nodes_truenodeids=numbers[left].tolist(),
        nodes_falsenodeids=numbers[right].tolist(),
        nodes_trueleafs=is_leaf[left].astype(int).tolist(),
        nodes_falseleafs=is_leaf[right].astype(int).tolist(),
        leaf_targetids=leaf_targets.tolist(),
        leaf_weights=numpy_helper.from_array(leaf_weights),
        tree_roots=numbers[np.cumsum(sizes) - sizes].tolist(),
        **more,
    )


def _distinct(targets: _Array, weights: _Array) -> tuple[_Array, _Array, _Array]:
    """
    Merge leaves that add the same, as most leaves of a forest do.

    Returns:
        For each leaf, its number; and by number, the target and the weight. The commonest come
        first: small numbers take fewer bytes.
    """
    keys = np.empty(len(weights), dtype=[("target", np.int64), ("weight", np.float64)])
    keys["target"], keys["weight"] = targets, weights
    distinct, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.argsort(order)
    return rank[which], distinct["target"][order], distinct["weight"][order]


def raw_sum(
    graph: Graph, value: str, trees: list[Tree], rows: list[_Array], mode: int = LEQ
) -> str:
    """
    Write the sum over *trees* of one row of numbers a leaf, shape (rows, width).

    For each tree, *rows* has the numbers of its nodes, shape (nodes, width). Weights are not read.
    """
    width = rows[0].shape[1]
    table, places = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    ends = np.cumsum([len(part) for part in rows])[:-1]
    numbered = [
        tree._replace(weight=place.reshape(-1).astype(np.float64))
        for tree, place in zip(trees, np.split(places.reshape(-1), ends), strict=True)
    ]
    parts = []
    for group in _groups(numbered, at_most=max(1, VALUES_TOGETHER // width)):
        leaves = tree_sums(
            graph,
            value,
            [tree._replace(target=i) for i, tree in enumerate(group)],
            len(group),
            mode=mode,
        )
        chosen = graph.node("Gather", graph.constant(table), graph.cast(leaves, np.int64), axis=0)
        if len(group) == 1:
            parts.append(graph.node("Squeeze", chosen, graph.integers(1)))
        else:
            parts.append(graph.node("ReduceSum", chosen, graph.integers(1), keepdims=0))
    return parts[0] if len(parts) == 1 else graph.node("Sum", *parts)

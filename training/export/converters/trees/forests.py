"""Trees and forests, as the operator TreeEnsemble in float64.

scikit-learn rounds the input of trees and forests to float32 and compares it with thresholds of
float64. Rounding keeps the order of numbers, so the graph compares the number as it is with the
largest float64 that rounds to no more than the threshold: the same rows go left.
https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from training.export.converters.linear import pair
from training.export.converters.registry import Part, converts
from training.export.graph import ML, CannotCompileError, Graph, Table

__all__ = ["Tree", "arrays", "columns_of_trees", "from_float32", "raw_sum", "tree_sums"]

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
    Write the sums of what *trees* add to *base*, shape (rows, targets).

    Args:
        graph: The graph.
        value: The tensor of features, float64.
        trees: Their features are columns of *value*.
        targets: How many sums there are.
        base: What they start from.
        mode: How a number is compared with a threshold.
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
        first = graph.node("Gather", value, graph.integers(0), axis=1)
        ones = graph.node("Pow", first, graph.constant(0.0))
        return str(graph.node("Mul", ones, graph.constant(start.reshape(1, -1))))
    total = parts[0] if len(parts) == 1 else graph.node("Sum", *parts)
    if start.any():
        total = graph.node("Add", total, graph.constant(start.reshape(1, -1)))
    return str(total)


def _groups(
    trees: list[Tree], most: int = NODES_TOGETHER, at_most: int = 10**9
) -> list[list[Tree]]:
    """Divide trees into groups of about *most* nodes and at most so many trees."""
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
    return str(
        graph.node(
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
    )


def _distinct(targets: _Array, weights: _Array) -> tuple[_Array, _Array, _Array]:
    """
    Take leaves that add the same for one, which most of a forest's do.

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

    Args:
        graph: The graph.
        value: The tensor of features.
        trees: Their weights are not read.
        rows: For each tree, the numbers of its nodes, shape (nodes, width).
        mode: How a number is compared with a threshold.
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
    return parts[0] if len(parts) == 1 else str(graph.node("Sum", *parts))


def arrays(tree: Any, weight: Any, target: int = 0) -> Tree:
    """Read a fitted tree of scikit-learn's."""
    return Tree(
        tree.children_left,
        tree.children_right,
        tree.feature,
        from_float32(tree.threshold),
        tree.missing_go_to_left,
        weight,
        target,
    )


def columns_of_trees(graph: Graph, model: Any, table: Table) -> str:
    """Return the matrix as trees take it: what float32 cannot hold is refused."""
    first = model
    while hasattr(first, "estimators_"):
        first = np.ravel(first.estimators_)[0]
    gaps = bool(first.tree_.missing_go_to_left.any()) or _takes_gaps(model)
    return graph.finite(table, gaps=gaps, float32=True)


def _takes_gaps(model: Any) -> bool:
    return bool(model.__sklearn_tags__().input_tags.allow_nan)


def _members(model: Any) -> list[Any]:
    return list(model.estimators_) if hasattr(model, "estimators_") else [model]


_FORESTS = (
    DecisionTreeClassifier,
    ExtraTreeClassifier,
    RandomForestClassifier,
    ExtraTreesClassifier,
)


@converts("probabilities", *_FORESTS)
def _forest_classifier(graph: Graph, model: Any, table: Table) -> str:
    value, trees = columns_of_trees(graph, model, table), _members(model)
    count = graph.constant(float(len(trees)))
    if getattr(trees[0], "n_outputs_", 1) > 1:
        raise CannotCompileError("it predicts several targets at once")
    if len(model.classes_) == 2:
        found = [arrays(tree.tree_, tree.tree_.value[:, 0, 1]) for tree in trees]
        second = tree_sums(graph, value, found, 1)
        return pair(graph, graph.node("Div", second, count) if len(trees) > 1 else second)
    rows = [tree.tree_.value[:, 0, :] for tree in trees]
    found = [arrays(tree.tree_, tree.tree_.value[:, 0, 0]) for tree in trees]
    total = raw_sum(graph, value, found, rows)
    return str(graph.node("Div", total, count)) if len(trees) > 1 else total


@converts("several", *_FORESTS)
def _forest_of_targets(graph: Graph, model: Any, table: Table) -> list[Part]:
    value, trees, parts = columns_of_trees(graph, model, table), _members(model), []
    for i, count in enumerate(model.n_classes_):
        rows = [tree.tree_.value[:, i, :count] for tree in trees]
        found = [arrays(tree.tree_, tree.tree_.value[:, i, 0]) for tree in trees]
        total = raw_sum(graph, value, found, rows)
        chances = graph.node("Div", total, graph.constant(float(len(trees))))
        label = graph.node("ArgMax", chances, axis=1, keepdims=0)
        parts.append(Part(label=label, probabilities=chances))
    return parts


@converts(
    "values", DecisionTreeRegressor, ExtraTreeRegressor, RandomForestRegressor, ExtraTreesRegressor
)
def _forest_regressor(graph: Graph, model: Any, table: Table) -> str:
    value, trees = columns_of_trees(graph, model, table), _members(model)
    if trees[0].n_outputs_ == 1:
        found = [arrays(tree.tree_, tree.tree_.value[:, 0, 0]) for tree in trees]
        total = tree_sums(graph, value, found, 1)
    else:
        rows = [tree.tree_.value[:, :, 0] for tree in trees]
        found = [arrays(tree.tree_, tree.tree_.value[:, 0, 0]) for tree in trees]
        total = raw_sum(graph, value, found, rows)
    if len(trees) == 1:
        return total
    return str(graph.node("Div", total, graph.constant(float(len(trees)))))


@converts("decision", GradientBoostingClassifier)
@converts("values", GradientBoostingRegressor)
def _gradient_boosting(graph: Graph, model: Any, table: Table) -> str:
    if model.init is not None and model.init != "zero":
        raise CannotCompileError("its option init is a model of its own")
    value = graph.finite(table, float32=True)
    members = model.estimators_
    trees = [
        arrays(tree.tree_, model.learning_rate * tree.tree_.value[:, 0, 0], k)
        for stage in members
        for k, tree in enumerate(stage)
    ]
    # What the sums start from is what is left of one answer without the trees.
    row = np.zeros((1, model.n_features_in_))
    decide = model.decision_function if hasattr(model, "classes_") else model.predict
    added = [
        sum(model.learning_rate * tree.predict(row)[0] for tree in column) for column in members.T
    ]
    base = np.ravel(decide(row)) - added
    return tree_sums(graph, value, trees, members.shape[1], base=base)


@converts("probabilities", GradientBoostingClassifier)
def _gradient_boosting_classifier(graph: Graph, model: Any, table: Table) -> str:
    found = _gradient_boosting(graph, model, table)
    if len(model.classes_) == 2:
        if model.loss == "exponential":
            found = graph.node("Mul", found, graph.constant(2.0))
        return pair(graph, graph.node("Sigmoid", found))
    return str(graph.node("Softmax", found, axis=1))

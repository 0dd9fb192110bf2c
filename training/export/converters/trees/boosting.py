"""Boosting: by histograms, whose trees may split by categories, and AdaBoost."""

from __future__ import annotations

from typing import Any

import numpy as np
from serving.model.schema import MISSING
from sklearn import ensemble
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from training.export.converters import registry
from training.export.converters.encode import category_of, lookup
from training.export.converters.linear import chances
from training.export.converters.registry import converts
from training.export.converters.trees.ensemble import Tree, raw_sum, tree_sums
from training.export.converters.trees.forests import arrays, columns_of_trees
from training.export.graph import CannotCompileError, Column, Graph, Table

__all__ = ["Ways", "boosted_sums"]


class Ways:
    """The splits by categories: for each column, which way each of its categories goes."""

    def __init__(self) -> None:
        self.found: dict[int, dict[bytes, int]] = {}

    def add(self, column: int, goes_right: Any, *, missing_right: bool) -> int:
        """
        Take in a split of *column*, and return what stands for it in `Tree.feature`.

        `Tree.threshold` holds the column meanwhile. *goes_right* has an entry for each category, by
        its code; one that is missing, or was never seen, goes where *missing_right* says.
        """
        key = np.append(np.asarray(goes_right, bool), missing_right).tobytes()
        ways = self.found.setdefault(column, {})
        return -1 - ways.setdefault(key, len(ways))


def boosted_sums(
    graph: Graph,
    trees: list[Tree],
    ways: Ways,
    columns: list[Column],
    categories: dict[int, list[Any]],
    *,
    targets: int,
    base: Any,
) -> str:
    """
    Write the sums of trees that split by numbers and by categories, shape (rows, targets).

    The trees' features are places in *columns*, or what `Ways.add` gave. *categories* has those of
    each column that is split by them, by code. The sums start from *base*.
    """
    parts: Table = []
    ways_at: dict[tuple[int, int], int] = {}
    for j, found in sorted(ways.found.items()):
        known = categories[j]
        rows = np.array([np.frombuffer(key, bool) for key in found], float).T
        rows = np.vstack([rows[: len(known)], rows[-1:]])
        gaps = [i for i, value in enumerate(known) if value == MISSING or value != value]  # noqa: PLR0124
        rows[gaps] = rows[-1]
        for i in range(rows.shape[1]):
            ways_at[j, i] = len(parts) + i
        made = lookup(graph, columns[j], known, rows[:-1], rows[-1])
        parts = parts + graph.computed(made, rows.shape[1], small=True)
    numbers = [j for j in range(len(columns)) if j not in categories]
    places = np.full(len(columns), -1)
    places[numbers] = np.arange(len(parts), len(parts) + len(numbers))
    value = graph.matrix(parts + [columns[j] for j in numbers], exact=True)
    placed = [_placed(tree, places, ways_at) for tree in trees]
    return tree_sums(graph, value, placed, targets, base=base)


def _placed(tree: Tree, places: Any, ways_at: dict[tuple[int, int], int]) -> Tree:
    """Point the splits of *tree* to the columns that the graph hands to it."""
    inner = tree.left != -1
    feature, threshold = tree.feature.copy(), tree.threshold.copy()
    by_category = inner & (feature < 0)
    by_number = inner & ~by_category
    feature[by_number] = places[feature[by_number]]
    for i in np.flatnonzero(by_category):
        feature[i] = ways_at[int(threshold[i]), int(-1 - feature[i])]
        threshold[i] = 0.5
    return tree._replace(feature=feature, threshold=threshold)


@converts("decision", ensemble.HistGradientBoostingClassifier)
def _raw_predictions(graph: Graph, model: Any, table: Table) -> str:
    columns, categories = list(table), {}
    if model._preprocessor is not None:
        encoder = model._preprocessor.named_transformers_["encoder"]
        chosen = [column for column, c in zip(table, model.is_categorical_, strict=True) if c]
        others = [column for column, c in zip(table, model.is_categorical_, strict=True) if not c]
        columns = chosen + others  # categories come first
        categories = {
            j: [category_of(value, column) for value in encoder.categories_[j]]
            for j, column in enumerate(chosen)
        }
    ways = Ways()
    trees = [
        _tree(predictor, ways, k)
        for stage in model._predictors
        for k, predictor in enumerate(stage)
    ]
    targets, base = len(model._predictors[0]), model._baseline_prediction
    return boosted_sums(graph, trees, ways, columns, categories, targets=targets, base=base)


def _tree(predictor: Any, ways: Ways, target: int) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
    feature = nodes["feature_idx"].astype(np.int64)
    threshold = nodes["num_threshold"].astype(np.float64)
    missing = nodes["missing_go_to_left"].astype(bool)
    left[leaf] = -1
    for i in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf):
        bits = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][i]]
        goes_left = np.unpackbits(bits.astype("<u4").view(np.uint8), bitorder="little")
        threshold[i] = feature[i]
        feature[i] = ways.add(int(feature[i]), 1 - goes_left, missing_right=not missing[i])
    return Tree(left, right, feature, threshold, missing, nodes["value"].copy(), target)


@converts("probabilities", ensemble.HistGradientBoostingClassifier)
def _classifier(graph: Graph, model: Any, table: Table) -> str:
    return chances(graph, registry.decide(graph, model, table), model)


@converts("values", ensemble.HistGradientBoostingRegressor)
def _regressor(graph: Graph, model: Any, table: Table) -> str:
    found = _raw_predictions(graph, model, table)
    return graph.node("Exp", found) if model.loss in ("poisson", "gamma") else found


def _check_trees(members: list[Any], kind: type) -> None:
    if not all(type(member) is kind for member in members):
        raise CannotCompileError("only a DecisionTree as its estimator has a converter")


@converts("decision", ensemble.AdaBoostClassifier)
def _ada_boost(graph: Graph, model: Any, table: Table) -> str:
    members, classes = model.estimators_, len(model.classes_)
    _check_trees(members, DecisionTreeClassifier)
    value = columns_of_trees(graph, model, table)
    weights = model.estimator_weights_[: len(members)] / model.estimator_weights_.sum()
    rows = []
    for member, weight in zip(members, weights.tolist(), strict=True):
        seen = np.searchsorted(model.classes_, member.classes_)
        best = seen[member.tree_.value[:, 0, :].argmax(axis=1)]
        rows.append(np.where(best[:, None] == np.arange(classes), weight, -weight / (classes - 1)))
    if classes > 2:
        trees = [arrays(member.tree_, row[:, 0]) for member, row in zip(members, rows, strict=True)]
        return raw_sum(graph, value, trees, rows)
    trees = [
        arrays(member.tree_, row[:, 1] - row[:, 0])
        for member, row in zip(members, rows, strict=True)
    ]
    return tree_sums(graph, value, trees, 1)


@converts("probabilities", ensemble.AdaBoostClassifier)
def _ada_boost_classifier(graph: Graph, model: Any, table: Table) -> str:
    found, classes = _ada_boost(graph, model, table), len(model.classes_)
    if classes > 2:
        found = graph.node("Div", found, float(classes - 1))
    return chances(graph, found, model)


@converts("values", ensemble.AdaBoostRegressor)
def _ada_boost_regressor(graph: Graph, model: Any, table: Table) -> str:
    members = model.estimators_
    _check_trees(members, DecisionTreeRegressor)
    trees = [arrays(m.tree_, m.tree_.value[:, 0, 0], i) for i, m in enumerate(members)]
    found = tree_sums(graph, columns_of_trees(graph, model, table), trees, len(members))
    count = graph.integers(len(members))
    ordered, places = graph.outputs_of("TopK", found, count, axis=1, largest=0, outputs=2)
    weights = graph.constant(model.estimator_weights_[: len(members)])
    sums = graph.node("CumSum", graph.node("Gather", weights, places), graph.constant(1, np.int64))
    total = graph.columns(sums, len(members) - 1)
    half = graph.node("Mul", total, 0.5)
    reached = graph.cast(graph.node("GreaterOrEqual", sums, half))
    place = graph.node("ArgMax", reached, axis=1, keepdims=1)
    return graph.node("GatherElements", ordered, place, axis=1)

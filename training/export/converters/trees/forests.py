"""Trees and forests, as the operator TreeEnsemble in float64.

scikit-learn rounds the input of trees and forests to float32 and compares it with thresholds of
float64. Rounding keeps the order of numbers, so the graph compares the number as it is with the
largest float64 that rounds to no more than the threshold: the same rows go left.
https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import ensemble
from sklearn.base import BaseEstimator
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from training.export.converters import registry
from training.export.converters.linear import chances, pair
from training.export.converters.numbers.scale import clip
from training.export.converters.registry import Part, converts
from training.export.converters.trees.ensemble import (
    Tree,
    from_float32,
    raw_sum,
    tree_sums,
)
from training.export.graph import CannotCompileError, Graph, Table

__all__ = ["arrays", "columns_of_trees"]

#: A number that float32 can multiply and add up without overflow.
FAR = 1e18


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
    """Return the matrix as trees take it: numbers that float32 cannot hold are rejected."""
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
    ensemble.RandomForestClassifier,
    ensemble.ExtraTreesClassifier,
)


@converts("probabilities", *_FORESTS)
def _forest_classifier(graph: Graph, model: Any, table: Table) -> str:
    value, trees = columns_of_trees(graph, model, table), _members(model)
    count = graph.constant(float(len(trees)))
    if getattr(trees[0], "n_outputs_", 1) > 1:
        raise CannotCompileError(
            "it predicts several targets at once: MultiOutputClassifier around it has a converter"
        )
    if len(model.classes_) == 2:
        found = [arrays(tree.tree_, tree.tree_.value[:, 0, 1]) for tree in trees]
        second = tree_sums(graph, value, found, 1)
        return pair(graph, graph.node("Div", second, count) if len(trees) > 1 else second)
    rows = [tree.tree_.value[:, 0, :] for tree in trees]
    found = [arrays(tree.tree_, tree.tree_.value[:, 0, 0]) for tree in trees]
    total = raw_sum(graph, value, found, rows)
    return graph.node("Div", total, count) if len(trees) > 1 else total


@converts("several", *_FORESTS)
def _forest_of_targets(graph: Graph, model: Any, table: Table) -> list[Part]:
    value, trees, parts = columns_of_trees(graph, model, table), _members(model), []
    for i, count in enumerate(model.n_classes_):
        rows = [tree.tree_.value[:, i, :count] for tree in trees]
        found = [arrays(tree.tree_, tree.tree_.value[:, i, 0]) for tree in trees]
        total = raw_sum(graph, value, found, rows)
        chances = graph.node("Div", total, float(len(trees)))
        label = graph.likeliest(chances)
        parts.append(Part(label=label, probabilities=chances))
    return parts


@converts(
    "values",
    DecisionTreeRegressor,
    ExtraTreeRegressor,
    ensemble.RandomForestRegressor,
    ensemble.ExtraTreesRegressor,
)
def _forest_regressor(graph: Graph, model: Any, table: Table) -> str:
    value, trees = columns_of_trees(graph, model, table), _members(model)
    found = [arrays(tree.tree_, tree.tree_.value[:, 0, 0]) for tree in trees]
    if trees[0].n_outputs_ == 1:
        total = tree_sums(graph, value, found, 1)
    else:
        total = raw_sum(graph, value, found, [tree.tree_.value[:, :, 0] for tree in trees])
    return total if len(trees) == 1 else graph.node("Div", total, float(len(trees)))


@converts("decision", ensemble.GradientBoostingClassifier)
@converts("values", ensemble.GradientBoostingRegressor)
def _gradient_boosting(graph: Graph, model: Any, table: Table) -> str:
    value = graph.finite(table, float32=True)
    members = model.estimators_
    trees = [
        arrays(tree.tree_, model.learning_rate * tree.tree_.value[:, 0, 0], k)
        for stage in members
        for k, tree in enumerate(stage)
    ]
    if isinstance(model.init, BaseEstimator):
        graph.finite(table, most=FAR)
        sums = tree_sums(graph, value, trees, members.shape[1], base=np.zeros(members.shape[1]))
        return graph.node("Add", sums, _first_guess(graph, model, value, len(table)))
    # What the sums start from is what is left of one answer without the trees.
    row = np.zeros((1, model.n_features_in_))
    decide = model.decision_function if hasattr(model, "classes_") else model.predict
    added = [
        sum(model.learning_rate * tree.predict(row)[0] for tree in column) for column in members.T
    ]
    base = np.ravel(decide(row)) - added
    return tree_sums(graph, value, trees, members.shape[1], base=base)


def _first_guess(graph: Graph, model: Any, value: str, width: int) -> str:
    """Write what a model given as `init` answers, on the scale of the sums."""
    # It was fitted on float32, and is shown float32: many models then compute in it, too.
    graph.inexact.append(type(model.init_).__name__)
    rounded = graph.cast(graph.cast(value, np.float32))
    table = graph.computed(rounded, width)
    if not hasattr(model, "classes_"):
        return registry.values(graph, model.init_, table)
    chances = registry.probabilities(graph, model.init_, table)
    if len(model.classes_) == 2:
        chances = graph.columns(chances, 1)
    least = float(np.finfo(np.float64).eps)
    chances = clip(graph, chances, least, 1 - least)
    logarithm = graph.node("Log", chances)
    if len(model.classes_) > 2:
        mean = graph.node("ReduceMean", logarithm, graph.integers(1), keepdims=1)
        return graph.node("Sub", logarithm, mean)
    others = graph.node("Log", graph.node("Sub", 1.0, chances))
    logit = graph.node("Sub", logarithm, others)
    return graph.node("Mul", logit, 0.5 if model.loss == "exponential" else 1)


@converts("probabilities", ensemble.GradientBoostingClassifier)
def _gradient_boosting_classifier(graph: Graph, model: Any, table: Table) -> str:
    found = _gradient_boosting(graph, model, table)
    if model.loss == "exponential":
        found = graph.node("Mul", found, 2.0)
    return chances(graph, found, model)

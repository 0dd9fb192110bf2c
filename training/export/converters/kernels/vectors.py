"""Support vector machines, and other models that decide between each two classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.multiclass import OneVsOneClassifier
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM

from training.export.converters import registry
from training.export.converters.kernels.coupling import MOST_CLASSES, coupled
from training.export.converters.kernels.models import dense, kernel
from training.export.converters.linear import weighted_sum
from training.export.converters.numbers.scale import clip
from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Table

#: Further away decisions overflow, and the first class whose votes are no number wins.
FAR = 1e100


def _kernel(graph: Graph, model: Any, table: Table) -> str:
    """Write the kernel between the rows and the support vectors, shape (rows, vectors)."""
    return kernel(graph, graph.finite(table), model.support_vectors_, model)


@converts("values", SVR, NuSVR)
def _vector_regressor(graph: Graph, model: Any, table: Table) -> str:
    weights = dense(model.dual_coef_).T
    return weighted_sum(graph, _kernel(graph, model, table), weights, model.intercept_)


def _pairs(graph: Graph, model: Any, table: Table) -> str:
    """Write the decisions between each two classes, shape (rows, pairs)."""
    found = _kernel(graph, model, table)
    coefficients, classes = dense(model.dual_coef_), len(model.classes_)
    if classes == 2:
        return weighted_sum(graph, found, coefficients.T, model.intercept_)
    ends = np.cumsum(model.n_support_)
    starts = ends - model.n_support_
    columns = []
    for i in range(classes):
        for j in range(i + 1, classes):
            column = np.zeros(coefficients.shape[1])
            first, second = slice(starts[i], ends[i]), slice(starts[j], ends[j])
            column[first] = coefficients[j - 1, first]
            column[second] = coefficients[i, second]
            columns.append(column)
    return weighted_sum(graph, found, np.transpose(columns), model.intercept_)


@converts("decision", SVC, NuSVC)
def _vector_decision(graph: Graph, model: Any, table: Table) -> str:
    found, classes = _pairs(graph, model, table), len(model.classes_)
    if classes == 2:
        return found
    if model.decision_function_shape != "ovr":
        raise CannotCompileError("decision_function_shape='ovo' has no converter: 'ovr' has")
    negative = graph.cast(graph.node("Less", found, 0.0))
    return _votes(graph, negative, graph.node("Neg", found), classes)


@converts("label", SVC, NuSVC)
def _vector_label(graph: Graph, model: Any, table: Table) -> str:
    found, classes = _pairs(graph, model, table), len(model.classes_)
    if model.break_ties and classes > 2:
        decision = _vector_decision(graph, model, table)
        return graph.likeliest(decision)
    won = graph.cast(graph.node("Greater", found, 0.0))
    if classes == 2:
        return graph.index(won)
    votes, base = _ballot(classes)
    found = weighted_sum(graph, won, -votes, base + votes.sum(axis=0))
    return graph.likeliest(found)


@converts("probabilities", SVC, NuSVC)
def _vector_probabilities(graph: Graph, model: Any, table: Table) -> str:
    classes = len(model.classes_)
    if classes > MOST_CLASSES:
        raise CannotCompileError(
            f"probability=True with more than {MOST_CLASSES} classes has no converter: "
            "CalibratedClassifierCV(SVC(), ensemble=False) has"
        )
    found = _pairs(graph, model, table)
    # Of two classes, scikit-learn turns libsvm's decision round.
    slope = np.asarray(model._probA) * (1 if classes == 2 else -1)
    line = graph.node("Sub", graph.node("Mul", found, slope), model._probB)
    return coupled(graph, clip(graph, graph.node("Sigmoid", line), 1e-7, 1 - 1e-7), classes)


@converts("decision", OneClassSVM)
def _one_class(graph: Graph, model: Any, table: Table) -> str:
    weights = dense(model.dual_coef_).T
    return weighted_sum(graph, _kernel(graph, model, table), weights, model.intercept_)


def _ballot(classes: int) -> tuple[Any, Any]:
    """
    Return how the classes' votes follow from who wins each pair: by 0 the first, by 1 the second.

    Returns:
        Weights, shape (pairs, classes), and what they are added to, shape (classes,).
    """
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    votes, base = np.zeros((len(pairs), classes)), np.zeros(classes)
    for place, (i, j) in enumerate(pairs):
        votes[place, i], votes[place, j] = -1.0, 1.0
        base[i] += 1.0
    return votes, base


def _votes(graph: Graph, second: str, confidence: str, classes: int) -> str:
    """
    Write the votes for each class, and a third of a vote at most for how sure they are.

    Of shape (rows, pairs), *second* is 1 where the second class of a pair wins, else 0, and
    *confidence* is how sure it is of the second class.
    """
    weights, base = _ballot(classes)
    votes = weighted_sum(graph, second, weights, base)
    total = graph.node("MatMul", confidence, weights)
    size = graph.node("Add", graph.node("Abs", total), 1.0)
    share = graph.node("Div", total, graph.node("Mul", size, 3.0))
    return graph.node("Add", votes, share)


@converts("decision", OneVsOneClassifier)
def _one_against_one(graph: Graph, model: Any, table: Table) -> str:
    if model.pairwise_indices_ is not None:
        raise CannotCompileError("kernel='precomputed' has no converter: 'rbf' and 'linear' have")
    graph.finite(table, gaps=True, most=FAR)
    seconds, confidences = [], []
    for member in model.estimators_:
        index = registry.label(graph, member, table)
        seconds.append(graph.node("Reshape", graph.cast(index), graph.integers(-1, 1)))
        confidences.append(registry.score(graph, member, table))
    if len(seconds) == 1:
        found = _votes(graph, seconds[0], confidences[0], 2)
        return graph.columns(found, 1)
    second, confidence = (graph.node("Concat", *parts, axis=1) for parts in (seconds, confidences))
    return _votes(graph, second, confidence, len(model.classes_))


@converts("label", OneVsOneClassifier)
def _one_against_one_label(graph: Graph, model: Any, table: Table) -> str:
    found = _one_against_one(graph, model, table)
    if len(model.classes_) > 2:
        return graph.likeliest(found)
    threshold = 0.0 if hasattr(model.estimators_[0], "decision_function") else 0.5
    return graph.index(graph.node("Greater", found, threshold))

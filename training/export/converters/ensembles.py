"""Models made of models: votes, stacks, calibration, thresholds, one against the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import ensemble
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier, OutputCodeClassifier
from sklearn.semi_supervised import SelfTrainingClassifier

from training.export.converters import registry
from training.export.converters.linear import pair, shares, weighted_sum
from training.export.converters.registry import converts, hands_on
from training.export.graph import CannotCompileError, Graph, Table

#: Further away decisions are so large that rounding picks among codes almost as near.
FAR = 1e15


@hands_on(("transform", *registry.ANSWERS), FrozenEstimator, SelfTrainingClassifier)
@hands_on(("probabilities", "decision"), FixedThresholdClassifier, TunedThresholdClassifierCV)
def _inside(_: Graph, model: Any, table: Table) -> tuple[Any, Table]:
    if isinstance(model, FrozenEstimator):  # it passes on its model's attributes
        return model.estimator, table
    return model.estimator_, table


def _mean(graph: Graph, parts: list[str], weights: Any = None) -> str:
    """Write the mean of tensors of one shape, weighted if there are weights."""
    if weights is not None:
        shares = np.asarray(weights, np.float64)
        parts = [
            graph.node("Mul", part, weight)
            for part, weight in zip(parts, shares.tolist(), strict=True)
        ]
    total = parts[0] if len(parts) == 1 else graph.node("Sum", *parts)
    count = float(len(parts)) if weights is None else float(np.sum(weights))
    return graph.node("Div", total, count)


def _one_hot(graph: Graph, index: str, classes: int) -> str:
    """Write 0/1 columns, shape (rows, classes), for indices of shape (rows,)."""
    column = graph.node("Reshape", index, graph.integers(-1, 1))
    return graph.cast(graph.node("Equal", column, graph.integers(*range(classes))))


def _weights(model: Any) -> Any:
    """Return the weights of the members of a voting that were not dropped, if it has weights."""
    if model.weights is None:
        return None
    dropped = [isinstance(member, str) and member == "drop" for _, member in model.estimators]
    return [weight for weight, gone in zip(model.weights, dropped, strict=True) if not gone]


@converts("values", ensemble.VotingRegressor)
def _voting_regressor(graph: Graph, model: Any, table: Table) -> str:
    parts = [registry.values(graph, member, table) for member in model.estimators_]
    return _mean(graph, parts, _weights(model))


@converts("probabilities", ensemble.VotingClassifier)
def _voting_classifier(graph: Graph, model: Any, table: Table) -> str:
    parts = [registry.probabilities(graph, member, table) for member in model.estimators_]
    return _mean(graph, parts, _weights(model))


@converts("label", ensemble.VotingClassifier)
def _voting_label(graph: Graph, model: Any, table: Table) -> str:
    if model.voting == "soft":
        chances = _voting_classifier(graph, model, table)
        return graph.likeliest(chances)
    count = len(model.classes_)
    votes = []
    for member in model.estimators_:
        index = registry.label(graph, member, table)
        places = graph.node("Gather", graph.integers(*map(int, member.classes_)), index)
        votes.append(_one_hot(graph, places, count))
    total = _mean(graph, votes, _weights(model))
    return graph.likeliest(total)


def _stacked(graph: Graph, model: Any, table: Table) -> Table:
    made: Table = []
    regression = not hasattr(model, "classes_")
    for member, method in zip(model.estimators_, model.stack_method_, strict=True):
        if isinstance(member, str):
            continue
        if method == "predict_proba":
            value, width = registry.probabilities(graph, member, table), len(member.classes_)
            if len(model.classes_) == 2:
                value, width = graph.columns(value, 1), 1
        elif method == "decision_function":
            value, width = registry.decide(graph, member, table), len(member.classes_)
            width = 1 if width == 2 else width
        elif regression:
            value, width = registry.values(graph, member, table), 1
        else:
            index = registry.label(graph, member, table)
            numbers = graph.constant(np.asarray(member.classes_, np.float64).reshape(-1, 1))
            value, width = graph.node("Gather", numbers, index), 1
        made += graph.computed(value, width)
    return made + table if model.passthrough else made


@hands_on(("values",), ensemble.StackingRegressor)
@hands_on(("probabilities", "label"), ensemble.StackingClassifier)
def _final(graph: Graph, model: Any, table: Table) -> tuple[Any, Table]:
    return model.final_estimator_, _stacked(graph, model, table)


@converts("values", IsotonicRegression)
def _isotonic(graph: Graph, model: Any, table: Table) -> str:
    return _interpolated(graph, graph.finite(table), model)


def _interpolated(graph: Graph, value: str, model: Any) -> str:
    """Write the line between the thresholds of an isotonic regression, shape (rows, 1)."""
    x, y = np.asarray(model.X_thresholds_, float), np.asarray(model.y_thresholds_, float)
    if model.out_of_bounds != "clip":
        raise CannotCompileError(
            f"out_of_bounds={model.out_of_bounds!r} has no converter, and 'clip' has"
        )
    if len(x) == 1:
        return graph.node("Add", graph.node("Mul", value, 0.0), y)
    bounded = graph.node("Min", graph.node("Max", value, x[0]), x[-1])
    above = graph.cast(graph.node("Greater", bounded, x[1:-1]))
    place = graph.cast(graph.row_sums(above), np.int64)
    slopes = np.diff(y) / np.diff(x)
    start, slope, low = (graph.node("Gather", part, place) for part in (x[:-1], slopes, y[:-1]))
    rise = graph.node("Mul", slope, graph.node("Sub", bounded, start))
    return graph.node("Add", rise, low)


def _check_classes(member: Any, count: int) -> None:
    if len(member.classes_) != count:
        raise CannotCompileError(
            "one of its parts has seen only some of the classes: use fewer parts, or more rows"
        )


@converts("probabilities", CalibratedClassifierCV)
def _calibrated(graph: Graph, model: Any, table: Table) -> str:
    members = model.calibrated_classifiers_
    return _mean(graph, [_calibrated_member(graph, member, table) for member in members])


def _calibrated_member(graph: Graph, member: Any, table: Table) -> str:
    inner, classes = member.estimator, len(member.classes)
    _check_classes(inner, classes)
    if hasattr(inner, "decision_function"):
        score = registry.decide(graph, inner, table)
    else:
        score = registry.probabilities(graph, inner, table)
        score = graph.columns(score, 1) if classes == 2 else score
    if member.method == "temperature":
        raise CannotCompileError(
            f"method={member.method!r} has no converter, 'sigmoid' and 'isotonic' have"
        )
    parts = []
    for i, calibrator in enumerate(member.calibrators):
        value = score if classes == 2 else graph.columns(score, i)
        if member.method == "isotonic":
            parts.append(_interpolated(graph, value, calibrator))
        else:
            line = graph.node("Sub", graph.node("Mul", value, -calibrator.a_), calibrator.b_)
            parts.append(graph.node("Sigmoid", line))
    if classes == 2:
        return pair(graph, parts[0])
    return shares(graph, graph.node("Concat", *parts, axis=1), classes)


@converts("label", FixedThresholdClassifier, TunedThresholdClassifierCV)
def _threshold_label(graph: Graph, model: Any, table: Table) -> str:
    inner, _ = _inside(graph, model, table)
    if getattr(model, "pos_label", None) is not None:
        raise CannotCompileError(
            "pos_label has no converter: without it the second of classes_ is the positive one"
        )
    wanted = model.response_method
    by_chance = wanted == "predict_proba" or (wanted == "auto" and hasattr(inner, "predict_proba"))
    if by_chance:
        score = graph.columns(registry.probabilities(graph, inner, table), 1)
    else:
        score = registry.decide(graph, inner, table)
    threshold: Any = getattr(model, "best_threshold_", getattr(model, "threshold", None))
    if threshold == "auto":
        threshold = 0.5 if by_chance else 0.0
    return graph.index(graph.node("GreaterOrEqual", score, float(threshold)))


@converts("probabilities", OneVsRestClassifier)
def _one_against_rest(graph: Graph, model: Any, table: Table) -> str:
    parts = [
        graph.columns(registry.probabilities(graph, member, table), 1)
        for member in model.estimators_
    ]
    if len(parts) == 1:
        return pair(graph, parts[0])
    return shares(graph, graph.node("Concat", *parts, axis=1), len(parts))


@converts("decision", OneVsRestClassifier)
def _one_against_rest_decision(graph: Graph, model: Any, table: Table) -> str:
    parts = [registry.decide(graph, member, table) for member in model.estimators_]
    return parts[0] if len(parts) == 1 else graph.node("Concat", *parts, axis=1)


@converts("label", OneVsRestClassifier)
def _one_against_rest_label(graph: Graph, model: Any, table: Table) -> str:
    if hasattr(model.estimators_[0], "decision_function"):
        score, threshold = _one_against_rest_decision(graph, model, table), 0.0
    else:
        score, threshold = _one_against_rest(graph, model, table), 0.5
        score = graph.columns(score, 1) if len(model.estimators_) == 1 else score
    if len(model.estimators_) == 1:
        return graph.index(graph.node("Greater", score, threshold))
    return graph.likeliest(score)


@converts("label", OutputCodeClassifier)
def _codes_label(graph: Graph, model: Any, table: Table) -> str:
    graph.finite(table, gaps=True, most=FAR)
    parts, codes = [], []
    for member, code in zip(model.estimators_, model.code_book_.T, strict=True):
        if np.ptp(code) == 0:  # it says the same of all classes
            continue
        codes.append(code)
        parts.append(registry.score(graph, member, table))
    said = graph.node("Concat", *parts, axis=1)
    # A decision that is infinite is rejected.
    graph.poison(graph.node("MatMul", said, np.zeros((len(parts), 1))))
    book = np.asarray(codes, np.float64)
    apart = weighted_sum(graph, said, -2 * book, (book**2).sum(axis=0))
    return graph.node("ArgMin", apart, axis=1, keepdims=0)


def _bagged(model: Any, table: Table) -> list[tuple[Any, Table]]:
    members = zip(model.estimators_, model.estimators_features_, strict=True)
    return [(member, [table[i] for i in places]) for member, places in members]


@converts("values", ensemble.BaggingRegressor)
def _bagging_regressor(graph: Graph, model: Any, table: Table) -> str:
    return _mean(graph, [registry.values(graph, m, part) for m, part in _bagged(model, table)])


@converts("probabilities", ensemble.BaggingClassifier)
def _bagging_classifier(graph: Graph, model: Any, table: Table) -> str:
    parts, count = [], len(model.classes_)
    for member, part in _bagged(model, table):
        _check_classes(member, count)
        if hasattr(member, "predict_proba"):
            parts.append(registry.probabilities(graph, member, part))
        else:
            parts.append(_one_hot(graph, registry.label(graph, member, part), count))
    return _mean(graph, parts)

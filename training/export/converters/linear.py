"""Models of weighted sums, and those that answer the same whatever the row."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import linear_model as linear
from sklearn.cross_decomposition import CCA, PLSCanonical, PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.svm import LinearSVC, LinearSVR

from training.export.converters import registry
from training.export.converters.registry import converts
from training.export.graph import ML, CannotCompileError, Graph, Hashed, Table

__all__ = ["chances", "pair", "product", "rows_of", "shares", "weighted_sum"]

_REGRESSORS = (
    linear.ARDRegression,
    linear.BayesianRidge,
    linear.ElasticNet,
    linear.ElasticNetCV,
    linear.HuberRegressor,
    linear.Lars,
    linear.LarsCV,
    linear.Lasso,
    linear.LassoCV,
    linear.LassoLars,
    linear.LassoLarsCV,
    linear.LassoLarsIC,
    linear.LinearRegression,
    LinearSVR,
    linear.MultiTaskElasticNet,
    linear.MultiTaskElasticNetCV,
    linear.MultiTaskLasso,
    linear.MultiTaskLassoCV,
    linear.OrthogonalMatchingPursuit,
    linear.OrthogonalMatchingPursuitCV,
    linear.PassiveAggressiveRegressor,
    linear.QuantileRegressor,
    linear.Ridge,
    linear.RidgeCV,
    linear.SGDRegressor,
    linear.TheilSenRegressor,
)
_CLASSIFIERS = (
    LinearSVC,
    linear.PassiveAggressiveClassifier,
    linear.Perceptron,
    linear.RidgeClassifier,
    linear.RidgeClassifierCV,
    linear.SGDClassifier,
)


def weighted_sum(graph: Graph, value: str, weights: Any, intercept: Any) -> str:
    """Write `value @ weights + intercept`; weights have shape (columns, outputs)."""
    base = np.broadcast_to(np.asarray(intercept, np.float64).reshape(1, -1), (1, weights.shape[1]))
    return graph.node("Gemm", value, weights, base)


def product(graph: Graph, table: Table, weights: Any, intercept: Any = 0.0) -> str:
    """Write `table @ weights + intercept`; of hashes only those that a row has are read."""
    if not isinstance(table, Hashed):
        return weighted_sum(graph, graph.finite(table), weights, intercept)
    chosen = rows_of(graph, weights, table.places)
    values = graph.node("Unsqueeze", table.values, graph.integers(2))
    terms = graph.node("Mul", chosen, values)
    total = graph.node("ReduceSum", terms, graph.integers(1), keepdims=0)
    base = np.broadcast_to(np.asarray(intercept, np.float64).reshape(1, -1), (1, weights.shape[1]))
    return graph.node("Add", total, base)


def rows_of(graph: Graph, rows: Any, places: str) -> str:
    """
    Write the row at each of *places*, shape (rows, longest, width).

    The rows of columns that training never saw are equal, and are held once.
    """
    _, first, counts = np.unique(rows[:, 0], return_index=True, return_counts=True)
    usual = rows[first[counts.argmax()]]
    others = np.flatnonzero(np.any(rows != usual, axis=1))
    others = others if len(others) else np.array([0])
    if len(others) < len(rows) / 2:
        places = graph.node(
            "LabelEncoder",
            places,
            domain=ML,
            keys_int64s=others.tolist(),
            values_int64s=list(range(1, len(others) + 1)),
            default_int64=0,
        )
        rows = np.vstack([usual, rows[others]])
    return graph.node("Gather", rows, places)


def pair(graph: Graph, second: str) -> str:
    """Write the probabilities of two classes, given that of the second, shape (rows, 1)."""
    return graph.node("Concat", graph.node("Sub", 1.0, second), second, axis=1)


def chances(graph: Graph, score: str, model: Any) -> str:
    """Write the probabilities of the classes of *model*, given its scores before the link."""
    if len(model.classes_) == 2:
        return pair(graph, graph.node("Sigmoid", score))
    return graph.node("Softmax", score, axis=1)


def shares(graph: Graph, value: str, classes: int) -> str:
    """Divide each row by its sum; where that is 0, all are alike."""
    total = graph.row_sums(value)
    none = graph.node("Equal", total, 0.0)
    safe = graph.node("Where", none, 1.0, total)
    return graph.node("Where", none, 1 / classes, graph.node("Div", value, safe))


def _linear(graph: Graph, model: Any, table: Table) -> str:
    weights = np.atleast_2d(np.asarray(model.coef_, np.float64)).T
    return product(graph, table, weights, model.intercept_)


converts("values", *_REGRESSORS)(_linear)
converts("decision", *_CLASSIFIERS, linear.LogisticRegression, linear.LogisticRegressionCV)(_linear)
converts("decision", LinearDiscriminantAnalysis)(_linear)


@converts("decision", linear.SGDOneClassSVM)
def _one_class(graph: Graph, model: Any, table: Table) -> str:
    return product(graph, table, np.reshape(model.coef_, (-1, 1)), -model.offset_)


@converts("values", CCA, PLSCanonical, PLSRegression)
def _latent(graph: Graph, model: Any, table: Table) -> str:
    value = graph.node("Sub", graph.finite(table), model._x_mean)
    return weighted_sum(graph, value, model.coef_.T, model.intercept_)


@converts("values", linear.RANSACRegressor)
def _ransac(graph: Graph, model: Any, table: Table) -> str:
    return registry.values(graph, model.estimator_, table)


@converts("values", linear.PoissonRegressor, linear.GammaRegressor)
def _log_link(graph: Graph, model: Any, table: Table) -> str:
    return graph.node("Exp", _linear(graph, model, table))


@converts("values", linear.TweedieRegressor)
def _tweedie(graph: Graph, model: Any, table: Table) -> str:
    found = _linear(graph, model, table)
    logarithmic = model.link == "log" or (model.link == "auto" and model.power > 0)
    return graph.node("Exp", found) if logarithmic else found


@converts(
    "probabilities",
    linear.LogisticRegression,
    linear.LogisticRegressionCV,
    LinearDiscriminantAnalysis,
)
def _logistic(graph: Graph, model: Any, table: Table) -> str:
    found = _linear(graph, model, table)
    return chances(graph, found, model)


@converts("probabilities", linear.SGDClassifier)
def _stochastic(graph: Graph, model: Any, table: Table) -> str:
    found = _linear(graph, model, table)
    if model.loss == "log_loss":
        chances = graph.node("Sigmoid", found)
    elif model.loss == "modified_huber":
        one = graph.constant(1.0)
        bound = graph.node("Min", graph.node("Max", found, -1.0), one)
        chances = graph.node("Div", graph.node("Add", bound, one), 2.0)
    else:
        raise CannotCompileError(f"the loss {model.loss!r} has no probabilities")
    if len(model.classes_) == 2:
        return pair(graph, chances)
    return shares(graph, chances, len(model.classes_))


@converts("values", DummyRegressor)
def _constant(graph: Graph, model: Any, table: Table) -> str:
    return _always(graph, table, np.asarray(model.constant_, np.float64).reshape(1, -1))


@converts("probabilities", DummyClassifier)
def _prior(graph: Graph, model: Any, table: Table) -> str:
    chances = np.asarray(model.class_prior_, np.float64)
    if model.strategy == "most_frequent":
        chances = (np.arange(len(chances)) == chances.argmax()).astype(np.float64)
    elif model.strategy != "prior":
        raise CannotCompileError(
            f"strategy={model.strategy!r} has no converter: 'prior' and 'most_frequent' have"
        )
    return _always(graph, table, chances.reshape(1, -1))


def _always(graph: Graph, table: Table, row: Any) -> str:
    numbers = [column for column in table if not column.text]
    if not numbers:
        raise CannotCompileError("it reads no column of numbers: add one")
    return graph.node("Mul", graph.node("Pow", graph.matrix(numbers[:1], exact=True), 0.0), row)

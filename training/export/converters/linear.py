"""Models of weighted sums, and what is decomposed into them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import PCA, FactorAnalysis, FastICA, IncrementalPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLars,
    LassoLarsCV,
    LassoLarsIC,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    MultiTaskElasticNet,
    MultiTaskElasticNetCV,
    MultiTaskLasso,
    MultiTaskLassoCV,
    OrthogonalMatchingPursuit,
    OrthogonalMatchingPursuitCV,
    PassiveAggressiveClassifier,
    PassiveAggressiveRegressor,
    Perceptron,
    PoissonRegressor,
    QuantileRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDOneClassSVM,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from sklearn.svm import LinearSVC, LinearSVR

from training.export.converters import registry
from training.export.converters.registry import converts
from training.export.graph import ML, CannotCompileError, Graph, Hashed, Table

__all__ = ["pair", "product", "rows_of", "shares", "weighted_sum"]

_REGRESSORS = (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLars,
    LassoLarsCV,
    LassoLarsIC,
    LinearRegression,
    LinearSVR,
    MultiTaskElasticNet,
    MultiTaskElasticNetCV,
    MultiTaskLasso,
    MultiTaskLassoCV,
    OrthogonalMatchingPursuit,
    OrthogonalMatchingPursuitCV,
    PassiveAggressiveRegressor,
    QuantileRegressor,
    Ridge,
    RidgeCV,
    SGDRegressor,
    TheilSenRegressor,
)
_SELECTORS = (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
_CLASSIFIERS = (
    LinearSVC,
    PassiveAggressiveClassifier,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)


def weighted_sum(graph: Graph, value: str, weights: Any, intercept: Any) -> str:
    """Write `value @ weights + intercept`; weights have shape (columns, outputs)."""
    base = np.broadcast_to(np.asarray(intercept, np.float64).reshape(1, -1), (1, weights.shape[1]))
    return str(graph.node("Gemm", value, graph.constant(weights), graph.constant(base)))


def product(graph: Graph, table: Table, weights: Any, intercept: Any = 0.0) -> str:
    """Write `table @ weights + intercept`; of hashes only those that a row has are read."""
    if not isinstance(table, Hashed):
        return weighted_sum(graph, graph.finite(table), weights, intercept)
    chosen = rows_of(graph, weights, table.places)
    values = graph.node("Unsqueeze", table.values, graph.integers(2))
    terms = graph.node("Mul", chosen, values)
    total = graph.node("ReduceSum", terms, graph.integers(1), keepdims=0)
    base = np.broadcast_to(np.asarray(intercept, np.float64).reshape(1, -1), (1, weights.shape[1]))
    return str(graph.node("Add", total, graph.constant(base)))


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
    return str(graph.node("Gather", graph.constant(rows), places))


def pair(graph: Graph, second: str) -> str:
    """Write the probabilities of two classes, given that of the second, shape (rows, 1)."""
    first = graph.node("Sub", graph.constant(1.0), second)
    return str(graph.node("Concat", first, second, axis=1))


def shares(graph: Graph, value: str, classes: int) -> str:
    """Divide each row by its sum; where that is 0, all are alike."""
    total = graph.node("ReduceSum", value, graph.integers(1), keepdims=1)
    none = graph.node("Equal", total, graph.constant(0.0))
    safe = graph.node("Where", none, graph.constant(1.0), total)
    share = graph.node("Div", value, safe)
    return str(graph.node("Where", none, graph.constant(1 / classes), share))


def _linear(graph: Graph, model: Any, table: Table) -> str:
    weights = np.atleast_2d(np.asarray(model.coef_, np.float64)).T
    return product(graph, table, weights, model.intercept_)


converts("values", *_REGRESSORS)(_linear)
converts("decision", *_CLASSIFIERS, LogisticRegression, LogisticRegressionCV)(_linear)
converts("decision", LinearDiscriminantAnalysis)(_linear)


@converts("decision", SGDOneClassSVM)
def _one_class(graph: Graph, model: Any, table: Table) -> str:
    return product(graph, table, np.reshape(model.coef_, (-1, 1)), -model.offset_)


@converts("values", RANSACRegressor)
def _ransac(graph: Graph, model: Any, table: Table) -> str:
    return registry.values(graph, model.estimator_, table)


@converts("values", PoissonRegressor, GammaRegressor)
def _log_link(graph: Graph, model: Any, table: Table) -> str:
    return str(graph.node("Exp", _linear(graph, model, table)))


@converts("values", TweedieRegressor)
def _tweedie(graph: Graph, model: Any, table: Table) -> str:
    found = _linear(graph, model, table)
    logarithmic = model.link == "log" or (model.link == "auto" and model.power > 0)
    return str(graph.node("Exp", found)) if logarithmic else found


@converts("probabilities", LogisticRegression, LogisticRegressionCV, LinearDiscriminantAnalysis)
def _logistic(graph: Graph, model: Any, table: Table) -> str:
    found = _linear(graph, model, table)
    if len(model.classes_) == 2:
        return pair(graph, graph.node("Sigmoid", found))
    return str(graph.node("Softmax", found, axis=1))


@converts("probabilities", SGDClassifier)
def _stochastic(graph: Graph, model: Any, table: Table) -> str:
    found = _linear(graph, model, table)
    if model.loss == "log_loss":
        chances = graph.node("Sigmoid", found)
    elif model.loss == "modified_huber":
        one = graph.constant(1.0)
        bound = graph.node("Min", graph.node("Max", found, graph.constant(-1.0)), one)
        chances = graph.node("Div", graph.node("Add", bound, one), graph.constant(2.0))
    else:
        raise CannotCompileError(f"the loss {model.loss!r} has no probabilities")
    if len(model.classes_) == 2:
        return pair(graph, chances)
    return shares(graph, chances, len(model.classes_))


@converts("transform", PCA, IncrementalPCA)
def _pca(graph: Graph, step: Any, table: Table) -> Table:
    # scikit-learn projects, then takes the projected mean away: so do we, to the same last bits.
    value = graph.finite(table)
    weights = step.components_.T
    found = weighted_sum(graph, value, weights, -(step.mean_.reshape(1, -1) @ weights))
    if step.whiten:
        scale = np.sqrt(step.explained_variance_)
        scale[scale < np.finfo(scale.dtype).eps] = np.finfo(scale.dtype).eps
        found = graph.node("Div", found, graph.constant(scale))
    return graph.computed(found, weights.shape[1])


@converts(
    "transform",
    GaussianRandomProjection,
    NeighborhoodComponentsAnalysis,
    SparseRandomProjection,
    TruncatedSVD,
)
def _projected(graph: Graph, step: Any, table: Table) -> Table:
    weights = step.components_
    weights = np.asarray(weights.toarray() if hasattr(weights, "toarray") else weights).T
    return graph.computed(product(graph, table, weights), weights.shape[1])


@converts("transform", FactorAnalysis, FastICA)
def _factors(graph: Graph, step: Any, table: Table) -> Table:
    value, weights = graph.finite(table), step.components_.T
    if isinstance(step, FactorAnalysis):
        scaled = step.components_ / step.noise_variance_
        size = np.eye(len(scaled)) + scaled @ step.components_.T
        weights = scaled.T @ np.linalg.inv(size)
    if isinstance(step, FactorAnalysis) or step.whiten:
        value = graph.node("Sub", value, graph.constant(step.mean_))
    return graph.computed(graph.node("MatMul", value, graph.constant(weights)), weights.shape[1])


@converts("transform", RBFSampler)
def _waves(graph: Graph, step: Any, table: Table) -> Table:
    turned = product(graph, table, step.random_weights_, step.random_offset_)
    height = graph.constant(np.sqrt(2.0 / step.n_components))
    waves = graph.node("Mul", graph.node("Cos", turned), height)
    return graph.computed(waves, step.n_components, small=True)


@converts("transform", LinearDiscriminantAnalysis)
def _discriminant(graph: Graph, step: Any, table: Table) -> Table:
    if step.solver == "lsqr":
        raise CannotCompileError("the solver 'lsqr' transforms nothing")
    value = graph.finite(table)
    if step.solver == "svd":
        value = graph.node("Sub", value, graph.constant(step.xbar_))
    count = step._max_components
    found = graph.node("MatMul", value, graph.constant(step.scalings_[:, :count]))
    return graph.computed(found, min(count, step.scalings_.shape[1]))


@converts("transform", *_SELECTORS)
def _selector(graph: Graph, step: Any, table: Table) -> Table:
    graph.finite([column for column in table if not column.text], gaps=True, exact=True)
    return [table[i] for i in step.get_support(indices=True)]


for _method, _call in (
    ("values", registry.values),
    ("probabilities", registry.probabilities),
    ("decision", registry.decide),
    ("label", registry.label),
):

    @converts(_method, RFE, RFECV)
    def _eliminated(graph: Graph, model: Any, table: Table, _call: Any = _call) -> Any:
        return _call(graph, model.estimator_, _selector(graph, model, table))

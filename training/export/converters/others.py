"""Models of distances, densities and layers: neighbours, naive Bayes, networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.neural_network import MLPClassifier, MLPRegressor

from training.export.converters import registry
from training.export.converters.kernels.models import squares_apart
from training.export.converters.linear import pair, product, weighted_sum
from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Table

__all__: list[str] = []

FAR = 1e6


@converts("decision", GaussianNB)
def _gaussian(graph: Graph, model: Any, table: Table) -> str:
    value = graph.finite(table)
    graph.spread(model.theta_.size)
    row = graph.node("Unsqueeze", value, graph.integers(1))
    apart = graph.node("Sub", row, model.theta_[None])
    square = graph.node("Div", graph.node("Mul", apart, apart), model.var_[None])
    total = graph.node("ReduceSum", square, graph.integers(2), keepdims=0)
    base = np.log(model.class_prior_) - 0.5 * np.log(2.0 * np.pi * model.var_).sum(axis=1)
    half = graph.node("Mul", total, -0.5)
    return graph.node("Add", half, base)


@converts("decision", MultinomialNB, BernoulliNB, ComplementNB)
def _counts(graph: Graph, model: Any, table: Table) -> str:
    weights, base = model.feature_log_prob_, model.class_log_prior_
    if isinstance(model, BernoulliNB):
        value = graph.finite(table)
        if model.binarize is not None:
            above = graph.node("Greater", value, model.binarize)
            value = graph.cast(above)
        none = np.log(1 - np.exp(weights))
        return weighted_sum(graph, value, (weights - none).T, base + none.sum(axis=1))
    if isinstance(model, ComplementNB) and len(model.classes_) > 1:
        base = np.zeros(len(model.classes_))
    return product(graph, table, weights.T, base)


@converts("probabilities", GaussianNB, MultinomialNB, BernoulliNB, ComplementNB)
def _bayes(graph: Graph, model: Any, table: Table) -> str:
    return graph.node("Softmax", registry.decide(graph, model, table), axis=1)


@converts("label", GaussianNB, MultinomialNB, BernoulliNB, ComplementNB)
def _bayes_label(graph: Graph, model: Any, table: Table) -> str:
    return graph.likeliest(registry.decide(graph, model, table))


def _centroid_scores(graph: Graph, model: Any, table: Table) -> str:
    # Further away the squares round so much that they decide between the classes.
    far = 1e3 * max(1.0, float(np.abs(model.centroids_).max()))
    spread = np.where(model.within_class_std_dev_ == 0, 1.0, model.within_class_std_dev_)
    value = graph.node("Div", graph.finite(table, most=far), spread)
    square = squares_apart(graph, value, model.centroids_ / spread, expanded=True)
    return graph.node("Sub", 2.0 * np.log(model.class_prior_), square)


@converts("probabilities", NearestCentroid)
def _centroids(graph: Graph, model: Any, table: Table) -> str:
    return graph.node("Softmax", _centroid_scores(graph, model, table), axis=1)


@converts("label", NearestCentroid)
def _centroids_label(graph: Graph, model: Any, table: Table) -> str:
    if model.metric != "euclidean":
        raise CannotCompileError(f"metric={model.metric!r} has no converter: 'euclidean' has")
    if not np.isclose(model.class_prior_, 1 / len(model.classes_)).all():
        found = _centroid_scores(graph, model, table)
        return graph.likeliest(found)
    # It labels by distances that are not divided by the spread.
    known = np.asarray(model.centroids_)
    found = squares_apart(graph, graph.finite(table), known, expanded=True)
    return graph.node("ArgMin", found, axis=1, keepdims=0)


@converts("probabilities", QuadraticDiscriminantAnalysis)
def _quadratic(graph: Graph, model: Any, table: Table) -> str:
    value, parts = graph.finite(table), []
    for mean, rotation, scaling, prior in zip(
        model.means_, model.rotations_, model.scalings_, model.priors_, strict=True
    ):
        centred = graph.node("Sub", value, mean)
        turned = graph.node("MatMul", centred, rotation * scaling**-0.5)
        square = graph.node("Mul", turned, turned)
        norm = graph.row_sums(square)
        half = graph.node("Mul", norm, -0.5)
        base = np.log(prior) - 0.5 * np.log(scaling).sum()
        parts.append(graph.node("Add", half, base))
    return graph.node("Softmax", graph.node("Concat", *parts, axis=1), axis=1)


_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}


def _layers(graph: Graph, model: Any, table: Table) -> str:
    value = graph.finite(table)
    for i, (weights, base) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        value = weighted_sum(graph, value, np.asarray(weights, np.float64), base)
        if i < len(model.coefs_) - 1 and model.activation == "relu":
            value = graph.node("Max", value, 0.0)
        elif i < len(model.coefs_) - 1 and model.activation != "identity":
            value = graph.node(_ACTIVATIONS[model.activation], value)
    return value


@converts("values", MLPRegressor)
def _network(graph: Graph, model: Any, table: Table) -> str:
    value = _layers(graph, model, table)
    if model.out_activation_ != "identity":
        raise CannotCompileError(f"loss={model.loss!r} has no converter: 'squared_error' has")
    return value


@converts("probabilities", MLPClassifier)
def _network_classifier(graph: Graph, model: Any, table: Table) -> str:
    value = _layers(graph, model, table)
    if len(model.classes_) == 2:
        return pair(graph, graph.node("Sigmoid", value))
    return graph.node("Softmax", value, axis=1)


def _nearest(graph: Graph, model: Any, table: Table) -> tuple[str, str]:
    """Write the places of the nearest rows, shape (rows, k), and what each weighs, or ''."""
    metric = model.effective_metric_
    power = (model.effective_metric_params_ or {}).get("p", 2)
    if metric == "manhattan" or (metric == "minkowski" and power == 1):
        city = True
    elif metric == "euclidean" or (metric == "minkowski" and power == 2):
        city = False
    else:
        raise CannotCompileError(
            f"the metric {metric!r} has no converter: 'euclidean' and 'manhattan' have"
        )
    known = np.asarray(model._fit_X, np.float64)
    graph.spread(known.size)
    # Further away all distances round to the same number, so the nearest rows are undefined.
    far = (1e2 if graph.is_single(table) else FAR) * max(1.0, float(np.abs(known).max()))
    row = graph.node("Unsqueeze", graph.finite(table, most=far), graph.integers(1))
    apart = graph.node("Sub", row, known[None])
    size = graph.node("Abs", apart) if city else graph.node("Mul", apart, apart)
    total = graph.node("ReduceSum", size, graph.integers(2), keepdims=0)
    count = graph.integers(model.n_neighbors)
    nearest, places = graph.outputs_of("TopK", total, count, axis=1, largest=0, outputs=2)
    if model.weights == "uniform":
        return places, ""
    if model.weights != "distance":
        raise CannotCompileError(
            "its weights are a function: 'uniform' and 'distance' have a converter"
        )
    distance = nearest if city else graph.node("Sqrt", nearest)
    # Where a row is one of those known, it alone counts.
    same = graph.cast(graph.node("Equal", distance, 0.0))
    any_same = graph.node("ReduceMax", same, graph.integers(1), keepdims=1)
    found = graph.node("Greater", any_same, 0.0)
    return places, graph.node("Where", found, same, graph.node("Reciprocal", distance))


def _of_neighbours(graph: Graph, model: Any, table: Table, numbers: Any) -> str:
    """Write the mean of the neighbours' rows of *numbers*, shape (known rows, width)."""
    places, weights = _nearest(graph, model, table)
    chosen = graph.node("Gather", numbers, places)
    if not weights:
        total = graph.node("ReduceSum", chosen, graph.integers(1), keepdims=0)
        return graph.node("Div", total, float(model.n_neighbors))
    wide = graph.node("Unsqueeze", weights, graph.integers(2))
    weighted = graph.node("Mul", chosen, wide)
    total = graph.node("ReduceSum", weighted, graph.integers(1), keepdims=0)
    return graph.node("Div", total, graph.node("ReduceSum", wide, graph.integers(1), keepdims=0))


@converts("values", KNeighborsRegressor)
def _neighbours_regressor(graph: Graph, model: Any, table: Table) -> str:
    numbers = np.asarray(model._y, np.float64).reshape(len(model._y), -1)
    return _of_neighbours(graph, model, table, numbers)


@converts("probabilities", KNeighborsClassifier)
def _neighbours_classifier(graph: Graph, model: Any, table: Table) -> str:
    if model.outputs_2d_:
        raise CannotCompileError(
            "it predicts several targets at once: MultiOutputClassifier around it has a converter"
        )
    classes = np.equal.outer(np.ravel(model._y), np.arange(len(model.classes_)))
    return _of_neighbours(graph, model, table, classes.astype(np.float64))


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
    ones = graph.node("Pow", graph.matrix(numbers[:1], exact=True), 0.0)
    return graph.node("Mul", ones, row)

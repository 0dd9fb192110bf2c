"""Models of distances: nearest neighbours and nearest centroids."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid

from training.export.converters.kernels.models import squares_apart
from training.export.converters.numbers.neighbours import nearness
from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Table

FAR = 1e6


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
    return places, nearness(graph, distance)


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

"""Detectors of outliers, and clusterers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cluster import AffinityPropagation, Birch, KMeans, MeanShift, MiniBatchKMeans
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest

from training.export.converters.kernels.models import squares_apart
from training.export.converters.linear import weighted_sum
from training.export.converters.registry import converts
from training.export.converters.trees.ensemble import tree_sums
from training.export.converters.trees.forests import arrays
from training.export.graph import FLOAT64_MAX, Graph, Table

FAR = 1e6


@converts("label", AffinityPropagation, Birch, KMeans, MeanShift, MiniBatchKMeans)
def _nearest_centre(graph: Graph, model: Any, table: Table) -> str:
    birch = isinstance(model, Birch)
    centres = model.subcluster_centers_ if birch else model.cluster_centers_
    centres = np.asarray(centres, np.float64)
    square = (centres**2).sum(axis=1)
    # KMeans looks at the same numbers; the others at distances, which are all equal further off.
    exact = isinstance(model, KMeans | MiniBatchKMeans)
    most = FLOAT64_MAX if exact else FAR * max(1.0, float(np.abs(centres).max()))
    found = weighted_sum(graph, graph.finite(table, most=most), -2 * centres.T, square)
    nearest = graph.node("ArgMin", found, axis=1, keepdims=0)
    if birch:
        nearest = graph.node("Gather", graph.constant(model.subcluster_labels_, np.int64), nearest)
    return str(nearest)


@converts("transform", KMeans, MiniBatchKMeans)
def _distances(graph: Graph, model: Any, table: Table) -> Table:
    centres = np.asarray(model.cluster_centers_, np.float64)
    square = squares_apart(graph, graph.finite(table), centres, expanded=True)
    return graph.computed(graph.node("Sqrt", square), len(centres))


@converts("decision", IsolationForest)
def _isolation_forest(graph: Graph, model: Any, table: Table) -> str:
    trees = []
    for member, features in zip(model.estimators_, model.estimators_features_, strict=True):
        found = arrays(member.tree_, _depths(member.tree_))
        trees.append(found._replace(feature=np.asarray(features)[found.feature]))
    total = tree_sums(graph, graph.matrix(table, exact=True), trees, 1)
    most = len(model.estimators_) * _mean_path(np.array([model.max_samples_]))[0]
    power = graph.node("Div", total, -most)
    return graph.node("Sub", -model.offset_, graph.node("Pow", 2.0, power))


def _depths(tree: Any) -> Any:
    """Return the depth of each node, and how much deeper its rows would be on average."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):  # parents come before their children
        for child in (tree.children_left[node], tree.children_right[node]):
            if child != -1:
                depth[child] = depth[node] + 1
    return depth + _mean_path(tree.n_node_samples)


def _mean_path(rows: Any) -> Any:
    """Return the mean path length of a search tree of this many rows (Liu 2008)."""
    rows = np.asarray(rows, np.float64)
    many = np.maximum(rows, 3)
    lengths = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    return np.where(rows <= 1, 0.0, np.where(rows == 2, 1.0, lengths))


@converts("decision", EllipticEnvelope)
def _ellipse(graph: Graph, model: Any, table: Table) -> str:
    apart = graph.node("Sub", graph.finite(table), model.location_)
    turned = graph.node("MatMul", apart, model.get_precision())
    product = graph.node("Mul", turned, apart)
    return graph.node("Sub", -model.offset_, graph.row_sums(product))

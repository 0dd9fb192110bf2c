"""Densities: naive Bayes, the quadratic discriminant and Gaussian mixtures."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB

from training.export.converters import registry
from training.export.converters.linear import product, weighted_sum
from training.export.converters.registry import converts
from training.export.graph import FLOAT64_MAX, Graph, Table


@converts("decision", GaussianNB)
def _gaussian(graph: Graph, model: Any, table: Table) -> str:
    value = graph.finite(table)
    graph.spread(model.theta_.size)
    row = graph.node("Unsqueeze", value, graph.integers(1))
    apart = graph.node("Sub", row, model.theta_[None])
    square = graph.node("Div", graph.node("Mul", apart, apart), model.var_[None])
    total = graph.node("ReduceSum", square, graph.integers(2), keepdims=0)
    base = np.log(model.class_prior_) - 0.5 * np.log(2.0 * np.pi * model.var_).sum(axis=1)
    return graph.node("Add", graph.node("Mul", total, -0.5), base)


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


@converts("probabilities", QuadraticDiscriminantAnalysis)
def _quadratic(graph: Graph, model: Any, table: Table) -> str:
    value, parts = graph.finite(table), []
    for mean, rotation, scaling, prior in zip(
        model.means_, model.rotations_, model.scalings_, model.priors_, strict=True
    ):
        centred = graph.node("Sub", value, mean)
        turned = graph.node("MatMul", centred, rotation * scaling**-0.5)
        base = np.log(prior) - 0.5 * np.log(scaling).sum()
        parts.append(_bell(graph, turned, base))
    return graph.node("Softmax", graph.node("Concat", *parts, axis=1), axis=1)


def _bell(graph: Graph, apart: str, base: float) -> str:
    """Write the logarithm of a normal density that is *base* at its mean, shape (rows, 1)."""
    total = graph.row_sums(graph.node("Mul", apart, apart))
    return graph.node("Add", graph.node("Mul", total, -0.5), base)


@converts("probabilities", BayesianGaussianMixture, GaussianMixture)
def _mixture(graph: Graph, model: Any, table: Table) -> str:
    width, kind = len(table), model.covariance_type
    # Further off, rounding the equal squares of tied components hides how they differ.
    far = 1e3 * max(1.0, float(np.abs(model.means_).max()))
    value, parts = graph.finite(table, most=far if kind == "tied" else FLOAT64_MAX), []
    # At its mean, what a component adds does not depend on the row.
    bases = np.diag(model._estimate_weighted_log_prob(model.means_))
    for i, (mean, base) in enumerate(zip(model.means_, bases.tolist(), strict=True)):
        root = model.precisions_cholesky_ if kind == "tied" else model.precisions_cholesky_[i]
        if kind in ("diag", "spherical"):
            root = np.diag(np.broadcast_to(root, width))
        apart = weighted_sum(graph, value, root, -(mean @ root))
        parts.append(_bell(graph, apart, base))
    return graph.node("Softmax", graph.node("Concat", *parts, axis=1), axis=1)

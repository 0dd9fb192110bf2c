"""Steps that make few columns of many: projections and selections."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import feature_selection as selection
from sklearn.decomposition import PCA, FactorAnalysis, FastICA, IncrementalPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_approximation import RBFSampler
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from training.export.columns import check_written
from training.export.converters import registry
from training.export.converters.kernels.models import dense
from training.export.converters.linear import product, weighted_sum
from training.export.converters.registry import converts, hands_on
from training.export.graph import CannotCompileError, Graph, Table

_SELECTORS = (
    selection.RFE,
    selection.RFECV,
    selection.GenericUnivariateSelect,
    selection.SelectFdr,
    selection.SelectFpr,
    selection.SelectFromModel,
    selection.SelectFwe,
    selection.SelectKBest,
    selection.SelectPercentile,
    selection.SequentialFeatureSelector,
    selection.VarianceThreshold,
)


@converts("transform", PCA, IncrementalPCA)
def _pca(graph: Graph, step: Any, table: Table) -> Table:
    # scikit-learn projects, then takes the projected mean away: so do we, to the same last bits.
    value = graph.finite(table)
    weights = step.components_.T
    found = weighted_sum(graph, value, weights, -(step.mean_.reshape(1, -1) @ weights))
    if step.whiten:
        scale = np.sqrt(step.explained_variance_)
        scale[scale < np.finfo(scale.dtype).eps] = np.finfo(scale.dtype).eps
        found = graph.node("Div", found, scale)
    return graph.computed(found, weights.shape[1])


@converts(
    "transform",
    GaussianRandomProjection,
    NeighborhoodComponentsAnalysis,
    SparseRandomProjection,
    TruncatedSVD,
)
def _projected(graph: Graph, step: Any, table: Table) -> Table:
    weights = dense(step.components_).T
    return graph.computed(product(graph, table, weights), weights.shape[1])


@converts("transform", FactorAnalysis, FastICA)
def _factors(graph: Graph, step: Any, table: Table) -> Table:
    value, weights = graph.finite(table), step.components_.T
    if isinstance(step, FactorAnalysis):
        scaled = step.components_ / step.noise_variance_
        size = np.eye(len(scaled)) + scaled @ step.components_.T
        weights = scaled.T @ np.linalg.inv(size)
    if isinstance(step, FactorAnalysis) or step.whiten:
        value = graph.node("Sub", value, step.mean_)
    return graph.computed(graph.node("MatMul", value, weights), weights.shape[1])


@converts("transform", RBFSampler)
def _waves(graph: Graph, step: Any, table: Table) -> Table:
    turned = product(graph, table, step.random_weights_, step.random_offset_)
    height = graph.constant(np.sqrt(2.0 / step.n_components))
    waves = graph.node("Mul", graph.node("Cos", turned), height)
    return graph.computed(waves, step.n_components, small=True)


@converts("transform", LinearDiscriminantAnalysis)
def _discriminant(graph: Graph, step: Any, table: Table) -> Table:
    if step.solver == "lsqr":
        raise CannotCompileError("solver='lsqr' transforms nothing: 'svd' and 'eigen' do")
    value = graph.finite(table)
    if step.solver == "svd":
        value = graph.node("Sub", value, step.xbar_)
    count = step.n_components or min(len(step.classes_) - 1, step.n_features_in_)
    found = graph.node("MatMul", value, step.scalings_[:, :count])
    return graph.computed(found, min(count, step.scalings_.shape[1]))


@converts("transform", *_SELECTORS)
def _selector(graph: Graph, step: Any, table: Table) -> Table:
    check_written(table)
    graph.finite([column for column in table if not column.text], gaps=True, exact=True)
    return [table[i] for i in step.get_support(indices=True)]


@hands_on(registry.ANSWERS, selection.RFE, selection.RFECV)
def _eliminated(graph: Graph, model: Any, table: Table) -> tuple[Any, Table]:
    return model.estimator_, _selector(graph, model, table)

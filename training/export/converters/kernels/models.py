"""Models of kernels: weighted sums of how alike a row and each of the training rows are."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import KernelPCA
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge

from training.export.converters.linear import weighted_sum
from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Table

__all__ = ["dense", "kernel", "squares_apart"]


def dense(matrix: Any) -> Any:
    """Return a matrix, which may be sparse, as an array of float64."""
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, np.float64)


def squares_apart(graph: Graph, value: str, known: Any, *, expanded: bool = False) -> str:
    """
    Write the squared distance to each row of *known*, shape (rows, known).

    If *expanded*, it is a² - 2ab + b², as in scikit-learn: its rounding is not that of (a - b)².
    """
    if expanded:
        graph.spread(len(known))
        own = graph.node("ReduceSumSquare", value, graph.integers(1), keepdims=1)
        total = graph.node("Add", graph.node("MatMul", value, -2.0 * known.T), own)
        return graph.node("Max", graph.node("Add", total, (known**2).sum(axis=1)), 0.0)
    graph.spread(known.size)
    row = graph.node("Unsqueeze", value, graph.integers(1))
    apart = graph.node("Sub", row, known[None])
    return graph.node("ReduceSumSquare", apart, graph.integers(2), keepdims=0)


def kernel(graph: Graph, value: str, known: Any, model: Any) -> str:
    """
    Write the kernel of a fitted *model* between the rows and those of *known*, (rows, known).

    Raises:
        CannotCompileError: The kernel has no converter.
    """
    known, name, libsvm = dense(known), model.kernel, hasattr(model, "_gamma")
    gamma = model._gamma if libsvm else getattr(model, "gamma_", model.gamma)
    gamma = float(1 / known.shape[1] if gamma is None else gamma)
    if not isinstance(name, str) or name not in ("rbf", "linear", "poly", "polynomial", "sigmoid"):
        raise CannotCompileError(
            f"the kernel {name!r} has no converter: 'rbf', 'linear', 'poly' and 'sigmoid' have"
        )
    if name == "rbf":
        square = squares_apart(graph, value, known, expanded=not libsvm or model._sparse)
        return graph.node("Exp", graph.node("Mul", square, -gamma))
    product = graph.node("MatMul", value, known.T)
    if name == "linear":
        return str(product)
    base, degree = (1.0 if model.coef0 is None else model.coef0), model.degree
    scaled = graph.node("Add", graph.node("Mul", product, gamma), float(base))
    if name == "sigmoid":
        return graph.node("Tanh", scaled)
    return graph.node("Pow", scaled, 3.0 if degree is None else float(degree))


@converts("values", KernelRidge)
def _ridge(graph: Graph, model: Any, table: Table) -> str:
    found = kernel(graph, graph.finite(table), model.X_fit_, model)
    weights = np.reshape(model.dual_coef_, (model.X_fit_.shape[0], -1))
    return weighted_sum(graph, found, weights, 0.0)


@converts("transform", Nystroem)
def _landmarks(graph: Graph, step: Any, table: Table) -> Table:
    found = kernel(graph, graph.finite(table), step.components_, step)
    weights = graph.constant(step.normalization_.T)
    return graph.computed(graph.node("MatMul", found, weights), len(step.normalization_))


@converts("transform", KernelPCA)
def _kernel_pca(graph: Graph, step: Any, table: Table) -> Table:
    found, centre = kernel(graph, graph.finite(table), step.X_fit_, step), step._centerer
    mean = graph.node("ReduceMean", found, graph.integers(1), keepdims=1)
    found = graph.node("Sub", found, centre.K_fit_rows_)
    found = graph.node("Add", graph.node("Sub", found, mean), centre.K_fit_all_)
    scale = np.where(step.eigenvalues_ == 0, np.inf, np.sqrt(np.abs(step.eigenvalues_)))
    weights = step.eigenvectors_ / scale
    return graph.computed(graph.node("MatMul", found, weights), len(scale))


@converts("values", GaussianProcessRegressor)
def _process(graph: Graph, model: Any, table: Table) -> str:
    known = np.asarray(model.X_train_, np.float64)
    found = _covariance(graph, graph.finite(table), known, model.kernel_)
    scale, mean = model._y_train_std, model._y_train_mean
    return weighted_sum(graph, found, np.reshape(model.alpha_, (len(known), -1)) * scale, mean)


def _covariance(graph: Graph, value: str, known: Any, part: Any) -> str:
    """Write a kernel of `sklearn.gaussian_process.kernels`, or a sum or product of some."""
    kind = type(part).__name__
    if kind in ("Sum", "Product"):
        parts = [_covariance(graph, value, known, inner) for inner in (part.k1, part.k2)]
        return graph.node("Add" if kind == "Sum" else "Mul", *parts)
    if kind in ("ConstantKernel", "WhiteKernel"):  # noise has nothing to say of new rows
        constant = part.constant_value if kind == "ConstantKernel" else 0.0
        return graph.constant(np.full((1, len(known)), constant))
    if kind == "DotProduct":
        return graph.node("Add", graph.node("MatMul", value, known.T), part.sigma_0**2)
    rough = {0.5: [1.0], 1.5: [1.0, 1.0], 2.5: [1 / 3, 1.0, 1.0]}
    if kind != "RBF" and not (kind == "Matern" and part.nu in (*rough, np.inf)):
        raise CannotCompileError(
            f"its kernel {part} has no converter: RBF and Matern of nu=0.5, 1.5 or 2.5 have, and "
            "sums and products of them with ConstantKernel, WhiteKernel and DotProduct"
        )
    scaled = graph.node("Div", value, part.length_scale)
    square = squares_apart(graph, scaled, known / part.length_scale)
    if kind == "RBF" or part.nu == np.inf:
        return graph.node("Exp", graph.node("Mul", square, -0.5))
    size = graph.node("Mul", graph.node("Sqrt", square), np.sqrt(2 * part.nu))
    total, *others = (graph.constant(number) for number in rough[part.nu])
    for other in others:
        total = graph.node("Add", graph.node("Mul", total, size), other)
    return graph.node("Mul", total, graph.node("Exp", graph.node("Neg", size)))

"""Regressors of kernels, distances and quantiles answer as scikit-learn does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnxruntime import InferenceSession
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from scipy.stats import norm  # type: ignore[import-untyped]
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import CCA, PLSRegression
from sklearn.decomposition import KernelPCA
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Matern, WhiteKernel
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.svm import SVR

import training.export.compile  # noqa: F401  # registers every converter
from training.export.converters import registry
from training.export.converters.numbers.normal import normal_cdf, normal_quantile
from training.export.features import as_frame, read_features
from training.export.graph import CannotCompileError, Graph

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(120, 3))
Y = X[:, 0] + X[:, 1] ** 2 + 0.3 * RANDOM.normal(size=len(X))
#: Near and far from the training rows, and the same row twice.
ROWS = np.vstack([X, X * 30, RANDOM.normal(size=(200, 3)) * 2, np.zeros((2, 3))])


def _around(distribution: str) -> Any:
    quantiles = QuantileTransformer(n_quantiles=20, output_distribution=distribution)
    return TransformedTargetRegressor(Ridge(), transformer=quantiles)


MODELS = {
    **{kind: KernelRidge(kernel=kind, alpha=0.1) for kind in ("linear", "rbf", "poly")},
    "landmarks": make_pipeline(Nystroem(n_components=20, random_state=0), Ridge()),
    "landmarks of sigmoids": make_pipeline(
        Nystroem(kernel="sigmoid", n_components=9, random_state=0), Ridge()
    ),
    "components of a kernel": make_pipeline(KernelPCA(4, kernel="rbf"), Ridge()),
    "a process": GaussianProcessRegressor(alpha=0.1, normalize_y=True),
    "a process with noise": GaussianProcessRegressor(
        ConstantKernel() * RBF([1.0, 2.0, 3.0]) + WhiteKernel() + DotProduct(), optimizer=None
    ),
    **{
        f"Matern of {nu}": GaussianProcessRegressor(Matern(nu=nu), alpha=0.1, optimizer=None)
        for nu in (0.5, 1.5, 2.5, np.inf)
    },
    "distances to centres": make_pipeline(KMeans(4, n_init=1, random_state=0), Ridge()),
    "distances to centres by batches": make_pipeline(
        MiniBatchKMeans(4, n_init=1, random_state=0), Ridge()
    ),
    "latent parts": PLSRegression(2),
    "one latent part": CCA(1),
    "a target of even quantiles": _around("uniform"),
    "a target of normal quantiles": _around("normal"),
    "a target that keeps its mean": TransformedTargetRegressor(
        Ridge(), transformer=StandardScaler(with_mean=False)
    ),
}


SPARSE = (SVR(), KernelRidge(kernel="rbf"), make_pipeline(Nystroem(n_components=9), Ridge()))
TWO = (_around("normal"), PLSRegression(2), GaussianProcessRegressor(alpha=0.1))


@pytest.mark.parametrize(
    ("model", "rows", "target"),
    [
        *((model, X, Y) for model in MODELS.values()),
        *((model, csr_matrix(X), Y) for model in SPARSE),
        *((model, X, np.c_[Y, X[:, 0] - Y]) for model in TWO),
    ],
    ids=[*MODELS, *(f"{m} of sparse rows" for m in SPARSE), *(f"{m} of two values" for m in TWO)],
)
def test_a_model_answers_as_scikit_learn_does(model: Any, rows: Any, target: Any) -> None:
    """Values near and far from the training rows."""
    model.fit(rows, target)
    graph = Graph(read_features(as_frame(X)[0]))
    found = registry.values(graph, model, graph.raw())
    answers = _run(graph, found)

    expected = np.reshape(model.predict(ROWS), (len(ROWS), -1))
    np.testing.assert_allclose(answers, expected, rtol=1e-10, atol=1e-10)
    assert graph.inexact == []


def _run(graph: Graph, found: str, rows: Any = ROWS) -> Any:
    model = graph.finish({"values": (found, np.float64, None)})
    session = InferenceSession(model.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: rows})[0]


@pytest.mark.parametrize(
    ("written", "expected", "numbers"),
    [
        (normal_quantile, norm.ppf, [1e-12, 1e-7, 0.13, 0.136, 0.5, 0.864, 0.87, 1 - 1e-7]),
        (normal_cdf, norm.cdf, [-40.0, -9.0, -1.5, -1.4, -0.1, 0.0, 1e-9, 1.4, 1.5, 9.0, 40.0]),
    ],
    ids=["quantile", "distribution"],
)
def test_the_normal_distribution_is_scipys(written: Any, expected: Any, numbers: Any) -> None:
    """Each piece of the approximations, and where they meet, to the last digits."""
    rows = np.reshape(numbers, (-1, 1))
    graph = Graph(read_features(as_frame(rows)[0]))
    found = written(graph, graph.matrix(graph.raw()))

    np.testing.assert_allclose(_run(graph, found, rows), expected(rows), rtol=1e-14, atol=1e-28)


def test_a_kernel_without_a_converter_names_those_that_have_one() -> None:
    """The Laplacian kernel of a KernelRidge."""
    model = KernelRidge(kernel="laplacian").fit(X, Y)
    graph = Graph(read_features(as_frame(X)[0]))

    with pytest.raises(CannotCompileError, match="'laplacian' has no converter: 'rbf'"):
        registry.values(graph, model, graph.raw())

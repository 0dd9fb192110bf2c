"""Pipelines over several data sets, and the engine that each should get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import datasets, ensemble, linear_model, naive_bayes, neighbors, neural_network, svm
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

__all__ = ["CASES", "Case"]


class Case(NamedTuple):
    """One pipeline on one data set."""

    name: str
    data: Callable[[], tuple[Any, Any]]
    pipeline: Callable[[], Any]
    #: None: either engine may serve it if the answers are right.
    engine: str | None = "onnx"
    #: For the engine "sklearn": words that the reason must contain.
    names: str = ""


def shipped(name: str, **options: Any) -> Callable[[], tuple[Any, Any]]:
    """Load a data set that scikit-learn ships."""
    return lambda: getattr(datasets, f"load_{name}")(return_X_y=True, **options)


def iris(labels: Any, *, frame: bool = False) -> Callable[[], tuple[Any, Any]]:
    """Load Iris with other labels."""

    def load() -> tuple[Any, Any]:
        data, target = datasets.load_iris(return_X_y=True, as_frame=frame)
        return data, np.asarray(labels)[np.asarray(target)]

    return load


def mixed(
    *, gaps: bool, target: str = "string", dtypes: str = "plain"
) -> Callable[[], tuple[Any, Any]]:
    """Make 400 rows of integer, float, boolean and string columns."""

    def load() -> tuple[Any, Any]:
        random = np.random.default_rng(0)
        rows = 400
        data = pd.DataFrame(
            {
                "price": random.integers(100, 5000, rows),
                "share (%)": random.uniform(0, 1, rows).round(3),
                "member": random.random(rows) < 0.4,
                "class": random.choice(["red", "green", "blue"], rows),
                "town": random.choice(["Lima", "Cusco", "Ica", "Puno"], rows),
            }
        )
        score = data["price"] / 5000 + data["share (%)"] + data["member"] + (data["class"] == "red")
        score += random.normal(0, 0.2, rows)
        if gaps:
            for column in ("share (%)", "town"):
                data.loc[random.random(rows) < 0.1, column] = None
        if dtypes == "nullable":
            data = data.astype({"price": "Int64", "share (%)": "Float64", "member": "boolean"})
            data.loc[random.random(rows) < 0.1, ["price", "member"]] = pd.NA
        if dtypes == "category":
            data["class"], data["town"] = (
                data["class"].astype("category"),
                data["town"].astype("category"),
            )
        if dtypes == "object":
            data["town"] = data["town"].astype(object)
            data.loc[random.random(rows) < 0.1, "town"] = np.nan
        high = score > score.median()
        if target == "value":
            return data, (score * 100).to_numpy()
        if target == "bool":
            return data, high.to_numpy()
        return data, np.where(high, "yes", "no")

    return load


def encoded(model: Any) -> Callable[[], Any]:
    """Impute, scale and encode, and then fit *model*."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    return lambda: make_pipeline(
        make_column_transformer(
            (numbers, make_column_selector(dtype_include=["number", "bool", "boolean"])),
            (categories, make_column_selector(dtype_include=["object", "string", "category"])),
        ),
        model,
    )


def plain(*steps: Any) -> Callable[[], Any]:
    """Make a pipeline of *steps*."""
    return lambda: make_pipeline(*steps)


def doubled(values: Any) -> Any:
    """Stand in for a user's own function, which has no converter."""
    return values * 2


def city_block(a: Any, b: Any) -> float:
    """Stand in for a user's own metric."""
    return float(np.abs(a - b).sum())


LOGISTIC = linear_model.LogisticRegression(max_iter=500)
FOREST = ensemble.RandomForestClassifier(40, max_depth=8, random_state=0)
BOOSTED = ensemble.HistGradientBoostingClassifier(max_iter=40, random_state=0)
BOOSTED_VALUE = ensemble.HistGradientBoostingRegressor(max_iter=40, random_state=0)

CASES = [
    Case("iris, scaled logistic", iris([0, 1, 2]), plain(StandardScaler(), LOGISTIC)),
    Case("iris, strings", iris(["a", "b", "c"]), plain(StandardScaler(), LOGISTIC)),
    Case("iris, named columns", iris(["a", "b", "c"], frame=True), plain(FOREST)),
    Case("iris, bools", iris([False, True, True]), plain(StandardScaler(), LOGISTIC)),
    Case("iris, far integers", iris([-5, 70, 1000]), plain(FOREST)),
    Case("iris, naive Bayes", iris([0, 1, 2]), plain(naive_bayes.GaussianNB()), None),
    Case("iris, neighbours", iris([0, 1, 2]), plain(neighbors.KNeighborsClassifier()), None),
    Case(
        "iris, neighbours by a function",
        iris([0, 1, 2]),
        plain(neighbors.KNeighborsClassifier(metric=city_block)),
        "sklearn",
        "kneighborsclassifier",
    ),
    Case(
        "iris, a function",
        iris([0, 1, 2]),
        plain(FunctionTransformer(doubled), LOGISTIC),
        "sklearn",
        "functiontransformer",
    ),
    Case("iris, linear SVM without probabilities", iris(["a", "b", "c"]), plain(svm.LinearSVC())),
    Case("iris, grid search", iris([0, 1, 2]), lambda: GridSearchCV(LOGISTIC, {"C": [0.1, 1]})),
    Case("iris, one tree", iris([0, 1, 2]), plain(DecisionTreeClassifier(random_state=0))),
    Case("wine, forest", shipped("wine"), plain(FOREST)),
    Case("wine, boosting", shipped("wine", as_frame=True), plain(BOOSTED)),
    Case("wine, SVM", shipped("wine"), plain(StandardScaler(), svm.SVC()), None),
    Case("wine, PCA", shipped("wine"), plain(StandardScaler(), PCA(5), LOGISTIC)),
    Case(
        "wine, voting",
        shipped("wine"),
        plain(
            MinMaxScaler(),
            ensemble.VotingClassifier([("l", LOGISTIC), ("f", FOREST)], voting="soft"),
        ),
        None,
    ),
    Case(
        "breast cancer, a threshold of its own",
        shipped("breast_cancer"),
        plain(StandardScaler(), FixedThresholdClassifier(LOGISTIC, threshold=0.9)),
        None,
    ),
    Case(
        "breast cancer, a tuned threshold",
        shipped("breast_cancer"),
        lambda: TunedThresholdClassifierCV(FOREST, scoring="recall", random_state=0),
        None,
    ),
    Case("breast cancer, boosting", shipped("breast_cancer"), plain(BOOSTED)),
    Case("breast cancer, forest", shipped("breast_cancer"), plain(FOREST)),
    Case(
        "breast cancer, gradient boosting",
        shipped("breast_cancer"),
        plain(ensemble.GradientBoostingClassifier(n_estimators=30, random_state=0)),
    ),
    Case(
        "breast cancer, extra trees",
        shipped("breast_cancer"),
        plain(ensemble.ExtraTreesClassifier(30, max_depth=8, random_state=0)),
    ),
    Case(
        "breast cancer, network",
        shipped("breast_cancer"),
        plain(StandardScaler(), neural_network.MLPClassifier((16,), max_iter=400, random_state=0)),
        None,
    ),
    Case("digits, logistic", shipped("digits"), plain(MinMaxScaler(), LOGISTIC)),
    Case("diabetes, ridge", shipped("diabetes"), plain(linear_model.Ridge())),
    Case("diabetes, named", shipped("diabetes", as_frame=True), plain(linear_model.Ridge())),
    Case("diabetes, boosting", shipped("diabetes"), plain(BOOSTED_VALUE)),
    Case(
        "diabetes, forest",
        shipped("diabetes"),
        plain(ensemble.RandomForestRegressor(40, max_depth=8, random_state=0)),
    ),
    Case("diabetes, tree", shipped("diabetes"), plain(DecisionTreeRegressor(random_state=0))),
    Case(
        "diabetes, polynomial",
        shipped("diabetes"),
        plain(PolynomialFeatures(2), linear_model.Ridge()),
        None,
    ),
    Case("mixed, logistic", mixed(gaps=False), encoded(LOGISTIC)),
    Case("mixed with gaps, logistic", mixed(gaps=True), encoded(LOGISTIC)),
    Case("mixed with gaps, forest", mixed(gaps=True, target="bool"), encoded(FOREST), None),
    Case("mixed with gaps, ridge", mixed(gaps=True, target="value"), encoded(linear_model.Ridge())),
    Case("mixed, NaN in objects", mixed(gaps=True, dtypes="object"), encoded(LOGISTIC)),
    Case("mixed, category dtype", mixed(gaps=True, dtypes="category"), encoded(LOGISTIC)),
    Case(
        "mixed, pandas' nullable dtypes",
        mixed(gaps=True, dtypes="nullable"),
        encoded(LOGISTIC),
        None,
    ),
    Case(
        "mixed, boosting on categories",
        mixed(gaps=True, dtypes="category"),
        plain(ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=0)),
        None,
    ),
]

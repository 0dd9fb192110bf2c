"""At least sixty shapes of pipelines, by kind, each with suitable data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import catboost  # type: ignore[import-untyped]
import lightgbm
import numpy as np
import pandas as pd
import xgboost
from imblearn.over_sampling import RandomOverSampler  # type: ignore[import-untyped]
from imblearn.pipeline import make_pipeline as make_sampled  # type: ignore[import-untyped]
from sklearn import ensemble, linear_model, naive_bayes, neighbors, neural_network, svm, tree
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MeanShift
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.covariance import EllipticEnvelope
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA, KernelPCA, TruncatedSVD
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)
from sklearn.feature_selection import SelectFromModel, SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, RegressorChain
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.semi_supervised import SelfTrainingClassifier

__all__ = ["SHAPES", "Shape"]

ROWS = 600


class Shape(NamedTuple):
    """One shape of a pipeline, and the data that it is fitted on."""

    kind: str
    name: str
    pipeline: Callable[[], Any]
    data: Callable[[], tuple[pd.DataFrame, Any]]

    def fitted(self) -> tuple[Any, pd.DataFrame]:
        """Fit the pipeline; return it and the rows."""
        data, target = self.data()
        return self.pipeline().fit(data, target), data


def loans(*, target: str = "binary", gaps: bool = False) -> Callable[[], tuple[pd.DataFrame, Any]]:
    """Make rows of amounts, incomes, integer codes, strings and flags."""

    def load() -> tuple[pd.DataFrame, Any]:
        random = np.random.default_rng(0)
        data = pd.DataFrame(
            {
                "amount": random.integers(500, 50_000, ROWS),
                "income": random.lognormal(10, 0.6, ROWS).round(2),
                "age": random.integers(18, 80, ROWS),
                "purpose": random.choice(["car", "home", "study", "trip"], ROWS),
                "region": random.choice(["north", "south", "east"], ROWS),
                "grade": random.choice([1, 2, 3, 5, 8], ROWS),
            }
        )
        risk = data["amount"] / data["income"] + 0.1 * data["grade"] + random.normal(0, 0.3, ROWS)
        if gaps:
            data.loc[random.random(ROWS) < 0.1, "income"] = np.nan
            data.loc[random.random(ROWS) < 0.1, "purpose"] = None
        if target == "value":
            return data, (np.exp(risk / 3) * 100).to_numpy()
        if target == "count":
            return data, np.floor(np.maximum(risk, 0))
        if target == "three":
            return data, np.asarray(["low", "mid", "high"])[pd.qcut(risk, 3).cat.codes]
        return data, np.where(risk > risk.median(), "default", "paid")

    return load


def numbers(
    *, target: str = "binary", gaps: bool = False
) -> Callable[[], tuple[pd.DataFrame, Any]]:
    """Make the number columns of `loans` only."""

    def load() -> tuple[pd.DataFrame, Any]:
        data, truth = loans(target=target, gaps=gaps)()
        return data[["amount", "income", "age"]], truth

    return load


def coded(
    load: Callable[[], tuple[pd.DataFrame, Any]],
) -> Callable[[], tuple[pd.DataFrame, Any]]:
    """Write the classes as integers, which XGBoost needs."""

    def loaded() -> tuple[pd.DataFrame, Any]:
        data, truth = load()
        return data, np.unique(truth, return_inverse=True)[1]

    return loaded


def messages(*, series: bool = False) -> Callable[[], tuple[Any, Any]]:
    """Make short messages, and whether each one is spam."""

    def load() -> tuple[Any, Any]:
        random = np.random.default_rng(0)
        words = [
            "cheap",
            "free",
            "Call",
            "now",
            "meeting",
            "lunch",
            "REPORT",
            "tomorrow",
            "win",
            "prize",
            "please",
            "love",
            "thanks",
            "café",
            "naïve",
            "don't",
            "100%",
            "😀",
            "I",
        ]
        texts = pd.Series([" ".join(random.choice(words, 12)) for _ in range(ROWS)], name="text")
        spam = [bool({"free", "prize"} & set(text.split())) for text in texts]
        truth = np.where(spam, "spam", "ham")
        return (
            texts if series else pd.DataFrame({"text": texts, "length": texts.str.len()})
        ), truth

    return load


def two(
    load: Callable[[], tuple[pd.DataFrame, Any]],
) -> Callable[[], tuple[pd.DataFrame, Any]]:
    """Return the target, and a second one that depends on the age."""

    def loaded() -> tuple[pd.DataFrame, Any]:
        data, truth = load()
        if truth.dtype.kind == "f":
            return data, np.c_[truth, data["age"] * 2.0]
        return data, np.c_[truth, np.where(data["age"] > 40, "old", "young")]

    return loaded


def flags() -> tuple[pd.DataFrame, Any]:
    """Return two targets of 0 and 1."""
    data, truth = numbers()()
    return data, np.c_[truth == "paid", data["age"] > 40].astype(int)


NUMBERS, CATEGORIES = ["amount", "income", "age"], ["purpose", "region"]


def mixed(model: Any, number: Any = None, category: Any = None) -> Callable[[], Any]:
    """Scale numbers and encode categories before *model*."""
    return lambda: make_pipeline(
        ColumnTransformer(
            [
                ("n", StandardScaler() if number is None else number, NUMBERS),
                (
                    "c",
                    OneHotEncoder(handle_unknown="ignore") if category is None else category,
                    CATEGORIES,
                ),
            ]
        ),
        model,
    )


def plain(*steps: Any) -> Callable[[], Any]:
    """Make a pipeline of *steps*."""
    return lambda: make_pipeline(*steps)


def itself(model: Any) -> Callable[[], Any]:
    """Return *model* unchanged."""
    return lambda: model


FOREST = ensemble.RandomForestClassifier(30, random_state=0)
FOREST_VALUE = ensemble.RandomForestRegressor(30, random_state=0)
BOOSTING = ensemble.GradientBoostingClassifier(n_estimators=30, random_state=0)
HISTOGRAM = ensemble.HistGradientBoostingClassifier(max_iter=30, random_state=0)
HISTOGRAM_VALUE = ensemble.HistGradientBoostingRegressor(max_iter=30, random_state=0)
LOGISTIC = linear_model.LogisticRegression(max_iter=1000)
RIDGE = linear_model.Ridge()
SCALED = (StandardScaler(), LOGISTIC)
IMPUTED = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
FILLED = make_pipeline(
    SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
)


def categorical() -> tuple[pd.DataFrame, Any]:
    """Make `loans` with the pandas dtype category for strings."""
    data, truth = loans(gaps=True)()
    return data.astype({"purpose": "category", "region": "category"}), truth


def held_in(dtype: str) -> Callable[[], tuple[pd.DataFrame, Any]]:
    """Make `loans` with numbers of *dtype*, and gaps where it can hold them."""

    def load() -> tuple[pd.DataFrame, Any]:
        data, truth = loans(gaps=dtype in ("object", "Float32"))()
        data = data.astype(dict.fromkeys(NUMBERS, dtype))
        return (data.where(data.notna(), None) if dtype == "object" else data), truth

    return load


def short() -> tuple[pd.DataFrame, Any]:
    """Make `numbers` of float32."""
    data, truth = numbers()()
    return data.astype("float32"), truth


def codes() -> tuple[pd.DataFrame, Any]:
    """Make `loans` with grades of int8."""
    data, truth = loans()()
    return data.astype({"grade": "int8"}), truth


SHAPES = [
    Shape("linear", "scaler + one-hot + logistic", mixed(LOGISTIC), loans()),
    Shape("linear", "the same, three classes", mixed(LOGISTIC), loans(target="three")),
    Shape("linear", "imputer with indicator", mixed(LOGISTIC, IMPUTED, FILLED), loans(gaps=True)),
    Shape("linear", "ridge", mixed(RIDGE), loans(target="value")),
    Shape(
        "linear",
        "lasso over powers",
        plain(StandardScaler(), PolynomialFeatures(2), linear_model.Lasso()),
        numbers(target="value"),
    ),
    Shape(
        "linear",
        "elastic net, robust scaler",
        plain(RobustScaler(), linear_model.ElasticNet()),
        numbers(target="value"),
    ),
    Shape(
        "linear",
        "SGD, log loss",
        plain(StandardScaler(), linear_model.SGDClassifier(loss="log_loss", random_state=0)),
        numbers(target="three"),
    ),
    Shape(
        "linear",
        "SGD, hinge",
        plain(StandardScaler(), linear_model.SGDClassifier(random_state=0)),
        numbers(),
    ),
    Shape(
        "linear", "linear SVC", plain(StandardScaler(), svm.LinearSVC()), numbers(target="three")
    ),
    Shape("linear", "ridge classifier", mixed(linear_model.RidgeClassifier()), loans()),
    Shape("linear", "Poisson", mixed(linear_model.PoissonRegressor()), loans(target="count")),
    Shape("linear", "Gamma", mixed(linear_model.GammaRegressor()), loans(target="value")),
    Shape(
        "linear", "Tweedie", mixed(linear_model.TweedieRegressor(power=1.5)), loans(target="value")
    ),
    Shape(
        "linear",
        "Huber",
        plain(StandardScaler(), linear_model.HuberRegressor()),
        numbers(target="value"),
    ),
    Shape(
        "linear",
        "LDA",
        plain(StandardScaler(), LinearDiscriminantAnalysis()),
        numbers(target="three"),
    ),
    Shape(
        "linear",
        "QDA",
        plain(StandardScaler(), QuadraticDiscriminantAnalysis()),
        numbers(target="three"),
    ),
    Shape("trees", "scaler + one-hot + forest", mixed(FOREST), loans()),
    Shape("trees", "the same, three classes", mixed(FOREST), loans(target="three")),
    Shape("trees", "scaler + one-hot + boosting", mixed(BOOSTING), loans()),
    Shape(
        "trees",
        "scaler + one-hot + histograms",
        mixed(HISTOGRAM, None, OneHotEncoder(handle_unknown="ignore", sparse_output=False)),
        loans(),
    ),
    Shape(
        "trees",
        "min-max scaler + forest of values",
        mixed(FOREST_VALUE, MinMaxScaler()),
        loans(target="value"),
    ),
    Shape(
        "trees",
        "ordinal + forest",
        mixed(
            FOREST,
            "passthrough",
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        ),
        loans(),
    ),
    Shape(
        "trees",
        "imputer + extra trees",
        mixed(ensemble.ExtraTreesClassifier(30, random_state=0), SimpleImputer(), FILLED),
        loans(gaps=True),
    ),
    Shape(
        "trees",
        "one tree",
        plain(tree.DecisionTreeRegressor(max_depth=6, random_state=0)),
        numbers(target="value"),
    ),
    Shape(
        "trees", "histograms with gaps", plain(HISTOGRAM_VALUE), numbers(target="value", gaps=True)
    ),
    Shape(
        "trees",
        "boosting from a first guess",
        mixed(ensemble.GradientBoostingClassifier(n_estimators=20, init=LOGISTIC, random_state=0)),
        loans(target="three"),
    ),
    Shape(
        "trees",
        "boosting of values from a first guess",
        plain(
            ensemble.GradientBoostingRegressor(
                n_estimators=20, init=linear_model.LinearRegression(), random_state=0
            )
        ),
        numbers(target="value"),
    ),
    Shape(
        "trees",
        "AdaBoost",
        plain(ensemble.AdaBoostClassifier(n_estimators=20, random_state=0)),
        numbers(target="three"),
    ),
    Shape(
        "trees",
        "AdaBoost of values",
        plain(ensemble.AdaBoostRegressor(n_estimators=20, random_state=0)),
        numbers(target="value"),
    ),
    Shape(
        "trees",
        "bagging",
        plain(StandardScaler(), ensemble.BaggingClassifier(random_state=0)),
        numbers(),
    ),
    Shape("trees", "PCA + forest", plain(StandardScaler(), PCA(2), FOREST), numbers()),
    Shape("trees", "log1p + forest", plain(FunctionTransformer(np.log1p), FOREST), numbers()),
    Shape(
        "encoders",
        "integers as categories",
        lambda: make_pipeline(
            ColumnTransformer(
                [
                    ("c", OneHotEncoder(handle_unknown="ignore"), ["grade", "purpose"]),
                    ("n", StandardScaler(), NUMBERS),
                ]
            ),
            LOGISTIC,
        ),
        loans(),
    ),
    Shape(
        "encoders",
        "rare categories",
        mixed(
            LOGISTIC, None, OneHotEncoder(min_frequency=140, handle_unknown="infrequent_if_exist")
        ),
        loans(),
    ),
    Shape(
        "encoders",
        "at most two categories",
        mixed(LOGISTIC, None, OneHotEncoder(max_categories=2, handle_unknown="ignore")),
        loans(),
    ),
    Shape(
        "encoders",
        "first category dropped",
        mixed(LOGISTIC, None, OneHotEncoder(drop="first")),
        loans(),
    ),
    Shape(
        "encoders", "target encoder", mixed(LOGISTIC, None, TargetEncoder(random_state=0)), loans()
    ),
    Shape("encoders", "bins", plain(KBinsDiscretizer(5), LOGISTIC), numbers()),
    Shape(
        "encoders",
        "ordinal bins + ridge",
        plain(KBinsDiscretizer(5, encode="ordinal"), RIDGE),
        numbers(target="value"),
    ),
    Shape(
        "functions",
        "log1p of one column",
        lambda: make_pipeline(
            ColumnTransformer(
                [("l", FunctionTransformer(np.log1p), ["amount"])], remainder="passthrough"
            ),
            *SCALED,
        ),
        numbers(),
    ),
    Shape("functions", "square root", plain(FunctionTransformer(np.sqrt), *SCALED), numbers()),
    Shape(
        "functions",
        "clip",
        plain(FunctionTransformer(np.clip, kw_args={"a_min": 20, "a_max": 20000}), *SCALED),
        numbers(),
    ),
    Shape("functions", "Yeo-Johnson", plain(PowerTransformer(), LOGISTIC), numbers()),
    Shape("functions", "Box-Cox", plain(PowerTransformer("box-cox"), LOGISTIC), numbers()),
    Shape(
        "functions",
        "splines, straight beyond the knots",
        plain(SplineTransformer(extrapolation="linear", include_bias=False), RIDGE),
        numbers(target="value"),
    ),
    Shape(
        "functions",
        "KNN imputer by distance + forest",
        plain(KNNImputer(n_neighbors=3, weights="distance", add_indicator=True), FOREST),
        numbers(gaps=True),
    ),
    Shape(
        "functions", "quantiles", plain(QuantileTransformer(n_quantiles=50), LOGISTIC), numbers()
    ),
    Shape("functions", "splines", plain(SplineTransformer(), RIDGE), numbers(target="value")),
    Shape(
        "functions",
        "union of scalers",
        plain(FeatureUnion([("s", StandardScaler()), ("m", MaxAbsScaler())]), RIDGE),
        numbers(target="value"),
    ),
    Shape("functions", "KNN imputer", plain(KNNImputer(), *SCALED), numbers(gaps=True)),
    Shape(
        "targets",
        "log1p target around ridge",
        plain(
            StandardScaler(),
            TransformedTargetRegressor(RIDGE, func=np.log1p, inverse_func=np.expm1),
        ),
        numbers(target="value"),
    ),
    Shape(
        "targets",
        "log target around a pipeline",
        lambda: TransformedTargetRegressor(mixed(RIDGE)(), func=np.log, inverse_func=np.exp),
        loans(target="value"),
    ),
    Shape(
        "targets",
        "scaled target around a forest",
        lambda: TransformedTargetRegressor(FOREST_VALUE, transformer=StandardScaler()),
        numbers(target="value"),
    ),
    Shape(
        "targets",
        "Yeo-Johnson target",
        lambda: TransformedTargetRegressor(
            make_pipeline(StandardScaler(), RIDGE), transformer=PowerTransformer()
        ),
        numbers(target="value"),
    ),
    Shape(
        "ensembles",
        "soft votes",
        mixed(
            ensemble.VotingClassifier(
                [("l", LOGISTIC), ("f", FOREST)], voting="soft", weights=[1, 2]
            )
        ),
        loans(target="three"),
    ),
    Shape(
        "ensembles",
        "hard votes",
        mixed(ensemble.VotingClassifier([("l", LOGISTIC), ("f", FOREST), ("b", BOOSTING)])),
        loans(),
    ),
    Shape(
        "ensembles",
        "mean of regressors",
        mixed(ensemble.VotingRegressor([("r", RIDGE), ("f", FOREST_VALUE)])),
        loans(target="value"),
    ),
    Shape(
        "ensembles",
        "stack",
        mixed(ensemble.StackingClassifier([("f", FOREST), ("s", svm.LinearSVC())], LOGISTIC, cv=3)),
        loans(),
    ),
    Shape(
        "ensembles",
        "stack of regressors, passthrough",
        plain(
            StandardScaler(),
            ensemble.StackingRegressor(
                [("r", RIDGE), ("f", FOREST_VALUE)],
                linear_model.LinearRegression(),
                cv=3,
                passthrough=True,
            ),
        ),
        numbers(target="value"),
    ),
    Shape(
        "ensembles",
        "calibrated by sigmoid",
        plain(StandardScaler(), CalibratedClassifierCV(svm.LinearSVC(), cv=3)),
        numbers(),
    ),
    Shape(
        "ensembles",
        "calibrated by isotonic",
        plain(CalibratedClassifierCV(FOREST, method="isotonic", cv=3)),
        numbers(target="three"),
    ),
    Shape(
        "ensembles",
        "one against the rest",
        mixed(OneVsRestClassifier(LOGISTIC)),
        loans(target="three"),
    ),
    Shape(
        "ensembles",
        "a threshold",
        mixed(FixedThresholdClassifier(LOGISTIC, threshold=0.3)),
        loans(),
    ),
    Shape(
        "ensembles",
        "a tuned threshold",
        mixed(
            TunedThresholdClassifierCV(FOREST, scoring="balanced_accuracy", cv=3, random_state=0)
        ),
        loans(),
    ),
    Shape(
        "searches",
        "grid search around a pipeline",
        lambda: GridSearchCV(mixed(LOGISTIC)(), {"logisticregression__C": [0.1, 1]}, cv=3),
        loans(),
    ),
    Shape(
        "searches",
        "random search of a forest",
        lambda: RandomizedSearchCV(
            make_pipeline(StandardScaler(), FOREST),
            {"randomforestclassifier__max_depth": [3, 5]},
            n_iter=2,
            cv=3,
            random_state=0,
        ),
        numbers(),
    ),
    Shape(
        "searches",
        "search as a last step",
        plain(StandardScaler(), GridSearchCV(RIDGE, {"alpha": [0.1, 1]}, cv=3)),
        numbers(target="value"),
    ),
    Shape(
        "selection", "k best + logistic", mixed(make_pipeline(SelectKBest(k=3), LOGISTIC)), loans()
    ),
    Shape(
        "selection",
        "from a model + forest",
        plain(StandardScaler(), SelectFromModel(LOGISTIC), FOREST),
        numbers(),
    ),
    Shape(
        "selection",
        "PCA, whitened",
        plain(StandardScaler(), PCA(2, whiten=True), LOGISTIC),
        numbers(),
    ),
    Shape(
        "selection",
        "truncated SVD",
        mixed(make_pipeline(TruncatedSVD(3, random_state=0), LOGISTIC)),
        loans(),
    ),
    Shape(
        "others", "neighbours", plain(StandardScaler(), neighbors.KNeighborsClassifier()), numbers()
    ),
    Shape(
        "others",
        "neighbours by distance",
        plain(StandardScaler(), neighbors.KNeighborsRegressor(weights="distance")),
        numbers(target="value"),
    ),
    Shape(
        "others",
        "SVC with probabilities",
        plain(StandardScaler(), svm.SVC(probability=True, random_state=0)),
        numbers(target="three"),
    ),
    Shape("others", "SVC", plain(StandardScaler(), svm.SVC()), numbers(target="three")),
    Shape("others", "SVR", plain(StandardScaler(), svm.SVR()), numbers(target="value")),
    Shape("others", "naive Bayes", plain(naive_bayes.GaussianNB()), numbers(target="three")),
    Shape(
        "others",
        "network",
        mixed(neural_network.MLPClassifier((16,), max_iter=300, random_state=0)),
        loans(target="three"),
    ),
    Shape(
        "others",
        "network of values",
        plain(
            StandardScaler(),
            neural_network.MLPRegressor(hidden_layer_sizes=(16,), max_iter=300, random_state=0),
        ),
        numbers(target="value"),
    ),
    Shape(
        "libraries",
        "XGBoost",
        plain(StandardScaler(), xgboost.XGBClassifier(n_estimators=20)),
        coded(numbers()),
    ),
    Shape(
        "libraries",
        "XGBoost of values",
        itself(xgboost.XGBRegressor(n_estimators=20)),
        numbers(target="value", gaps=True),
    ),
    Shape(
        "libraries",
        "XGBoost, three classes",
        mixed(xgboost.XGBClassifier(n_estimators=10)),
        coded(loans(target="three")),
    ),
    Shape(
        "libraries",
        "LightGBM",
        mixed(lightgbm.LGBMClassifier(n_estimators=20, verbose=-1)),
        loans(),
    ),
    Shape(
        "libraries",
        "LightGBM of counts",
        itself(lightgbm.LGBMRegressor(objective="poisson", n_estimators=20, verbose=-1)),
        numbers(target="count", gaps=True),
    ),
    Shape(
        "libraries",
        "LightGBM with categories",
        itself(lightgbm.LGBMClassifier(n_estimators=20, verbose=-1)),
        categorical,
    ),
    Shape(
        "libraries",
        "LightGBM in a search",
        lambda: GridSearchCV(
            lightgbm.LGBMClassifier(n_estimators=10, verbose=-1), {"num_leaves": [7, 15]}, cv=3
        ),
        numbers(target="three"),
    ),
    Shape(
        "libraries",
        "CatBoost",
        mixed(catboost.CatBoostClassifier(iterations=20, verbose=0, allow_writing_files=False)),
        loans(),
    ),
    Shape(
        "libraries",
        "CatBoost of values",
        itself(catboost.CatBoostRegressor(iterations=20, verbose=0, allow_writing_files=False)),
        numbers(target="value", gaps=True),
    ),
    Shape(
        "libraries",
        "CatBoost, three classes",
        mixed(catboost.CatBoostClassifier(iterations=10, verbose=0, allow_writing_files=False)),
        loans(target="three"),
    ),
    Shape(
        "libraries",
        "imbalanced-learn: a sampler in front",
        lambda: make_sampled(
            ColumnTransformer(
                [("n", StandardScaler(), NUMBERS), ("c", OneHotEncoder(), CATEGORIES)]
            ),
            RandomOverSampler(random_state=0),
            LOGISTIC,
        ),
        loans(),
    ),
    Shape(
        "libraries",
        "imbalanced-learn: encoded after the sampler",
        lambda: make_sampled(
            RandomOverSampler(random_state=0),
            ColumnTransformer([("n", "passthrough", NUMBERS), ("c", OneHotEncoder(), CATEGORIES)]),
            FOREST,
        ),
        loans(),
    ),
    Shape(
        "trees",
        "histograms with categories",
        itself(ensemble.HistGradientBoostingClassifier(max_iter=20)),
        categorical,
    ),
    Shape("text", "TF-IDF of a series", plain(TfidfVectorizer(), LOGISTIC), messages(series=True)),
    Shape(
        "text",
        "TF-IDF in a column transformer",
        lambda: make_pipeline(ColumnTransformer([("t", TfidfVectorizer(), "text")]), LOGISTIC),
        messages(),
    ),
    Shape(
        "text",
        "counts + naive Bayes",
        plain(
            CountVectorizer(ngram_range=(1, 2), stop_words="english"), naive_bayes.MultinomialNB()
        ),
        messages(series=True),
    ),
    Shape(
        "text",
        "characters, sublinear",
        plain(
            TfidfVectorizer(
                analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, strip_accents="unicode"
            ),
            svm.LinearSVC(),
        ),
        messages(series=True),
    ),
    Shape(
        "text",
        "counts, TF-IDF, SGD",
        plain(
            CountVectorizer(binary=True),
            TfidfTransformer(),
            linear_model.SGDClassifier(random_state=0),
        ),
        messages(series=True),
    ),
    Shape(
        "text",
        "text beside numbers",
        lambda: make_pipeline(
            ColumnTransformer(
                [("t", TfidfVectorizer(min_df=2), "text"), ("n", StandardScaler(), ["length"])]
            ),
            FOREST,
        ),
        messages(),
    ),
    Shape(
        "tasks",
        "isolation forest",
        plain(StandardScaler(), ensemble.IsolationForest(n_estimators=30, random_state=0)),
        numbers(),
    ),
    Shape("tasks", "elliptic envelope", plain(EllipticEnvelope(random_state=0)), numbers()),
    Shape("tasks", "one-class SVM", plain(StandardScaler(), svm.OneClassSVM()), numbers()),
    Shape("tasks", "k-means", plain(StandardScaler(), KMeans(3, random_state=0)), numbers()),
    Shape(
        "tasks",
        "Gaussian mixture",
        plain(StandardScaler(), GaussianMixture(3, random_state=0)),
        numbers(),
    ),
    Shape("tasks", "forest of two values", plain(FOREST_VALUE), two(numbers(target="value"))),
    Shape(
        "tasks", "ridge of two values", plain(StandardScaler(), RIDGE), two(numbers(target="value"))
    ),
    Shape(
        "tasks",
        "a classifier for each target",
        plain(StandardScaler(), MultiOutputClassifier(LOGISTIC)),
        two(numbers()),
    ),
    Shape("tasks", "forest of two classes", plain(FOREST), two(numbers())),
    Shape(
        "tasks",
        "chain of regressors",
        plain(StandardScaler(), RegressorChain(RIDGE)),
        two(numbers(target="value")),
    ),
    Shape("dtypes", "float32: scaler + one-hot + logistic", mixed(LOGISTIC), held_in("float32")),
    Shape("dtypes", "float32: scaler + one-hot + forest", mixed(FOREST), held_in("float32")),
    Shape("dtypes", "float32: min-max + histograms", plain(MinMaxScaler(), HISTOGRAM), short),
    Shape("dtypes", "float32: powers + logistic", plain(PolynomialFeatures(2), *SCALED), short),
    Shape("dtypes", "None among objects", mixed(FOREST, IMPUTED, FILLED), held_in("object")),
    Shape("dtypes", "nullable, with gaps", mixed(LOGISTIC, IMPUTED, FILLED), held_in("Float32")),
    Shape(
        "dtypes",
        "int8 as categories",
        lambda: make_pipeline(
            ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), ["grade"])]), LOGISTIC
        ),
        codes,
    ),
    Shape("text", "hashes + logistic", plain(HashingVectorizer(), LOGISTIC), messages(series=True)),
    Shape(
        "text",
        "hashes, TF-IDF, SGD",
        plain(
            HashingVectorizer(alternate_sign=False, norm=None, ngram_range=(1, 2)),
            TfidfTransformer(),
            linear_model.SGDClassifier(random_state=0),
        ),
        messages(series=True),
    ),
    Shape(
        "text",
        "hashes beside numbers + forest",
        lambda: make_pipeline(
            ColumnTransformer(
                [
                    ("t", HashingVectorizer(n_features=2**10), "text"),
                    ("n", StandardScaler(), ["length"]),
                ]
            ),
            FOREST,
        ),
        messages(),
    ),
    Shape(
        "text",
        "whatever stands between blanks",
        plain(TfidfVectorizer(token_pattern=r"\S+"), LOGISTIC),  # noqa: S106
        messages(series=True),
    ),
    Shape(
        "functions",
        "splines, periodic",
        plain(SplineTransformer(5, extrapolation="periodic"), LOGISTIC),
        numbers(),
    ),
    Shape(
        "functions",
        "quantiles of the normal distribution",
        plain(QuantileTransformer(n_quantiles=100, output_distribution="normal"), LOGISTIC),
        numbers(),
    ),
    Shape(
        "others",
        "SVC, calibrated",
        plain(StandardScaler(), CalibratedClassifierCV(svm.SVC(), ensemble=False)),
        numbers(target="three"),
    ),
    Shape(
        "others",
        "one against one",
        plain(StandardScaler(), OneVsOneClassifier(svm.LinearSVC())),
        numbers(target="three"),
    ),
    Shape("tasks", "mean shift", plain(StandardScaler(), MeanShift()), numbers()),
    Shape(
        "functions",
        "gaps imputed in rounds",
        plain(IterativeImputer(max_iter=4, random_state=0), *SCALED),
        numbers(gaps=True),
    ),
    Shape(
        "functions",
        "distances to k-means",
        plain(StandardScaler(), KMeans(5, random_state=0), LOGISTIC),
        numbers(),
    ),
    Shape(
        "functions",
        "landmarks of a kernel + linear SVC",
        plain(StandardScaler(), Nystroem(n_components=40, random_state=0), svm.LinearSVC()),
        numbers(),
    ),
    Shape(
        "functions",
        "kernel PCA",
        plain(StandardScaler(), KernelPCA(4, kernel="rbf"), LOGISTIC),
        numbers(),
    ),
    Shape(
        "targets",
        "target of normal quantiles",
        lambda: TransformedTargetRegressor(
            make_pipeline(StandardScaler(), RIDGE),
            transformer=QuantileTransformer(n_quantiles=50, output_distribution="normal"),
        ),
        numbers(target="value"),
    ),
    Shape("others", "nearest centroid", mixed(neighbors.NearestCentroid()), loans()),
    Shape(
        "others",
        "neighbours by distance",
        plain(StandardScaler(), neighbors.KNeighborsClassifier(3, weights="distance")),
        numbers(target="three"),
    ),
    Shape(
        "others",
        "trained on its own labels",
        plain(StandardScaler(), SelfTrainingClassifier(LOGISTIC)),
        coded(numbers()),
    ),
    Shape(
        "others",
        "output codes",
        plain(StandardScaler(), OutputCodeClassifier(LOGISTIC, random_state=0)),
        numbers(target="three"),
    ),
    Shape("others", "kernel ridge", mixed(KernelRidge(kernel="rbf")), loans(target="value")),
    Shape(
        "others",
        "Gaussian process",
        plain(StandardScaler(), GaussianProcessRegressor(alpha=0.1, normalize_y=True)),
        numbers(target="value"),
    ),
    Shape("linear", "partial least squares", mixed(PLSRegression(3)), loans(target="value")),
    Shape(
        "tasks",
        "chain of classifiers",
        plain(StandardScaler(), ClassifierChain(LOGISTIC)),
        flags,
    ),
]

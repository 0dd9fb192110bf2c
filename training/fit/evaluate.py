"""How good a fitted model is, next to a trivial one."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from serving.bundle.manifest import Task
from sklearn import metrics
from sklearn.base import is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import cross_validate

from training.fit.uncertainty import Draws, draw, interval

__all__ = [
    "ERRORS",
    "METRICS",
    "SEED",
    "Answers",
    "Scoring",
    "ask",
    "baseline",
    "cross_validation",
    "draws",
    "evaluate",
    "intervals",
    "measure",
    "permutation",
    "scorer",
]

SEED = 0
#: What permuting the features may take, and on how few rows it still says something.
PERMUTING_SECONDS, FEWEST_ROWS = 30.0, 100

#: A score by scikit-learn's name, or a function of a model, rows and targets.
Scoring = str | Callable[[Any, Any, Any], float]

#: The figures of each task, the most telling first.
METRICS: dict[Task, tuple[str, ...]] = {
    "classification": ("roc_auc", "log_loss", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
}
#: The figures that get better as they fall.
ERRORS = ("log_loss", "rmse", "mae")


class Answers(NamedTuple):
    """A model's answers to n rows."""

    #: Labels or values, shape (n,).
    predicted: Any
    #: Shape (n, classes); None for regression, or a classifier that has none.
    probabilities: Any
    #: In the order of the probabilities; None for regression.
    classes: Any
    #: An outlier detector's, shape (n,).
    scores: Any = None


def ask(model: Any, data: Any) -> Answers:
    """Score rows with *model*, fitted by scikit-learn."""
    predicted = np.asarray(model.predict(data))
    probabilities = model.predict_proba(data) if hasattr(model, "predict_proba") else None
    classes = None if is_regressor(model) else getattr(model, "classes_", None)
    return Answers(predicted, probabilities, classes)


def evaluate(model: Any, data: Any, target: Any) -> dict[str, Any]:
    """Measure *model*, fitted by scikit-learn, on rows it has not seen. See `measure`."""
    return measure(target, ask(model, data))


def measure(target: Any, answers: Answers) -> dict[str, Any]:
    """
    Say how good *answers* are.

    Args:
        target: The truth, shape (n,).
        answers: The model's, for the same rows.

    Returns:
        For regression rmse, mae and, of two rows or more, r2. For classification accuracy, the
        confusion matrix (rows are truth, in the order of the classes) and, given probabilities,
        roc_auc and log_loss.
    """
    predicted, classes = answers.predicted, answers.classes
    if classes is None:
        errors = {
            "rmse": float(metrics.root_mean_squared_error(target, predicted)),
            "mae": float(metrics.mean_absolute_error(target, predicted)),
        }
        if len(predicted) < 2:
            return errors
        return errors | {"r2": float(metrics.r2_score(target, predicted))}
    found: dict[str, Any] = {
        "accuracy": float(metrics.accuracy_score(target, predicted)),
        "confusion": metrics.confusion_matrix(target, predicted, labels=classes).tolist(),
    }
    probabilities = _within_bounds(answers.probabilities)
    if probabilities is not None:
        found["log_loss"] = float(metrics.log_loss(target, probabilities, labels=classes))
        if set(np.unique(target)) == set(classes):  # otherwise the curve is not defined
            found["roc_auc"] = _roc_auc(target, probabilities, classes)
    return found


def draws(target: Any, answers: Answers) -> Draws:
    """Measure the same figures on rows drawn again; see `training.fit.uncertainty.draw`."""
    return draw(target, answers.predicted, _within_bounds(answers.probabilities), answers.classes)


def intervals(target: Any, answers: Answers) -> dict[str, list[float]]:
    """Return the ends of the 95 % interval of each figure."""
    found = {name: interval(values) for name, values in draws(target, answers).items()}
    return {name: list(ends) for name, ends in found.items() if ends is not None}


def baseline(seen: Any, unseen: Any, *, regression: bool) -> dict[str, Any]:
    """Evaluate the trivial model, which knows only the *seen* targets, on the *unseen* ones."""
    dummy = DummyRegressor() if regression else DummyClassifier(strategy="prior")
    dummy.fit(np.zeros((len(seen), 1)), seen)
    return evaluate(dummy, np.zeros((len(unseen), 1)), unseen)


def scorer(model: Any, classes: int | None, *, outputs: int = 1) -> Scoring:
    """
    Return the score that suits the model, by scikit-learn's name if it has one. Higher is better.

    Args:
        model: A classifier or a regressor.
        classes: How many it tells apart; None for regression.
        outputs: How many targets it predicts at once.
    """
    if classes is None:
        return "r2"
    if outputs > 1:
        return accuracy
    if not hasattr(model, "predict_proba"):
        return "accuracy"
    return "roc_auc" if classes == 2 else "roc_auc_ovr_weighted"


def accuracy(model: Any, data: Any, target: Any) -> float:
    """Return the mean accuracy of several labels, shape (n, outputs)."""
    return float(np.mean(np.asarray(model.predict(data)) == target))


def cross_validation(
    pipeline: Any, data: Any, target: Any, *, folds: int | list[Any], scoring: Scoring
) -> dict[str, Any]:
    """
    Fit and score on parts of the training rows; mean and standard deviation.

    Args:
        pipeline: It is copied for each part.
        data: The n rows.
        target: Shape (n,) or (n, outputs).
        folds: How many parts, or of each the rows to fit to and those to score.
        scoring: As `scorer` returns it.
    """
    scores = cross_validate(pipeline, data, target, cv=folds, scoring=scoring, error_score="raise")[
        "test_score"
    ]
    return {
        "score": getattr(scoring, "__name__", scoring),
        "folds": len(scores),
        "mean": float(scores.mean()),
        "std": float(scores.std()),
    }


def permutation(
    model: Any,
    data: Any,
    target: Any,
    *,
    scoring: Scoring,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
    seconds: float = PERMUTING_SECONDS,
) -> dict[str, float] | None:
    """
    Return the mean fall of the score when a column is shuffled (Breiman 2001), per column.

    It takes about *seconds*: many columns, or a slow model, are tried on fewer rows.

    None where the score is not defined on these rows: a class is missing, or there is one row; for
    texts themselves, which have no columns; and where the time allows too few rows.
    """
    if np.ndim(data) == 1:
        return None
    columns, random = data.shape[1], np.random.default_rng(seed)
    score = metrics.get_scorer(scoring) if isinstance(scoring, str) else scoring
    single = isinstance(scoring, str) and target.ndim == 1
    least = 2 if scoring == "r2" else len(getattr(model, "classes_", ()))
    while True:
        if single and len(np.unique(target)) < least:
            return None
        start = perf_counter()
        score(model, data, target)
        repeats = min(3, int(seconds / columns / (perf_counter() - start)))
        if repeats:
            break
        if len(target) < 2 * FEWEST_ROWS:
            report("too many columns for the time: the importances of the features are left out")
            return None
        half = random.permutation(len(target)) < len(target) // 2
        data, target = data[half], target[half]
    report(f"permuting {columns:,} features, {repeats} × {len(target):,} rows")
    found = permutation_importance(
        model, data, target, scoring=scoring, n_repeats=repeats, random_state=seed, n_jobs=1
    )
    if not np.isfinite(found.importances_mean).all():
        return None  # the values are so large that their squares overflow
    names = [str(name) for name in getattr(data, "columns", ())] or [
        f"x{i}" for i in range(columns)
    ]
    return dict(zip(names, found.importances_mean.tolist(), strict=True))


def _within_bounds(probabilities: Any) -> Any:
    """Clip rounding errors beyond 0 and 1, and let each row sum to 1."""
    if probabilities is None:
        return None
    clipped = np.clip(np.asarray(probabilities, float), 0.0, 1.0)
    sums = clipped.sum(axis=1, keepdims=True)
    return np.divide(clipped, sums, out=np.full_like(clipped, 1 / clipped.shape[1]), where=sums > 0)


def _roc_auc(target: Any, probabilities: Any, classes: Any) -> float:
    if len(classes) == 2:
        return float(metrics.roc_auc_score(target == classes[1], probabilities[:, 1]))
    return float(
        metrics.roc_auc_score(
            target, probabilities, multi_class="ovr", average="weighted", labels=classes
        )
    )

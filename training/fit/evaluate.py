"""How good a fitted model is, next to a trivial one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from serving.bundle.manifest import Task
from sklearn import metrics
from sklearn.base import is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor

from training.fit.uncertainty import Draws, draw, interval

__all__ = [
    "ERRORS",
    "METRICS",
    "SEED",
    "Answers",
    "ask",
    "baseline",
    "draws",
    "evaluate",
    "intervals",
    "measure",
]

SEED = 0

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

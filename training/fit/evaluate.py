"""How good a fitted model is, next to a trivial one."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import cross_validate

__all__ = ["baseline", "cross_validation", "evaluate", "measure", "permutation", "scorer"]


def evaluate(model: Any, data: Any, target: Any) -> dict[str, Any]:
    """Score *model*, fitted by scikit-learn, on rows it has not seen; see `measure`."""
    predicted = model.predict(data)
    probabilities = model.predict_proba(data) if hasattr(model, "predict_proba") else None
    return measure(target, predicted, probabilities, getattr(model, "classes_", None))


def measure(target: Any, predicted: Any, probabilities: Any, classes: Any) -> dict[str, Any]:
    """
    Say how good answers are.

    Args:
        target: What is true, shape (n,).
        predicted: What was said, shape (n,).
        probabilities: Shape (n, classes); None for regression, or a classifier that has none.
        classes: In the order of the probabilities; None for regression.

    Returns:
        For regression rmse, mae and, of two rows or more, r2; for classification accuracy, the
        confusion matrix (rows are truth, in the order of the classes) and, given probabilities,
        roc_auc and log_loss.
    """
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
    if probabilities is not None:
        found["log_loss"] = float(metrics.log_loss(target, probabilities, labels=classes))
        if set(np.unique(target)) == set(classes):  # otherwise the curve is not defined
            found["roc_auc"] = _roc_auc(target, probabilities, classes)
    return found


def baseline(data: Any, target: Any, held_out: tuple[Any, Any], *, regression: bool) -> Any:
    """Evaluate what knows no features: the mean, or the shares of the classes."""
    dummy = DummyRegressor() if regression else DummyClassifier(strategy="prior")
    return evaluate(dummy.fit(np.zeros((len(data), 1)), target), _blank(held_out[0]), held_out[1])


def scorer(model: Any, classes: int | None) -> str:
    """Name scikit-learn's score that suits the model: higher is better."""
    if classes is None:
        return "r2"
    if not hasattr(model, "predict_proba"):
        return "accuracy"
    return "roc_auc" if classes == 2 else "roc_auc_ovr_weighted"


def cross_validation(
    pipeline: Any, data: Any, target: Any, *, folds: int, scoring: str
) -> dict[str, Any]:
    """Fit and score on *folds* parts of the training rows; mean and standard deviation."""
    scores = cross_validate(pipeline, data, target, cv=folds, scoring=scoring, error_score="raise")[
        "test_score"
    ]
    return {
        "score": scoring,
        "folds": folds,
        "mean": float(scores.mean()),
        "std": float(scores.std()),
    }


def permutation(
    model: Any, data: Any, target: Any, *, scoring: str, seed: int
) -> dict[str, float] | None:
    """
    Return the mean fall of the score when a column is shuffled (Breiman 2001), per column.

    None where the score is not defined on these rows: a class is missing, or there is one row.
    """
    if len(np.unique(target)) < (2 if scoring == "r2" else len(model.classes_)):
        return None
    found = permutation_importance(
        model, data, target, scoring=scoring, n_repeats=3, random_state=seed, n_jobs=1
    )
    if not np.isfinite(found.importances_mean).all():
        return None  # the values are so large that their squares overflow
    names = [str(name) for name in getattr(data, "columns", ())] or [
        f"x{i}" for i in range(len(found.importances_mean))
    ]
    return dict(zip(names, found.importances_mean.tolist(), strict=True))


def _roc_auc(target: Any, probabilities: Any, classes: Any) -> float:
    if len(classes) == 2:
        return float(metrics.roc_auc_score(target == classes[1], probabilities[:, 1]))
    return float(
        metrics.roc_auc_score(
            target, probabilities, multi_class="ovr", average="weighted", labels=classes
        )
    )


def _blank(data: Any) -> Any:
    return np.zeros((len(data), 1))

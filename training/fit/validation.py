"""How good a pipeline is on parts of its training rows, and which features it relies on."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.inspection import permutation_importance
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_validate,
)

from training.fit.evaluate import SEED

__all__ = ["cross_validation", "divide", "permutation", "scorer"]

FOLDS = 5
#: What cross-validation may take before it stops, and what permuting the features may take.
VALIDATING_SECONDS, PERMUTING_SECONDS = 60.0, 30.0
#: On fewer rows than this, permuting a feature says nothing.
FEWEST_ROWS = 100

#: A score by scikit-learn's name, or a function of a model, rows and targets.
Scoring = str | Callable[[Any, Any, Any], float]
#: Of each fold, the rows to fit to and those to score.
Folds = list[tuple[Any, Any]]


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


def divide(target: Any, ids: NDArray[Any] | None, *, by_class: bool) -> Folds:
    """
    Divide rows into folds for cross-validation; those of one id stay together.

    Args:
        target: Shape (n,) or (n, outputs).
        ids: Of each row whose it is, shape (n,); None if that is not known.
        by_class: Whether every fold needs rows of every class.

    Returns:
        Nothing if there are too few rows, ids or rows of a class.
    """
    # R² is not defined for one row, so a fold has two.
    rarest = np.unique(target, return_counts=True)[1].min() if by_class else len(target) // 2
    count = min(FOLDS, rarest, len(target) if ids is None else len(np.unique(ids)))
    if count < 2:
        return []
    kinds = (KFold, StratifiedKFold) if ids is None else (GroupKFold, StratifiedGroupKFold)
    folds = list(kinds[by_class](count).split(target, target, ids))
    classes = len(np.unique(target)) if by_class else 0
    for rows in (rows for fold in folds for rows in fold):
        if len(rows) < 2 or (by_class and len(np.unique(target[rows])) < classes):
            return []
    return folds


def cross_validation(
    pipeline: Any,
    data: Any,
    target: Any,
    *,
    folds: Folds,
    scoring: Scoring,
    report: Callable[[str], None],
    seconds: float = VALIDATING_SECONDS,
) -> dict[str, Any]:
    """
    Fit and score on parts of the training rows; mean and standard deviation.

    It stops after the fold that passes *seconds*, but scores two at least.

    Args:
        pipeline: It is copied for each fold.
        data: The n rows.
        target: Shape (n,) or (n, outputs).
        folds: As `divide` returns them.
        scoring: As `scorer` returns it.
        report: Told if not all folds are scored.
        seconds: The limit.
    """
    start, scores = perf_counter(), list[float]()
    for fold in folds:
        found = cross_validate(
            pipeline, data, target, cv=[fold], scoring=scoring, error_score="raise"
        )
        scores += found["test_score"].tolist()
        if perf_counter() - start > seconds and 1 < len(scores) < len(folds):
            report(f"over {seconds:g} s: {len(scores)} of {len(folds)} folds were scored")
            break
    return {
        "score": getattr(scoring, "__name__", scoring),
        "folds": len(scores),
        "mean": float(np.mean(scores)),
        "std": float(np.std(scores)),
    }


def permutation(
    model: Any,
    data: Any,
    target: Any,
    *,
    scoring: Scoring,
    report: Callable[[str], None],
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
    columns, random = data.shape[1], np.random.default_rng(SEED)
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
        model, data, target, scoring=scoring, n_repeats=repeats, random_state=SEED, n_jobs=1
    )
    if not np.isfinite(found.importances_mean).all():
        return None  # the values are so large that their squares overflow
    names = [str(name) for name in getattr(data, "columns", ())] or [
        f"x{i}" for i in range(columns)
    ]
    return dict(zip(names, found.importances_mean.tolist(), strict=True))

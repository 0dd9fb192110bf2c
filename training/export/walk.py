"""Finds every fitted estimator inside a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from serving.bundle.manifest import Task
from sklearn.base import (
    BaseEstimator,
    is_classifier,
    is_clusterer,
    is_outlier_detector,
    is_regressor,
)
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

__all__ = ["best_of", "classes_of", "last_of", "task_of", "walk", "without_task"]

#: Unfitted templates, by the attribute that holds what was fitted from them. (A voting's
#: `estimators` and a column transformer's `transformers` are templates as well.)
_FITTED = {
    "best_estimator_": ("estimator",),
    "calibrated_classifiers_": ("estimator",),
    "estimator_": ("estimator",),
    "estimators_": ("estimator", "estimators", "base_estimator", "init", "estimator_"),
    "final_estimator_": ("final_estimator",),
    "regressor_": ("regressor",),
    "transformer_": ("transformer",),
    "transformers_": ("transformers", "remainder"),
}


def best_of(model: Any) -> Any:
    """Return the best estimator of a fitted search, or *model* itself."""
    while hasattr(model, "best_estimator_"):
        model = model.best_estimator_
    return model


def last_of(model: Any) -> Any:
    """Return the last step of a fitted pipeline, or of the best pipeline of a search."""
    last = best_of(model)
    return last.steps[-1][1] if hasattr(last, "steps") else last


def classes_of(model: Any) -> Any:
    """Return what a classifier's labels are; None for a regressor, which may have an empty list."""
    return None if is_regressor(model) else getattr(model, "classes_", None)


def task_of(model: Any) -> Task | None:
    """Return the task of a fitted *model*; None if it cannot be served."""
    if is_outlier_detector(model):
        return "outliers" if hasattr(model, "decision_function") else None
    last = last_of(model)
    if is_clusterer(model) or isinstance(last, GaussianMixture | BayesianGaussianMixture):
        return "clustering" if hasattr(model, "predict") else None
    if is_classifier(model):
        return "classification"
    return "regression" if is_regressor(model) else None


def without_task(model: Any) -> str:
    """Say of a fitted *model* that is for nothing what it lacks, and what would do."""
    last = last_of(model)
    text = f"a {type(last).__name__} has no answer for new rows: use"
    if type(last).__name__ == "LocalOutlierFactor":
        return f"{text} LocalOutlierFactor(novelty=True)."
    if is_clusterer(model):
        return f"{text} KMeans, GaussianMixture, MeanShift or Birch."
    return f"{text} a classifier, a regressor, a clusterer or a detector of outliers."


def walk(thing: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every fitted estimator inside *thing*, itself included, with its name."""
    if isinstance(thing, BaseEstimator):
        yield name or type(thing).__name__, thing
        found = vars(thing)
        templates = {key for fitted, keys in _FITTED.items() if fitted in found for key in keys}
        for key, value in found.items():
            if key not in templates:
                yield from walk(value, key)
    elif type(thing).__name__ == "_CalibratedClassifier":  # no estimator of scikit-learn's own
        yield from walk(vars(thing), name)
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from walk(value, str(key))
    elif isinstance(thing, list | tuple):
        # ("name", estimator) and ("name", estimator, columns) are how scikit-learn names steps.
        label = thing[0] if thing and isinstance(thing[0], str) else name
        for value in thing:
            yield from walk(value, label)
    elif isinstance(thing, np.ndarray) and thing.dtype == object:
        for value in thing.ravel():
            yield from walk(value, name)

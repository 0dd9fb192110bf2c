"""The user's own file: imported, asked for its data and its pipeline, and checked."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_regressor

from training.errors import TrainingError, blame
from training.export.features import as_frame, read_features

__all__ = ["build_pipeline", "check_target", "import_project", "load_data"]


def import_project(project: str) -> ModuleType:
    """
    Import the module *project*.

    Raises:
        TrainingError: It cannot be imported, or lacks load_data() or build_pipeline().
    """
    try:
        spec = importlib.util.find_spec(project)
    except (ImportError, ValueError):  # the import below says it better
        spec = None
    with blame(f"the project {project} cannot be imported", spec.origin if spec else None):
        module = importlib.import_module(project)
    for function in ("load_data", "build_pipeline"):
        if not callable(getattr(module, function, None)):
            raise TrainingError(f"the project {project} has no function {function}().")
    return module


def load_data(module: ModuleType) -> tuple[Any, Any]:
    """
    Ask for the data.

    Returns:
        The features (DataFrame, or array of shape (n, features)) and the target, shape (n,).

    Raises:
        TrainingError: There are none, or they do not fit together.
    """
    with blame("load_data() failed", module.__file__):
        found = module.load_data()
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise TrainingError("load_data() must return two things: the features and the target.")
    data, target = found
    read_features(as_frame(data)[0])
    with blame("the target cannot be read as a column of values"):
        target = np.asarray(target)
    if target.ndim == 2 and target.shape[1] == 1:
        target = target.ravel()
    if target.ndim != 1:
        raise TrainingError(
            f"the target has shape {target.shape}; a model predicts one value a row."
        )
    if len(target) != len(data):
        raise TrainingError(f"there are {len(data)} rows of features but {len(target)} targets.")
    return data, target


def build_pipeline(module: ModuleType) -> Any:
    """
    Ask for the unfitted pipeline.

    Raises:
        TrainingError: It is none, or ends in neither a classifier nor a regressor.
    """
    with blame("build_pipeline() failed", module.__file__):
        pipeline = module.build_pipeline()
    if not isinstance(pipeline, BaseEstimator) or not (
        is_classifier(pipeline) or is_regressor(pipeline)
    ):
        last = pipeline.steps[-1][1] if getattr(pipeline, "steps", None) else pipeline
        found = "None" if last is None else f"a {type(last).__name__}"
        if isinstance(last, type):
            found = f"the class {last.__name__} itself: call it"
        raise TrainingError(
            "build_pipeline() must return a scikit-learn pipeline whose last step is a classifier "
            f"or a regressor, but it is {found}."
        )
    return pipeline


def check_target(target: Any, *, regression: bool) -> None:
    """
    See that *target*, shape (n,), can be learnt from.

    Raises:
        TrainingError: It cannot.
    """
    missing = int(pd.isna(target).sum())
    if missing:
        raise TrainingError(f"the target is missing in {missing} rows; leave those rows out.")
    if regression:
        _check_values(target)
    else:
        _check_classes(target)


def _check_values(target: Any) -> None:
    if not np.issubdtype(target.dtype, np.number):
        raise TrainingError(f"a regressor needs a target of numbers, not of {target.dtype}.")
    if not np.isfinite(target).all():
        raise TrainingError("the target holds infinity; leave those rows out.")


def _check_classes(target: Any) -> None:
    with blame("the target must hold strings, whole numbers or booleans, and one kind only"):
        classes, counts = np.unique(target, return_counts=True)
    if np.issubdtype(classes.dtype, np.floating) and (classes != np.floor(classes)).any():
        raise TrainingError(
            "the target holds fractions; a classifier needs classes, a regressor takes values."
        )
    plain = classes.tolist()
    if len(plain) < 2:
        raise TrainingError(
            f"the target has one class only, {plain[0]!r}; a classifier needs two or more."
        )
    if counts.min() < 2:
        rare = plain[counts.argmin()]
        raise TrainingError(f"the class {rare!r} has one row only; every class needs two or more.")

"""`train`: split, cross-validate, fit, evaluate, explain, and write the bundle."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_regressor
from sklearn.model_selection import train_test_split

from training import evaluate
from training.build import build_bundle
from training.errors import TrainingError
from training.features import as_frame, read_features
from training.report import progress, show_bundle

__all__ = ["check_name", "train"]

SEED = 0
HELD_OUT = 0.2
FOLDS = 5


def train(project: str, name: str | None, models: Path) -> Path:
    """
    Train a project and write its bundle; the model that was evaluated is the one that is served.

    Args:
        project: A module with load_data() and build_pipeline().
        name: The model's; the last part of the module's name if None.
        models: The folder of all models.

    Raises:
        TrainingError: The project or its data are not right.
    """
    module = _import(project)
    name = check_name(name or project.rpartition(".")[2])
    with progress() as report:
        report(f"loading the data of {project}")
        data, target = _load(module)
        pipeline = module.build_pipeline()
        regression = bool(is_regressor(pipeline))
        _check_target(target, regression=regression)
        seen, unseen, truth, held_out = train_test_split(
            data,
            target,
            test_size=HELD_OUT,
            random_state=SEED,
            stratify=None if regression else target,
        )
        classes = None if regression else len(np.unique(target))
        scoring = evaluate.scorer(pipeline, classes)
        report(f"cross-validating on {len(seen):,} rows")
        with _fitting():
            validation = _cross_validate(pipeline, seen, truth, scoring, regression=regression)
        report("fitting")
        with _fitting():
            pipeline = pipeline.fit(seen, truth)
        report(f"evaluating on {len(unseen):,} rows held out")
        metrics = {
            "held_out": evaluate.evaluate(pipeline, unseen, held_out),
            "baseline": evaluate.baseline(seen, truth, (unseen, held_out), regression=regression),
        }
        if validation is not None:
            metrics["cross_validation"] = validation
        report("permuting features")
        importances = evaluate.permutation(pipeline, unseen, held_out, scoring=scoring, seed=SEED)
        path = build_bundle(
            models / name,
            name,
            pipeline,
            seen,
            metrics=metrics,
            permutation=importances,
            seed=SEED,
            report=report,
        )
    show_bundle(path)
    return path


def check_name(name: str) -> str:
    """
    Return *name* if it can be a folder and part of an address.

    Raises:
        TrainingError: It cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise TrainingError(
            f"{name!r} is no model name: use letters, digits, '_', '.' and '-', at most 64."
        )
    return name


def _import(project: str) -> Any:
    try:
        module = importlib.import_module(project)
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"the project {project} cannot be imported: there is no module {error.name}."
        ) from error
    for function in ("load_data", "build_pipeline"):
        if not callable(getattr(module, function, None)):
            raise TrainingError(f"the project {project} has no function {function}().")
    return module


def _load(module: Any) -> tuple[Any, Any]:
    try:
        data, target = module.load_data()
    except (OSError, pd.errors.EmptyDataError) as error:
        raise TrainingError(f"load_data() found no data: {error}.") from error
    except (TypeError, ValueError) as error:
        raise TrainingError(
            f"load_data() must return the features and the target: {error}."
        ) from error
    read_features(as_frame(data)[0])
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


def _check_target(target: Any, *, regression: bool) -> None:
    missing = int(pd.isna(target).sum())
    if missing:
        raise TrainingError(f"the target is missing in {missing} rows; leave those rows out.")
    if regression:
        if not np.issubdtype(target.dtype, np.number):
            raise TrainingError(f"a regressor needs a target of numbers, not of {target.dtype}.")
        if not np.isfinite(target).all():
            raise TrainingError("the target holds infinity; leave those rows out.")
        return
    classes, counts = np.unique(target, return_counts=True)
    if len(classes) < 2:
        raise TrainingError(
            f"the target has one class only, {classes[0]!r}; a classifier needs two or more."
        )
    if counts.min() < 2:
        rare = classes[counts.argmin()]
        raise TrainingError(f"the class {rare!r} has one row only; every class needs two or more.")


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """Say in one sentence why a pipeline cannot be fitted to its data."""
    try:
        yield
    except (TypeError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise TrainingError(f"the pipeline cannot be fitted to the data: {why}") from error


def _cross_validate(
    pipeline: Any, data: Any, target: Any, scoring: str, *, regression: bool
) -> dict[str, Any] | None:
    rows = len(target) if regression else int(np.unique(target, return_counts=True)[1].min())
    folds = min(FOLDS, rows)
    if folds < 2:
        return None
    return evaluate.cross_validation(pipeline, data, target, folds=folds, scoring=scoring)

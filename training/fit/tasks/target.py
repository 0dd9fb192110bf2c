"""The target, which a model learns: read, and checked that it can be learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from training.errors import TrainingError, blame

__all__ = ["check_target", "read_target"]


def read_target(target: Any, rows: int) -> np.ndarray[Any, Any]:
    """
    Return *target* as an array of shape (rows,), or (rows, outputs) for several.

    Raises:
        TrainingError: It has another shape, or gaps.
    """
    with blame("the target cannot be read as a column of values"):
        found: np.ndarray[Any, Any] = np.asarray(target)
    target = found.ravel() if found.ndim == 2 and found.shape[1] == 1 else found
    if target.ndim not in (1, 2) or target.shape[1:] == (0,):
        raise TrainingError(
            f"the target has shape {target.shape}; it must have one dimension, or two for several "
            "outputs."
        )
    if len(target) != rows:
        raise TrainingError(f"there are {rows} rows of features but {len(target)} targets.")
    missing = int(pd.isna(target).reshape(rows, -1).any(axis=1).sum())
    if missing:
        raise TrainingError(f"the target is missing in {missing} rows; leave those rows out.")
    return np.asarray(target)


def check_target(target: Any, *, regression: bool) -> None:
    """
    Check that a model can learn from *target*, shape (n,).

    Raises:
        TrainingError: It is not of the model's kind, or has too few classes or rows of one.
    """
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
    kinds = {type(value) for value in target.tolist()}
    if str in kinds and len(kinds) > 1:
        names = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise TrainingError(f"the target holds {names}; classes are of one kind only.")
    with blame("the target must hold strings, integers or booleans, and one kind only"):
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

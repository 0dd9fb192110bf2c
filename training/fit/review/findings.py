"""
Finds suspicious data and figures.

Each finding is a sentence. A model with findings is written and does not go live unless the user
says so: most models that disappoint after deployment showed one of these before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from training.fit.review.columns import LEAST, review_columns
from training.fit.review.leaks import find_leaks
from training.fit.split import Mask

__all__ = ["FEW_ROWS", "review", "review_rows", "review_sample"]

#: Fewer rows than this, or fewer of a class, say little.
FEW_ROWS, _FEW_OF_A_CLASS = 200, 20
#: Of the held-out rows, the share that may also stand among the training rows.
_TWINS = 0.01


def review(
    frame: pd.DataFrame,
    target: Any,
    held_out: Mask,
    *,
    figures: dict[str, Any],
    trivial: dict[str, Any],
) -> list[str]:
    """
    List the findings.

    Args:
        frame: The features of the n rows, fitted and held out.
        target: The truth, shape (n,).
        held_out: The mask of the split, shape (n,).
        figures: The model's, on the rows held out.
        trivial: The trivial model's, on the same rows.
    """
    regression = "rmse" in figures
    return [
        *_few_rows(target, regression=regression),
        *review_columns(frame),
        *find_leaks(frame, target, held_out, regression=regression),
        *_twins(frame, held_out),
        *_no_better(figures, trivial),
    ]


def review_rows(frame: pd.DataFrame) -> list[str]:
    """List the findings about the features of n rows that have no target."""
    few = _few_rows(np.zeros(len(frame)), regression=True)
    return [*few, *review_columns(frame)]


def review_sample(
    frame: pd.DataFrame,
    target: Any = None,
    *,
    figures: dict[str, Any] | None = None,
    trivial: dict[str, Any] | None = None,
) -> list[str]:
    """
    List the findings about the sample of a packed pipeline. It may be small: that is no finding.

    Args:
        frame: The features of the n rows that the pipeline reads.
        target: The truth, shape (n,), if it is known.
        figures: The model's, on these rows.
        trivial: The trivial model's; None where the truth is always the same.
    """
    found = [*review_columns(frame)]
    if target is None or len(frame) < LEAST or frame.empty or not figures or not trivial:
        return found
    half = np.random.default_rng(0).random(len(frame)) < 0.5
    found += find_leaks(frame, target, half, regression="rmse" in figures)
    return [*found, *_no_better(figures, trivial)]


def _few_rows(target: Any, *, regression: bool) -> Iterator[str]:
    if len(target) < FEW_ROWS:
        yield f"there are only {len(target)} rows: figures on so few are chance."
    elif not regression:
        classes, counts = np.unique(target, return_counts=True)
        if counts.min() < _FEW_OF_A_CLASS:
            rare = classes[counts.argmin()]
            yield f"the class {rare} has only {counts.min()} rows: leave it out, or find more."


def _twins(frame: pd.DataFrame, held_out: Mask) -> Iterator[str]:
    hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    twins = int(np.isin(hashes[held_out], hashes[~held_out]).sum())
    if twins > _TWINS * held_out.sum():
        yield (
            f"{twins:,} of the {int(held_out.sum()):,} rows held out also stand among the training "
            "rows, with equal features: figures on them flatter the model."
        )


def _no_better(figures: dict[str, Any], trivial: dict[str, Any]) -> Iterator[str]:
    binary = len(figures.get("confusion", ())) == 2
    names = ("rmse", "roc_auc" if binary else "log_loss", "accuracy")
    name = next(name for name in names if name in figures and name in trivial)
    ours, theirs = figures[name], trivial[name]
    if (ours >= theirs) if name in ("rmse", "log_loss") else (ours <= theirs):
        yield (
            f"the model is no better than the trivial one, which knows no features: {name} "
            f"{ours:.4f} against {theirs:.4f}."
        )

"""Features that alone predict the target: they are the target, or are known only after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from training.fit.split import Mask

__all__ = ["find_leaks"]

#: A feature that alone reaches this balanced accuracy, or this R² or rank correlation, is a leak.
_LEAK, _LEAK_VALUES = 0.99, 0.999
#: The search looks at this many rows times columns, and at this many rows.
_WORK, _ROWS = 2_000_000, 20_000


def find_leaks(
    frame: pd.DataFrame, target: Any, held_out: Mask, *, regression: bool
) -> Iterator[str]:
    """
    Yield a finding for each feature that alone predicts the target.

    Args:
        frame: The features of n rows.
        target: The truth, shape (n,).
        held_out: Shape (n,): divides the rows into those to learn from and those to score.
        regression: Whether the target is a value.
    """
    random = np.random.default_rng(0)
    some = min(max(_WORK // frame.shape[1], 500), _ROWS)
    seen, unseen = (
        random.permutation(np.flatnonzero(rows))[:some] for rows in (~held_out, held_out)
    )
    if len(unseen) < 20:
        return
    find = _value_leak if regression else _class_leak
    if not regression:  # as numbers: texts take several times as long
        _, target = np.unique(target, return_inverse=True)
    for name in frame.columns:
        found = find(_numbers(frame[name]), target, seen, unseen)
        if found:
            yield (
                f"column {name!r} alone predicts the target ({found} on other rows): it is the "
                "target, or is known only after it. Leave it out of the features."
            )


def _class_leak(values: Any, target: Any, seen: Any, unseen: Any) -> str | None:
    """Fit a tree on either side of the split, and score it on the other: a leak shows in both."""
    scores = []
    for fitted, scored in ((seen, unseen), (unseen, seen)):
        tree = DecisionTreeClassifier(max_leaf_nodes=256, min_samples_leaf=2, random_state=0)
        tree.fit(values[fitted, None], target[fitted])
        said, truth = tree.predict(values[scored, None]), target[scored]
        if len(np.unique(truth)) < 2 or not set(np.unique(said)) <= set(np.unique(truth)):
            return None
        scores.append(balanced_accuracy_score(truth, said))
    return f"balanced accuracy {scores[0]:.3f}" if min(scores) >= _LEAK else None


def _value_leak(values: Any, target: Any, seen: Any, unseen: Any) -> str | None:
    tree = DecisionTreeRegressor(max_leaf_nodes=256, min_samples_leaf=2, random_state=0)
    tree.fit(values[seen, None], target[seen])
    truth = target[unseen]
    if np.ptp(truth) == 0 or np.ptp(values[unseen]) == 0:
        return None
    score = float(r2_score(truth, tree.predict(values[unseen, None])))
    ranks = [pd.Series(column).rank() for column in (truth, values[unseen])]
    rank_correlation = abs(float(ranks[0].corr(ranks[1])))
    if rank_correlation >= _LEAK_VALUES:
        return f"rank correlation {rank_correlation:.4f}"
    return f"R² {score:.4f}" if score >= _LEAK_VALUES else None


def _numbers(column: pd.Series[Any]) -> Any:
    """Return a column as numbers, shape (n,): categories by their code, gaps far below."""
    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind in "iufb":
        values = column.to_numpy(dtype="float64", na_value=np.nan)
    else:
        values = pd.factorize(column)[0].astype("float64")
    values = np.clip(values, -1e37, 1e37)  # a tree takes float32
    return np.where(np.isnan(values), -1e38, values)

"""
What is suspicious about the data or the figures.

Each finding is a sentence. A model with findings is written and does not go live unless the user
says so: most models that disappoint after deployment showed one of these before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from training.fit.split import Mask

__all__ = ["review", "review_rows"]

#: Fewer rows than this, or fewer of a class, say little.
_FEW_ROWS, _FEW_OF_A_CLASS = 200, 20
#: A share of distinct strings that makes a column an id; and of a column that must look so.
_NEARLY_ALL = 0.95
#: A feature that alone reaches this balanced accuracy, or this R² or rank correlation, is a leak.
_LEAK, _LEAK_VALUES = 0.99, 0.999
#: The search for leaks looks at this many rows times columns, and at this many rows.
_WORK, _ROWS = 2_000_000, 20_000
#: Of the held-out rows, the share that may also stand among the training rows.
_TWINS = 0.01

_DATE = re.compile(
    r"\d{4}-\d\d?-\d\d?([T ]\d\d?:\d\d.*)?|\d\d?([./])\d\d?\2\d{2,4}( \d\d?:\d\d.*)?"
)
_ID = re.compile(r"(^|[\W_])(id|uuid|guid|key|index)$|[a-z]I[Dd]$", re.ASCII)
_ID_WORD = re.compile(r"^(id|uuid|guid|index)$", re.IGNORECASE)


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
        *_columns(frame),
        *_leaks(frame, target, held_out, regression=regression),
        *_twins(frame, held_out),
        *_no_better(figures, trivial),
    ]


def review_rows(frame: pd.DataFrame) -> list[str]:
    """List the findings about the features of n rows that have no target."""
    few = _few_rows(np.zeros(len(frame)), regression=True)
    return [*few, *_columns(frame)]


def _few_rows(target: Any, *, regression: bool) -> Iterator[str]:
    if len(target) < _FEW_ROWS:
        yield f"there are only {len(target)} rows: figures on so few are chance."
    elif not regression:
        classes, counts = np.unique(target, return_counts=True)
        if counts.min() < _FEW_OF_A_CLASS:
            rare = classes[counts.argmin()]
            yield f"the class {rare} has only {counts.min()} rows: leave it out, or find more."


def _columns(frame: pd.DataFrame) -> Iterator[str]:
    for name in frame.columns:
        known = frame[name].dropna()
        if re.fullmatch(r"Unnamed: \d+", name):
            yield (
                f"column {name!r} is the row number that to_csv() wrote: read the file with "
                "index_col=0, or drop the column."
            )
        elif known.nunique() < 2:
            yield f"column {name!r} is constant: it says nothing, and clients must send it."
        elif pd.api.types.is_numeric_dtype(known.dtype):
            if _counts_rows(name, known):
                yield (
                    f"column {name!r} is an id or a row number: drop it in load_data(), or keep it "
                    f"for the split with --id {name!r}."
                )
        elif all(isinstance(value, str) for value in known.iloc[:1000]):
            yield from _strings(name, known)


def _counts_rows(name: str, known: pd.Series[Any]) -> bool:
    """Whether the values are all different, and are 1, 2, 3, … or are called an id."""
    if pd.api.types.is_bool_dtype(known.dtype) or len(known) < 50 or not known.is_unique:
        return False
    values = known.to_numpy(dtype="float64")
    if not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        return False
    return bool(_named_id(name) or values.max() - values.min() == len(values) - 1)


def _named_id(name: str) -> bool:
    return bool(_ID.search(name) or _ID_WORD.search(name))


def _strings(name: str, known: pd.Series[Any]) -> Iterator[str]:
    distinct = known.unique()[:1000]
    dates = sum(
        bool(_DATE.fullmatch(value.strip())) for value in distinct if isinstance(value, str)
    )
    if dates >= _NEARLY_ALL * len(distinct):
        yield (
            f"column {name!r} holds dates as text, such as {distinct[0]!r}: tomorrow's is a "
            "category never seen. Make numbers of them, such as the month or the age in days."
        )
    elif (
        len(known) >= 50 and known.nunique() > _NEARLY_ALL * len(known) and not _is_prose(distinct)
    ):
        yield (
            f"column {name!r} holds a different text in nearly every row, as an id does: drop it "
            f"in load_data(), or keep it for the split with --id {name!r}."
        )


def _is_prose(texts: Any) -> bool:
    """Whether the texts have several words, so that a vectorizer can learn from them."""
    return bool(np.mean([len(str(text).split()) for text in texts]) >= 3)


def _leaks(frame: pd.DataFrame, target: Any, held_out: Mask, *, regression: bool) -> Iterator[str]:
    random = np.random.default_rng(0)
    some = min(max(_WORK // frame.shape[1], 500), _ROWS)
    seen, unseen = (
        random.permutation(np.flatnonzero(rows))[:some] for rows in (~held_out, held_out)
    )
    if len(unseen) < 20:
        return
    find = _value_leak if regression else _class_leak
    for name in frame.columns:
        found = find(_numbers(frame[name]), target, seen, unseen)
        if found:
            yield (
                f"column {name!r} alone predicts the target ({found} on the rows held out): it "
                "is the target, or is known only after it. Drop it in load_data()."
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

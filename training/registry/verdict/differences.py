"""In how many rows the answers of two versions differ, by how much, and by which features."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from serving.bundle.manifest import Manifest

from training.fit.evaluate import Answers
from training.report import say, show_table

__all__ = ["differing", "show_differences", "where_they_differ"]

#: A difference of values below this, relative to the value, is rounding.
_ROUNDING = 1e-5
#: How many groups of equal size a number is cut into, and how many categories are examined.
_PARTS, _CATEGORIES = 5, 10
_MOST = 5


class Where(NamedTuple):
    """A group of rows in which the answers differ most, by one feature."""

    feature: str
    #: Such as "between 3 and 7", "above 7" or "rent".
    group: str
    rows: int
    #: The share of rows with different answers, in the group and outside it.
    inside: float
    outside: float


def show_differences(
    manifest: Manifest, ours: list[Answers], theirs: list[Answers], frame: pd.DataFrame
) -> None:
    """
    Print it, for each output and for all together.

    Args:
        manifest: Of one version; both have the same task and outputs.
        ours: The answers of A, of each output.
        theirs: Those of B.
        frame: The features of the n rows.
    """
    if manifest.task == "clustering":
        theirs = [_same_numbers(ours[0], theirs[0])]
        say("Clusters are matched by their rows, since their numbers are arbitrary.")
    parts = [differing(*pair) for pair in zip(ours, theirs, strict=True)]
    for output, a, b, part in zip(manifest.outputs, ours, theirs, parts, strict=False):
        say(f"{output.name}: {_count(part)}{_size(a, b, part)}.")
    different = np.logical_or.reduce(parts)
    size = "" if manifest.outputs else _size(ours[0], theirs[0], different)
    say(f"The answers differ in {_count(different)}{size}.")
    if ours[0].scores is not None:
        shares = [f"{part.predicted.mean():.1%}" for part in (ours[0], theirs[0])]
        ranks = [pd.Series(part.scores).rank() for part in (ours[0], theirs[0])]
        say(
            f"Outliers: {shares[0]} of the rows by A, {shares[1]} by B; the rank correlation of "
            f"their scores is {ranks[0].corr(ranks[1]):.4f}."
        )
    if found := where_they_differ(different, frame):
        say("They differ most by these features:")
        show_table(
            {
                "feature": "left",
                "where": "left",
                "rows": "right",
                "there": "right",
                "else": "right",
            },
            [
                [w.feature, w.group, f"{w.rows:,}", f"{w.inside:.1%}", f"{w.outside:.1%}"]
                for w in found
            ],
        )


def differing(ours: Answers, theirs: Answers) -> NDArray[np.bool_]:
    """Return which rows are answered differently, shape (n,): another label, or another value."""
    if ours.classes is not None:
        return np.asarray(ours.predicted != theirs.predicted)
    a, b = np.asarray(ours.predicted, float), np.asarray(theirs.predicted, float)
    return np.asarray(abs(a - b) > _ROUNDING * np.maximum(1.0, np.maximum(abs(a), abs(b))))


def _same_numbers(ours: Answers, theirs: Answers) -> Answers:
    """
    Number *theirs* clusters as *ours* are, so that as many rows as can be are in equal ones.

    The numbers of clusters are arbitrary. One that has no counterpart gets a negative number.
    """
    counts = pd.crosstab(theirs.predicted, ours.predicted)
    numbers = {old: -1 - i for i, old in enumerate(counts.index)}
    for row, column in zip(*linear_sum_assignment(-counts.to_numpy()), strict=True):
        numbers[counts.index[row]] = counts.columns[column]
    return theirs._replace(predicted=np.array([numbers[n] for n in theirs.predicted.tolist()]))


def where_they_differ(different: NDArray[np.bool_], frame: pd.DataFrame) -> list[Where]:
    """
    Find the features that tell best where the answers differ, at most five, the best first.

    Args:
        different: Shape (n,), as `differing` returns it.
        frame: The features of the n rows.
    """
    if different.all() or not different.any():
        return []
    scored = []
    for name in frame.columns:
        codes, names = pd.factorize(_groups(frame[name]))
        counts = np.bincount(codes)
        shares = np.bincount(codes, weights=different) / counts
        explained = float((counts * (shares - different.mean()) ** 2).sum())
        freedom = len(counts) - 1
        by_chance = (freedom + 3 * np.sqrt(2 * freedom)) * different.var()  # of a chi-square
        if freedom and explained > by_chance:
            above = shares > different.mean()
            best = int(np.where(above, counts * (shares - different.mean()) ** 2, -1).argmax())
            rest = float(different[codes != best].mean())
            where = Where(name, str(names[best]), int(counts[best]), float(shares[best]), rest)
            scored.append((explained, where))
    scored.sort(key=lambda pair: -pair[0])
    return [where for _, where in scored[:_MOST]]


def _groups(column: pd.Series[Any]) -> pd.Series[Any]:
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numeric and column.nunique() > _CATEGORIES:
        cut = pd.qcut(column.astype("float64"), _PARTS, duplicates="drop")
        parts = cut.cat.categories
        texts = {part: f"between {part.left:g} and {part.right:g}" for part in parts}
        texts |= {parts[0]: f"at most {parts[0].right:g}", parts[-1]: f"above {parts[-1].left:g}"}
        groups = cut.astype(object).map(texts)
    else:
        common = column.value_counts().index[:_CATEGORIES]
        groups = column.astype(object).where(column.isin(common) | column.isna(), "others")
        groups = groups.map(str, na_action="ignore")
    return groups.where(column.notna(), "missing")


def _count(different: NDArray[np.bool_]) -> str:
    count, total = int(different.sum()), len(different)
    return f"{count:,} of {total:,} rows ({count / max(total, 1):.1%})"


def _size(ours: Answers, theirs: Answers, different: NDArray[np.bool_]) -> str:
    if ours.classes is not None or not different.any():
        return ""
    sizes = abs(np.asarray(ours.predicted, float) - np.asarray(theirs.predicted, float))
    return f", by {np.median(sizes[different]):.4g} in the median, {sizes.max():.4g} at most"

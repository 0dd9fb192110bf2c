"""Prints in how many rows the answers of two versions differ, by how much, and where."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from serving.bundle.manifest import Manifest

from training.fit.differences import differing, same_numbers, where_they_differ
from training.fit.evaluate import Answers
from training.report import say, show_table

__all__ = ["show_differences"]


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
        theirs = [same_numbers(ours[0], theirs[0])]
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


def _count(different: NDArray[np.bool_]) -> str:
    count, total = int(different.sum()), len(different)
    return f"{count:,} of {total:,} rows ({count / max(total, 1):.1%})"


def _size(ours: Answers, theirs: Answers, different: NDArray[np.bool_]) -> str:
    if ours.classes is not None or not different.any():
        return ""
    sizes = abs(np.asarray(ours.predicted, float) - np.asarray(theirs.predicted, float))
    return f", by {np.median(sizes[different]):.4g} in the median, {sizes.max():.4g} at most"

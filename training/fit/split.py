"""
Which rows are held out.

A row is held out by a rule about the row itself, never by its position or a seed. So the next
training run holds out the same rows again, and a newer model can be compared with an older one on
rows that neither was fitted to.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from serving.bundle.manifest import HoldOut

from training.errors import TrainingError
from training.fit.row_hash import fractions, row_hashes

__all__ = [
    "SHARE",
    "CannotCompareError",
    "Chosen",
    "HeldOut",
    "Mask",
    "hold_out",
    "key_frame",
    "was_held_out",
]

#: The share of rows that the hash holds out.
SHARE = 0.2

Mask = NDArray[np.bool_]


class Chosen(NamedTuple):
    """The answer of the project's hold_out()."""

    #: Shape (n,): the rows to hold out.
    mask: Mask
    #: The digest of the function's source and constants.
    source_sha256: str


class HeldOut(NamedTuple):
    """Rows that the new model was not fitted to."""

    #: The features: a DataFrame, or an array of shape (n, features).
    data: Any
    #: The truth, shape (n,).
    truth: Any
    #: All columns, the id among them.
    keys: pd.DataFrame
    #: The answer of the project's hold_out() for these rows, if it has one.
    chosen: Chosen | None


class CannotCompareError(Exception):
    """Two models cannot be compared on these rows. The text is a clause that says why."""


def hold_out(
    name: str,
    frame: pd.DataFrame,
    target: NDArray[Any],
    *,
    column: str | None = None,
    chosen: Chosen | None = None,
) -> tuple[Mask, HoldOut]:
    """
    Choose the rows to hold out.

    Args:
        name: The model's name: two models hold out different rows.
        frame: All columns of the n rows, as `key_frame` returns them.
        target: The true answers, shape (n,).
        column: The id column, for a rule by id.
        chosen: The answer of the project's hold_out(), which then decides.

    Returns:
        The mask, shape (n,), and the rule for the manifest.

    Raises:
        TrainingError: The id column is missing or has gaps, or no row is left on one side.
    """
    columns: list[str] = []
    if chosen is not None:
        mask = chosen.mask
    else:
        columns = sorted(frame.columns) if column is None else [column]
        hashes = row_hashes(name, frame, columns, by_id=column is not None)
        places = fractions(hashes)
        mask = places < SHARE
        if not mask.any():  # so few rows that none is below the share: the lowest one is held out
            mask = places == places.min()
    if mask.all():
        raise TrainingError(
            f"the {len(mask):,} rows cannot be split: every row would be held out and none fitted."
        )
    whole = row_hashes(name, frame, sorted(frame.columns), by_id=False)
    answers = [str(value).encode() for value in target.tolist()]
    held = sorted(whole[i] + answers[i] for i in np.flatnonzero(mask))
    return mask, HoldOut(
        by="project" if chosen else "values" if column is None else "id",
        columns=columns,
        share=None if chosen else SHARE,
        source_sha256=chosen.source_sha256 if chosen else None,
        rows=int(mask.sum()),
        rows_sha256=hashlib.sha256(b"\n".join(held)).hexdigest(),
    )


def was_held_out(
    rule: HoldOut | None, name: str, frame: pd.DataFrame, chosen: Chosen | None
) -> Mask:
    """
    Return which rows a model was not fitted to, by the rule that it recorded.

    Args:
        rule: The one in its manifest, if there is one.
        name: The model's name.
        frame: All columns of the n rows, as `key_frame` returns them.
        chosen: The answer of the project's hold_out() for these rows, if the project has one.

    Returns:
        Shape (n,).

    Raises:
        CannotCompareError: There is no rule, or it is about columns that are not there, or about
            another hold_out().
    """
    if rule is None:
        raise CannotCompareError("it did not record which rows it was fitted to")
    if rule.by == "project":
        if chosen is None:
            raise CannotCompareError("its rows were held out by a project's hold_out()")
        if chosen.source_sha256 != rule.source_sha256:
            raise CannotCompareError("its rows were held out by another hold_out()")
        return chosen.mask
    missing = [column for column in rule.columns if column not in frame]
    if missing:
        raise CannotCompareError(
            f"its rows were held out by the column {missing[0]}, which these rows lack"
        )
    hashes = row_hashes(name, frame, rule.columns, by_id=rule.by == "id")
    return fractions(hashes) < (rule.share or 0.0)


def key_frame(data: Any) -> pd.DataFrame:
    """Return *data* with named columns (x0, x1, … for an array), and a named index as a column."""
    if isinstance(data, pd.Series):
        data = data.to_frame("x0" if data.name is None else data.name)
    if not isinstance(data, pd.DataFrame):
        array = np.asarray(data)
        array = array.reshape(len(array), -1)
        return pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])
    frame = data.set_axis([str(name) for name in data.columns], axis="columns")
    for place, name in enumerate(data.index.names):
        if name is not None and str(name) not in frame:
            frame = frame.assign(**{str(name): data.index.get_level_values(place)})
    return frame

"""Columns whose type a CSV does not say: digits may be text, and texts categories of pandas."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.errors import TrainingError, describe
from training.fit.sample import read_sample

__all__ = ["check_categories", "unclear_columns"]

#: On how many rows the two readings of a column are compared.
_COMPARED = 1000


def check_categories(model: Any, sample: Path) -> None:
    """
    Check that *sample* can hold the categories of pandas that LightGBM was fitted on.

    Raises:
        TrainingError: It is a CSV, and LightGBM needs the dtype.
    """
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    if sample.suffix != ".parquet" and getattr(
        getattr(last, "booster_", None), "pandas_categorical", None
    ):
        raise TrainingError(
            f"the {type(last).__name__} was fitted on columns of the dtype category, which "
            f"{sample} cannot hold: write the sample with "
            "data.to_parquet('rows.parquet'), which keeps the dtype, and pack with that."
        )


def unclear_columns(
    model: Any, rows: pd.DataFrame, sample: Path, read: Collection[str], *, as_frame: bool
) -> list[str]:
    """
    List the columns of digits that code of the user's own answers differently as text.

    Args:
        model: Fitted.
        rows: What it reads of the sample, shape (n, features), with digits as numbers.
        sample: The file.
        read: The columns that such code reads, without those that are known to be text.
        as_frame: Whether the model takes a DataFrame, and not an array.

    Returns:
        A sentence for each.

    Raises:
        TrainingError: The pipeline fails, and there are columns of digits.
    """
    if sample.suffix == ".parquet" or not read:
        return []
    texts = read_sample(sample, strings=dict.fromkeys(read, ()))
    digits = [name for name in read if texts[name].dropna().str.fullmatch("[0-9]+").all()]

    def answer(data: pd.DataFrame) -> Any:
        head = data.head(_COMPARED)
        return model.predict(head if as_frame else np.asarray(head))

    if not digits:
        return []
    try:
        numbers = answer(rows)
    except Exception as error:  # a step of one's own may raise anything
        options = " ".join(f"--text {name!r}" for name in digits)
        raise TrainingError(
            f"the pipeline cannot answer the sample: {describe(error)}. Columns of digits are read "
            f"as numbers; for those that were text in training, add {options}."
        ) from error
    found = []
    for name in digits:
        with contextlib.suppress(Exception):  # what fails on text was fitted on numbers
            if not np.array_equal(answer(rows.assign(**{name: texts[name]})), numbers):
                found.append(
                    f"column {name!r} holds digits, and the pipeline's own code answers otherwise "
                    "if they are text. They were read as numbers: if they were text in training, "
                    f"pack again with --text {name!r}."
                )
    return found

"""The sample that `pack` reads the schema from: a CSV file, as the pipeline's training had it."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from training.errors import TrainingError

__all__ = ["MISSING", "read_sample"]

#: What counts as missing, in a column of numbers or where no category is called so.
MISSING = ("", "#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")


def read_sample(sample: Path, strings: Mapping[str, Collection[str]] | None = None) -> pd.DataFrame:
    """
    Read the rows.

    Args:
        sample: A CSV file with a header.
        strings: The columns that hold text, whatever it looks like, and the categories known of
            each: "01" is a code and no number, and a category called "NA" is not a missing one.

    Raises:
        TrainingError: It cannot be read, has a column twice, or no rows.
    """
    strings = strings or {}
    try:
        header = pd.read_csv(sample, header=None, nrows=1, dtype=str).iloc[0].tolist()
        missing = {
            name: [text for text in MISSING if text not in strings.get(name, ())] for name in header
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            rows = pd.read_csv(
                sample,
                index_col=False,  # a row longer than the header is an error, not an index
                dtype={name: str for name in header if name in strings},
                keep_default_na=False,
                na_values=missing,
            )
    except Exception as error:  # pandas and its decompressors raise any exception
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise TrainingError(f"{sample} cannot be read as CSV: {reason}.") from error
    twice = sorted({str(name) for name in header if header.count(name) > 1})
    if twice:
        raise TrainingError(f"{sample} has the column {', '.join(twice)} twice.")
    if rows.empty:
        raise TrainingError(f"{sample} has no rows below its header.")
    return rows

"""The sample that `pack` reads the schema from: rows as the pipeline's training had them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from training.errors import TrainingError

__all__ = ["MISSING", "read_sample"]

#: What counts as missing, in a column of numbers or where no category is called so.
MISSING = ("", "#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")


#: A number that loses something when it is read as one: 01.
_CODE = r"[-+]?0\d+"


def read_sample(
    sample: Path,
    strings: Mapping[str, Collection[str]] | None = None,
    *,
    coded: Collection[str] = (),
) -> pd.DataFrame:
    """
    Read the rows.

    Args:
        sample: A CSV file with a header, or a Parquet file, whose own types count.
        strings: The columns that hold text, whatever it looks like, and the categories known of
            each: "01" is a code and no number, and a category called "NA" is not a missing one.
        coded: Columns that hold text if one of their values is such as "01".

    Raises:
        TrainingError: It cannot be read, has a column twice, or no rows.
    """
    strings = strings or {}
    if sample.suffix == ".parquet":
        return _read_parquet(sample)
    try:
        header = pd.read_csv(sample, header=None, nrows=1, dtype=str).iloc[0].tolist()
        missing = {
            name: [text for text in MISSING if text not in strings.get(name, ())] for name in header
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            rows = _read(sample, [name for name in header if name in strings], missing)
            if codes := [name for name in header if name in coded and name not in strings]:
                texts = _read(sample, codes, missing)[codes]
                for name in codes:
                    if texts[name].str.fullmatch(_CODE).any():
                        rows[name] = texts[name]
    except pd.errors.ParserWarning as error:
        raise TrainingError(
            f"{sample} cannot be read as CSV: a row has more cells than the header."
        ) from error
    except Exception as error:  # pandas and its decompressors raise any exception
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise TrainingError(f"{sample} cannot be read as CSV: {reason}.") from error
    twice = sorted({str(name) for name in header if header.count(name) > 1})
    if twice:
        raise TrainingError(f"{sample} has the column {', '.join(twice)} twice.")
    if rows.empty:
        raise TrainingError(f"{sample} has no rows below its header.")
    return rows


def _read_parquet(sample: Path) -> pd.DataFrame:
    try:
        rows = pd.read_parquet(sample)
    except Exception as error:  # a reader of Parquet may raise anything
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise TrainingError(f"{sample} cannot be read as Parquet: {reason}.") from error
    if rows.empty:
        raise TrainingError(f"{sample} has no rows.")
    return rows


def _read(sample: Path, texts: list[str], missing: dict[str, list[str]]) -> pd.DataFrame:
    return pd.read_csv(
        sample,
        index_col=False,  # a row longer than the header is an error, not an index
        dtype=dict.fromkeys(texts, str),
        keep_default_na=False,
        na_values=missing,
    )

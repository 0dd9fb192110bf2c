"""Digests of rows: of the id or the values of each, and of the model's name."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.errors import TrainingError

__all__ = ["fractions", "read_ids", "row_hashes"]


def fractions(hashes: list[bytes]) -> NDArray[np.float64]:
    """Turn each digest into a number from 0 to 1, shape (n,)."""
    heads = np.frombuffer(b"".join(digest[:8] for digest in hashes), dtype=">u8")
    return heads.astype(np.float64) / 2.0**64


def row_hashes(name: str, frame: pd.DataFrame, columns: list[str], *, by_id: bool) -> list[bytes]:
    """Return the SHA-256 of each row: of the name and the id, or of the name and the values."""
    if by_id:
        values: list[list[Any]] = [read_ids(frame, columns[0])]
        start = hashlib.sha256(msgspec.json.encode([name]))
    else:
        values = [_canonical(frame[column]) for column in columns]
        start = hashlib.sha256(msgspec.json.encode([name, columns]))
    found = []
    for row in zip(*values, strict=True):
        digest = start.copy()
        digest.update(msgspec.json.encode(row))
        found.append(digest.digest())
    return found


def read_ids(frame: pd.DataFrame, column: str) -> list[str]:
    """
    Write each id as text, so that 17, 17.0 and "17" are one id.

    Raises:
        TrainingError: The column is missing, or has gaps.
    """
    if column not in frame:
        has = ", ".join(map(str, frame.columns))
        raise TrainingError(f"--id {column}: the data have no such column; they have {has}.")
    gaps = int(frame[column].isna().sum())
    if gaps:
        raise TrainingError(f"--id {column}: the id is missing in {gaps:,} rows.")
    return [
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        for value in frame[column].tolist()
    ]


def _canonical(column: pd.Series[Any]) -> list[Any]:
    """Return the values as JSON has them, numbers rounded to float32, gaps as null."""
    kind = column.dtype
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind):
        numbers = column.to_numpy(dtype="float64", na_value=np.nan)
        return _rounded(numbers)
    return [_plain(value) for value in column.tolist()]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | float | np.number):
        [number] = _rounded(np.array([value], dtype="float64"))
        return number
    return None if pd.isna(value) is True else str(value)


def _rounded(numbers: NDArray[np.float64]) -> list[float]:
    with np.errstate(over="ignore"):
        rounded = numbers.astype("float32").astype("float64")
    found: list[float] = (rounded + 0.0).tolist()  # without minus zero
    return found

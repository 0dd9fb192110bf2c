"""A small project and a fitted pipeline, as a user of the command line has them."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["packed", "project"]

PROJECT = """
import numpy as np, pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression
def load_data():
    data = pd.DataFrame({{"a": np.arange(300.0) * 7 % 101, "b": np.arange(300.0) % 7}})
    target = np.where(data["a"] + 9 * data["b"] > 80, "even", "odd")
    {change}
    return data, target
def build_pipeline():
    return {model}
"""


def project(folder: Path, change: str = "", model: str = "LogisticRegression()") -> str:
    """Write a project file; return the name of its module."""
    (folder / "shop.py").write_text(PROJECT.format(change=change, model=model))
    return "shop"


def packed(folder: Path, **columns: object) -> None:
    """Write model.joblib and rows.csv."""
    numbers = np.arange(50.0)
    data = pd.DataFrame({"a": numbers * 7 % 101, "b": numbers[::-1] % 9, **columns})
    target = np.where(data["a"] + 9 * data["b"] > 80, "high", "low")
    joblib.dump(
        make_pipeline(StandardScaler(), LogisticRegression()).fit(data, target),
        folder / "model.joblib",
    )
    data.assign(answer=target, extra=1).to_csv(folder / "rows.csv", index=False)

"""A small model with a feature of each kind, and values to try on each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from training.export.build import build_bundle

__all__ = ["CASES", "USUAL", "as_row", "kinds_model"]

#: One valid value of each feature, as JSON writes it; CSV writes the same without quotes.
USUAL = {"price": "12.5", "share": "0.5", "member": "true", "town": '"Lima"', "level": "2"}

#: A feature, a field of CSV, and the JSON value that it stands for.
CASES: list[tuple[str, str, str]] = [
    *(("price", text, text) for text in ("1", "-0", "1e3", "1E+05", "1e-400", "9007199254740993")),
    *(("price", text, text) for text in ("1e999", "-1e300", "1e308")),
    *(("price", text, json.dumps(text)) for text in ("abc", "NaN", "inf", "007", "1_000", "+1")),
    *(("price", text, json.dumps(text)) for text in (" 1", "0x10", ".5", "true", "1,5")),
    ("price", "", "null"),
    ("share", "", "null"),
    ("share", "x", '"x"'),
    *(("member", text, text) for text in ("true", "false")),
    *(("member", text, text.lower()) for text in ("True", "FALSE")),
    *(("member", text, json.dumps(text)) for text in ("1", "Yes")),
    ("member", "", "null"),
    *(("town", text, json.dumps(text)) for text in ("Ica", "new", "3", "a, b", 'say "x"')),
    *(("town", text, json.dumps(text)) for text in ("two\nlines", "\ufdd0", "ü")),
    ("town", "", "null"),
    *(("level", text, text) for text in ("3", "3.0", "2.5", "7", "1e300")),
    *(("level", text, json.dumps(text)) for text in ("three", "true")),
    ("level", "", "null"),
]


def as_row(feature: str, text: str) -> dict[str, Any]:
    """Return the usual fields of CSV, with *text* for *feature*."""
    fields = {name: value.strip('"') for name, value in USUAL.items()}
    return {**fields, feature: text}


def kinds_model(folder: Path) -> Path:
    """Fit and pack the model; return its folder."""
    random = np.random.default_rng(0)
    rows = 200
    data = pd.DataFrame(
        {
            "price": random.uniform(0, 100, rows),
            "share": random.uniform(0, 1, rows),
            "member": random.random(rows) < 0.5,
            "town": random.choice(["Lima", "Ica", "Cusco"], rows),
            "level": random.integers(1, 4, rows),
        }
    )
    data.loc[::9, "share"] = None
    target = np.where(data["price"] + 40 * data["member"] > 60, "yes", "no")
    pipeline = make_pipeline(
        make_column_transformer(
            (StandardScaler(), ["price", "member"]),
            (SimpleImputer(), ["share"]),
            (OneHotEncoder(handle_unknown="ignore"), ["town"]),
            (OneHotEncoder(), ["level"]),
        ),
        LogisticRegression(),
    )
    build_bundle(folder, folder.name, pipeline.fit(data, target), data)
    return folder

"""Estimates from an application for a loan whether the applicant will pay it back.

An example on public data: not for decisions about people.
"""

# The two functions are all that a project needs. Replace them, or write another file like this.

from pathlib import Path

import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder


def load_data() -> tuple[pd.DataFrame, pd.Series]:
    """Return the features, one row an applicant, and the target: "good" or "bad"."""
    data = pd.read_csv(Path(__file__).parent / "data" / "credit.csv")
    return data.drop(columns="status"), data["status"]


def build_pipeline() -> Pipeline:
    """Return the unfitted pipeline: fill gaps, encode categories, grow 200 trees."""
    numbers = SimpleImputer(strategy="median")
    categories = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("categories", categories, make_column_selector(dtype_exclude="number")),
        ]
    )
    return make_pipeline(
        columns, RandomForestClassifier(n_estimators=200, max_depth=10, random_state=0)
    )

"""The warnings about data and figures, and data that must give none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from training.credit import load_data
from training.fit.review.findings import review
from training.fit.split import hold_out

GOOD: dict[str, Any] = {"accuracy": 0.9, "roc_auc": 0.9, "log_loss": 0.3, "confusion": [[], []]}
TRIVIAL: dict[str, Any] = {"accuracy": 0.5, "roc_auc": 0.5, "log_loss": 0.7}
CREDIT, STATUS = load_data()
COUNT = len(CREDIT)
FEW = CREDIT[["seniority", "home", "income"]]
NUMBER = np.arange(COUNT)


def findings(
    frame: pd.DataFrame, target: Any = STATUS, figures: Any = GOOD, trivial: Any = TRIVIAL
) -> list[str]:
    """Review data, split by a hash of their values."""
    target = np.asarray(target)
    mask, _ = hold_out("test", frame, target)
    return review(frame, target, mask, figures=figures, trivial=trivial)


def test_the_example_is_not_suspicious() -> None:
    """The example and well-known data sets give no warning, though one feature alone is good."""
    assert findings(CREDIT) == []
    frame, target = datasets.load_breast_cancer(return_X_y=True, as_frame=True)
    assert findings(frame, target) == []
    frame, target = datasets.load_diabetes(return_X_y=True, as_frame=True)
    assert findings(frame, target, {"rmse": 1.0}, {"rmse": 2.0}) == []
    frame, target = datasets.load_iris(return_X_y=True, as_frame=True)
    assert findings(frame, target) == ["there are only 150 rows: figures on so few are chance."]


@pytest.mark.parametrize(
    ("name", "column", "words"),
    [
        (
            "paid",
            np.where(STATUS == "good", "in full", "default"),
            "alone predicts the target",
        ),
        ("due", np.where(STATUS == "good", 0.0, NUMBER % 97 + 1), "alone predicts the target"),
        ("Unnamed: 0", NUMBER, "the row number that to_csv() wrote"),
        ("number", NUMBER[::-1] + 1000.0, "an id or a row number"),
        ("customer_id", NUMBER * 7919, "an id or a row number"),
        ("customerId", NUMBER * 7919, "an id or a row number"),
        ("reference", [f"R-{i:x}" for i in NUMBER], "a different text in nearly every row"),
        ("opened", pd.date_range("2020-01-01", periods=COUNT).astype(str), "holds dates: "),
        ("opened", [f"{i % 28 + 1}/{i % 12 + 1}/2025" for i in NUMBER], "holds dates: "),
        ("country", ["DE"] * COUNT, "is constant"),
        ("empty", [np.nan] * COUNT, "is constant"),
    ],
)
def test_a_suspicious_column_is_named(name: str, column: Any, words: str) -> None:
    """One warning names the column."""
    [found] = findings(FEW.assign(**{name: column}))

    assert found.startswith(f"column {name!r} ")
    assert words in found


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("notes", [f"the customer called {i} times about it" for i in NUMBER]),
        ("distance", NUMBER * 1.37),
        ("paid", NUMBER % 2),
        ("postcode", [f"{i % 900:05}" for i in NUMBER]),
    ],
)
def test_a_plain_column_is_not_suspicious(name: str, column: Any) -> None:
    """Free text, distinct measurements and codes give no warning: models learn from them."""
    assert findings(FEW.assign(**{name: column})) == []


def test_a_feature_equal_to_the_target_is_a_leak() -> None:
    """The target in another unit, or any increasing function of it, is reported."""
    random = np.random.default_rng(0)
    price = random.lognormal(10, 1, 1000)
    frame = pd.DataFrame({"size": price * random.normal(1, 0.1, 1000)})
    figures = {"rmse": 1.0}, {"rmse": 2.0}
    assert findings(frame, price, *figures) == []
    for leak in (price * 0.92, np.log(price)):
        [found] = findings(frame.assign(tax=leak), price, *figures)
        assert found.startswith("column 'tax' alone predicts the target (rank correlation 1.0000")


@pytest.mark.parametrize(
    ("figures", "trivial", "words"),
    [
        ({**GOOD, "roc_auc": 0.49}, TRIVIAL, "roc_auc 0.4900 against 0.5000"),
        ({**GOOD, "confusion": [1, 2, 3], "log_loss": 0.8}, TRIVIAL, "log_loss 0.8000"),
        ({"accuracy": 0.5, "confusion": [1, 2]}, TRIVIAL, "accuracy 0.5000 against 0.5000"),
    ],
)
def test_a_model_no_better_than_the_trivial_one_is_reported(
    figures: Any, trivial: Any, words: str
) -> None:
    """It is judged by roc_auc, by log_loss with many classes, or by accuracy alone."""
    [found] = findings(FEW, figures=figures, trivial=trivial)

    assert "no better than the trivial one" in found
    assert words in found


def test_regressions_are_judged_by_rmse() -> None:
    """A regression is compared with the trivial model, which returns the mean."""
    values = np.random.default_rng(0).normal(size=COUNT)
    [found] = findings(FEW, values, {"rmse": 1.1}, {"rmse": 1.0})

    assert "rmse 1.1000 against 1.0000" in found


def test_few_rows_are_reported() -> None:
    """Too few rows, in all or of one class, are reported."""
    [found] = findings(CREDIT[:150], STATUS[:150])
    assert found.startswith("there are only 150 rows")
    rare = np.where(NUMBER < 19, "rare", STATUS)
    [found] = findings(CREDIT, rare)
    assert found.startswith("the class rare has only 19 rows")


def test_equal_rows_on_both_sides_are_reported() -> None:
    """If an id decides, equal rows may be in both parts, and they are counted."""
    twice = pd.concat([CREDIT, CREDIT], ignore_index=True)
    target = np.tile(np.asarray(STATUS), 2)
    ids = twice.assign(row=np.arange(len(twice)))
    mask, _ = hold_out("test", ids, target, column="row")
    [found] = review(twice, target, mask, figures=GOOD, trivial=TRIVIAL)

    assert "also stand among the training rows" in found

"""Rows are held out by their content, never by position, and the same rows every time."""

from __future__ import annotations

import msgspec
import numpy as np
import pandas as pd
import pytest

from training.errors import TrainingError
from training.fit.split import CannotCompareError, Chosen, hold_out, key_frame, was_held_out

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(
    {
        "age": RANDOM.integers(18, 90, 1000),
        "home": RANDOM.choice(["rent", "own", "other"], 1000),
        "income": np.where(RANDOM.random(1000) < 0.1, np.nan, RANDOM.normal(size=1000)),
        "member": RANDOM.random(1000) < 0.5,
        "customer": np.arange(1000) % 300,
    }
)
TARGET = RANDOM.integers(0, 2, 1000)
BY_VALUES = [4, 12, 16, 24]
BY_ID = [0, 5, 7, 11, 15, 16, 18, 24, 28]


def test_a_row_is_held_out_in_any_order() -> None:
    """Each row stays in its part, whatever the order of rows and columns and the number of rows."""
    mask, rule = hold_out("shop", ROWS, TARGET)
    assert 150 < mask.sum() == rule.rows < 250

    order = RANDOM.permutation(1000)[:700]
    again, _ = hold_out("shop", ROWS.iloc[order, ::-1], TARGET[order])
    assert (again == mask[order]).all()
    assert (was_held_out(rule, "shop", ROWS.iloc[order], None) == mask[order]).all()


def test_the_rule_is_the_same_in_every_version() -> None:
    """The held-out rows of this data are fixed, because older bundles rely on the rule."""
    frame = pd.DataFrame({"a": np.arange(30.0), "b": [None, "x", True] * 10})
    by_values, _ = hold_out("shop", frame, np.zeros(30))
    by_id, _ = hold_out("shop", frame, np.zeros(30), column="a")

    assert np.flatnonzero(by_values).tolist() == BY_VALUES
    assert np.flatnonzero(by_id).tolist() == BY_ID


def test_values_are_compared_by_meaning() -> None:
    """Equal values of other dtypes, and other kinds of missing values, count as equal rows."""
    mask, rule = hold_out("shop", ROWS, TARGET)
    other = ROWS.assign(
        age=ROWS["age"].astype(float),
        home=ROWS["home"].astype("category"),
        income=ROWS["income"].astype("float32"),
        member=ROWS["member"].astype(object),
        customer=ROWS["customer"].astype("Int64"),
    )
    assert (was_held_out(rule, "shop", other, None) == mask).all()
    gaps = ROWS.assign(income=ROWS["income"].astype(object).where(ROWS["income"].notna(), None))
    assert (was_held_out(rule, "shop", gaps, None) == mask).all()


def test_rows_of_one_id_stay_together() -> None:
    """17, 17.0 and "17" are one id, and a model of another name holds out other rows."""
    mask, rule = hold_out("shop", ROWS, TARGET, column="customer")
    assert rule.columns == ["customer"]
    assert (pd.Series(mask).groupby(ROWS["customer"]).nunique() == 1).all()
    for changed in (ROWS["customer"].astype(float), ROWS["customer"].astype(str)):
        frame = ROWS.assign(customer=changed, age=0)
        assert (was_held_out(rule, "shop", frame, None) == mask).all()
    assert (hold_out("other", ROWS, TARGET, column="customer")[0] != mask).any()


def test_an_index_may_be_the_id() -> None:
    """A named index counts as a column; an array's columns are x0, x1 and so on."""
    frame = key_frame(ROWS.set_index("customer"))
    by_index, _ = hold_out("shop", frame, TARGET, column="customer")
    assert (by_index == hold_out("shop", ROWS, TARGET, column="customer")[0]).all()
    assert list(key_frame(np.zeros((2, 3)))) == ["x0", "x1", "x2"]
    assert list(key_frame(np.array(["a", "b"]))) == list(key_frame(pd.Series(["a"]))) == ["x0"]
    assert list(key_frame(pd.Series(["a"], name="text"))) == ["text"]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (ROWS.drop(columns="customer"), "no such column; they have age, home, income, member"),
        (ROWS.assign(customer=np.nan), "the id is missing in 1,000 rows"),
        (ROWS.assign(customer=1), "every row would be held out"),
    ],
)
def test_an_unusable_id_is_reported(frame: pd.DataFrame, words: str) -> None:
    """A missing column, a missing value, and one id for all rows are errors."""
    with pytest.raises(TrainingError, match=words):
        hold_out("ab", frame, TARGET, column="customer")


def test_a_rule_that_cannot_be_applied_says_why() -> None:
    """If a column is gone, or hold_out() was changed or removed, the error says so."""
    _, rule = hold_out("shop", ROWS, TARGET)
    with pytest.raises(CannotCompareError, match="by the column home, which these rows lack"):
        was_held_out(rule, "shop", ROWS.drop(columns="home"), None)
    chosen = Chosen(ROWS["age"].to_numpy() > 60, "digest")
    mask, rule = hold_out("shop", ROWS, TARGET, chosen=chosen)
    assert (mask == chosen.mask).all()
    assert (was_held_out(rule, "shop", ROWS, chosen) == mask).all()
    for other in (None, chosen._replace(source_sha256="another")):
        with pytest.raises(CannotCompareError, match="hold_out"):
            was_held_out(rule, "shop", ROWS, other)


def test_equal_rows_have_an_equal_digest() -> None:
    """The digest of the rows does not depend on their order, and differs for other rows."""
    _, rule = hold_out("shop", ROWS, TARGET)
    assert hold_out("shop", ROWS[::-1], TARGET[::-1])[1] == rule
    more = pd.concat([ROWS, ROWS.assign(age=17)])
    assert hold_out("shop", more, np.tile(TARGET, 2))[1].rows_sha256 != rule.rows_sha256
    assert hold_out("shop", ROWS, 1 - TARGET)[1].rows_sha256 != rule.rows_sha256
    assert msgspec.json.decode(msgspec.json.encode(rule), type=type(rule)) == rule

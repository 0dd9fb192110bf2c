"""Batches of Arrow's, on their way to the model."""

from __future__ import annotations

import pyarrow as pa
import pytest
from serving.bundle.manifest import Feature

from training.score.tables import group_alike

FEATURES = [
    Feature(name="income", kind="number", dtype="float64", nullable=True),
    Feature(name="home", kind="category", dtype="str", nullable=True),
]
INCOMES = [3.0, None, 1.0, float("nan"), 2.0, 1.0]
HOMES = ["rent", "own", None, "own", "rent", "own"]


@pytest.mark.parametrize(
    "homes",
    [
        pa.array(HOMES),
        pa.array(HOMES, pa.large_string()),
        pa.array(HOMES).dictionary_encode(),
        pa.array(HOMES, pa.string_view()),
        pa.nulls(6),
    ],
    ids=lambda homes: str(homes.type)[:12],
)
def test_the_order_of_the_rows_can_be_restored(homes: pa.Array) -> None:
    """Rows are reordered whole, whatever type a column has, and their places bring them back."""
    batch = pa.RecordBatch.from_pydict({"income": INCOMES, "home": homes, "id": [*range(6)]})

    alike, places = group_alike(FEATURES, batch)

    rows = alike.to_pylist()
    assert str([rows[place] for place in places]) == str(batch.to_pylist())


@pytest.mark.parametrize("homes", [pa.array(HOMES), pa.array(HOMES).dictionary_encode()])
def test_equal_categories_stand_together(homes: pa.Array) -> None:
    """Categories decide the order before numbers do."""
    batch = pa.RecordBatch.from_pydict({"income": INCOMES, "home": homes})

    alike, _ = group_alike(FEATURES, batch)

    assert alike.column("home").to_pylist() == ["own", "own", "own", "rent", "rent", None]

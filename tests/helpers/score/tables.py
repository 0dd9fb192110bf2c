"""Tables of the example's rows, as long as a test needs, and the scored parts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tests.helpers.servers import ROOT

__all__ = ["example_rows", "scored"]


def example_rows(rows: int) -> pd.DataFrame:
    """Repeat the example's rows to *rows* rows, each with its own id."""
    data = pd.read_csv(ROOT / "training" / "data" / "credit.csv").drop(columns="status")
    table = data.loc[data.index.repeat(-(-rows // len(data)))].head(rows).reset_index(drop=True)
    table.insert(0, "id", range(rows))
    return table


def scored(folder: Path) -> pd.DataFrame:
    """Read all parts below *folder*, in the order of their ids."""
    parts = [pd.read_parquet(path) for path in folder.rglob("*.parquet")]
    parts += [pd.read_csv(path) for path in folder.rglob("*.csv")]
    return pd.concat(parts).astype({"id": int}).sort_values("id").reset_index(drop=True)

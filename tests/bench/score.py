"""`make bench-score`: CPU time of scoring a file, beside onnxruntime and scikit-learn alone."""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from serving.bundle.manifest import PIPELINE_FILE
from serving.bundle.reader import open_bundle
from serving.bundle.trust import Trust
from serving.model.engines.inputs import feed_of
from serving.model.engines.onnx import OnnxEngine
from serving.stores.folder import FolderStore

from tests.helpers.score.tables import example_rows
from training.export.features import to_columns
from training.report import say
from training.score.plan import Options
from training.score.run import score
from training.score.tables import BATCH_ROWS

MODEL = Path("models/credit")


def main() -> None:
    """Measure in interleaved rounds, and print the median ratio of the rounds."""
    parser = argparse.ArgumentParser(prog="tests.bench.score", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, default=MODEL)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.model, options.rows, options.rounds)


def measure(folder: Path, model: Path, rows: int, rounds: int) -> None:
    """Score *rows* rows of the example in each way, one after the other, *rounds* times."""
    file = folder / "rows.parquet"
    example_rows(rows).to_parquet(file, row_group_size=100_000)
    bundle = open_bundle(FolderStore(model))
    engine = OnnxEngine(bundle.manifest, bundle.read_model())
    pipeline = joblib.load(io.BytesIO(bundle.read(PIPELINE_FILE)))
    # More rows take the same time each, and would not fit into memory.
    some = min(rows, 500_000)
    data = example_rows(some).drop(columns="id")
    columns = to_columns(data, bundle.manifest.features)
    feeds = [
        feed_of(engine._inputs, [column[n : n + BATCH_ROWS] for column in columns])
        for n in range(0, some, BATCH_ROWS)
    ]

    def files(number: int) -> None:
        options = Options(model=str(model), source=str(file), keep=["id"])
        score(options, str(folder / f"out-{number}"), Trust(), workers=1)

    def graph(_: int) -> None:
        for feed in feeds:
            engine._session.run(engine._outputs, feed)

    def scikit_learn(_: int) -> None:
        for n in range(0, some, BATCH_ROWS):
            pipeline.predict_proba(data[n : n + BATCH_ROWS])

    ways = {"files": (files, rows), "graph": (graph, some), "scikit-learn": (scikit_learn, some)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, (way, count) in ways.items():
            found[name].append(_seconds(way, number) / count * 1e6)
    for name, seconds in found.items():
        say(f"{name}: {statistics.median(seconds):.2f} CPU seconds a million rows")
    for name in ("graph", "scikit-learn"):
        ratios = np.array(found["files"]) / np.array(found[name])
        say(f"files / {name}: {np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f})")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(f"{memory:.0f} MB at most, this benchmark's own tables included; pandas {pd.__version__}")


def _seconds(way: Callable[[int], None], number: int) -> float:
    before = time.process_time()
    way(number)
    return time.process_time() - before


if __name__ == "__main__":
    main()

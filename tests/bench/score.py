"""`make bench-score`: time and memory of scoring files, beside what could be had without Canoa.

With the defaults it takes half an hour on two idle cores, and 7 GB of disk; with
`--rows 500000 --rounds 1 --big 0.2` two minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.console import Console
from serving.bundle.manifest import PIPELINE_FILE
from serving.bundle.reader import open_bundle
from serving.bundle.trust import Trust
from serving.model.engines.inputs import feed_of
from serving.model.engines.onnx import OnnxEngine
from serving.stores.folder import FolderStore

from tests.bench.table import Figures
from tests.helpers.score.cluster import cluster
from tests.helpers.score.tables import example_rows
from tests.helpers.servers import ROOT, clean_environment
from training.export.features import to_columns
from training.score.plan import PART_ROWS, Options
from training.score.run import score
from training.score.tables import BATCH_ROWS

#: More rows than these take no other time each, and would not fit into memory.
PEER_ROWS = 500_000


def main() -> None:
    """Measure in interleaved rounds, and print one table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--big", metavar="GB", type=float, default=5.0, help="0: no big file")
    parser.add_argument("--model", type=Path, default=Path("models/credit"))
    options = parser.parse_args()
    figures, console = Figures(), Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_files(folder / "rows", options.rows)
        console.print(f"CPU time of {rows:,} rows …")
        _cpu(figures, options.model, folder, rows, options.rounds)
        console.print("one process, two, and Dask …")
        _wall(figures, options.model, folder, options.rounds)
        for form in ("parquet", "csv") if options.big else ():
            console.print(f"memory for {options.big:g} GB of {form} …")
            _memory(figures, options.model, folder, form, options.big * 1e9)
    console.print(figures.table)


def write_files(folder: Path, rows: int) -> int:
    """Write at least ten Parquet files of at most a part each; return how many rows they hold."""
    folder.mkdir()
    files = max(10, -(-rows // PART_ROWS))
    table = _mixed(rows // files)
    for n in range(files):
        table.assign(id=table["id"] + n * len(table)).to_parquet(folder / f"{n:03}.parquet")
    return files * len(table)


def _mixed(rows: int) -> pd.DataFrame:
    """Draw each value from the example's, so that rows differ: trees answer equal rows faster."""
    table = example_rows(rows)
    for seed, name in enumerate(table.columns.drop("id")):
        table[name] = table[name].sample(frac=1, random_state=seed, ignore_index=True)
    return table


def _cpu(figures: Figures, model: Path, folder: Path, rows: int, rounds: int) -> None:
    """CPU seconds a million rows: of our run in this process, the graph alone, and the pipeline."""
    bundle = open_bundle(FolderStore(model))
    engine = OnnxEngine(bundle.manifest, bundle.read_model())
    pipeline = joblib.load(io.BytesIO(bundle.read(PIPELINE_FILE)))
    some = min(rows, PEER_ROWS)
    frame = _mixed(some).drop(columns="id")
    columns = to_columns(frame, bundle.manifest.features)
    feeds = [
        feed_of(engine._inputs, [column[n : n + BATCH_ROWS] for column in columns])
        for n in range(0, some, BATCH_ROWS)
    ]
    every = sorted((folder / "rows").iterdir())
    per_file = rows // len(every)
    own = every[: max(1, PEER_ROWS // per_file)]
    options = Options(model=str(model), source=str(folder / "rows"), keep=["id"])

    def files() -> None:
        with contextlib.redirect_stdout(io.StringIO()), _emptied(folder / "out") as to:
            score(options, str(to), Trust(), workers=1)

    def graph() -> None:
        for feed in feeds:
            engine._session.run(engine._outputs, feed)

    def scikit_learn() -> None:
        for file in own:
            frame = pd.read_parquet(file)
            chances = pipeline.predict_proba(frame.drop(columns="id"))
            answers = pd.DataFrame(chances, columns=pipeline.classes_)
            answers.insert(0, "label", pipeline.classes_[chances.argmax(axis=1)])
            answers.assign(id=frame["id"]).to_parquet(folder / "own.parquet")

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "files": (files, rows),
        "onnxruntime alone": (graph, some),
        "scikit-learn, a frame a file": (scikit_learn, len(own) * per_file),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, count) in ways.items():
            began = time.process_time()
            way()
            found[name].append((time.process_time() - began) / count * 1e6)
    for peer, bound in (("onnxruntime alone", 1.25), ("scikit-learn, a frame a file", 1.0)):
        figures.compare_rounds(
            "CPU of a million rows", found["files"], (peer, found[peer]), bound, unit="s"
        )


def _wall(figures: Figures, model: Path, folder: Path, rounds: int) -> None:
    """Seconds of the whole command, its start included. Dask's workers run already."""
    (folder / "cluster").mkdir()
    with cluster(folder / "cluster") as found:
        ways = {
            "one process": ["--workers", "1"],
            "two processes": ["--workers", "2"],
            "Dask, two workers": ["--engine", "dask", "--scheduler", found.address],
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, more in ways.items():
                with _emptied(folder / "out") as to:
                    began = time.perf_counter()
                    _command(model, folder / "rows", to, *more)
                    seconds[name].append(time.perf_counter() - began)
    one, two, dask = seconds.values()
    figures.compare_rounds("the same, one process", one, ("two processes", two), -1.8, unit="s")
    figures.compare_rounds("Dask, two workers", dask, ("two processes", two), 1.3, unit="s")


def _memory(figures: Figures, model: Path, folder: Path, form: str, size: float) -> None:
    """Peak of the largest process of the command, over one file of *size* bytes."""
    file = folder / f"big.{form}"
    rows = _write_big(file, form, size)
    with _emptied(folder / "out") as to:
        began = time.perf_counter()
        peak = _command(model, file, to, "--workers", "2", watched=True)
        seconds = time.perf_counter() - began
    what = f"memory, {file.stat().st_size / 1e9:.1f} GB of {form}"
    file.unlink()
    figures.compare(what, peak, ("bound", 500e6), 1.0, unit="MB")
    figures.tell(f"  its {rows:,} rows by two processes", f"{seconds:,.0f} s", "")


def _write_big(file: Path, form: str, size: float) -> int:
    """Write groups of a million rows, as pyarrow does, until the file has *size* bytes."""
    table = pa.Table.from_pandas(
        example_rows(min(1_000_000, int(size / 200))), preserve_index=False
    )
    plain = {"compression": "none", "use_dictionary": False}  # equal rows would take no room
    writer = (
        pq.ParquetWriter(file, table.schema, **plain)
        if form == "parquet"
        else pa_csv.CSVWriter(file, table.schema)
    )
    with writer:
        rows = 0
        while file.stat().st_size < size:
            writer.write_table(table)
            rows += len(table)
    return rows


def _command(model: Path, source: Path, to: Path, *more: str, watched: bool = False) -> float:
    """
    Run the command line; return the peak of its largest process, in bytes, if *watched*.

    Watching takes a fifth of a core, which two workers on two cores would miss.
    """
    command = [sys.executable, "-m", "training", "score", str(model.absolute())]
    path = os.pathsep.join([str(ROOT), str(ROOT / "layer" / "python")])
    with subprocess.Popen(
        [*command, "--from", str(source), "--to", str(to), "--keep", "id", *more],
        env={**clean_environment(), "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    ) as process:
        peak = 0.0
        while watched and process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                own = psutil.Process(process.pid)
                for each in (own, *own.children(recursive=True)):
                    peak = max(peak, _peak(each.pid))
            time.sleep(0.2)
        process.wait()
    if process.returncode:
        raise RuntimeError(f"score ended with status {process.returncode}")
    return peak


def _peak(pid: int) -> float:
    """Return the most memory that a process had, in bytes; 0 if it has ended."""
    status = ""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return float(found[1]) * 1024 if found else 0.0


@contextlib.contextmanager
def _emptied(folder: Path) -> Iterator[Path]:
    yield folder
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

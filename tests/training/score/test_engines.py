"""`score` with processes, with a bucket, and on a Dask cluster of which a worker dies."""

from __future__ import annotations

import io
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.bundles import upload_folder
from tests.helpers.command import run, start
from tests.helpers.score.cluster import cluster
from tests.helpers.score.tables import example_rows, scored
from tests.helpers.stores import Bucket, Location

HERE = Location("", {})


def written(folder: Path, files: int, rows: int) -> Path:
    """Write the example's rows to *files* Parquet files of *rows* rows."""
    folder.mkdir()
    table = example_rows(files * rows)
    for n in range(files):
        table[n * rows : (n + 1) * rows].to_parquet(folder / f"{n:02}.parquet")
    return folder


def test_from_bucket_to_bucket_by_two_processes(
    credit: Path, bucket: Bucket, tmp_path: Path
) -> None:
    """Model, input and output may be in S3; the parts equal those of a local run."""
    source = written(tmp_path / "rows", 3, 200)
    model, rows = upload_folder(credit, bucket), upload_folder(source, bucket)
    to = f"{bucket.location.uri}/scores"
    command = ("score", "--keep", "id", "--workers", "2", "--from")

    status, output = run(bucket.location, *command, rows, "--to", to, model)
    assert status == 0, output
    assert "600 rows in 3 files" in output
    status, output = run(HERE, *command, str(source), "--to", str(tmp_path / "out"), str(credit))
    assert status == 0, output
    for name in ("00.parquet", "01.parquet", "02.parquet"):
        content = bucket.get(f"scores/{name}-00000.parquet")
        assert content == (tmp_path / "out" / f"{name}-00000.parquet").read_bytes()
    assert bucket.get("scores/_SUCCESS")
    part = pd.read_parquet(io.BytesIO(bucket.get("scores/01.parquet-00000.parquet") or b""))
    assert part["id"].tolist() == list(range(200, 400))

    status, output = run(bucket.location, *command, rows, "--to", to, model)
    assert (status, "is complete" in output) == (0, True)


def test_an_interrupt_leaves_whole_files(credit: Path, tmp_path: Path) -> None:
    """Ctrl-C ends the run with status 130; the same command finishes it without duplicate rows."""
    source, to = written(tmp_path / "rows", 12, 2_000), tmp_path / "out"
    command = ("score", str(credit), "--from", str(source), "--to", str(to), "--keep", "id")
    with start(HERE, *command, "--workers", "1") as process:
        _wait_for_parts(to, 2)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, output + errors
    assert "run the same command to continue" in errors
    assert not (to / "_SUCCESS").exists()
    assert not [path for path in to.iterdir() if path.name.startswith(".")]
    assert 0 < len(scored(to)) < 24_000

    status, output = run(HERE, *command, "--workers", "1")
    assert status == 0, output
    assert scored(to)["id"].tolist() == list(range(24_000))


@pytest.mark.slow
def test_a_cluster_survives_the_death_of_a_worker(credit: Path, tmp_path: Path) -> None:
    """If one of two workers is killed, the files equal those of a local run."""
    source, to, local = written(tmp_path / "rows", 16, 5_000), tmp_path / "dask", tmp_path / "local"
    command = ("score", str(credit), "--from", str(source), "--keep", "id", "--to")
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster") as found:
        engine = ("--engine", "dask", "--scheduler", found.address)
        with start(HERE, *command, str(to), *engine) as process:
            _wait_for_parts(to, 3)
            found.workers[0].kill()
            output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, output + errors
        assert "80,000 rows in 16 files" in output
        assert found.workers[1].poll() is None

    status, output = run(HERE, *command, str(local), "--workers", "2")
    assert status == 0, output
    names = sorted(path.name for path in local.glob("*.parquet"))
    assert names == sorted(path.name for path in to.glob("*.parquet"))
    for name in names:
        assert (to / name).read_bytes() == (local / name).read_bytes()
    assert scored(to)["id"].tolist() == list(range(80_000))


def test_a_missing_scheduler_is_named(credit: Path, tmp_path: Path) -> None:
    """The error names the address, or the option if it is missing."""
    source = written(tmp_path / "rows", 1, 10)
    command = ("score", str(credit), "--from", str(source), "--to", str(tmp_path / "out"))
    status, output = run(HERE, *command, "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9")
    assert status == 2
    assert "the scheduler tcp://127.0.0.1:9 does not answer" in output
    status, output = run(HERE, *command, "--engine", "dask")
    assert (status, "--scheduler tcp://" in output) == (2, True)


def _wait_for_parts(folder: Path, parts: int) -> None:
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.parquet"))) < parts:
        assert time.monotonic() < deadline, "no parts"
        time.sleep(0.02)

"""`score` with processes, with a bucket, and on a Dask cluster of which a worker dies."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from serving.bundle.trust import Trust
from serving.stores.store import Store

from tests.helpers.bundles import upload_folder
from tests.helpers.command import start
from tests.helpers.score.cluster import cluster
from tests.helpers.score.tables import example_rows, scored
from tests.helpers.stores import Bucket, Location
from training.registry.location import open_location
from training.score.files import list_inputs
from training.score.plan import Options
from training.score.run import score

HERE = Location("", {})


def run(location: Location, *arguments: str) -> tuple[int, str]:
    """Run the command line in a process of its own, which starts others; its status and output."""
    with start(location, *arguments) as process:
        output, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors, errors
    return process.returncode, output + errors


def written(folder: Path, files: int, rows: int) -> Path:
    """Write the example's rows to *files* Parquet files of *rows* rows."""
    folder.mkdir()
    table = example_rows(files * rows)
    for n in range(files):
        table[n * rows : (n + 1) * rows].to_parquet(folder / f"{n:02}.parquet")
    return folder


@pytest.mark.parametrize("cloud", ["bucket", "google"])
def test_from_bucket_to_bucket_by_two_processes(
    credit: Path, cloud: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Model, input and output may be in S3 or Google Cloud; parts equal those of a local run."""
    bucket: Bucket = request.getfixturevalue(cloud)
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


def test_a_glob_names_files_in_each_store(credit: Path, location: Store) -> None:
    """`*` stays within a folder and `**` does not, in a bucket as in a folder."""
    rows = example_rows(10)
    content = {".csv": rows.to_csv(index=False).encode(), ".parquet": rows.to_parquet()}
    for path in ("in/a1.csv", "in/b2.csv", "in/deep/a3.parquet", "in/deep/_a4.csv", "a5.csv"):
        *folders, name = path.split("/")
        store = location
        for folder in folders:
            store = store.at(folder)
        store.create(name, content[Path(name).suffix])

    def found(source: str) -> list[str]:
        return [file.path for file in list_inputs(f"{location}/{source}")]

    assert found("in/*.csv") == ["a1.csv", "b2.csv"]
    assert found("in/[b-z]*.csv") == ["b2.csv"]
    assert found("*/a*.csv") == ["in/a1.csv"]
    assert found("in/**/a*") == ["a1.csv", "deep/a3.parquet"]
    assert found("in/**") == found("in") == ["a1.csv", "b2.csv", "deep/a3.parquet"]
    assert found("in/a1.csv") == ["a1.csv"]

    options = Options(
        model=str(credit), source=f"{location}/in/**/a*", keep=["id"], format="parquet"
    )
    assert score(options, f"{location}/out", Trust(), workers=1)
    for folder, name in (("out", "a1.csv"), ("out/deep", "a3.parquet")):
        part = open_location(f"{location}/{folder}").read(f"{name}-00000.parquet").content
        assert pd.read_parquet(io.BytesIO(part))["id"].astype(int).tolist() == [*range(10)]


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


def test_a_killed_run_is_finished(credit: Path, tmp_path: Path) -> None:
    """SIGKILL leaves whole files too; the same command finishes the run, and no row is twice."""
    source, to = written(tmp_path / "rows", 12, 2_000), tmp_path / "out"
    command = ("score", str(credit), "--from", str(source), "--to", str(to), "--keep", "id")
    with start(HERE, *command, "--workers", "2") as process:
        _wait_for_parts(to, 2)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for worker in workers:
            worker.kill()
        process.communicate(timeout=60)
    assert not (to / "_SUCCESS").exists()

    status, output = run(HERE, *command, "--workers", "2")
    assert status == 0, output
    assert "files are there already" in output
    assert "24,000 rows in 12 files" in output
    assert scored(to)["id"].tolist() == list(range(24_000))


def test_two_runs_at_once_never_mix(credit: Path, tmp_path: Path) -> None:
    """The same command twice ends well twice, with each row once; another command is refused."""
    source, to = written(tmp_path / "rows", 6, 5_000), tmp_path / "out"
    command = ("score", str(credit), "--from", str(source), "--to", str(to), "--workers", "1")
    with (
        start(HERE, *command, "--keep", "id") as one,
        start(HERE, *command, "--keep", "id") as two,
        start(HERE, *command, "--keep", "id", "age") as three,
    ):
        said = [process.communicate(timeout=120) for process in (one, two, three)]
    codes = [one.returncode, two.returncode, three.returncode]
    # The third may be the first to begin; then the others are refused.
    assert codes in ([0, 0, 2], [2, 2, 0]), said
    refused = [errors for (_, errors), code in zip(said, codes, strict=True) if code]
    assert all("was begun with keep" in errors for errors in refused)
    assert scored(to)["id"].tolist() == list(range(30_000))
    summary = json.loads((to / "_SUCCESS").read_text())
    assert (summary["rows"], len(summary["parts"])) == (30_000, 6)
    for part in summary["parts"]:
        content = (to / part["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == part["sha256"]


@pytest.mark.parametrize("cloud", ["bucket", "google"])
def test_an_object_that_is_there_is_not_written_over(
    credit: Path, cloud: str, request: pytest.FixtureRequest
) -> None:
    """Its bytes stay, and the run ends with a sentence that names it."""
    bucket: Bucket = request.getfixturevalue(cloud)
    bucket.put("rows/a.csv", example_rows(10).to_csv(index=False).encode())
    bucket.put("scores/a.csv-00000.csv", b"mine\n")
    model, base = upload_folder(credit, bucket), bucket.location.uri
    command = ("score", model, "--from", f"{base}/rows", "--to", f"{base}/scores")

    status, output = run(bucket.location, *command, "--workers", "1")
    assert (status, bucket.get("scores/a.csv-00000.csv")) == (2, b"mine\n")
    assert "a.csv-00000.csv is there, and is no part of this run" in output


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_two_million_rows_in_one_file(credit: Path, tmp_path: Path, form: str) -> None:
    """Two processes score it in under a minute, each a part, and each row has its own answer."""
    rows, file, to = 2_000_000, tmp_path / f"rows.{form}", tmp_path / "out"
    table = example_rows(rows)
    table.to_csv(file, index=False) if form == "csv" else table.to_parquet(file)
    del table
    command = ("score", str(credit), "--from", str(file), "--to", str(to), "--keep", "id")

    status, output = run(HERE, *command, "--workers", "2")  # which waits for a minute
    assert status == 0, output
    assert "1 files, 2 tasks" in output
    assert f"{rows:,} rows in 2 files in {to}, 0 with an error" in output
    found = scored(to)
    assert found["id"].tolist() == list(range(rows))
    changes = (found["probability_good"].diff() != 0).sum()
    assert 3_000 < changes < 4_500  # equal rows of the example stand together


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

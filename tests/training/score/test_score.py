"""`score` on local files: answers, errors, parts, and runs that are continued or rejected."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serving.bundle.reader import open_bundle
from serving.bundle.trust import Trust
from serving.stores.folder import FolderStore

from tests.helpers.example import JSON
from tests.helpers.platforms import direct
from tests.helpers.score.kinds import CASES, USUAL, as_row, kinds_model
from tests.helpers.score.tables import example_rows, scored
from tests.helpers.versions import another
from training.__main__ import main
from training.errors import TrainingError
from training.score.plan import Options
from training.score.run import score


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model with a feature of each kind."""
    return kinds_model(tmp_path_factory.mktemp("models") / "kinds")


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # main() changes sys.path


def run(model: Path, source: Path, to: Path, *more: str) -> int:
    """Run the command in this process, without workers."""
    return main(
        ["score", str(model), "--from", str(source), "--to", str(to), "--workers", "1", *more]
    )


def success(folder: Path) -> dict[str, object]:
    """Read `_SUCCESS`."""
    found: dict[str, object] = json.loads((folder / "_SUCCESS").read_text())
    return found


def test_each_value_is_checked_like_over_http(kinds: Path, tmp_path: Path) -> None:
    """A value in a file gets the same label and numbers, or the same errors, as over HTTP."""
    table = pd.DataFrame([as_row(feature, text) for feature, text, _ in CASES])
    table.insert(0, "id", range(len(table)))
    table.to_csv(tmp_path / "cases.csv", index=False)

    assert run(kinds, tmp_path / "cases.csv", tmp_path / "out", "--keep", "id") == 0
    found = scored(tmp_path / "out")
    assert list(found) == ["id", "label", "probability_no", "probability_yes", "warning", "error"]
    with direct(kinds, LOG_LEVEL="error") as send:
        for (feature, text, value), row in zip(CASES, found.to_dict("records"), strict=True):
            fields = ", ".join(f'"{n}": {v}' for n, v in {**USUAL, feature: value}.items())
            reply = send("predict", "POST", f"{{{fields}}}".encode(), **JSON)
            body = reply.json()
            if reply.status == 422:
                faults = "; ".join(f"{feature}: {e['detail']}" for e in body["errors"])
                assert row["error"] == faults, text
                assert pd.isna(row["label"])
                continue
            prediction = body["prediction"]
            assert (row["label"], pd.isna(row["error"])) == (prediction["label"], True), text
            for name, probability in prediction["probabilities"].items():
                assert row[f"probability_{name}"] == pytest.approx(probability, abs=1e-15)
            assert isinstance(row["warning"], str) == ("warnings" in body)
    assert success(tmp_path / "out")["unseen"] == {"town": 6}


def test_parquet_and_csv_give_the_same_answers(credit: Path, tmp_path: Path) -> None:
    """The rows of a folder with both formats get the answers of a request."""
    rows = example_rows(500)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    rows[:250].to_csv(tmp_path / "in" / "a.csv", index=False)
    rows[250:400].to_parquet(tmp_path / "in" / "deep" / "b.parquet", row_group_size=40)
    rows[400:].to_csv(tmp_path / "in" / "c.csv.gz", index=False)
    (tmp_path / "in" / "_SUCCESS").touch()

    assert run(credit, tmp_path / "in", tmp_path / "out", "--keep", "id") == 0
    names = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")
    }
    assert names == {
        *("_STARTED", "_SUCCESS", "deep", "deep/b.parquet-00000.parquet"),
        *("a.csv-00000.parquet", "c.csv.gz-00000.parquet"),
    }
    found = scored(tmp_path / "out")
    instances = json.loads(rows.drop(columns="id").to_json(orient="records"))
    with direct(credit, LOG_LEVEL="error") as send:
        body = json.dumps({"instances": instances}).encode()
        answers = send("predict", "POST", body, **JSON).json()["predictions"]
    assert found["label"].tolist() == [answer["label"] for answer in answers]
    chances = [answer["probabilities"]["good"] for answer in answers]
    np.testing.assert_allclose(found["probability_good"], chances, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "tasks"), [("rows.parquet", 3), ("rows.csv", 3), ("rows.csv.gz", 1)]
)
def test_an_interrupted_run_is_finished(
    credit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, tasks: int
) -> None:
    """Existing parts stay unchanged, the others are written, and the counts are of all."""
    rows = example_rows(250)
    rows.loc[7, "age"] = None
    rows.loc[207, "job"] = "astronaut"
    write = rows.to_csv if "csv" in name else rows.to_parquet
    write(tmp_path / name, index=False)
    options = Options(
        model=str(credit),
        source=str(tmp_path / name),
        keep=["id"],
        part_rows=100,
    )
    to = tmp_path / "out"
    score(options, str(to), Trust(), workers=1)
    assert f"1 files, {tasks} tasks" in capsys.readouterr().out
    first, before = success(to), scored(to)
    parts = sorted(to.glob("rows*"))
    assert [len(scored_part) for scored_part in map(_read, parts)] == [100, 100, 50]

    (to / "_SUCCESS").unlink()
    parts[1].unlink()
    times = [part.stat().st_mtime_ns for part in (parts[0], parts[2])]
    score(options, str(to), Trust(), workers=1)
    assert [part.stat().st_mtime_ns for part in (parts[0], parts[2])] == times
    assert success(to) == first
    assert (first["rows"], first["errors"]) == (250, before["error"].notna().sum())
    pd.testing.assert_frame_equal(scored(to), before)


def test_a_column_is_kept_whatever_its_type(credit: Path, tmp_path: Path) -> None:
    """Arrow cannot reorder a few types, such as string_view; such columns are kept all the same."""
    table = pa.Table.from_pandas(example_rows(50), preserve_index=False)
    names = pa.array([f"n{i}" for i in range(50)], pa.string_view())
    pq.write_table(table.append_column("name", names), tmp_path / "rows.parquet")

    assert run(credit, tmp_path / "rows.parquet", tmp_path / "out", "--keep", "id", "name") == 0

    found = scored(tmp_path / "out")
    assert found["name"].tolist() == names.to_pylist()
    assert found["label"].notna().all()


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def test_the_version_is_pinned(credit: Path, tmp_path: Path) -> None:
    """A run continues with the version that it began with, even if another one is live."""
    folder = tmp_path / "models" / "credit"
    another(credit, folder, "v1")
    example_rows(10).to_csv(tmp_path / "rows.csv", index=False)
    run(folder, tmp_path / "rows.csv", tmp_path / "out")
    another(credit, folder, "v2")
    assert open_bundle(FolderStore(folder)).manifest.version == "v2"
    (tmp_path / "out" / "_SUCCESS").unlink()
    (tmp_path / "out" / "rows.csv-00000.csv").unlink()

    assert run(folder, tmp_path / "rows.csv", tmp_path / "out") == 0
    assert success(tmp_path / "out")["version"] == "v1"


def test_other_options_are_rejected(
    credit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A destination belongs to one run; other options or a changed input are rejected."""
    example_rows(10).to_csv(tmp_path / "rows.csv", index=False)
    run(credit, tmp_path / "rows.csv", tmp_path / "out")
    assert run(credit, tmp_path / "rows.csv", tmp_path / "out", "--keep", "id") == 2
    assert "begun with keep []" in capsys.readouterr().err

    (tmp_path / "out" / "_SUCCESS").unlink()
    example_rows(11).to_csv(tmp_path / "rows.csv", index=False)
    assert run(credit, tmp_path / "rows.csv", tmp_path / "out") == 2
    assert "rows.csv has changed since the run began" in capsys.readouterr().err


def test_another_job_s_output_is_rejected(
    credit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A `_SUCCESS` without a `_STARTED` does not mean that this run is complete."""
    example_rows(10).to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_SUCCESS").touch()

    assert run(credit, tmp_path / "rows.csv", tmp_path / "out") == 2
    assert "the _SUCCESS of another job" in capsys.readouterr().err


def test_more_errors_than_allowed_end_with_status_3(
    credit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too many errors leave no `_SUCCESS`; a larger --max-errors accepts the same parts."""
    rows = example_rows(100).astype({"age": object})
    rows.loc[:4, "age"] = "old"
    rows.to_csv(tmp_path / "rows.csv", index=False)

    assert run(credit, tmp_path / "rows.csv", tmp_path / "out", "--max-errors", "0.01") == 3
    assert "5.00% of the rows have an error" in capsys.readouterr().out
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert run(credit, tmp_path / "rows.csv", tmp_path / "out", "--max-errors", "0.05") == 0
    assert success(tmp_path / "out")["errors"] == 5
    part = pd.read_csv(tmp_path / "out" / "rows.csv-00000.csv")
    assert set(part["error"][:5]) == {"age: expected a number or null, got a string"} or set(
        part["error"][:5]
    ) == {"age: expected a number, got a string"}
    assert part["label"][5:].notna().all()


def test_nan_in_parquet_is_null(kinds: Path, tmp_path: Path) -> None:
    """It gets the answer or the sentence of a gap."""
    row = {name: json.loads(value) for name, value in USUAL.items()} | {"share": None}
    columns = {name: [value] * 3 for name, value in row.items()}
    columns["share"][1], columns["price"][2] = math.nan, math.nan
    table = pa.table(columns).append_column("id", pa.array(range(3)))
    pq.write_table(table, tmp_path / "rows.parquet")

    assert run(kinds, tmp_path / "rows.parquet", tmp_path / "out", "--keep", "id") == 0
    gap, nan, wrong = scored(tmp_path / "out").drop(columns="id").to_dict("records")
    assert pd.isna([gap.pop("error"), nan.pop("error")]).all()
    assert gap["label"] == nan["label"]
    assert gap["probability_yes"] == nan["probability_yes"]
    assert wrong["error"] == "price: expected a number, got null; training never saw one"


def test_a_run_without_an_answer_ends_with_status_3(
    credit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A column that is wrong in every row leaves no `_SUCCESS`, whatever --max-errors says."""
    example_rows(20).assign(age="old").to_csv(tmp_path / "rows.csv", index=False)

    assert run(credit, tmp_path / "rows.csv", tmp_path / "out", "--max-errors", "1") == 3
    assert "No row has an answer: there is no _SUCCESS." in capsys.readouterr().out
    assert not (tmp_path / "out" / "_SUCCESS").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.drop(columns="age"), "has no column 'age'"),
        (lambda rows: rows.assign(age="old"), "'age' is large_string, and the model takes numbers"),
        (lambda rows: rows.assign(home=1.5), "'home' is double, and the model takes strings"),
        (lambda rows: rows.drop(columns="id"), "has no column 'id'"),
    ],
)
def test_a_wrong_column_rejects_the_run_before_any_row(
    credit: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: object,
    said: str,
) -> None:
    """If the second of two files has a wrong column, nothing is written."""
    (tmp_path / "in").mkdir()
    rows = example_rows(10)
    rows.to_parquet(tmp_path / "in" / "a.parquet")
    change(rows).to_parquet(tmp_path / "in" / "b.parquet")  # type: ignore[operator]

    assert run(credit, tmp_path / "in", tmp_path / "out", "--keep", "id") == 2
    error = capsys.readouterr().err
    assert "b.parquet" in error
    assert said in error.replace("is string", "is large_string")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "bad",
    [
        (b"", "cannot be read"),
        (b"id\n1\n", "has no column"),
        (b"a,b\n1\n", "row 2 has 1 fields"),
        (b"PAR1", "cannot be read"),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.parquet"])
def test_an_unreadable_file_is_one_sentence(
    credit: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    bad: tuple[bytes, str],
) -> None:
    """Status 2, the file's name, and no traceback."""
    content, said = bad
    (tmp_path / name).write_bytes(content)

    assert run(credit, tmp_path / name, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert name in error
    assert "unexpected" not in error
    if name == "rows.csv" and content != b"PAR1":
        assert said in error


def test_a_ragged_row_ends_the_run(
    credit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row with too many fields ends the run; the error does not repeat its values."""
    text = example_rows(3).to_csv(index=False)
    (tmp_path / "rows.csv").write_text(text + "secret,secret\n")

    assert run(credit, tmp_path / "rows.csv", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "row 5 has 2 fields; the header has 14" in error
    assert "secret" not in error


def test_a_ragged_row_of_a_later_part_keeps_its_number(credit: Path, tmp_path: Path) -> None:
    """A part counts from the file's beginning."""
    text = example_rows(25).to_csv(index=False)
    (tmp_path / "rows.csv").write_text(text + "secret,secret\n")
    options = Options(model=str(credit), source=str(tmp_path / "rows.csv"), keep=[], part_rows=10)

    with pytest.raises(TrainingError, match="row 27 has 2 fields; the header has 14"):
        score(options, str(tmp_path / "out"), Trust(), workers=1)


def test_a_kept_column_named_like_an_answer_is_rejected(
    credit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output would have two columns of that name."""
    example_rows(3).assign(label="x").to_csv(tmp_path / "rows.csv", index=False)

    assert run(credit, tmp_path / "rows.csv", tmp_path / "out", "--keep", "label") == 2
    assert "two columns of this name" in capsys.readouterr().err


def test_a_file_without_rows_gets_a_part_without_rows(credit: Path, tmp_path: Path) -> None:
    """The part has the columns, so that a job can read the output."""
    example_rows(1)[:0].to_csv(tmp_path / "rows.csv", index=False)
    example_rows(1)[:0].to_parquet(tmp_path / "rows.parquet")
    for name in ("rows.csv", "rows.parquet"):
        to = tmp_path / f"{name} out"
        assert run(credit, tmp_path / name, to, "--keep", "id", "--format", "parquet") == 0
        part = pd.read_parquet(to / f"{name}-00000.parquet")
        assert list(part)[:2] == ["id", "label"]
        assert not len(part)

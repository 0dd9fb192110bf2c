"""`list`, `promote` and `rollback`, on a folder, S3, Google Cloud Storage and Azure."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.text import Text
from serving.bundle.latest import read_latest
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore
from serving.stores.store import Store

from tests.helpers.bundles import copied
from tests.helpers.command import on_a_terminal, run, start
from tests.helpers.http.proxy import Asked
from tests.helpers.stores import Bucket, Location
from tests.helpers.versions import Add, another, ask


def test_list_shows_the_versions(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """Versions are listed newest first, with their figures, and the live and previous one."""
    for version in ("z1", "a3", "m2"):
        manifest = add(location, version).manifest
    held_out, rule = manifest.metrics["held_out"], manifest.hold_out
    status, (head, *rows) = ask(capsys, location, "list")

    assert status == 0
    names = ["roc_auc", "log_loss", "accuracy"]
    assert head.split() == ["version", "made", "(UTC)", *names, "on", "engine", "size"]
    ends = manifest.metrics["intervals"]
    figures = [
        text
        for name in names
        for text in (f"{held_out[name]:.4f}", f"±{(ends[name][1] - ends[name][0]) / 2:.3f}")
    ]
    expected = ["2026-11-24", "02:33", *figures, "a", "onnx"]
    assert rule is not None
    assert rows.pop() == f"a: measured on {rule.rows} rows held out by the hash of 13 columns"
    assert [row.split()[:-2] for row in rows] == [
        ["before", "a3", *expected],
        ["live", "m2", *expected],
        ["z1", *expected],
    ]


def test_unreadable_versions_are_listed(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreadable manifest is listed with the reason; folders of something else are skipped."""
    add(location, "v1")
    location.create("notes.txt", b"")
    location.create(".writing-x", b"")
    location.at("notes").create("readme.md", b"")
    location.at("newer").create("manifest.json", b'{"format": 7}')
    location.at("rubbish").create("manifest.json", b"\xff")
    location.at("upload").create("model.onnx", b"")
    status, lines = ask(capsys, location, "list")

    assert status == 0
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["live", "v1"],
        ["upload", "cannot"],
        ["rubbish", "cannot"],
        ["newer", "cannot"],
    ]
    assert lines[6].startswith("upload: it has no manifest")
    assert lines[7].startswith(f"rubbish: {location}/rubbish/manifest.json is not a manifest")
    assert lines[8:] == [
        f"newer: {location}/newer/manifest.json has format 7; this server reads 1 and 2.",
    ]


def test_an_invalid_latest_is_reported(
    tmp_path: Path, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """If `latest` is missing or names no version, the table is printed, and then the problem."""
    location = FolderStore(tmp_path / "credit")
    add(location, "v1", live=False)
    for content, said in {
        None: "None is live; promote one.",
        "v0": "'latest' names v0, which is not there; promote another.",
        "../x": f"{location}/latest does not name a version; write one into it.",
    }.items():
        if content is not None:
            (tmp_path / "credit" / "latest").write_text(content)
        status, lines = ask(capsys, location, "list")

        assert status == 0
        assert lines[1].split()[0] == "v1"
        assert lines[3:] == [said]


def test_a_location_without_versions_is_named(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty location, or one a level too high or too low, gives one sentence and status 2."""
    nothing = f"training: there is no version in {location}; name a model, such as --store "
    for command in (["list"], ["prune", "--keep", "1"]):
        status, [said] = ask(capsys, location, *command)
        assert status == 2
        assert said.startswith(nothing)
    add(location.at("credit"), "v1")
    status, [said] = ask(capsys, location, "list")
    assert said.startswith(nothing)
    status, [said] = ask(capsys, location.at("credit").at("v1"), "list")
    assert status == 2
    assert said.endswith("/v1 is one version; use the model's location, one level up.")


def test_promote_moves_latest(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """The change is printed; promoting the live version changes nothing."""
    for version in ("v1", "v2", "v3"):
        add(location, version)
    status, lines = ask(capsys, location, "promote", "v1")
    assert (status, lines[-1]) == (0, "credit: v3 → v1")
    assert read_latest(location)[:2] == ("v1", "v3")

    status, lines = ask(capsys, location, "promote", "v1")
    assert (status, lines) == (0, ["v1 is live already; nothing was changed."])
    assert read_latest(location)[:2] == ("v1", "v3")


def test_a_first_version_is_promoted(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version can be promoted if none is live yet."""
    add(location, "v1", live=False)
    status, lines = ask(capsys, location, "promote", "v1")

    assert (status, lines[-1]) == (0, "credit: none → v1")
    assert read_latest(location)[:2] == ("v1", None)


FAULTS = {
    "nothing": "there is no version nothing in",
    "../v2": "'../v2' is not a version's name",
    "damaged": "model.onnx is not the file that its manifest describes: the sha256 differs",
    "cut": "model.onnx",
    "lacking": "model.onnx is not there",
    "renamed": "renamed holds version v2",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_version_is_not_promoted(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A version that is missing, damaged, cut, incomplete or renamed gives one sentence."""
    add(location, "v1")
    whole = add(location, "v2", live=False)
    if name not in ("nothing", "../v2"):
        raw = whole.raw if name == "renamed" else whole.raw.replace(b'"v2"', f'"{name}"'.encode())
        graph = whole.read("model.onnx")
        faulty = {"damaged": b"?" + graph[1:], "cut": graph[:-1], "renamed": graph}
        location.at(name).create("model.joblib", whole.read("model.joblib"))
        location.at(name).create("manifest.json", raw)
        if name in faulty:
            location.at(name).create("model.onnx", faulty[name])
    status, lines = ask(capsys, location, "promote", name)

    assert status == 2
    assert lines[-1].startswith("training: ")
    assert FAULTS[name] in lines[-1]
    assert read_latest(location)[:2] == ("v1", None)


def test_a_second_rollback_returns(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """`rollback` returns to the previous version, and says that another one undoes it."""
    for version in ("v1", "v2", "v3"):
        add(location, version)
    status, lines = ask(capsys, location, "rollback")
    assert status == 0
    assert lines[-2:] == ["credit: v3 → v2", "Another rollback goes back to v3."]
    assert read_latest(location)[:2] == ("v2", "v3")
    assert ask(capsys, location, "rollback")[1][-2] == "credit: v2 → v3"


def test_rollback_needs_a_previous_version(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without one the error says what to type; if it is damaged, the live one stays."""
    instead = f"python -m training promote VERSION --store {location}"
    status, [said] = ask(capsys, location, "rollback")
    assert status == 2
    assert said.startswith("training: no version is live")
    assert said.endswith(instead)

    add(location, "v1")
    status, [said] = ask(capsys, location, "rollback")
    assert status == 2
    assert said.startswith("training: only v1 has been live")
    assert said.endswith(instead)

    location.replace("latest", b"v1\nv1\n", read_latest(location).tag)
    assert ask(capsys, location, "rollback") == (2, [said])

    add(location, "v2")
    location.at("v1").delete("model.onnx")
    status, lines = ask(capsys, location, "rollback")
    assert status == 2
    assert lines[-1].endswith("v1/model.onnx is not there.")
    assert read_latest(location)[:2] == ("v2", "v1")


def test_of_two_concurrent_promoters_one_gets_an_error(
    credit: Path, bucket: Bucket, tmp_path: Path
) -> None:
    """Both saw v1 live; one moves `latest`, and the other's error names the new version."""
    for version in ("v1", "v2", "v3"):
        folder = another(credit, tmp_path / "credit", version)
        more = [] if version == "v1" else ["--no-promote"]
        assert (
            run(bucket.location, "publish", str(folder), "--to", bucket.location.uri, *more)[0] == 0
        )
    barrier = threading.Barrier(2, timeout=30)

    def together(asked: Asked) -> None:
        if asked.method == "PUT":
            barrier.wait()

    bucket.proxy.before = together
    store = f"{bucket.location.uri}/credit"
    processes = [
        start(bucket.location, "promote", version, "--store", store) for version in ("v2", "v3")
    ]
    said = [process.communicate(timeout=60) for process in processes]
    codes = [process.returncode for process in processes]

    assert sorted(codes) == [0, 2], said
    live = ("v2", "v3")[codes.index(0)]
    assert bucket.get("credit/latest") == f"{live}\nv1\n".encode()
    assert said[codes.index(0)][0].splitlines()[-1] == f"credit: v1 → {live}"
    assert said[codes.index(2)][1] == (
        f"training: {store}/latest was moved to {live} in the meantime, and was left there.\n"
    )


def test_the_default_store_is_model_uri(tmp_path: Path, credit: Path) -> None:
    """Without --store the model is MODEL_URI; on a pipe long rows are not cut."""
    name = "v" + "1" * 120
    another(credit, tmp_path / "mine", name)
    code, said = run(Location("", {"MODEL_URI": str(tmp_path / "mine")}), "list")

    assert code == 0, said
    [row] = [line for line in said.splitlines() if name in line]
    assert row.split()[-3] == "onnx"
    assert "\x1b" not in said


@pytest.mark.parametrize("width", [90, 120])
def test_the_table_fits_a_terminal(credit: Path, width: int) -> None:
    """Each version takes one line, with as many figures as fit."""
    location = Location("", {})
    said = on_a_terminal(location, "list", "--store", str(credit), columns=width)
    lines = Text.from_ansi(said.replace("\r", "")).plain.splitlines()

    assert max(map(len, lines)) <= width
    [row] = [line for line in lines if "live" in line]
    assert len(re.findall(r" 0\.\d{4} ±", row)) == {90: 1, 120: 3}[width]


def test_figures_of_different_rows_are_marked(
    tmp_path: Path, credit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of equal rows share a letter, and a line explains each letter."""
    manifest = open_bundle(FolderStore(credit)).manifest
    assert manifest.hold_out is not None
    others = msgspec.structs.replace(manifest.hold_out, rows=70, rows_sha256="0" * 64)
    by_id = msgspec.structs.replace(others, by="id", columns=["customer"])
    rows = f"{manifest.lineage.rows:,}"
    changes: list[dict[str, Any]] = [
        {},
        {"hold_out": others},
        {"hold_out": by_id},
        {"hold_out": None},
        {"metrics": {"sample": {"accuracy": 0.5}}, "hold_out": None},
        {},
    ]
    for number, change in enumerate(changes):
        changed = {**change, "version": f"v{number}", "created_at": f"2026-11-24T02:33:0{number}Z"}
        copied(credit, tmp_path / "credit", **changed)
    status, lines = ask(capsys, FolderStore(tmp_path / "credit"), "list")

    assert status == 0
    assert [line.split()[-4] for line in lines[1:7]] == list("abcdea")
    assert lines[7:] == [
        f"a: measured on {manifest.hold_out.rows} rows held out by the hash of 13 columns",
        f"b: measured on the {rows} rows of its sample, which it may be fitted to",
        "c: measured on rows held out by no recorded rule",
        "d: measured on 70 rows held out by the hash of the column customer",
        "e: measured on 70 rows held out by the hash of 13 columns",
        (
            "Figures on different rows cannot be compared; "
            "python -m training compare VERSION VERSION does it on the same rows."
        ),
    ]

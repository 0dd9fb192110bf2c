"""`python -m training publish`: what it writes, in which order, and who wins a race."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import requests
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore

from tests.helpers.command import on_a_terminal, run, start
from tests.helpers.example import ROW
from tests.helpers.http.proxy import Asked
from tests.helpers.servers import serving
from tests.helpers.stores import Bucket, GoogleBucket, Location, azure
from tests.helpers.versions import another


def test_a_published_model_is_served(credit: Path, bucket: Bucket) -> None:
    """A model is published and served from the store; on a pipe the progress is plain lines."""
    uri = bucket.location.uri
    code, said = run(bucket.location, "publish", str(credit), "--to", uri)
    version = open_bundle(FolderStore(credit)).manifest.version

    assert code == 0, said
    assert "\x1b" not in said
    assert "model.onnx: sent, " in said
    assert "model.onnx: checked, " in said
    assert f"credit {version} is live." in said
    assert bucket.get("credit/latest") == version.encode() + b"\n"
    code, said = run(bucket.location, "check", f"{uri}/credit")
    assert code == 0, said
    for location in (f"{uri}/credit", f"{uri}/credit/{version}"):
        with serving(location, **bucket.location.environment) as server:
            answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=30)
            assert answer.status_code == 200, server.logged()
            assert answer.json()["model"]["version"] == version


def test_latest_is_written_last(credit: Path, bucket: Bucket) -> None:
    """A reader of `latest` finds a whole bundle, and every write is conditional."""
    assert run(bucket.location, "publish", str(credit), "--to", bucket.location.uri)[0] == 0

    assert sorted(bucket.asked("PUT")[:3]) == ["background.json", "model.joblib", "model.onnx"]
    assert bucket.asked("PUT")[3:] == ["manifest.json", "latest"]
    for asked in bucket.proxy.asked:
        if asked.method == "PUT":
            assert {name.lower(): value for name, value in asked.headers.items()}[
                "if-none-match"
            ] == "*"


def test_publishing_again_changes_nothing(credit: Path, bucket: Bucket) -> None:
    """Publishing the same version again succeeds, and the output says so."""
    for word in ("is live.", "is live, as before."):
        code, said = run(bucket.location, "publish", str(credit), "--to", bucket.location.uri)
        assert code == 0, said
        assert word in said


def test_an_interrupted_publication_is_completed(credit: Path, bucket: Bucket) -> None:
    """A failed upload leaves nothing live, and the next `publish` completes it."""
    proxy = bucket.proxy
    proxy.fault = lambda asked, answer: (
        answer._replace(status=500) if asked.path.endswith("manifest.json") else answer
    )
    code, said = run(bucket.location, "publish", str(credit), "--to", bucket.location.uri)
    assert code == 2
    assert said.strip().splitlines()[-1].startswith("training: s3://")
    assert bucket.get("credit/latest") is None

    proxy.fault = None
    assert run(bucket.location, "publish", str(credit), "--to", bucket.location.uri)[0] == 0
    assert run(bucket.location, "check", f"{bucket.location.uri}/credit")[0] == 0


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_version_is_never_overwritten(credit: Path, bucket: Bucket, name: str) -> None:
    """If the version's name holds other content, neither it nor `latest` changes."""
    version = open_bundle(FolderStore(credit)).manifest.version
    bucket.put(f"credit/{version}/{name}", b"something else")
    code, said = run(bucket.location, "publish", str(credit), "--to", bucket.location.uri)

    assert code == 2
    assert f"{name} is there already with other content" in said
    assert bucket.get(f"credit/{version}/{name}") == b"something else"
    assert bucket.get("credit/latest") is None


def test_a_damaged_upload_does_not_go_live(credit: Path, bucket: Bucket) -> None:
    """Every byte is read back before the manifest is written."""
    bucket.proxy.fault = lambda asked, answer: (
        answer._replace(body=answer.body[:-1] + b"\0")
        if asked.method == "GET" and asked.path.endswith(".onnx")
        else answer
    )
    code, said = run(bucket.location, "publish", str(credit), "--to", bucket.location.uri)

    assert code == 2
    assert "model.onnx arrived damaged" in said
    assert "manifest.json" not in bucket.asked("PUT")


def test_two_publishers_do_not_mix_their_files(
    credit: Path, bucket: Bucket, tmp_path: Path
) -> None:
    """Both versions arrive whole; one goes live, and the other command names it."""
    barrier = threading.Barrier(2, timeout=30)

    def together(asked: Asked) -> None:
        if asked.method == "PUT" and asked.path.endswith("/latest"):
            barrier.wait()

    bucket.proxy.before = together
    versions = ["v1", "v2"]
    processes = [
        start(
            bucket.location,
            *("publish", str(another(credit, tmp_path / "credit", version))),
            *("--to", bucket.location.uri),
        )
        for version in versions
    ]
    said = [process.communicate(timeout=60) for process in processes]
    codes = [process.returncode for process in processes]

    assert sorted(codes) == [0, 2], said
    live = versions[codes.index(0)]
    assert bucket.get("credit/latest") == live.encode() + b"\n"
    _, errors = said[codes.index(2)]
    assert errors.startswith("training: s3://")
    assert f"latest was moved to {live} in the meantime, and was left there.\n" in errors
    for version in versions:
        assert run(bucket.location, "check", f"{bucket.location.uri}/credit/{version}")[0] == 0


def test_two_publishers_of_one_version_both_succeed(credit: Path, bucket: Bucket) -> None:
    """Two uploads of the same version both succeed, and end with one whole bundle."""
    barriers: dict[str, threading.Barrier] = {}

    def together(asked: Asked) -> None:
        if asked.method == "PUT":
            barriers.setdefault(asked.path, threading.Barrier(2, timeout=30)).wait()

    bucket.proxy.before = together
    arguments = ("publish", str(credit), "--to", bucket.location.uri)
    processes = [start(bucket.location, *arguments) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], said
    assert all("is live" in output for output, _ in said)
    assert sum("model.onnx: there already" in output for output, _ in said) == 1
    assert run(bucket.location, "check", f"{bucket.location.uri}/credit")[0] == 0


def test_the_next_version_replaces_the_last(credit: Path, bucket: Bucket, tmp_path: Path) -> None:
    """`latest` moves, the output names the old version, and the old version stays."""
    for version in ("v1", "v2"):
        folder = another(credit, tmp_path / "credit", version)
        code, said = run(bucket.location, "publish", str(folder), "--to", bucket.location.uri)
        assert code == 0, said

    assert "credit v2 is live; it was v1." in said
    assert bucket.get("credit/latest") == b"v2\nv1\n"
    assert run(bucket.location, "check", f"{bucket.location.uri}/credit/v1")[0] == 0


def test_wrong_input_ends_in_one_sentence(credit: Path, bucket: Bucket, tmp_path: Path) -> None:
    """A missing bundle or bucket, an unknown store and a damaged bundle give one sentence."""
    location = bucket.location

    def refused(source: Path, to: str, *words: str) -> None:
        code, said = run(location, "publish", str(source), "--to", to)
        last = said.strip().splitlines()[-1]
        assert code == 2
        assert last.startswith("training: ")
        assert all(word in last for word in words), last

    refused(tmp_path / "none", location.uri, "no model in", "none")
    refused(credit, "s3://no-such-bucket/models", "s3://no-such-bucket/", "no such bucket")
    refused(credit, "ftp://x/y", "ftp://x/y", "s3://")
    folder = another(credit, tmp_path / "credit", "v1")
    (folder / "model.onnx").write_bytes(b"rubbish")
    refused(folder, location.uri, "model.onnx", "bytes")
    assert bucket.get("credit/v1/manifest.json") is None


def test_publish_writes_to_a_folder(credit: Path, tmp_path: Path) -> None:
    """`publish` also writes to a folder."""
    location = Location(str(tmp_path / "models"), {})
    assert run(location, "publish", str(credit), "--to", location.uri)[0] == 0
    assert run(location, "check", f"{location.uri}/credit")[0] == 0


def test_publish_writes_to_azure(credit: Path) -> None:
    """`publish` writes to an Azure container, and the model is served from there."""
    with azure() as location:
        for word in ("is live.", "as before"):
            code, said = run(location, "publish", str(credit), "--to", location.uri)
            assert code == 0, said
            assert word in said
        with serving(f"{location.uri}/credit", **location.environment) as server:
            answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=30)
            assert answer.status_code == 200, server.logged()


def test_publish_writes_to_google_cloud(credit: Path, google: GoogleBucket, tmp_path: Path) -> None:
    """Every write names the generation that it replaces, and the model is served from there."""
    location = google.location
    for version in ("v1", "v2"):
        folder = another(credit, tmp_path / "credit", version)
        code, said = run(location, "publish", str(folder), "--to", location.uri)
        assert code == 0, said
    sent = [
        (asked.path.rpartition("%2F")[2], asked.headers["x-goog-if-generation-match"])
        for asked in google.proxy.asked
        if asked.method == "PUT"
    ]
    [first, second] = [condition for name, condition in sent if name == "latest"]
    assert (first, int(second) > 0) == ("0", True)
    assert all(condition == "0" for name, condition in sent if name != "latest")
    with serving(f"{location.uri}/credit", **location.environment) as server:
        answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=30)
        assert answer.status_code == 200, server.logged()
        assert answer.json()["model"]["version"] == "v2"


def test_a_terminal_shows_a_progress_bar(credit: Path, bucket: Bucket) -> None:
    """On a terminal `publish` shows a progress bar."""
    said = on_a_terminal(bucket.location, "publish", str(credit), "--to", bucket.location.uri)

    assert "━" in said
    assert "is live" in said

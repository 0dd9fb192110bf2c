"""Folders and real object stores, over HTTP, behave alike as locations for bundles."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from serving.bundle.latest import move_latest, read_latest
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.trust import Trust
from serving.bundle.writer import copy_bundle, write_bundle
from serving.errors import AccessDenied, BundleError, Conflict, ObjectMissing
from serving.stores.folder import FolderStore
from serving.stores.location import open_store
from serving.stores.store import READ_LIMIT, Store

from tests.helpers.servers import free_port
from tests.helpers.stores import SECRETS, Bucket


def test_what_is_written_is_read(location: Store) -> None:
    """An object is read back as it was written; a nested location has its own objects."""
    location.at("a").create("x", b"one" * 1_000_000)
    location.create("x", b"two")

    assert location.at("a").read("x").content == b"one" * 1_000_000
    assert location.read("x", size=3).content == b"two"
    assert location.names() == ["a", "x"]
    assert location.at("a").names() == ["x"]
    assert str(location.at("a")) == f"{location}/a"


def test_an_object_is_created_once(location: Store) -> None:
    """A second create raises Conflict and changes nothing; one of eight at once succeeds."""
    location.create("x", b"first")
    with pytest.raises(Conflict, match=r"x is there already\.$"):
        location.create("x", b"second")
    assert location.read("x").content == b"first"

    barrier = threading.Barrier(8)

    def create(n: int) -> bool:
        barrier.wait()
        try:
            location.create("contended", b"%d" % n)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))

    assert sum(created) == 1
    assert location.read("contended").content == b"%d" % created.index(True)


def test_an_object_is_replaced_if_it_has_the_tag(location: Store) -> None:
    """A tag allows one replacement, and new content has a new tag."""
    location.create("x", b"one")
    seen = location.read("x")
    location.replace("x", b"two", seen.tag)

    assert location.read("x").content == b"two"
    assert location.read("x").tag != seen.tag
    with pytest.raises(Conflict, match=r"x has changed\.$"):
        location.replace("x", b"three", seen.tag)
    assert location.read("x").content == b"two"


def test_a_missing_object_is_named(location: Store) -> None:
    """The error for a missing object, or for one of the wrong size, names it."""
    location.create("x", b"one")

    with pytest.raises(ObjectMissing, match=r"y is not there\.$"):
        location.read("y")
    with pytest.raises(BundleError, match=r"x has 3 bytes, but should have 4\.$"):
        location.read("x", size=4)
    begun = location.begin("y")
    with pytest.raises(ObjectMissing):
        begun()


def test_an_object_over_the_limit_is_not_read(location: Store) -> None:
    """Without a known size a limit applies, also to a read that was begun early."""
    location.create("x", b"four")

    assert location.read("x", limit=4).content == b"four"
    assert location.begin("x", limit=4)().content == b"four"
    with pytest.raises(BundleError, match=r"x has 4 bytes, but at most 3 are read\.$"):
        location.read("x", limit=3)
    begun = location.begin("x", limit=3)
    with pytest.raises(BundleError, match=r"x has 4 bytes, but at most 3 are read\.$"):
        begun()


@pytest.mark.parametrize("name", ["latest", "manifest.json"])
def test_a_huge_manifest_is_not_fetched(
    name: str, credit: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A huge object in the bucket cannot fill a server's memory."""
    for variable, value in bucket.location.environment.items():
        monkeypatch.setenv(variable, value)
    bucket.put("v1/manifest.json", open_bundle(FolderStore(credit)).raw)
    bucket.put("latest", b"v1")
    bucket.put("latest" if name == "latest" else f"v1/{name}", b" " * (READ_LIMIT + 1))

    with pytest.raises(BundleError, match=rf"{name} has 8388609 bytes, but at most 8388608"):
        open_bundle(open_store(bucket.location.uri, timeout=10))


def test_a_manifest_over_the_limit_is_not_written(credit: Path, tmp_path: Path) -> None:
    """The writer has the same limit as the reader."""
    manifest = open_bundle(FolderStore(credit)).manifest
    metrics = {"held_out": {"note": "x" * READ_LIMIT}}

    with pytest.raises(BundleError, match=r"the manifest has \d+ bytes, and at most 8388608"):
        write_bundle(tmp_path / "credit", msgspec.structs.replace(manifest, metrics=metrics), {})
    assert not (tmp_path / "credit").exists()


def test_a_large_model_needs_max_model_bytes(
    credit: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model over MAX_MODEL_BYTES is not opened, but can be copied."""
    for variable, value in bucket.location.environment.items():
        monkeypatch.setenv(variable, value)
    store = open_store(bucket.location.uri, timeout=10)
    copy_bundle(open_bundle(FolderStore(credit)), store, lambda *_: None)
    bundle = open_bundle(store, trust=Trust(max_model_bytes=1000))

    with pytest.raises(BundleError, match=r"model\.onnx has \d+ bytes, over MAX_MODEL_BYTES"):
        bundle.read_model()
    assert len(bundle.read("model.onnx")) > 1000


def test_latest_moves_only_if_it_did_not_change(location: Store) -> None:
    """If `latest` has moved since it was read, moving it raises Conflict."""
    with pytest.raises(ObjectMissing):
        read_latest(location)
    move_latest(location, "v1", None)
    seen = read_latest(location)
    move_latest(location, "v2", seen)

    assert read_latest(location).version == "v2"
    move_latest(location, "v2", seen)  # as if the answer to the first try was lost
    with pytest.raises(Conflict, match=r"latest was moved to v2 in the meantime"):
        move_latest(location, "v3", seen)
    with pytest.raises(Conflict):
        move_latest(location, "v3", None)


@pytest.mark.parametrize("name", ["../v1", "..", "/etc", "a/b", "", "v1\x00", ".hidden", "v" * 200])
def test_latest_holds_a_version_s_name(tmp_path: Path, name: str) -> None:
    """If `latest` holds anything but a version's name, it is rejected."""
    (tmp_path / "latest").write_text(name)

    with pytest.raises(BundleError, match=r"latest does not name a version") as caught:
        open_bundle(FolderStore(tmp_path))
    assert not name or name not in str(caught.value).replace(str(tmp_path), "")


def test_a_manifest_names_only_files_in_its_folder(credit: Path, tmp_path: Path) -> None:
    """A path as a file's name is rejected before anything is read from it."""
    bundle = open_bundle(FolderStore(credit))
    for name in ("../model.onnx", "/etc/passwd", "a/b", ".."):
        raw = bundle.raw.replace(b'"model.onnx"', b'"%s"' % name.encode())
        assert raw != bundle.raw
        (tmp_path / "manifest.json").write_bytes(raw)

        with pytest.raises(BundleError, match=r"manifest\.json is not a manifest: .*files"):
            Bundle(FolderStore(tmp_path))


def test_only_one_writer_replaces_a_file(tmp_path: Path) -> None:
    """Of eight writers with the same tag one replaces the file, although file systems lack this."""
    store = FolderStore(tmp_path)
    store.create("x", b"seen")
    tag = store.read("x").tag
    barrier = threading.Barrier(8)

    def replace(n: int) -> bool:
        barrier.wait()
        try:
            store.replace("x", b"%d" % n, tag)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        replaced = list(pool.map(replace, range(8)))

    assert sum(replaced) == 1
    assert store.read("x").content == b"%d" % replaced.index(True)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["latest", "model.onnx"])
@pytest.mark.parametrize("kind", ["fifo", "link to a fifo", "device", "socket", "folder"])
def test_a_file_that_is_not_regular_is_rejected(
    kind: str, name: str, credit: Path, tmp_path: Path
) -> None:
    """A FIFO, a device, a socket and a folder are rejected without opening them."""
    model = tmp_path / "credit"
    shutil.copytree(credit, model)
    version = read_latest(FolderStore(model)).version
    path = model / (name if name == "latest" else f"{version}/{name}")
    path.unlink()
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
            server.bind(name)
    elif kind == "folder":
        path.mkdir()
    else:
        fifo = tmp_path / "fifo" if kind.startswith("link") else path
        os.mkfifo(fifo)
        if fifo != path:
            path.symlink_to(fifo)

    with pytest.raises(BundleError, match=rf"{name} is not a regular file\.$"):
        open_bundle(FolderStore(model)).read("model.onnx")


@pytest.mark.parametrize("uri", ["http://x/y", "s3://", "s3:///x", "s4://bucket", "gs://a b/c"])
def test_an_invalid_uri_is_rejected(uri: str) -> None:
    """An invalid URI is not taken for a folder."""
    with pytest.raises(BundleError, match=r"is neither a folder nor s3://"):
        open_store(uri, timeout=1)


def test_a_missing_setting_of_the_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure without an account name is rejected before any request."""
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_USE_EMULATOR"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(BundleError, match=r"az://models cannot be opened: .*[Aa]ccount"):
        open_store("az://models/x", timeout=1)


def test_missing_credentials_are_named(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no credentials are found, the error says so, and does not blame the store."""
    for name, value in bucket.location.environment.items():
        monkeypatch.setenv(name, value)
    for name in SECRETS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")

    with pytest.raises(BundleError, match=r"latest: no credentials were found"):
        open_bundle(open_store(bucket.location.uri, timeout=5))


def test_s3_may_hide_a_missing_latest(
    credit: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right to list, S3 answers 403 for a missing `latest`; a version still opens."""
    for name, value in bucket.location.environment.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.fault = lambda _, answer: (
        answer._replace(status=403) if answer.status == 404 else answer
    )
    store = open_store(bucket.location.uri, timeout=5)
    with pytest.raises(AccessDenied, match=r"latest: access was denied \(127.*, 403"):
        open_bundle(store)
    bundle = open_bundle(FolderStore(credit))
    copy_bundle(bundle, store, lambda *_: None)

    assert open_bundle(store).read("model.onnx") == bundle.read("model.onnx")


@pytest.mark.parametrize(
    "uri",
    [
        *("", "s3:models", "s3:/bucket/models", "ftp://host/models", "s3://b/p//q", "s3://b/../z"),
        *("s3://b/./a", "s3://b/a\tb", "az://c/m?sv=1&sig=SECRET", "s3://KEY:SECRET@b/m"),
    ],
)
def test_an_invalid_uri_makes_no_folder(uri: str) -> None:
    """A mistyped URI creates no folder, and the error repeats no secret in it."""
    with pytest.raises(BundleError, match="neither a folder nor") as caught:
        open_store(uri, timeout=1)

    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_ENDPOINT_URL", "127.0.0.1:9000"), ("AWS_ACCESS_KEY_ID", "AKIDUMMY\n")],
)
def test_a_panic_in_obstore_is_a_bundle_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A panic is no Exception and would end the process, so it becomes a BundleError."""
    for variable, content in (
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        (name, value),
    ):
        monkeypatch.setenv(variable, content)

    with pytest.raises(BundleError):
        open_store("s3://bucket/models", timeout=5).read("latest")

"""Stores as a location for bundles: folders and real object stores alike, over HTTP."""

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
    """An object comes back whole; a location within a location has its own."""
    location.at("a").create("x", b"one" * 1_000_000)
    location.create("x", b"two")

    assert location.at("a").read("x").content == b"one" * 1_000_000
    assert location.read("x", size=3).content == b"two"
    assert location.names() == ["a", "x"]
    assert location.at("a").names() == ["x"]
    assert str(location.at("a")) == f"{location}/a"


def test_an_object_is_created_once(location: Store) -> None:
    """The second to create one is told, and the first's stays; of eight at once, one does."""
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
    """A tag allows one replacement; new content has a new tag."""
    location.create("x", b"one")
    seen = location.read("x")
    location.replace("x", b"two", seen.tag)

    assert location.read("x").content == b"two"
    assert location.read("x").tag != seen.tag
    with pytest.raises(Conflict, match=r"x has changed\.$"):
        location.replace("x", b"three", seen.tag)
    assert location.read("x").content == b"two"


def test_what_is_not_there_is_named(location: Store) -> None:
    """A missing object, and one of the wrong size, are errors that say which."""
    location.create("x", b"one")

    with pytest.raises(ObjectMissing, match=r"y is not there\.$"):
        location.read("y")
    with pytest.raises(BundleError, match=r"x has 3 bytes, but should have 4\.$"):
        location.read("x", size=4)
    begun = location.begin("y")
    with pytest.raises(ObjectMissing):
        begun()


def test_what_is_too_large_is_not_read(location: Store) -> None:
    """No size is known ahead: then there is a limit, the same for who begins early."""
    location.create("x", b"four")

    assert location.read("x", limit=4).content == b"four"
    assert location.begin("x", limit=4)().content == b"four"
    with pytest.raises(BundleError, match=r"x has 4 bytes, but at most 3 are read\.$"):
        location.read("x", limit=3)
    begun = location.begin("x", limit=3)
    with pytest.raises(BundleError, match=r"x has 4 bytes, but at most 3 are read\.$"):
        begun()


@pytest.mark.parametrize("name", ["latest", "manifest.json"])
def test_a_huge_manifest_is_not_even_fetched(
    name: str, credit: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write to the bucket cannot fill a server's memory with one object."""
    for variable, value in bucket.location.environment.items():
        monkeypatch.setenv(variable, value)
    bucket.put("v1/manifest.json", open_bundle(FolderStore(credit)).raw)
    bucket.put("latest", b"v1")
    bucket.put("latest" if name == "latest" else f"v1/{name}", b" " * (READ_LIMIT + 1))

    with pytest.raises(BundleError, match=rf"{name} has 8388609 bytes, but at most 8388608"):
        open_bundle(open_store(bucket.location.uri, timeout=10))


def test_a_manifest_that_nobody_would_read_is_not_written(credit: Path, tmp_path: Path) -> None:
    """The writer has the reader's limit."""
    manifest = open_bundle(FolderStore(credit)).manifest
    metrics = {"held_out": {"note": "x" * READ_LIMIT}}

    with pytest.raises(BundleError, match=r"the manifest has \d+ bytes, and at most 8388608"):
        write_bundle(tmp_path / "credit", msgspec.structs.replace(manifest, metrics=metrics), {})
    assert not (tmp_path / "credit").exists()


def test_a_large_model_needs_a_setting(
    credit: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over MAX_MODEL_BYTES it is not opened; whoever only copies it may."""
    for variable, value in bucket.location.environment.items():
        monkeypatch.setenv(variable, value)
    store = open_store(bucket.location.uri, timeout=10)
    copy_bundle(open_bundle(FolderStore(credit)), store, lambda *_: None)
    bundle = open_bundle(store, trust=Trust(max_model_bytes=1000))

    with pytest.raises(BundleError, match=r"model\.onnx has \d+ bytes, over MAX_MODEL_BYTES"):
        bundle.read_model()
    assert len(bundle.read("model.onnx")) > 1000


def test_a_pointer_moves_only_from_where_it_was_seen(location: Store) -> None:
    """Two who saw the same pointer: one moves it, the other is told where it went."""
    with pytest.raises(ObjectMissing):
        read_latest(location)
    move_latest(location, "v1", None)
    seen = read_latest(location)
    move_latest(location, "v2", seen)

    assert read_latest(location).version == "v2"
    move_latest(location, "v2", seen)  # as when the answer to the first try was lost
    with pytest.raises(Conflict, match=r"latest was moved to v2 in the meantime"):
        move_latest(location, "v3", seen)
    with pytest.raises(Conflict):
        move_latest(location, "v3", None)


@pytest.mark.parametrize("name", ["../v1", "..", "/etc", "a/b", "", "v1\x00", ".hidden", "v" * 200])
def test_a_pointer_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    """What a pointer holds is a version's name, or is refused."""
    (tmp_path / "latest").write_text(name)

    with pytest.raises(BundleError, match=r"latest does not name a version") as caught:
        open_bundle(FolderStore(tmp_path))
    assert not name or name not in str(caught.value).replace(str(tmp_path), "")


def test_a_manifest_names_only_files_of_its_own(credit: Path, tmp_path: Path) -> None:
    """A file's name that is a path is refused before anything is read from there."""
    bundle = open_bundle(FolderStore(credit))
    for name in ("../model.onnx", "/etc/passwd", "a/b", ".."):
        raw = bundle.raw.replace(b'"model.onnx"', b'"%s"' % name.encode())
        assert raw != bundle.raw
        (tmp_path / "manifest.json").write_bytes(raw)

        with pytest.raises(BundleError, match=r"manifest\.json is no manifest: .*files"):
            Bundle(FolderStore(tmp_path))


def test_a_folder_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    """Of eight who saw the same file, one replaces it: a file system has no such write itself."""
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
    """Neither a FIFO, which would block for ever, nor a device is opened."""
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
def test_an_address_that_is_none_is_refused(uri: str) -> None:
    """A typing error is said, not taken for a folder."""
    with pytest.raises(BundleError, match=r"is neither a folder nor s3://"):
        open_store(uri, timeout=1)


def test_a_store_that_lacks_a_setting_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure without an account's name is refused before anything is asked."""
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_USE_EMULATOR"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(BundleError, match=r"az://models cannot be opened: .*[Aa]ccount"):
        open_store("az://models/x", timeout=1)


def test_credentials_that_are_not_there_are_missed(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With none in the environment, and no machine's own, it is not the store that is blamed."""
    for name, value in bucket.location.environment.items():
        monkeypatch.setenv(name, value)
    for name in SECRETS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")

    with pytest.raises(BundleError, match=r"latest: no credentials were found"):
        open_bundle(open_store(bucket.location.uri, timeout=5))


def test_s3_may_hide_what_is_not_there(
    credit: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not list is told 403 for a missing pointer: a version's own prefix still opens."""
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
def test_an_address_that_is_none_is_no_folder(uri: str) -> None:
    """A slip of the finger makes no folder of that name, and no secret in it is repeated."""
    with pytest.raises(BundleError, match="neither a folder nor") as caught:
        open_store(uri, timeout=1)

    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_ENDPOINT_URL", "127.0.0.1:9000"), ("AWS_ACCESS_KEY_ID", "AKIDUMMY\n")],
)
def test_what_makes_obstore_panic_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A panic is no Exception, and would end the process."""
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

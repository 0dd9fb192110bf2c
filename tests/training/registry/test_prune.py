"""`prune`: which versions it deletes, and what an interrupt or a concurrent command leaves."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from serving.bundle.latest import read_latest
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.trust import Trust
from serving.bundle.writer import copy_bundle
from serving.errors import BundleError
from serving.stores.folder import FolderStore
from serving.stores.location import open_store
from serving.stores.store import Store

from tests.helpers.http.proxy import Asked
from tests.helpers.stores import Bucket
from tests.helpers.versions import Add, ask, small
from training.__main__ import main
from training.errors import TrainingError
from training.registry.location import find_live
from training.registry.promote import make_live, promote, rollback
from training.registry.prune import prune


def whole(location: Store, version: str) -> bool:
    """Return whether a version can be served: its manifest decodes, and all digests match."""
    try:
        bundle = Bundle(location.at(version))
        return all(bundle.read(name) for name in bundle.manifest.files)
    except BundleError:
        return False


def test_the_newest_the_live_and_the_previous_version_stay(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """All other versions are deleted, and the output lists them and the bytes freed."""
    for version in ("v1", "v2", "v3", "v4", "v5"):
        add(location, version, live=version in ("v1", "v3"))
    status, lines = ask(capsys, location, "prune", "--keep", "1")

    assert status == 0
    assert [line.split()[0] for line in lines] == ["gone", "v4", "v2", "2"]
    assert lines[-1].startswith("2 versions gone, ")
    assert lines[-1].endswith(" kB freed; 3 left.")
    assert location.names() == ["latest", "v1", "v3", "v5"]
    assert all(whole(location, version) for version in ("v1", "v3", "v5"))
    assert ask(capsys, location, "prune", "--keep", "1") == (0, ["Nothing to delete: 3 versions."])


def test_a_dry_run_deletes_nothing(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """--dry-run prints the same table."""
    for version in ("v1", "v2", "v3"):
        add(location, version, live=version == "v3")
    status, lines = ask(capsys, location, "prune", "--keep", "2", "--dry-run")

    assert status == 0
    assert [line.split()[0] for line in lines] == ["would", "v1", "1"]
    assert lines[-1].endswith("2 would stay.")
    assert all(whole(location, version) for version in ("v1", "v2", "v3"))


@pytest.mark.parametrize("count", ["0", "-1", "x", "1.5", ""])
def test_at_least_one_is_kept(count: str, tmp_path: Path) -> None:
    """Any number below 1 is rejected before anything is read."""
    with pytest.raises(SystemExit) as stopped:
        main(["prune", f"--keep={count}", "--store", str(tmp_path)])

    assert stopped.value.code == 2


def test_without_a_live_version_nothing_is_deleted(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without `latest` nobody knows which version is served, so nothing is deleted."""
    for version in ("v1", "v2", "v3"):
        add(location, version, live=False)
    status, [said] = ask(capsys, location, "prune", "--keep", "1")

    assert status == 2
    assert said.startswith(f"training: no version is live in {location}, ")
    assert said.endswith(f"python -m training promote VERSION --store {location}")
    assert location.names() == ["v1", "v2", "v3"]


def test_unreadable_versions_stay(
    location: Store, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    """A running upload, a newer format and another folder are not deleted."""
    add(location, "v1")
    location.at("newer").create("manifest.json", b'{"format": 7}')
    location.at("upload").create("model.onnx", b"")
    location.at("notes").create("readme.md", b"")
    status, lines = ask(capsys, location, "prune", "--keep", "1")

    assert status == 0
    assert lines[0] == "Nothing to delete: 3 versions."
    assert lines[1].startswith("upload is left: it has no manifest")
    assert lines[2].startswith("newer is left: ")
    assert location.names() == ["latest", "newer", "notes", "upload", "v1"]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_deletion_is_finished(
    location: Store,
    add: Add,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    """After an interrupt at any step the version is unusable; the next prune deletes the rest."""
    for version in ("v1", "v2"):
        add(location, version, live=version == "v2")
    delete, left = type(location).delete, [after]

    def interrupted(self: Store, name: str) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        delete(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(type(location), "delete", interrupted)
        status, lines = ask(capsys, location, "prune", "--keep", "1")
    assert status == 130
    assert lines == ["training: interrupted; prune again to continue."]
    assert len(location.at("v1").names()) == 3 - after
    assert not whole(location, "v1")
    _, lines = ask(capsys, location, "list")
    assert lines[2].split() == ["v1", "half", "deleted"]
    assert lines[4] == "v1: its deletion was begun; prune finishes it."
    assert ask(capsys, location, "promote", "v1")[0] == 2

    status, lines = ask(capsys, location, "prune", "--keep", "2")
    assert status == 0
    assert lines[-1].startswith("1 version gone, ")
    assert location.names() == ["latest", "v2"]


def test_a_version_promoted_during_its_deletion_stays(
    add: Add, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a version goes live as its deletion begins, its manifest is written back unchanged."""
    location = at_bucket(bucket, monkeypatch)
    raw = {v: add(location, v, live=v == "v3").raw for v in ("v1", "v2", "v3")}

    def promoted(asked: Asked) -> None:
        if asked.method == "PUT" and asked.path.endswith("v2/manifest.json"):
            bucket.put("credit/latest", b"v2\nv3\n")

    bucket.proxy.before = promoted
    status, lines = ask(capsys, location, "prune", "--keep", "1")

    assert status == 0
    assert [line.split()[0] for line in lines] == ["gone", "v1", "1"]
    assert bucket.get("credit/v2/manifest.json") == raw["v2"]
    assert whole(location, "v2")
    assert location.names() == ["latest", "v2", "v3"]


def test_a_version_pruned_during_its_promotion_is_not_live(
    add: Add, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a version is pruned between its check and the move of `latest`, `latest` moves back."""
    location = at_bucket(bucket, monkeypatch)
    for version in ("v1", "v3", "v2"):
        add(location, version, live=version != "v1")

    def pruned(asked: Asked) -> None:
        if asked.method == "PUT" and asked.path.endswith("/latest"):
            bucket.delete("credit/v1/manifest.json")

    bucket.proxy.before = pruned
    status, lines = ask(capsys, location, "promote", "v1")

    assert status == 2
    assert lines[-1] == f"training: {location}/v1 was pruned in the meantime; v2 stays live."
    assert read_latest(location)[:2] == ("v2", "v3")


def at_bucket(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Open the model's location in *bucket*, with the settings in the environment."""
    for name, value in bucket.location.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(bucket.location.uri, timeout=10).at("credit")


def test_a_failed_prune_can_be_repeated(
    add: Add, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failing store gives one sentence, and the next prune finishes."""
    location = at_bucket(bucket, monkeypatch)
    for version in ("v1", "v2"):
        add(location, version, live=version == "v2")
    bucket.proxy.fault = lambda asked, answer: (
        answer._replace(status=403) if asked.method in ("DELETE", "POST") else answer
    )
    status, lines = ask(capsys, location, "prune", "--keep", "1")
    assert status == 2
    assert "access was denied" in lines[-1]
    assert not whole(location, "v1")

    bucket.proxy.fault = None
    assert ask(capsys, location, "prune", "--keep", "1")[0] == 0
    assert location.names() == ["latest", "v2"]


def test_concurrent_promotions_and_prunes_leave_whole_versions(add: Add, tmp_path: Path) -> None:
    """Whichever command wins, the live version is whole and none is half deleted."""
    location = FolderStore(tmp_path / "credit")
    add(location, "v9")
    barrier = threading.Barrier(2, timeout=30)

    def together(command: Callable[[], None]) -> None:
        barrier.wait()
        with contextlib.suppress(BundleError, TrainingError):  # the other command was faster
            command()

    for _ in range(25):
        (tmp_path / "credit" / "latest").write_text("v9\n")
        if not whole(location, "v1"):
            shutil.rmtree(tmp_path / "small", ignore_errors=True)
            add(location, "v1", live=False)
        with ThreadPoolExecutor(2) as pool:
            promoted = pool.submit(together, lambda: promote(str(location), "v1", Trust()))
            pruned = pool.submit(together, lambda: prune(str(location), 1, dry_run=False))
        promoted.result()
        pruned.result()
        assert whole(location, read_latest(location).version)
        assert all(whole(location, name) for name in location.names() if name != "latest")


class Versions(RuleBasedStateMachine):
    """Runs commands in random order, and compares the store with a model of three facts."""

    manifest: ClassVar[Manifest]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.location = FolderStore(Path(self.folder.name) / "credit")
        self.made = 0
        self.there: list[str] = []
        self.live: str | None = None
        self.before: str | None = None

    def teardown(self) -> None:
        """Delete the folder."""
        self.folder.cleanup()

    @rule(goes_live=st.booleans())
    def publish(self, goes_live: bool) -> None:  # hypothesis passes it by keyword
        """Add another version."""
        self.made += 1
        version = f"v{self.made:03}"
        path = Path(self.folder.name) / "made"
        bundle = small(self.manifest, path, version, made=self.made)
        copy_bundle(bundle, self.location.at(version), lambda *_: None)
        self.there.append(version)
        if goes_live:
            make_live(self.location, version, find_live(self.location))
            self.live, self.before = version, self.live

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        """Promote one of the versions."""
        version = data.draw(st.sampled_from(self.there))
        promote(str(self.location), version, Trust())
        if version != self.live:
            self.live, self.before = version, self.live

    @rule()
    def rollback(self) -> None:
        """Swap the live and the previous version, if there are two."""
        if self.before is None:
            with pytest.raises(TrainingError, match="none to go back to"):
                rollback(str(self.location), Trust())
        else:
            rollback(str(self.location), Trust())
            self.live, self.before = self.before, self.live

    @precondition(lambda self: self.live)
    @rule(keep=st.integers(1, 4), steps=st.none() | st.integers(0, 4))
    def prune(self, keep: int, steps: int | None) -> None:
        """Prune; an interrupt after some *steps* is followed by another prune."""
        if steps is not None:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(FolderStore, "delete", _breaking_off(steps))
                with contextlib.suppress(KeyboardInterrupt):
                    prune(str(self.location), keep, dry_run=False)
        prune(str(self.location), keep, dry_run=False)
        stays = {*self.there[-keep:], self.live, self.before}
        self.there = [version for version in self.there if version in stays]

    @invariant()
    def the_store_equals_the_model(self) -> None:
        """The expected versions are whole, and the expected one is live."""
        live = find_live(self.location)
        assert (live[:2] if live else (None, None)) == (self.live, self.before)
        if self.made:
            assert [name for name in self.location.names() if name != "latest"] == self.there
        assert all(whole(self.location, version) for version in self.there)


def _breaking_off(steps: int) -> Callable[[FolderStore, str], None]:
    delete, left = FolderStore.delete, iter(range(steps))

    def deleting(self: FolderStore, name: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        delete(self, name)

    return deleting


def test_any_order_of_commands(credit: Path) -> None:
    """The live, the previous and the newest versions are never deleted."""
    Versions.manifest = open_bundle(FolderStore(credit)).manifest
    run_state_machine_as_test(
        Versions, settings=settings(max_examples=25, stateful_step_count=15, deadline=None)
    )


def test_a_version_pruned_during_its_publication_is_not_live(
    add: Add, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files are found, then pruned, and only its manifest is written: it does not go live."""
    location = at_bucket(bucket, monkeypatch)
    old = add(location, "v1")
    for version in ("v2", "v3"):
        add(location, version)

    def pruned(asked: Asked) -> None:
        if asked.method == "PUT" and asked.path.endswith("v1/manifest.json"):
            for name in ("model.joblib", "model.onnx", "manifest.json"):
                bucket.delete(f"credit/v1/{name}")

    bucket.proxy.before = pruned
    status = main(["publish", str(old.location), "--to", bucket.location.uri])
    said = capsys.readouterr()

    assert status == 2, said.out
    assert "is live" not in said.out
    assert said.err.splitlines()[-1] == (
        f"training: {location}/v1 was pruned in the meantime; v3 stays live."
    )
    assert read_latest(location)[:2] == ("v3", "v2")


def test_a_version_replaced_during_its_publication_is_not_reported_live(
    add: Add, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`publish` reads `latest` again at the end."""
    location = at_bucket(bucket, monkeypatch)
    old = add(location, "v1")

    def replaced(asked: Asked) -> None:
        if asked.method == "PUT" and asked.path.endswith("v1/manifest.json"):
            bucket.put("credit/latest", b"v2\nv1\n")

    bucket.proxy.before = replaced
    status = main(["publish", str(old.location), "--to", bucket.location.uri])
    said = capsys.readouterr()

    assert status == 2, said.out
    assert said.err.splitlines()[-1] == (
        f"training: {location}/latest was moved to v2 in the meantime, and was left there."
    )

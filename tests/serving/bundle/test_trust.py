"""Opening a pickle runs its code: a server opens one only when it is trusted."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import requests
from serving.bundle.latest import move_latest, read_latest
from serving.bundle.reader import open_bundle, read_manifest
from serving.bundle.trust import Trust
from serving.errors import BundleError
from serving.model.model import open_model
from serving.settings import deployed_folder
from serving.stores.folder import FolderStore

from tests.helpers.aws.lambdas import http_event
from tests.helpers.bundles import copied, manifest_of, new_signer, public_keys, trap, upload_folder
from tests.helpers.command import run_in
from tests.helpers.platforms import lambda_process
from tests.helpers.servers import ROOT, lines, serving, wait_for
from tests.helpers.stores import Bucket

US, THEM = new_signer(), new_signer()
ALLOWED = {"ALLOW_PICKLE": "1"}


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Return the file that exists once the pickle was opened."""
    return tmp_path / "opened"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder for the model with the trap."""
    return tmp_path / "credit"


def of_another_version(model: Path, version: str | None) -> None:
    """Make live a version whose manifest names another scikit-learn, with the same pickle."""
    manifest = manifest_of(model)
    versions = {k: v for k, v in manifest.lineage.versions.items() if k != "scikit-learn"}
    if version is not None:
        versions["scikit-learn"] = version
    lineage = msgspec.structs.replace(manifest.lineage, versions=versions)
    path = model / manifest.version
    files = {"model.joblib": (path / "model.joblib").read_bytes()}
    copied(model, model, version="other", lineage=lineage, files=files, sign=US)


def with_another_pickle(model: Path) -> None:
    """Change one byte of the live version's pickle; the trap still works."""
    path = model / manifest_of(model).version / "model.joblib"
    path.write_bytes(path.read_bytes()[:-1] + b"1")


Case = tuple[Callable[[Path], None], dict[str, str], str]
#: The change to the bundle that we signed, the settings, and the expected message.
REFUSED: dict[str, Case] = {
    "not configured": (lambda _: None, {}, "set ALLOW_PICKLE=1"),
    "not allowed": (lambda _: None, {"ALLOW_PICKLE": "0"}, "Sign the bundle"),
    "signed by another": (lambda _: None, public_keys(THEM) | ALLOWED, "signed by another key"),
    "digest": (with_another_pickle, public_keys(US) | ALLOWED, "the sha256 differs"),
    "another scikit-learn": (
        lambda model: of_another_version(model, "0.0.1"),
        public_keys(US) | ALLOWED,
        "trained with scikit-learn 0.0.1",
    ),
    "no scikit-learn said": (
        lambda model: of_another_version(model, None),
        public_keys(US) | ALLOWED,
        "trained with scikit-learn of no known version",
    ),
    "too large": (
        lambda _: None,
        public_keys(US) | {"MAX_MODEL_BYTES": "10"},
        "over MAX_MODEL_BYTES",
    ),
}
EVERY_REFUSAL = pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())


@EVERY_REFUSAL
def test_lambda_does_not_open_a_rejected_pickle(
    case: Case, credit: Path, model: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lambda answers 503 and logs the reason; no code runs."""
    change, settings, said = case
    copied(credit, model, version="v1", sign=US, **trap(mark))
    change(model)
    with lambda_process(model, **settings) as handler:
        assert handler(http_event("GET", "/health", None, {}))["statusCode"] == 503

    assert said in capsys.readouterr().out
    assert not mark.exists()


@EVERY_REFUSAL
def test_check_does_not_open_a_rejected_pickle(
    case: Case, credit: Path, model: Path, mark: Path
) -> None:
    """On a cloud, `check` rejects the same pickles as the server. At home it opens one's own."""
    change, settings, said = case
    copied(credit, model, version="v1", sign=US, **trap(mark))
    change(model)
    done = run_in(ROOT, "check", str(model), DYNO="web.1", **settings)

    assert done.returncode == 2
    assert said in done.stdout + done.stderr
    assert not mark.exists()


def test_check_says_of_a_pickle_without_a_model_what_it_holds(
    credit: Path, model: Path, mark: Path
) -> None:
    """One sentence: the trap's pickle opens, and is a file."""
    copied(credit, model, version="v1", **trap(mark))
    done = run_in(ROOT, "check", str(model), **ALLOWED)

    assert done.returncode == 2
    assert "the pickle holds no model: a " in done.stderr
    assert "unexpected" not in done.stderr


@pytest.mark.parametrize("settings", [ALLOWED, public_keys(US)], ids=["allowed", "signed"])
def test_the_trap_works(
    settings: dict[str, str], credit: Path, model: Path, mark: Path, bucket: Bucket
) -> None:
    """If the pickle is allowed, or signed and verified, it opens: these tests can fail."""
    copied(credit, model, version="v1", sign=US, **trap(mark))
    uri = upload_folder(model, bucket)
    with serving(uri, **settings, **bucket.location.environment):
        wait_for(mark.exists)


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_a_server_does_not_open_an_untrusted_pickle(
    remote: bool, credit: Path, model: Path, mark: Path, bucket: Bucket
) -> None:
    """An untrusted pickle is neither fetched nor opened, in the master, a worker or a request."""
    copied(credit, model, version="v1", sign=US, **trap(mark))
    uri = upload_folder(model, bucket) if remote else str(model)
    # A bucket is never trusted, even for a server on loopback.
    away = {} if remote else {"HOST": "0.0.0.0"}  # noqa: S104  # the helper binds to loopback
    with serving(uri, **away, **bucket.location.environment) as server:
        assert requests.get(f"{server}/health", timeout=10).status_code == 503
        assert "set ALLOW_PICKLE=1" in server.logged()

    assert "model.joblib" not in bucket.asked("GET")
    assert not mark.exists()


def test_a_running_server_does_not_swap_to_a_pickle(credit: Path, model: Path, mark: Path) -> None:
    """If an untrusted pickle becomes live after a graph, it is not opened."""
    copied(credit, model, version="v1")
    copied(credit, model, version="v2", promote=False, **trap(mark))
    settings = {"MODEL_REFRESH_SECONDS": "0.2", "WEB_CONCURRENCY": "1", "ALLOW_PICKLE": "0"}
    with serving(model, **settings) as server:
        wait_for(lambda: requests.get(f"{server}/health", timeout=10).status_code == 200)
        move_latest(FolderStore(model), "v2", read_latest(FolderStore(model)))
        wait_for(lambda: bool(lines(server, "the model was not renewed")))
        health = requests.get(f"{server}/health", timeout=10).json()

    assert health["status"] == "degraded"
    assert health["model"]["version"] == "v1"
    assert not mark.exists()


def test_no_command_opens_a_pickle_on_its_way(
    credit: Path, model: Path, mark: Path, tmp_path: Path
) -> None:
    """`sign` and `publish` copy bytes, and listing versions reads manifests only."""
    copied(credit, model, version="v1", **trap(mark))
    private = tmp_path / "key.pem"
    assert run_in(ROOT, "keygen", str(private)).returncode == 0
    done = run_in(ROOT, "sign", str(model), "--key", str(private), **ALLOWED)
    assert done.returncode == 0, done.stderr
    done = run_in(ROOT, "publish", str(model), "--to", str(tmp_path / "models"), **ALLOWED)
    assert done.returncode == 0, done.stderr
    read_manifest(FolderStore(model / "v1"))

    assert not mark.exists()


def test_a_pickle_in_the_deployed_package_is_opened(
    credit: Path, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickle in a cloud's deployed package is opened, after following links; no other is."""
    package = tmp_path / "package"
    inside = package / "models" / "credit"
    outside = tmp_path / "writable" / "credit"
    for folder in (inside, outside):
        copied(credit, folder, version="v1", **trap(mark))
    (package / "linked").symlink_to(outside)
    partly = package / "models" / "partly" / "v1"
    shutil.copytree(inside / "v1", partly)
    (partly / "model.joblib").unlink()
    (partly / "model.joblib").symlink_to(outside / "v1" / "model.joblib")

    def opens(folder: Path) -> bool:
        mark.unlink(missing_ok=True)
        with contextlib.suppress(BundleError):
            trust = Trust(deployed_folder=deployed_folder(os.environ))
            open_model(open_bundle(FolderStore(folder), trust=trust))
        return mark.exists()

    monkeypatch.chdir(package)
    assert not opens(inside)  # a laptop
    for name, value in (("LAMBDA_TASK_ROOT", str(package)), ("DYNO", "web.1"), ("K_SERVICE", "x")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert opens(inside), name
            assert opens(Path("models/credit")), name
            for folder in (outside, package / "linked", Path("../writable/credit"), partly):
                assert not opens(folder), name
    # A container that starts in "/" has no package: every file would be inside it.
    monkeypatch.chdir("/")
    monkeypatch.setenv("K_SERVICE", "x")
    assert not opens(inside)


def test_without_joblib_the_error_says_what_to_install(
    credit: Path, model: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without joblib, as on the dyno, the error names the package to install."""
    copied(credit, model, version="v1", **trap(mark))
    monkeypatch.delitem(sys.modules, "serving.model.engines.sklearn", raising=False)
    monkeypatch.setitem(sys.modules, "joblib", None)

    with pytest.raises(BundleError, match=r"credit v1 .* joblib is not installed: pip install"):
        open_model(open_bundle(FolderStore(model), trust=Trust(allow_pickle=True)))
    assert not mark.exists()

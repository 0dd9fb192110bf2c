"""Signed bundles: which signatures are accepted, on every path from a store to a request."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from serving.bundle.latest import move_latest, read_latest
from serving.bundle.reader import open_bundle
from serving.bundle.signature import is_valid, signature_file
from serving.bundle.trust import Trust
from serving.errors import BundleError, SettingsError
from serving.settings import read_settings
from serving.stores.folder import FolderStore
from serving.stores.location import open_store

from tests.helpers.aws.lambdas import http_event
from tests.helpers.bundles import copied, new_signer, public_keys, upload_folder
from tests.helpers.example import ROW
from tests.helpers.http.proxy import Asked
from tests.helpers.platforms import lambda_process
from tests.helpers.servers import Server, lines, serving, wait_for
from tests.helpers.stores import Bucket
from training.registry.signing import Signer

US, THEM = new_signer(), new_signer()


def unsigned(credit: Path, folder: Path) -> Path:
    """Leave the bundle unsigned."""
    return copied(credit, folder, version="bad", promote=False)


def signed_by_another(credit: Path, folder: Path) -> Path:
    """Sign the bundle with another key."""
    return copied(credit, folder, version="bad", sign=THEM, promote=False)


def changed_since(credit: Path, folder: Path) -> Path:
    """Change the manifest after signing."""
    path = copied(credit, folder, version="bad", sign=US, promote=False)
    manifest = path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"good"', b'"fine"'))
    return path


def another_s_signature(credit: Path, folder: Path) -> Path:
    """Store another key's signature in the file of our key."""

    def sign(manifest: bytes) -> tuple[str, bytes]:
        return signature_file(US.public), THEM(manifest)[1]

    return copied(credit, folder, version="bad", sign=sign, promote=False)


def no_signature(credit: Path, folder: Path) -> Path:
    """Store text that is no signature in the file of our key."""
    return copied(
        credit, folder, version="bad", sign=lambda raw: (US(raw)[0], b"%%%\n"), promote=False
    )


def huge_signature(credit: Path, folder: Path) -> Path:
    """Store a signature file over the size limit."""
    return copied(
        credit,
        folder,
        version="bad",
        sign=lambda raw: (US(raw)[0], US(raw)[1] + b" " * 500),
        promote=False,
    )


def old_one_in_its_place(credit: Path, folder: Path) -> Path:
    """Put v0, which our key signed, in the folder of version bad."""
    old = copied(credit, folder, version="v0", sign=US, promote=False)
    return old.rename(folder / "bad")


def another_model_s(credit: Path, folder: Path) -> Path:
    """Put another model, which our key signed, in this model's folder."""
    return copied(credit, folder, name="debit", version="bad", sign=US, promote=False)


Fault = Callable[[Path, Path], Path]
FAULTS: dict[Fault, str] = {
    unsigned: "is not signed, but MODEL_PUBLIC_KEYS requires it",
    signed_by_another: f"is signed by another key ({THEM.key_id}), which is not in",
    changed_since: "does not match the manifest",
    another_s_signature: "does not match the manifest",
    no_signature: "does not match the manifest",
    huge_signature: "but at most 200 are read",
    old_one_in_its_place: "holds credit v0, but bad was requested",
    another_model_s: "a signed bundle is only accepted at a location that ends in",
}
#: A server is started for each of these.
SOME_FAULTS = pytest.mark.parametrize(
    "fault",
    [
        changed_since,
        old_one_in_its_place,
        pytest.param(unsigned, marks=pytest.mark.slow),
        pytest.param(signed_by_another, marks=pytest.mark.slow),
    ],
    ids=lambda fault: fault.__name__,
)
EVERY_FAULT = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)


def point(folder: Path, version: str) -> None:
    """Make *version* live."""
    (folder / "latest").write_text(version)


def reasons(server: Server, message: str) -> list[str]:
    """Return the reason of each log line with this message."""
    return [line["reason"] for line in lines(server, message)]


def ask(server: str) -> requests.Response:
    """Ask for a prediction."""
    return requests.post(f"{server}/v0/predict", json=ROW, timeout=10)


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_a_signed_bundle_is_served(
    credit: Path, tmp_path: Path, bucket: Bucket, remote: bool
) -> None:
    """The server serves a signed bundle from both kinds of location, by `latest` or by version."""
    folder = tmp_path / "credit"
    copied(credit, folder, version="v1", sign=US)
    uri = upload_folder(folder, bucket) if remote else str(folder)
    for location in (uri, f"{uri}/v1"):
        with serving(location, **public_keys(THEM, US), **bucket.location.environment) as server:
            assert ask(server).json()["model"]["version"] == "v1", server.logged()


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
@SOME_FAULTS
def test_a_bundle_without_a_valid_signature_is_503(
    fault: Fault, remote: bool, credit: Path, tmp_path: Path, bucket: Bucket
) -> None:
    """The client gets 503 without details; the log has the reason."""
    folder = tmp_path / "credit"
    point(fault(credit, folder).parent, "bad")
    uri = upload_folder(folder, bucket) if remote else str(folder)
    with serving(uri, **public_keys(US), **bucket.location.environment) as server:
        answer = ask(server)
        [reason, *_] = reasons(server, "no model")

    assert answer.status_code == 503
    assert "sign" not in answer.text
    assert FAULTS[fault] in reason


@EVERY_FAULT
def test_lambda_rejects_it(
    fault: Fault, credit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The handler answers 503, and logs the reason."""
    folder = tmp_path / "credit"
    point(fault(credit, folder).parent, "bad")
    event = http_event("GET", "/health", None, {})
    with lambda_process(folder, **public_keys(US)) as handler:
        assert handler(event)["statusCode"] == 503
    assert json.dumps(FAULTS[fault])[1:-1] in capsys.readouterr().out
    copied(credit, folder, version="good", sign=US, promote=False)
    point(folder, "good")
    with lambda_process(folder, **public_keys(US)) as handler:
        assert handler(event)["statusCode"] == 200


@SOME_FAULTS
def test_a_running_server_does_not_swap_to_it(fault: Fault, credit: Path, tmp_path: Path) -> None:
    """The old version stays live, /health says degraded, and the log has the reason."""
    folder = tmp_path / "credit"
    copied(credit, folder, version="v1", sign=US)
    fault(credit, folder)
    settings = {"MODEL_REFRESH_SECONDS": "0.2", "WEB_CONCURRENCY": "1", **public_keys(US)}
    with serving(folder, **settings) as server:
        assert ask(server).json()["model"]["version"] == "v1"
        move_latest(FolderStore(folder), "bad", read_latest(FolderStore(folder)))
        wait_for(lambda: requests.get(f"{server}/health", timeout=10).json()["status"] != "ok")
        answer = ask(server)
        [reason] = reasons(server, "the model was not renewed")

    assert answer.json()["model"]["version"] == "v1"
    assert FAULTS[fault] in reason


def test_keys_rotate(credit: Path, tmp_path: Path) -> None:
    """A bundle signed by the old and the new key is accepted by a server that trusts either."""
    folder = tmp_path / "credit"
    path = copied(credit, folder, version="v1", sign=US)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    name, content = THEM((path / "manifest.json").read_bytes())
    FolderStore(path).create(name, content)

    assert before.items() < {file.name: file.read_bytes() for file in path.iterdir()}.items()
    for signer in (US, THEM):
        assert (
            open_bundle(FolderStore(folder), trust=Trust((signer.public,))).signer == signer.key_id
        )
    with pytest.raises(BundleError, match=US.key_id) as refused:
        open_bundle(FolderStore(folder), trust=Trust((new_signer().public,)))
    assert THEM.key_id in str(refused.value)


def test_one_valid_signature_is_enough(credit: Path, tmp_path: Path) -> None:
    """A damaged signature of another trusted key does not matter."""
    folder = tmp_path / "credit"
    path = copied(credit, folder, version="v1", sign=US)
    (path / signature_file(THEM.public)).write_bytes(b"rubbish")

    keys = [THEM.public, US.public]
    assert open_bundle(FolderStore(folder), trust=Trust(tuple(keys))).signer == US.key_id


def test_signatures_are_fetched_with_the_manifest(
    credit: Path, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signatures are fetched at the same time as the manifest, and one may be missing."""
    folder = tmp_path / "credit"
    copied(credit, folder, version="v1", sign=US)
    uri = upload_folder(folder, bucket)
    for name, value in bucket.location.environment.items():
        monkeypatch.setenv(name, value)
    barrier = threading.Barrier(4, timeout=10)

    def together(asked: Asked) -> None:
        if not asked.path.endswith("/latest"):
            barrier.wait()  # No request is answered before all have been sent.

    bucket.proxy.before = together
    bundle = open_bundle(open_store(uri, timeout=20), trust=Trust((THEM.public, US.public)))

    assert bundle.signer == US.key_id
    names = ["manifest.json", "model.onnx", signature_file(US.public), signature_file(THEM.public)]
    assert sorted(bucket.asked("GET")[1:]) == sorted(names)


def test_a_signature_is_required_without_the_right_to_list(
    credit: Path, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right to list, S3 answers 403 for a missing signature, and that is rejected."""
    folder = tmp_path / "credit"
    copied(credit, folder, version="v1", sign=THEM)
    uri = upload_folder(folder, bucket)
    for name, value in bucket.location.environment.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.fault = lambda asked, answer: (
        answer._replace(status=403) if answer.status == 404 or "list-type" in asked.path else answer
    )

    with pytest.raises(BundleError, match=r"v1 has no signature by a key of MODEL_PUBLIC_KEYS"):
        open_bundle(open_store(uri, timeout=10), trust=Trust((US.public,)))


def test_the_manifest_must_name_the_version_of_its_folder(credit: Path, tmp_path: Path) -> None:
    """An unsigned version whose manifest names another version is rejected."""
    folder = tmp_path / "credit"
    copied(credit, folder, version="v1").rename(folder / "v2")
    point(folder, "v2")

    with pytest.raises(BundleError, match=r"v2 holds credit v1, but v2 was requested"):
        open_bundle(FolderStore(folder))


def test_without_keys_the_folder_may_have_any_name(credit: Path, tmp_path: Path) -> None:
    """Without MODEL_PUBLIC_KEYS a renamed folder is served, signed or not."""
    copied(credit, tmp_path / "other", version="v1", sign=US)

    assert open_bundle(FolderStore(tmp_path / "other")).signer is None
    shutil.move(tmp_path / "other" / "v1", tmp_path / "flat")
    assert open_bundle(FolderStore(tmp_path / "flat")).manifest.version == "v1"


def test_a_link_to_the_folder_is_followed(
    credit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signed model's folder may be reached by a symbolic link or as `.`."""
    copied(credit, tmp_path / "credit", version="v1", sign=US)
    (tmp_path / "current").symlink_to(tmp_path / "credit")
    monkeypatch.chdir(tmp_path / "credit")

    for folder in (tmp_path / "current", Path(), Path("v1"), tmp_path / "credit" / "v1" / ".."):
        assert open_bundle(FolderStore(folder), trust=Trust((US.public,))).signer == US.key_id


def test_a_signature_of_something_else_is_rejected() -> None:
    """A signature that the key made over other bytes does not sign a bundle."""
    key = Ed25519PrivateKey.generate()
    bare = base64.b64encode(key.sign(b"{}"))
    signer = Signer(key)

    assert is_valid(signer.public, signer(b"{}")[1], b"{}")
    assert not is_valid(signer.public, bare, b"{}")
    assert not is_valid(signer.public, signer(b"{}")[1], b"{} ")


def test_invalid_keys_stop_the_start() -> None:
    """The error says which key is invalid, and does not print it: it may be a private key."""
    good = public_keys(US)["MODEL_PUBLIC_KEYS"]
    assert read_settings({"MODEL_PUBLIC_KEYS": f"{good}, {good}"}).model_public_keys == (
        US.public,
        US.public,
    )
    for bad in ("secret", f"{good},secret", f"{good},", base64.b64encode(b"secret").decode()):
        with pytest.raises(SettingsError, match=r"MODEL_PUBLIC_KEYS must be public keys") as told:
            read_settings({"MODEL_PUBLIC_KEYS": bad})
        assert "secret" not in str(told.value)
        assert good not in str(told.value)
        assert f"number {1 + bad.count(',')} is none" in str(told.value)

"""`keygen`, `sign` and `--sign`: keys are made once, and bundles signed at any time."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore

from tests.helpers.bundles import copied, new_signer, public_keys
from tests.helpers.command import run, run_in
from tests.helpers.example import ROW
from tests.helpers.projects import packed, project
from tests.helpers.servers import serving
from tests.helpers.stores import Bucket, Location

HERE = Location("", {})


class Key(NamedTuple):
    """A key that keygen wrote, and what it printed."""

    file: Path
    settings: dict[str, str]
    #: The id of the public key, and the name of the signature's file.
    id: str
    signature: str


@pytest.fixture
def key(tmp_path: Path) -> Key:
    """Make a key with the command."""
    file = tmp_path / "key.pem"
    code, said = run(HERE, "keygen", str(file))
    assert code == 0, said
    [public] = re.findall(r"^  MODEL_PUBLIC_KEYS=(\S+)$", said, re.MULTILINE)
    [name] = re.findall(r"private key ([0-9a-f]{16})", said)
    return Key(file, {"MODEL_PUBLIC_KEYS": public}, name, f"manifest.{name}.sig")


def asking(key: Key) -> Location:
    """Return a location where signatures by *key* are required."""
    return Location("", key.settings)


def assert_refused(result: tuple[int, str], *words: str) -> None:
    """Check for exit status 2 and one sentence."""
    code, said = result
    assert code == 2, said
    last = said.strip().splitlines()[-1]
    assert last.startswith(("training: ", "canoa: "))
    assert all(word in last for word in words), last


def test_a_private_key_is_readable_by_its_owner_only(key: Key) -> None:
    """The file has mode 0600, is never overwritten, and is not printed."""
    before = key.file.read_bytes()
    result = run(HERE, "keygen", str(key.file))

    assert_refused(result, "is there already", "never overwritten")
    assert key.file.read_bytes() == before
    assert stat.S_IMODE(key.file.stat().st_mode) == 0o600
    assert before.decode().splitlines()[1] not in result[1]
    assert_refused(run(HERE, "keygen", str(key.file / "x")), "cannot be written")


def test_train_signs_what_it_writes(tmp_path: Path, key: Key) -> None:
    """The version is signed when it is written, and `check` names the key."""
    command = ["train", "--project", project(tmp_path), "--sign", str(key.file)]
    done = run_in(tmp_path, *command)
    model = tmp_path / "models" / "shop"

    assert done.returncode == 0, done.stderr
    assert f"signed by {key.id}" in done.stdout
    code, said = run(asking(key), "check", str(model))
    assert code == 0, said
    assert f"signed by {key.id}, verified" in said
    code, said = run(HERE, "check", str(model))
    assert code == 0, said
    assert f"signed by {key.id}, whose key is not in MODEL_PUBLIC_KEYS" in said


def test_a_missing_key_is_reported_before_training(tmp_path: Path) -> None:
    """A missing key ends the command before any work."""
    done = run_in(
        tmp_path, "train", "--project", project(tmp_path), "--sign", str(tmp_path / "none")
    )

    assert_refused((done.returncode, done.stderr), "none cannot be read")
    assert done.stdout == ""
    assert not (tmp_path / "models").exists()


def test_pack_signs(tmp_path: Path, key: Key) -> None:
    """`pack` signs too, with a key from the environment as CI has it."""
    packed(tmp_path)
    command = ["pack", "model.joblib", "--sample", "rows.csv", "--target", "answer"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGNING_KEY", key.file.read_text())
        done = run_in(tmp_path, *command, "--name", "shop", "--sign", "env:SIGNING_KEY")

    assert done.returncode == 0, done.stderr
    assert run(asking(key), "check", str(tmp_path / "models" / "shop"))[0] == 0


def test_wrong_keys_end_in_one_sentence(credit: Path, tmp_path: Path) -> None:
    """A missing file or variable, another kind of key and one with a passphrase are errors."""
    model = copied(credit, tmp_path / "credit").parent

    def refused(source: str, *words: str) -> None:
        assert_refused(run(HERE, "sign", str(model), "--key", source), *words)

    refused(str(tmp_path / "none.pem"), "none.pem cannot be read")
    refused("env:NO_SUCH_VARIABLE", "the environment variable NO_SUCH_VARIABLE holds no key")
    (tmp_path / "text").write_text("a secret")
    refused(str(tmp_path / "text"), "text holds no private key")
    other = X25519PrivateKey.generate()
    locked = Ed25519PrivateKey.generate()
    for name, made, lock in (
        ("other.pem", other, NoEncryption()),
        ("locked.pem", locked, BestAvailableEncryption(b"a passphrase")),
    ):
        pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        (tmp_path / name).write_bytes(pem)
        refused(str(tmp_path / name), f"{name} holds no private key as")


def test_a_published_version_is_signed_in_place(
    credit: Path, tmp_path: Path, bucket: Bucket, key: Key
) -> None:
    """`sign` adds one small file and changes none, and then the version is served."""
    model = copied(credit, tmp_path / "credit", version="v1").parent
    uri = f"{bucket.location.uri}/credit"
    assert run(bucket.location, "publish", str(model), "--to", bucket.location.uri)[0] == 0
    written = len(bucket.asked("PUT"))
    code, said = run(bucket.location, "sign", uri, "--key", str(key.file))

    assert code == 0, said
    assert f"credit v1 is signed by {key.id}: {uri}/v1/{key.signature}" in said
    assert bucket.asked("PUT")[written:] == [key.signature]
    assert run(bucket.location, "sign", uri, "--key", str(key.file))[0] == 0  # a second time
    with serving(uri, **key.settings, **bucket.location.environment) as server:
        assert requests.post(f"{server}/v0/predict", json=ROW, timeout=10).status_code == 200


def test_publish_writes_signatures_before_the_manifest(
    credit: Path, tmp_path: Path, bucket: Bucket, key: Key
) -> None:
    """Signatures are there before the manifest, and a later one is added by the next `publish`."""
    other = new_signer()
    model = copied(credit, tmp_path / "credit", version="v1", sign=other).parent
    assert run(HERE, "sign", str(model), "--key", str(key.file))[0] == 0
    assert run(bucket.location, "publish", str(model), "--to", bucket.location.uri)[0] == 0

    signatures = {key.signature, f"manifest.{other.key_id}.sig"}
    assert bucket.asked("PUT")[0] == "model.onnx"
    assert set(bucket.asked("PUT")[1:3]) == signatures
    assert bucket.asked("PUT")[3:] == ["manifest.json", "latest"]
    bucket.delete(f"credit/v1/{key.signature}")
    code, said = run(bucket.location, "publish", str(model), "--to", bucket.location.uri)
    assert code == 0, said
    assert f"{key.signature}: sent" in said
    assert "model.onnx: there already" in said
    assert bucket.get(f"credit/v1/{key.signature}") is not None


def test_publish_verifies_signatures(credit: Path, tmp_path: Path, key: Key) -> None:
    """With MODEL_PUBLIC_KEYS a bundle that a server would reject is not published."""
    model = copied(credit, tmp_path / "credit", version="v1", sign=new_signer()).parent
    target = tmp_path / "models"
    assert_refused(
        run(asking(key), "publish", str(model), "--to", str(target)), "signed by another key"
    )
    assert not target.exists()
    assert run(HERE, "sign", str(model), "--key", str(key.file))[0] == 0
    assert run(asking(key), "publish", str(model), "--to", str(target))[0] == 0


def test_a_damaged_bundle_is_not_signed(credit: Path, tmp_path: Path, key: Key) -> None:
    """Every file is verified before it is signed."""
    path = copied(credit, tmp_path / "credit", version="v1")
    graph = (path / "model.onnx").read_bytes()
    (path / "model.onnx").write_bytes(graph[:-1] + b"\0")

    assert_refused(run(HERE, "sign", str(path), "--key", str(key.file)), "model.onnx", "sha256")
    assert not (path / key.signature).exists()


def test_a_damaged_signature_is_not_overwritten(credit: Path, tmp_path: Path, key: Key) -> None:
    """The error says what to do, and the damaged file stays for an investigation."""
    path = copied(credit, tmp_path / "credit", version="v1")
    (path / key.signature).write_bytes(b"rubbish")

    assert_refused(run(HERE, "sign", str(path), "--key", str(key.file)), "other content", "Remove")
    assert (path / key.signature).read_bytes() == b"rubbish"
    code, said = run(HERE, "check", str(path))
    assert code == 0, said
    both = Location("", public_keys(new_signer()) | key.settings)
    assert_refused(run(both, "check", str(path)), "does not match the manifest")


def test_check_lists_the_signatures(credit: Path, tmp_path: Path, key: Key) -> None:
    """`check` verifies each signature by itself."""
    other = new_signer()
    path = copied(credit, tmp_path / "credit", version="v1")
    assert "not signed" in run(HERE, "check", str(path))[1]
    assert run(HERE, "sign", str(path), "--key", str(key.file))[0] == 0
    (path / f"manifest.{other.key_id}.sig").write_bytes(b"rubbish")
    keys = ",".join([key.settings["MODEL_PUBLIC_KEYS"], public_keys(other)["MODEL_PUBLIC_KEYS"]])
    code, said = run(Location("", {"MODEL_PUBLIC_KEYS": keys}), "check", str(path))

    assert code == 0, said
    assert f"signed by {key.id}, verified" in said
    assert f"signed by {other.key_id}, but the signature does not match" in said
    assert open_bundle(FolderStore(path)).signer is None

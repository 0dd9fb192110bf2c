"""`check`: load a bundle as the server would, and compare its answer with the recorded one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.signature import is_valid, key_id, signer_of
from serving.bundle.trust import Trust
from serving.model.model import open_model

from training.errors import TrainingError
from training.registry.location import open_location
from training.report import say

__all__ = ["check", "check_files"]


def check(uri: str, trust: Trust) -> None:
    """
    Verify the signatures and every file's digest, score the example, and compare the answers.

    Args:
        uri: A model's location, or one version's: a folder, or an address in an object store.
        trust: Which signatures are required, and whether a pickle may be opened.

    Raises:
        BundleError: A file is missing, or its size or digest differs.
        TrainingError: The example's answer is not the recorded one.
    """
    bundle = open_bundle(open_location(uri), trust=trust)
    manifest = bundle.manifest
    check_files(bundle, say)
    say(*_signatures(bundle))
    if bundle.is_own_pickle:
        say("model.joblib is opened as your own; others need a signature to open it")
    model = open_model(bundle, sandboxed=True)
    if manifest.example.instance:
        body = msgspec.json.encode(manifest.example.instance)
        [answer] = model.predict(model.schema.decode(body, 1).columns)
        if not _same(answer, manifest.example.prediction):
            raise TrainingError(
                f"the example is answered {answer}, but training recorded "
                f"{manifest.example.prediction}."
            )
        say(f"example: answered as recorded, {answer}")
    else:
        say("example: none is recorded")
    say(f"{manifest.name} {manifest.version} is good, on {manifest.engine.name}.")


def check_files(bundle: Bundle, report: Callable[[str], None]) -> None:
    """
    Read every file of *bundle*, and call *report* with a line for each that is good.

    Raises:
        BundleError: A file is missing, or its size or digest differs.
    """
    for name, file in bundle.manifest.files.items():
        bundle.read(name)
        report(f"{name}: {file.size:,} bytes, sha256 {file.sha256[:12]}… as recorded")


def _signatures(bundle: Bundle) -> list[str]:
    """Return a line for each signature: who signed, and whether that was verified."""
    trusted = {key_id(key): key for key in bundle.trust.public_keys}
    lines = []
    for file, content in bundle.signatures().items():
        signer = str(signer_of(file))
        if signer not in trusted:
            judged = "whose key is not in MODEL_PUBLIC_KEYS: not verified"
        elif is_valid(trusted[signer], content, bundle.raw):
            judged = "verified"
        else:
            judged = "but the signature does not match"
        lines.append(f"signed by {signer}, {judged}")
    return lines or ["not signed"]


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            _same(found[key], expected[key]) for key in expected
        )
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-5)
    return bool(found == expected)

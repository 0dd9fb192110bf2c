"""A bundle that an older version wrote is served as before."""

from __future__ import annotations

import json

import msgspec
import pytest
from serving.bundle.reader import open_bundle
from serving.errors import InvalidInstances
from serving.model.model import open_model
from serving.stores.folder import FolderStore

from tests.helpers.servers import ROOT

FOLDER = ROOT / "tests" / "data" / "format-1"


def test_a_bundle_of_format_1_answers_as_it_did() -> None:
    """Its graph takes float32, and the answers are those of scikit-learn when it was written."""
    model = open_model(open_bundle(FolderStore(FOLDER)))
    answers = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))
    body = msgspec.json.encode({"instances": answers["instances"]})
    found = model.predict(model.decode(body).columns)

    assert model.manifest.format == 1
    assert [answer["label"] for answer in found] == answers["labels"]
    for answer, expected in zip(found, answers["probabilities"], strict=True):
        assert list(answer["probabilities"].values()) == pytest.approx(expected, abs=1e-6)


def test_a_bundle_of_format_1_rejects_what_float32_cannot_hold() -> None:
    """A number that float32 cannot hold is rejected, with a pointer to it."""
    model = open_model(open_bundle(FolderStore(FOLDER)))
    instance = {**model.manifest.example.instance, "price": 1e39}

    with pytest.raises(InvalidInstances) as error:
        model.decode(msgspec.json.encode(instance))
    assert [fault.pointer for fault in error.value.errors] == ["/price"]

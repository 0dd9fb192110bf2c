"""The size of an answer is bounded before any row is scored, by each platform's own limit."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from serving.bundle.reader import open_bundle
from serving.bundle.trust import Trust
from serving.errors import TooLarge
from serving.model.engines import Scores
from serving.model.model import Limits, Model, open_model
from serving.model.predictions import max_prediction_bytes, to_predictions
from serving.settings import read_settings
from serving.stores.folder import FolderStore
from sklearn.compose import make_column_transformer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.helpers.aws.lambdas import EVENTS
from tests.helpers.example import ROW
from tests.helpers.platforms import direct, lambda_process
from training.export.build import build_bundle

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a classifier of the 26 letters; return the model's folder."""
    random = np.random.default_rng(0)
    home = random.choice(["own", "rent"], 2600)
    data = pd.DataFrame({"x": random.normal(size=2600), "home": home})
    letters = np.array([f"class {letter}" for letter in string.ascii_lowercase])
    target = letters[np.argsort(np.argsort(data["x"])) // 100]
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["home"]),
        remainder="passthrough",
    )
    path = build_bundle(
        tmp_path_factory.mktemp("letters"),
        "letters",
        make_pipeline(encoder, GaussianNB()).fit(data, target),
        data,
    )
    return path.parent


@pytest.fixture(scope="module", name="model")
def _model(folder: Path) -> Model:
    """Open the model with a limit of 100,000 bytes per answer."""
    return open_model(open_bundle(FolderStore(folder), trust=Trust()), Limits(10_000, 100_000))


def body(rows: int, home: str = "own") -> bytes:
    """Make a request with this many rows."""
    return json.dumps({"instances": [[-0.123456789, home]] * rows}).encode()


def number(detail: str) -> int:
    """Read from the message how many instances fit."""
    return int(detail.split("at most ")[1].split(maxsplit=1)[0])


def test_more_rows_than_fit_are_rejected_unscored(model: Model) -> None:
    """413 says how many rows fit, and the answer to that many stays within the limit."""
    with pytest.raises(TooLarge, match=r"at most \d+ instances") as caught:
        model.decode(body(10_000))
    fits = number(caught.value.detail)

    assert caught.value.model_version == model.manifest.version
    with pytest.raises(TooLarge):
        model.decode(body(fits + 1))
    predictions = model.predict(model.decode(body(fits)).columns)
    assert 40_000 < len(json.dumps(msgspec.json.encode(predictions).decode())) < 100_000


def test_a_request_may_have_a_smaller_limit(model: Model) -> None:
    """The smaller of the process's and the request's limit counts."""
    assert model.decode(body(60), max_answer_bytes=1_000_000).rows == 60
    with pytest.raises(TooLarge, match="at most 15 instances"):
        model.decode(body(60), max_answer_bytes=20_000)
    for room in (100, 4096, 5000):
        with pytest.raises(TooLarge, match="one instance may take") as caught:
            model.decode(b'{"x": 1, "home": "own"}', max_answer_bytes=room)
        one, limit = map(int, re.findall(r"(\d+) bytes", caught.value.detail))
        assert one > limit == room


def test_warnings_of_many_rows_are_not_those_of_one(model: Model) -> None:
    """Where the warnings of many rows fill the answer, one row may still fit."""
    with pytest.raises(TooLarge, match="at most 1 instance at once"):
        model.decode(body(2000, "boat"), max_answer_bytes=10_000)

    assert model.decode(body(1, "boat"), max_answer_bytes=10_000).rows == 1


def test_explain_is_bounded_too(credit: Path) -> None:
    """Its answer repeats the row's values; it is measured, with the quotes of an event escaped."""
    row = ROW | dict.fromkeys(("home", "marital", "records", "job"), '"' * 100_000)
    json_type = {"Content_Type": "application/json"}
    with direct(credit, MAX_ANSWER_BYTES="150000") as send:
        asked = [send("explain", "POST", json.dumps(it).encode(), **json_type) for it in (ROW, row)]

    assert [answer.status for answer in asked] == [200, 413]
    assert "at most 150000 can be sent" in asked[1].json()["detail"]


@pytest.mark.parametrize(
    "value", [0.1 + 0.2, 1 / 3, 5e-324, 2.2250738585072014e-308, float(np.float32(0.3))]
)
def test_no_prediction_is_larger_than_estimated(model: Model, value: float) -> None:
    """No prediction is larger than estimated, also as a JSON string within a Lambda event."""
    scores = Scores([*range(26)], [[value] * 26] * 26)
    for prediction in to_predictions(model.manifest, scores):
        inside = json.dumps(msgspec.json.encode(prediction).decode())[1:-1]
        assert len(inside) < max_prediction_bytes(model.manifest)


@pytest.mark.parametrize("build", EVENTS.values(), ids=EVENTS)
def test_on_lambda_every_answer_fits(folder: Path, build: Any) -> None:
    """The largest accepted request gets an answer within 6 MB, or 1 MB behind a load balancer."""
    limit = 1_000_000 if "elb" in json.dumps(build("GET", "/", None, {})) else 6_000_000
    with lambda_process(folder, AWS_LAMBDA_FUNCTION_NAME="f", AUTH="none") as handler:
        many = handler(build("POST", "/v0/predict", body(10_000), JSON))
        assert many["statusCode"] == 413
        fits = number(json.loads(many["body"])["detail"])
        answer = handler(build("POST", "/v0/predict", body(fits), JSON))

    assert answer["statusCode"] == 200
    assert 0.4 * limit < len(json.dumps(answer)) < limit


def test_warnings_count_towards_the_size(model: Model) -> None:
    """Warnings are part of the answer, so fewer rows with warnings fit."""
    with pytest.raises(TooLarge) as plain:
        model.decode(body(10_000))
    with pytest.raises(TooLarge) as warned:
        model.decode(body(10_000, "boat"))

    assert 0 < number(warned.value.detail) < number(plain.value.detail)


def test_the_default_limit_is_the_platform_s() -> None:
    """The default is 32 MiB, and 6 MB on AWS Lambda; MAX_ANSWER_BYTES overrides it."""
    on_lambda = {"AWS_LAMBDA_FUNCTION_NAME": "f"}

    assert read_settings({}).max_answer_bytes == 32 * 1024 * 1024
    assert read_settings(on_lambda).max_answer_bytes == 6_000_000
    assert read_settings({**on_lambda, "MAX_ANSWER_BYTES": "7"}).max_answer_bytes == 7

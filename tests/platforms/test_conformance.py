"""The HTTP contract holds on every platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.helpers.example import ROW, assert_problem, post
from tests.helpers.platforms import PLATFORMS, Platform
from tests.helpers.servers import serving

#: `make test` runs every test on these platforms, and on the others those marked `everywhere`.
WHOLE = {"direct", "lambda, HTTP API"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test on every platform, most of them in `make test-all` only."""
    for name in {"send", "platform"}.intersection(metafunc.fixturenames):
        whole = metafunc.definition.get_closest_marker("everywhere") is not None
        platforms = [
            pytest.param(platform, marks=[] if whole or platform in WHOLE else pytest.mark.slow)
            for platform in PLATFORMS
        ]
        metafunc.parametrize(name, platforms, indirect=name == "send", scope="module")


@pytest.fixture(scope="module")
def send(request: pytest.FixtureRequest, credit: Path) -> Iterator[Platform]:
    """Yield each platform in turn, with limits small enough to be reached."""
    limits = {"MAX_BODY_BYTES": "20000", "MAX_INSTANCES": "50"}
    origins = {"CORS_ORIGINS": "https://shop.example"}
    with PLATFORMS[request.param](credit, **limits, **origins) as platform:
        yield platform


#: What serverless-offline answers or changes by itself, unlike API Gateway.
OFFLINE_FAULTS = {
    'test_invalid_json_is_malformed[osls offline-{"home": "\\xff"}]': "it repairs the UTF-8",
    "test_only_json_is_accepted[osls offline-json]": "it refuses such a content type with 400",
    "test_a_listed_origin_may_read[osls offline]": "it answers preflights itself",
    "test_other_origins_may_not_read[osls offline]": "it lets every origin read",
    "test_every_error_has_a_pointer[osls offline-None-pointers14]": "it drops a null body",
}


@pytest.fixture(autouse=True)
def offline_faults(request: pytest.FixtureRequest) -> None:
    """Mark a test as an expected failure if serverless-offline causes it."""
    if reason := OFFLINE_FAULTS.get(request.node.name):
        request.applymarker(pytest.mark.xfail(reason=f"serverless-offline: {reason}"))


@pytest.mark.everywhere
def test_instances_are_answered_in_order(send: Platform) -> None:
    """Many instances get as many predictions, with the model's name and version."""
    reply = post(send, {"instances": [ROW, {**ROW, "records": "yes"}]})

    answer = reply.json()
    assert reply.status == 200
    assert answer.keys() == {"predictions", "model"}
    assert answer["model"]["name"] == "credit"
    [first, second] = answer["predictions"]
    assert first.keys() == {"label", "probability", "probabilities"}
    assert first["probabilities"].keys() == {"bad", "good"}
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert first["probability"] == first["probabilities"][first["label"]]
    assert second["probabilities"]["bad"] > first["probabilities"]["bad"]


@pytest.mark.everywhere
def test_one_bare_instance_is_answered_in_the_singular(send: Platform) -> None:
    """A bare object gets the same prediction as in a list of instances."""
    single = post(send, ROW).json()

    assert single.keys() == {"prediction", "model"}
    assert [single["prediction"]] == post(send, {"instances": [ROW]}).json()["predictions"]


def test_a_row_may_be_a_list_in_feature_order(send: Platform) -> None:
    """A row as an array gets the same answer as the object that it stands for."""
    both = post(send, {"instances": [list(ROW.values()), ROW]}).json()["predictions"]

    assert both[0] == both[1]


def test_fractions_are_accepted_where_training_saw_integers(send: Platform) -> None:
    """A column of whole prices in training accepts 846.50."""
    assert post(send, {**ROW, "price": 846.5}).status == 200


def test_null_is_accepted_where_training_saw_gaps(send: Platform) -> None:
    """A feature with missing values in training may be null."""
    gaps = dict.fromkeys(("home", "marital", "job", "income", "assets", "debt"))

    assert post(send, {**ROW, **gaps}).status == 200


@pytest.mark.everywhere
def test_an_unseen_category_is_answered_with_a_warning(send: Platform) -> None:
    """If the pipeline handles unseen categories, the answer has a warning with a pointer."""
    answer = post(send, {"instances": [ROW, {**ROW, "home": "houseboat"}]}).json()

    [warning] = answer["warnings"]
    assert warning["pointer"] == "/instances/1/home"
    assert "houseboat" not in warning["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"instances": [',
        b'{"instances": [NaN]}',
        b'{"instances": [[Infinity]]}',
        b'{"instances": [[-Infinity]]}',
        b"\xff\xfe",
        b'{"home": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"[" * 10000,
        b'{"a":' * 3000,
        b"{} {}",
        b"{'instances': []}",
    ],
)
def test_invalid_json_is_malformed(send: Platform, body: bytes) -> None:
    """A body that is cut short, empty, NaN, not UTF-8 or nested too deeply gets 400."""
    assert_problem(post(send, body), 400, "malformed-body")


@pytest.mark.parametrize(
    ("data", "pointers"),
    [
        ({"instances": []}, ["/instances"]),
        ({"instances": {}}, ["/instances"]),
        ({"instances": [ROW], "more": 1}, ["/more"]),
        ({"instances": [1]}, ["/instances/0"]),
        ({"instances": [[1, 2]]}, ["/instances/0"]),
        ({"instances": [{**ROW, "age": "31"}]}, ["/instances/0/age"]),
        ({"instances": [{**ROW, "age": True}]}, ["/instances/0/age"]),
        ({"instances": [{**ROW, "age": 1e39}]}, ["/instances/0/age"]),
        ({"instances": [{**ROW, "age": [1]}]}, ["/instances/0/age"]),
        ({"instances": [ROW, {**ROW, "home": 3}]}, ["/instances/1/home"]),
        ({"instances": [{**ROW, "a/b~c": 3}]}, ["/instances/0/a~1b~0c"]),
        ({**ROW, "age": "31", "home": 1}, ["/home", "/age"]),
        ({**ROW, "home": "\ufdd0"}, ["/home"]),
        ([], [""]),
        (None, [""]),
        (3, [""]),
    ],
)
def test_every_error_has_a_pointer(send: Platform, data: Any, pointers: list[str]) -> None:
    """JSON that the model does not accept gets 422, with a pointer to each error."""
    problem = assert_problem(post(send, data), 422, "invalid-instances")

    assert [error["pointer"] for error in problem["errors"]] == pointers


def test_numbers_beyond_double_are_422(send: Platform) -> None:
    """1e999 is valid JSON, but no float64 can hold it: 422."""
    body = json.dumps(ROW).replace('"age": 30', '"age": 1e999').encode()

    problem = assert_problem(post(send, body), 422, "invalid-instances")
    assert [error["pointer"] for error in problem["errors"]] == ["/age"]


@pytest.mark.everywhere
def test_a_missing_field_is_named(send: Platform) -> None:
    """The error for a missing feature names it, and says what it accepts."""
    row = {name: value for name, value in ROW.items() if name != "income"}

    problem = assert_problem(post(send, row), 422, "invalid-instances")
    assert problem["errors"] == [
        {"pointer": "/income", "detail": "missing; expected a number or null"}
    ]


def test_at_most_a_hundred_errors_are_listed(send: Platform) -> None:
    """A long list of errors ends at 100."""
    problem = assert_problem(post(send, {"instances": [{}] * 20}), 422, "invalid-instances")

    assert len(problem["errors"]) == 100


@pytest.mark.everywhere
def test_a_body_over_a_limit_is_413(send: Platform) -> None:
    """A body over MAX_BODY_BYTES or MAX_INSTANCES gets 413."""
    assert_problem(post(send, b" " * 20001), 413, "too-large")
    assert_problem(post(send, {"instances": [[]] * 51}), 413, "too-large")


def test_a_chunked_body_over_the_limit_is_413(credit: Path) -> None:
    """A body without Content-Length has the same limit, and is never truncated."""
    body = json.dumps(ROW).encode()
    chunks = (chunk for chunk in [body, b" " * 20000, b" " * 20000])
    with serving(credit, MAX_BODY_BYTES="20000", LOG_LEVEL="error") as server:
        reply = requests.post(
            f"{server}/v0/predict",
            data=chunks,
            headers={"Content-Type": "application/json"},
            timeout=10,
        )

    assert reply.status_code == 413


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "json"])
def test_only_json_is_accepted(send: Platform, media: str) -> None:
    """Another content type, charset or encoding gets 415."""
    assert_problem(post(send, ROW, Content_Type=media), 415, "unsupported-media-type")
    latin = "application/json; charset=latin-1"
    assert_problem(post(send, ROW, Content_Type=latin), 415, "unsupported-media-type")
    assert_problem(post(send, ROW, Content_Encoding="gzip"), 415, "unsupported-media-type")


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", '; charset="UTF-8"'])
def test_json_may_name_its_charset(send: Platform, charset: str) -> None:
    """UTF-8 may be named as the charset or left out."""
    assert post(send, ROW, Content_Type="application/json" + charset).status == 200


@pytest.mark.everywhere
@pytest.mark.parametrize(
    ("function", "method", "allow"),
    [
        ("predict", "GET", "POST, OPTIONS"),
        ("predict", "PUT", "POST, OPTIONS"),
        ("health", "POST", "GET, HEAD, OPTIONS"),
        ("model_info", "DELETE", "GET, HEAD, OPTIONS"),
        ("openapi", "PATCH", "GET, HEAD, OPTIONS"),
    ],
)
def test_other_methods_are_405(send: Platform, function: str, method: str, allow: str) -> None:
    """405 lists the supported methods in Allow."""
    reply = send(function, method)

    assert_problem(reply, 405, "method-not-allowed")
    assert reply.headers["Allow"] == allow


@pytest.mark.everywhere
def test_health_names_the_version(send: Platform) -> None:
    """/health names the version that predictions come from."""
    model = post(send, ROW).json()["model"]

    assert send("health", "GET").json() == {"status": "ok", "model": model}


def test_model_info_is_the_public_part_of_the_manifest(send: Platform) -> None:
    """The answer has features, metrics and the forest's size, and no files."""
    card = send("model_info", "GET").json()

    assert card["num_trees"] == 200
    assert card["num_features"] == len(card["features"]) == 13
    assert sum(card["feature_importances"].values()) == pytest.approx(1)
    assert card["model_created_at"] == card["created_at"]
    assert card["metrics"]["held_out"]["roc_auc"] > 0.75
    assert card["engine"]["name"] == "onnx"
    assert "files" not in card


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"X_Request_Id": "abc-123"}, "abc-123"),
        ({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, "a" * 32),
        ({"X_Cloud_Trace_Context": f"{'c' * 32}/1;o=1"}, "c" * 32),
        ({"X_Request_Id": "with space", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, "a" * 32),
    ],
)
def test_the_request_id_is_returned(send: Platform, sent: dict[str, str], expected: str) -> None:
    """The client's request id, or its trace's id, is returned if it is valid."""
    assert send("health", "GET", None, **sent).headers["X-Request-Id"] == expected


@pytest.mark.everywhere
def test_a_listed_origin_may_read(send: Platform) -> None:
    """CORS: preflights, answers and errors allow the listed origin."""
    origin = "https://shop.example"
    preflight = send(
        "predict", "OPTIONS", None, Origin=origin, Access_Control_Request_Method="POST"
    )

    assert preflight.status == 204
    assert preflight.body == b""
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in preflight.headers["Access-Control-Allow-Headers"]
    for data in (ROW, {}):
        assert post(send, data, Origin=origin).headers["Access-Control-Allow-Origin"] == origin


@pytest.mark.everywhere
def test_other_origins_may_not_read(send: Platform) -> None:
    """CORS: another origin gets no permission, and Vary names Origin."""
    for method in ("OPTIONS", "GET"):
        headers = send("health", method, None, Origin="https://evil.example").headers
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Vary"] == "Origin"


def test_without_a_model_the_answer_is_503(platform: str, tmp_path: Path) -> None:
    """Without a model every function answers 503 with Retry-After."""
    with PLATFORMS[platform](tmp_path / "none") as send:
        for function in ("health", "model_info", "openapi"):
            reply = send(function, "GET")
            problem = assert_problem(reply, 503, "model-unavailable")
            assert int(reply.headers["Retry-After"]) >= 1
            assert str(tmp_path) not in json.dumps(problem)
        assert_problem(post(send, ROW), 503, "model-unavailable")

"""Lambda only: event kinds, routing, CloudWatch metrics, start and restore."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving.adapters.aws_events import read_event
from serving.bundle.latest import move_latest, read_latest
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore

from tests.helpers.aws.lambdas import EVENTS, TRACE, balancer_event, http_event, rest_event, runtime
from tests.helpers.platforms import lambda_process
from tests.helpers.servers import lines

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def handler(credit: Path) -> Iterator[Any]:
    """Yield the handler that serves every route, in this process."""
    with lambda_process(credit) as handler:
        yield handler


@pytest.fixture(scope="module")
def example(credit: Path) -> bytes:
    """Return a body that predict accepts."""
    return json.dumps(open_bundle(FolderStore(credit)).manifest.example.instance).encode()


@pytest.mark.parametrize("build", EVENTS.values(), ids=EVENTS)
def test_a_base64_body_is_decoded(handler: Any, example: bytes, build: Any) -> None:
    """Gateways send bodies that they take for binary in base64."""
    encoded = {"body": base64.b64encode(example).decode(), "isBase64Encoded": True}
    answer = handler(build("POST", "/v0/predict", None, JSON) | encoded)
    assert answer["statusCode"] == 200

    broken = handler(build("POST", "/v0/predict", None, JSON) | encoded | {"body": "%%%"})
    assert broken["statusCode"] == 400


@pytest.mark.parametrize("build", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/health", 200), ("HEAD", "/health", 200), ("GET", "/nowhere", 404)],
)
def test_one_lambda_serves_every_route(
    handler: Any, build: Any, method: str, path: str, status: int
) -> None:
    """The path selects the function, HEAD gets no body, and a 404 lists the routes."""
    answer = handler(build(method, path, None, {}))

    assert answer["statusCode"] == status
    assert answer["isBase64Encoded"] is False
    assert ("/v0/predict" in answer["body"]) is (status == 404)
    assert (answer["body"] == "") is (method == "HEAD")


@pytest.mark.parametrize(
    "event",
    [
        # HTTP API: a stage other than $default is part of the path.
        http_event(
            "GET",
            "/dev/health",
            None,
            {},
            requestContext={"http": {"method": "GET"}, "stage": "dev"},
        ),
        # REST API: the stage is not part of the path, unless a custom domain maps it.
        rest_event("GET", "/health", None, {}),
        rest_event(
            "GET",
            "/dev/health",
            None,
            {},
            requestContext={"stage": "dev", "path": "/dev/health"},
        ),
        # A stage with the name of a route's first part removes nothing from the route.
        rest_event(
            "GET",
            "/v0/model_info",
            None,
            {},
            requestContext={"stage": "v0", "path": "/v0/v0/model_info"},
        ),
    ],
)
def test_stages_do_not_hide_a_route(handler: Any, event: dict[str, Any]) -> None:
    """A route is found whatever the stage is called."""
    assert handler(event)["statusCode"] == 200


def test_a_load_balancer_gets_a_status_description(handler: Any) -> None:
    """The answer has `statusDescription`, and lists of values only if the event has them."""
    plain = handler(balancer_event("GET", "/nowhere", None, {"accept": "*/*"}))
    assert plain["statusDescription"] == "404 Not Found"
    assert plain["headers"]["Content-Type"] == "application/problem+json"

    many = balancer_event("GET", "/health", None, {}, multiValueHeaders={"accept": ["*/*"]})
    del many["headers"]
    answer = handler(many)
    assert answer["statusDescription"] == "200 OK"
    assert answer["multiValueHeaders"]["Content-Type"] == ["application/json"]
    assert "headers" not in answer


def test_repeated_headers_cookies_and_parameters_are_joined() -> None:
    """Event kinds repeat headers, cookies and parameters differently; a function sees one form."""
    two = read_event(
        http_event(
            "get", "/", None, {"X-A": "1,2"}, cookies=["a=1", "b=2"], rawQueryString="q=1&q=2&e="
        )
    ).request()
    assert (two.method, two.headers["x-a"], two.headers["COOKIE"]) == ("GET", "1,2", "a=1; b=2")
    assert two.args == {"q": "1", "e": ""}

    one = read_event(
        rest_event(
            "GET",
            "/",
            None,
            {},
            multiValueHeaders={"X-A": ["1", "2"], "Cookie": ["a=1", "b=2"]},
            multiValueQueryStringParameters={"q": ["1", "2"]},
        )
    ).request()
    assert (one.headers["x-a"], one.headers["cookie"], one.args) == (
        "1, 2",
        "a=1; b=2",
        {"q": "1"},
    )
    assert one.headers.get("absent") is None


@pytest.mark.parametrize(
    "event",
    [
        {"requestContext": {"http": "secret-value"}},
        {"requestContext": {"elb": {}}, "httpMethod": 7, "path": "/"},
        {"rawPath": "/", "requestContext": "secret-value"},
        {"httpMethod": "GET", "\ud800": 1, "k" * 1_000_000: 1},
        {**rest_event("GET", "/", None, {}), "headers": {"a": 1}},
    ],
)
def test_a_malformed_request_is_one_line_and_400(
    handler: Any, capsys: pytest.CaptureFixture[str], event: Any
) -> None:
    """It gives 400 and one short log line, which describes the event without its values."""
    capsys.readouterr()
    answer = handler(event)
    [line] = capsys.readouterr().out.splitlines()

    assert answer["statusCode"] == 400
    assert json.loads(answer["body"])["detail"] == "The event is not an HTTP request."
    assert json.loads(answer["body"])["type"] == "urn:canoa:problem:bad-request"
    assert (json.loads(line)["level"], json.loads(line)["status"]) == ("warning", 400)
    assert 0 < len(json.loads(line)["reason"]) < 1000
    assert "secret-value" not in line


#: Any text that JSON can spell, lone surrogates included.
texts = st.text(st.characters(exclude_categories=()), max_size=5)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner),
    max_leaves=5,
)
FIELDS = (
    *("headers", "body", "isBase64Encoded", "path", "rawPath", "rawQueryString", "requestContext"),
    *("cookies", "httpMethod", "multiValueHeaders", "queryStringParameters"),
    "multiValueQueryStringParameters",
)


@given(
    build=st.sampled_from(list(EVENTS.values())),
    method=st.sampled_from(["GET", "POST", "OPTIONS", "PUT", "x"]),
    path=st.sampled_from(["/v0/predict", "/health", "/", ""]),
    changes=st.dictionaries(
        st.sampled_from(FIELDS) | texts,
        json_values | st.dictionaries(texts, texts) | st.dictionaries(texts, st.lists(texts)),
        max_size=3,
    ),
)
@hypothesis.example(http_event, "POST", "/v0/predict", {"\ud800": 1})
@hypothesis.example(http_event, "POST", "/v0/predict", {"headers": {"origin": "\ud800"}})
@hypothesis.example(http_event, "POST", "/v0/predict", {"body": "\udfff"})
@hypothesis.example(balancer_event, "GET", "/health", {"queryStringParameters": {"\ud800": "1"}})
@hypothesis.settings(
    deadline=None, max_examples=200, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
def test_no_event_raises(handler: Any, build: Any, method: str, path: str, changes: Any) -> None:
    """An event with any value in any field gets an answer below 500, in valid UTF-8."""
    answer = handler({**build(method, path, b"{}", JSON), **changes})

    assert answer["statusCode"] < 500
    json.dumps(answer, ensure_ascii=False).encode()
    if answer["body"].startswith("<"):  # GET / is the page
        assert "text/html" in str(answer)
    elif answer["body"]:
        json.loads(answer["body"])


@pytest.mark.parametrize("build", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize("field", ["headers", "body", "query", "path", "method", "cookies"])
def test_a_lone_surrogate_is_400(handler: Any, build: Any, field: str) -> None:
    """JSON can spell a lone surrogate, which is no Unicode; in any field it gives 400."""
    event = build("POST", "/v0/predict", b"{}", JSON)
    event |= {
        "headers": {"headers": {"origin": "\ud800"}, "multiValueHeaders": {"\ud800": ["x"]}},
        "body": {"body": "\udfff"},
        "query": {"rawQueryString": "q=\ud800", "queryStringParameters": {"q": "\ud800"}},
        "path": {"path": "/\ud800", "rawPath": "/\ud800"},
        "method": {"httpMethod": "\ud800"},
        "cookies": {"cookies": ["\ud800"], "multiValueHeaders": {"cookie": ["\ud800"]}},
    }[field]
    if field == "method" and "http" in event["requestContext"]:
        event["requestContext"]["http"]["method"] = "\ud800"
    answer = handler(event)

    assert answer["statusCode"] == 400
    assert json.loads(answer["body"])["detail"] == "The event is not an HTTP request."


SCHEDULED = {"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}


@pytest.mark.parametrize(
    "event",
    [{"source": "serverless-plugin-warmup"}, {"warmup": True}, {"warmer": True}, SCHEDULED],
)
def test_a_warm_up_event_is_answered_with_null(
    handler: Any, capsys: pytest.CaptureFixture[str], event: Any
) -> None:
    """A warm-up event is neither an error nor a request, so nothing is logged at level info."""
    capsys.readouterr()

    assert handler(event) is None
    assert capsys.readouterr().out == ""


def test_a_warm_up_takes_the_cold_start(credit: Path) -> None:
    """After a warm-up event, which is logged at level debug, the next request is no cold start."""
    with runtime({"MODEL_URI": str(credit), "LOG_LEVEL": "debug"}) as api:
        assert api.invoke(SCHEDULED) is None
        api.invoke(http_event("GET", "/health", None, {}))
        [warm_up] = [line for line in lines(api) if line["message"] == "warm-up event"]
        [request] = lines(api, "request")

    assert (warm_up["level"], warm_up["cold_start"], request["cold_start"]) == (
        "debug",
        True,
        False,
    )
    assert "_aws" not in warm_up


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"Records": [{"eventSource": "aws:sqs", "body": "secret"}] * 3}, "Records from aws:sqs"),
        ({"Records": [{"eventSource": "aws:kinesis"}]}, "Records from aws:kinesis"),
        ({"Records": [{"EventSource": "aws:sns", "Sns": {}}]}, "Records from aws:sns"),
        ({"Records": [{"eventSource": "secret"}]}, "an object of Records. It failed"),
        ({"Records": ["secret"]}, "an object of Records. It failed"),
        ({"Records": []}, "an object of Records. It failed"),
        ({"detail-type": "Object Created", "detail": {"k": "secret"}}, "of detail, detail-type."),
        ({"eventSource": "aws:kafka", "records": {"t-0": []}}, "records from aws:kafka"),
        ({"eventSource": "SelfManagedKafka", "records": {}}, "records from SelfManagedKafka"),
        ({"eventSource": "aws:mq", "messages": [{"data": "secret"}]}, "messages from aws:mq"),
        ({"eventSource": "aws:rmq", "rmqMessagesByQueue": {}}, "from aws:rmq"),
        ({"eventSource": "aws:docdb", "events": [{}]}, "from aws:docdb"),
        ([{"eventSource": "aws:sqs", "body": "secret"}], "a list from aws:sqs"),
        ({"awslogs": {"data": "secret"}}, "an object of awslogs"),
        ({"deliveryStreamArn": "secret", "records": []}, "of deliveryStreamArn, records"),
        ({"requestContext": {"condition": "secret"}, "requestPayload": {}}, "requestPayload"),
        ({"\ud800": 1, "k" * 1_000_000: 1}, "an object of"),
        ({"source": "secret"}, "an object of source"),
        ({}, "an object of nothing"),
        ([], "a list. It failed"),
        ("secret", "a str"),
        (None, "a NoneType"),
    ],
)
def test_any_other_event_raises_an_error(handler: Any, event: Any, said: str) -> None:
    """Lambda would take an answer for a success and drop the event, so the handler raises."""
    with pytest.raises(Exception, match=said) as failed:
        handler(event)

    assert type(failed.value).__name__ == "UnservedEventError"
    assert "secret" not in str(failed.value)
    assert len(str(failed.value)) < 1000


def test_a_batch_is_reported_to_lambda_as_an_error(credit: Path) -> None:
    """Lambda gets the error, and the next event is answered."""
    with runtime({"MODEL_URI": str(credit)}) as api:
        with pytest.raises(RuntimeError, match=r"UnservedEventError.*of Records from"):
            api.invoke({"Records": [{"eventSource": "aws:sqs"}]})
        assert api.invoke(http_event("GET", "/health", None, {}))["statusCode"] == 200


def test_base_path_prefixes_every_route(credit: Path, example: bytes) -> None:
    """Paths are served below BASE_PATH only, apart from /health; the 404 lists them."""
    sent = [
        ("POST", "/ml/v0/predict", example, 200),
        ("POST", "/v0/predict", example, 404),
        ("GET", "/ml/health", None, 200),
        ("GET", "/health", None, 200),
        ("GET", "/ml/openapi.json", None, 200),
        ("GET", "/ml", None, 200),
        ("GET", "/ml//", None, 404),
    ]
    with runtime({"MODEL_URI": str(credit), "BASE_PATH": "/ml/"}) as api:
        for build in EVENTS.values():
            answers = [
                api.invoke(build(method, path, body, JSON)) for method, path, body, _ in sent
            ]

            assert [a["statusCode"] for a in answers] == [status for *_, status in sent]
            assert "GET /ml/health, " in json.loads(answers[-1]["body"])["detail"]
            assert json.loads(answers[-3]["body"])["servers"] == [{"url": "/ml"}]


def test_the_log_line_has_ids_and_metrics(credit: Path, example: bytes) -> None:
    """Each request logs one line with AWS's ids and CloudWatch metrics; one says cold start."""
    with runtime({"MODEL_URI": str(credit)}) as api:
        assert api.invoke(http_event("POST", "/v0/predict", example, JSON))["statusCode"] == 200
        assert api.invoke(http_event("POST", "/v0/predict", b"", JSON))["statusCode"] == 400
        cold, warm = lines(api, "request")

    assert cold["xray_trace_id"] == TRACE
    assert cold["function_request_id"] != warm["function_request_id"]
    assert (cold["cold_start"], warm["cold_start"]) == (True, False)
    assert cold["ColdStart"] == 1
    assert "ColdStart" not in warm
    assert warm["Errors"] == 1
    for line in (cold, warm):
        for directive in line["_aws"]["CloudWatchMetrics"]:
            assert directive["Namespace"] == "Canoa"
            for name in (*directive["Dimensions"][0], *(m["Name"] for m in directive["Metrics"])):
                assert name in line
    names = {m["Name"] for m in cold["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert names == {"duration_ms", "rows", "ColdStart"}


def test_provisioned_concurrency_is_no_cold_start(credit: Path) -> None:
    """With provisioned concurrency the model is loaded before the first event: no cold start."""
    environment = {"AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"}
    with runtime({"MODEL_URI": str(credit), **environment}) as api:
        api.invoke(http_event("GET", "/health", None, {}))
        *started, loaded, request = lines(api)

    said = {line["message"].partition(":")[0] for line in started}
    assert said == {"start", "open"}
    assert loaded["message"] == "model loaded"
    assert request["cold_start"] is False


def test_function_target_serves_one_function(credit: Path) -> None:
    """With FUNCTION_TARGET every path leads to that function, as on Google Cloud."""
    with runtime({"MODEL_URI": str(credit), "FUNCTION_TARGET": "health"}) as api:
        answer = api.invoke(http_event("GET", "/any/where", None, {}))
        assert json.loads(answer["body"])["status"] == "ok"


@pytest.mark.parametrize(
    ("variable", "value", "reasons"),
    [
        ("FUNCTION_TARGET", "nope", ("'nope'", "predict")),
        ("BASE_PATH", "ml", ("BASE_PATH is 'ml'", "a path such as /ml")),
        ("BASE_PATH", "/ml/<x>", ("BASE_PATH is '/ml/<x>'", "a path such as /ml")),
        ("MAX_BODY_BYTES", "x", ("MAX_BODY_BYTES is 'x'", "an integer")),
        ("MODEL_URI", "ftp://host/models", ("MODEL_URI is 'ftp://host/models'", "s3://")),
    ],
)
def test_an_invalid_variable_stops_the_start(
    credit: Path, variable: str, value: str, reasons: tuple[str, ...]
) -> None:
    """One sentence names the variable and what is valid, and the process exits with status 1."""
    with runtime({"MODEL_URI": str(credit), variable: value}) as api:
        assert api.process.wait(30) == 1
        said = api.logged()

    assert all(reason in said for reason in reasons)
    assert "Traceback" not in said


def test_a_wrong_handler_is_reported_to_lambda(credit: Path) -> None:
    """The runtime client reports a wrong handler name to Lambda before any event."""
    missing = "serving.adapters.aws.nope"
    told = pytest.raises(RuntimeError, match=r"^init error: .*HandlerNotFound")
    with runtime({"MODEL_URI": str(credit)}, handler=missing) as api, told:
        api.invoke(http_event("GET", "/health", None, {}))


def test_a_restored_snapshot_serves_the_live_version(credit: Path, tmp_path: Path) -> None:
    """After the restore of a snapshot, `latest` is read again, and the live version is served."""
    first = read_latest(FolderStore(credit)).version
    model = tmp_path / "credit"
    subprocess.run(["cp", "-r", credit, model], check=True)  # noqa: S607
    subprocess.run(["cp", "-r", model / first, model / "second"], check=True)  # noqa: S607
    manifest = model / "second" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"{first}"', '"second"'))
    environment = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}

    with runtime({"MODEL_URI": str(model), **environment}) as api:
        while "model loaded" not in api.logged():  # the snapshot is taken once the model is loaded
            assert api.process.poll() is None
        move_latest(FolderStore(model), "second", read_latest(FolderStore(model)))
        api.restore.set()
        answer = api.invoke(http_event("GET", "/health", None, {}))
        versions = [line["model_version"] for line in lines(api) if "model_version" in line]

    assert json.loads(answer["body"])["model"]["version"] == "second"
    assert versions == [first, "second", "second"]


def test_a_lambda_without_a_model_starts_and_tries_again(credit: Path, tmp_path: Path) -> None:
    """Without a model the answer is 503; once there is one, the same process serves it."""
    place = tmp_path / "later"
    with runtime({"MODEL_URI": str(place)}) as api:
        event = http_event("GET", "/health", None, {})
        assert api.invoke(event)["statusCode"] == 503
        place.symlink_to(credit)
        time.sleep(1.1)  # the loader's pause after a failure
        assert api.invoke(event)["statusCode"] == 200


def test_a_load_balancer_s_parameters_are_decoded() -> None:
    """A load balancer passes parameters on percent-encoded; a gateway decodes them."""
    event = balancer_event("GET", "/health", None, {})
    event["queryStringParameters"] = {"q": "a%20b%26c", "caf%C3%A9": "1+2"}

    assert read_event(event).request().args == {"q": "a b&c", "café": "1 2"}

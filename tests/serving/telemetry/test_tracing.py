"""OpenTelemetry: a collector gets the spans and metrics, and without one nothing is done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from serving.telemetry.tracing import span

from tests.helpers.aws.lambdas import http_event
from tests.helpers.example import JSON, ROW
from tests.helpers.http.canaries import CANARIES, send_canaries
from tests.helpers.http.otlp import Received, attributes, collector
from tests.helpers.servers import ROOT, clean_environment, serving, wait_for, workers

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def named(received: Received, name: str) -> list[Any]:
    """List the spans of this name."""
    return [span for _, span in received.spans if span.name == name]


def test_a_request_is_a_span_with_child_spans(credit: Path) -> None:
    """Both workers send their spans before they stop, without any value of the request."""
    with collector() as received:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "LOG_LEVEL": "warning"}
        with serving(credit, WEB_CONCURRENCY="2", **settings) as server:
            wait_for(lambda: len(workers(server)) == 2)
            for _ in range(20):
                answer = requests.post(
                    f"{server}/v0/predict",
                    json={"instances": [ROW] * 3},
                    headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
                    timeout=10,
                )
                assert answer.status_code == 200
            send_canaries(server)
            server.process.terminate()
            server.process.wait(20)
            log = server.logged()

    traced = [span for span in named(received, "POST /v0/predict") if span.trace_id.hex() == TRACE]
    assert len(traced) == 20
    assert {span.parent_span_id.hex() for span in traced} == {PARENT}
    assert {span.kind for span in traced} == {2}  # a server's span
    for one in traced:
        assert attributes(one) == {
            "http.request.method": "POST",
            "http.route": "/v0/predict",
            "http.response.status_code": 200,
            "url.scheme": "http",
            "canoa.rows": 3,
            "canoa.model.version": (credit / "latest").read_text().strip(),
        }
        parts = [part for _, part in received.spans if part.parent_span_id == one.span_id]
        assert [part.name for part in parts] == ["decode", "inference", "encode"]
        assert all(one.start_time_unix_nano <= part.start_time_unix_nano for part in parts)
        assert all(part.end_time_unix_nano <= one.end_time_unix_nano for part in parts)
    processes = {of["service.instance.id"] for of, _ in received.spans}
    assert len(processes) == 2
    assert {of["service.name"] for of, _ in received.spans} == {"canoa"}
    assert not any(canary.lower() in received.text.lower() for canary in CANARIES)
    assert log == ""
    statuses = {attributes(one).get("http.response.status_code") for _, one in received.spans}
    assert statuses >= {200, 400, 404, 415, 422}


def test_the_metrics_of_all_workers_add_up(credit: Path) -> None:
    """Each worker sends its own metrics, and their sum is the number of requests."""
    with collector() as received:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_SERVICE_NAME": "loans"}
        with serving(credit, WEB_CONCURRENCY="2", **settings) as server:
            for _ in range(20):
                requests.post(f"{server}/v0/predict", json={"instances": [ROW] * 3}, timeout=10)
            server.process.terminate()
            server.process.wait(20)

    points = [
        (of, attributes(point), point)
        for of, metric in received.metrics
        if metric.name == "http.server.request.duration"
        for point in metric.histogram.data_points
    ]
    rows = [
        point.as_int
        for _, metric in received.metrics
        if metric.name == "canoa.rows"
        for point in metric.sum.data_points
    ]
    assert sum(point.count for _, _, point in points) == 20
    assert {of["service.name"] for of, _, _ in points} == {"loans"}
    for _, said, _ in points:
        assert said["http.route"] == "/v0/predict"
        assert said["http.response.status_code"] == 200
    assert sum(rows) == 60


def test_an_unreachable_collector_delays_no_answer(credit: Path) -> None:
    """Requests are answered, each failure is one log line, and the server stops in time."""
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with serving(credit, WEB_CONCURRENCY="1", **settings) as server:
        for _ in range(20):
            answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=5)
            assert answer.status_code == 200
        server.process.terminate()
        assert server.process.wait(10) == 0
        log = [json.loads(line) for line in server.logged().splitlines()]

    assert any(line.get("logger", "").startswith("opentelemetry") for line in log)


_LAMBDA = """
import json, os, sys
from serving.adapters.aws import handler
answer = handler(json.loads(sys.argv[1]), None)
assert answer["statusCode"] == 200, answer
os._exit(0)  # as good as frozen
"""


def test_on_lambda_everything_is_sent_before_the_answer(credit: Path) -> None:
    """On Lambda all is sent by the end of an invocation, as the process may never run again."""
    headers = {name.replace("_", "-"): value for name, value in JSON.items()}
    event = http_event("POST", "/v0/predict", json.dumps(ROW).encode(), headers)
    with collector() as received:
        ours = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "MODEL_URI": str(credit)}
        subprocess.run(
            [sys.executable, "-c", _LAMBDA, json.dumps(event)],
            cwd=ROOT,
            env={**clean_environment(), **ours},
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    names = sorted(one.name for _, one in received.spans)
    assert names == ["POST /v0/predict", "decode", "encode", "inference"]
    assert "http.server.request.duration" in {metric.name for _, metric in received.metrics}


def test_missing_packages_give_one_warning(credit: Path, tmp_path: Path) -> None:
    """The warning says what to install, and the server runs."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(tmp_path)}
    with serving(credit, WEB_CONCURRENCY="2", **settings) as server:
        wait_for(lambda: len(workers(server)) == 2)
        for _ in range(10):
            answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=10)
            assert answer.status_code == 200
        log = [json.loads(line) for line in server.logged().splitlines()]

    [warning] = [line for line in log if line["level"] == "warning"]
    assert "./layer[otel]" in warning["message"]


def test_without_tracing_a_span_does_nothing() -> None:
    """Without tracing all spans are one object, which does nothing."""
    assert span("decode") is span("encode")
    with span("decode") as nothing:
        assert nothing is None

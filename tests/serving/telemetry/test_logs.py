"""A server's whole log is JSON lines, from start to stop, without anything that a client sent."""

from __future__ import annotations

import json
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from serving.bundle.trust import Trust
from serving.telemetry.logs import line_fields, log

from tests.helpers.http.canaries import CANARIES, WORD, send_canaries
from tests.helpers.platforms import direct
from tests.helpers.servers import Server, lines, serving, start, wait_for, workers
from tests.helpers.stores import Bucket
from tests.helpers.versions import versions_of


def log_of(server: Server) -> list[dict[str, Any]]:
    """Decode every line; a line that is not a JSON object fails the test."""
    decoded = [json.loads(line) for line in server.logged().splitlines()]
    assert all(line.keys() >= {"time", "level", "message"} for line in decoded)
    return decoded


@pytest.mark.parametrize("level", ["info", pytest.param("debug", marks=pytest.mark.slow)])
def test_every_line_of_the_log_is_json(credit: Path, tmp_path: Path, level: str) -> None:
    """Every line is JSON through traffic, errors, a swap, a crash and the stop."""
    model = versions_of(credit, tmp_path / "models", ["1", "2", "3"])
    graph = model / "3" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    settings = {"LOG_LEVEL": level, "MODEL_REFRESH_SECONDS": "0.2", "PYTHONWARNINGS": "default"}
    with serving(model, **settings) as server:
        requests.get(f"{server}/health", timeout=10).raise_for_status()
        send_canaries(server)
        (model / "latest").write_text("2")
        wait_for(lambda: len(lines(server, "model loaded")) == 3)
        (model / "latest").write_text("3")
        wait_for(lambda: len(lines(server, "the model was not renewed")) == 2)
        workers(server)[0].kill()
        wait_for(lambda: "SIGKILL" in server.logged())
        send_canaries(server)
        server.process.terminate()
        server.process.wait(30)
        log = log_of(server)
        text = server.logged().lower()

    assert not any(canary.lower() in text for canary in CANARIES)
    first = next(line for line in log if "logger" not in line)
    assert first["message"] == "start"
    assert first.keys() >= {"version", "python", "platform", "address", "workers", "model_uri"}
    assert log[-1] | {"time": "", "seconds": 0} == {
        "time": "",
        "level": "info",
        "message": "stop",
        "reason": "SIGTERM",
        "seconds": 0,
    }
    assert sum(line["message"] == "start" for line in log) == 1
    assert sum(line["message"] == "stop" for line in log) == 1
    statuses = {line["status"] for line in log if line["message"] == "request"}
    assert statuses >= {200, 400, 404, 414, 415, 422, 431}
    assert all("model_version" in line for line in log if line.get("status") in {200, 422})
    # gunicorn's own messages are for debugging; its errors are logged at every level.
    theirs = {line["level"] for line in log if line.get("logger") == "gunicorn.error"}
    assert theirs == ({"debug", "error"} if level == "debug" else {"error"})


def test_a_load_logs_its_times(
    credit: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """The times for fetching, verifying and opening add up, from a folder and from a bucket."""
    from training.registry.publish import publish

    with pytest.MonkeyPatch.context() as patch:
        for name, value in bucket.location.environment.items():
            patch.setenv(name, value)
        publish(str(credit), bucket.location.uri, Trust())
    for uri in (credit, f"{bucket.location.uri}/credit"):
        capsys.readouterr()
        with direct(uri, **bucket.location.environment) as send:  # type: ignore[arg-type]
            assert send("health", "GET").status == 200
        [line] = [
            json.loads(line)
            for line in capsys.readouterr().out.splitlines()
            if '"model loaded"' in line
        ]
        parts = [line[name] for name in ("fetch_ms", "verify_ms", "open_ms")]
        assert all(part > 0 for part in parts)
        assert sum(parts) == pytest.approx(line["duration_ms"], abs=0.3)


def test_the_start_line_holds_no_secret(tmp_path: Path) -> None:
    """The start line has neither the query of MODEL_URI nor variables that are not listed."""
    uri = f"{tmp_path}/{WORD}@models?sig={WORD}"
    with serving(uri, AWS_SECRET_ACCESS_KEY=WORD) as server:
        first = log_of(server)[0]

    assert first["message"] == "start"
    assert f"sig={WORD}" not in json.dumps(first)
    assert "AWS" not in json.dumps(first)


def test_a_failed_start_logs_the_reason(credit: Path) -> None:
    """If the workers fail to start, the stop line has the reason."""
    script = (
        "import serving.adapters.gunicorn as config\n"
        "from gunicorn.app.wsgiapp import run\n"
        "def post_worker_init(worker):\n"
        f"    raise RuntimeError({WORD!r})\n"
        "config.post_worker_init = post_worker_init\n"
        "import sys; sys.argv[1:] = ['--config', 'python:serving.adapters.gunicorn',"
        " '--bind', '127.0.0.1:{port}', 'serving.adapters.flask:create_app()']; run()"
    )
    # gunicorn cannot handle two workers that fail at once.
    settings = {"MODEL_URI": str(credit), "WEB_CONCURRENCY": "1"}
    with start([sys.executable, "-c", script], settings) as server:
        server.process.wait(30)
        log = lines(server, "stop")

    assert [line["reason"] for line in log] == ["Worker failed to boot."]


def test_functions_framework_logs_to_standard_output(credit: Path) -> None:
    """Only JSON lines go to standard output; functions-framework's server writes to stderr."""
    command = [
        *("sh", "-c", 'exec "$@" 2> /dev/null', "sh"),
        *(sys.executable, "-m", "functions_framework", "--host", "127.0.0.1", "--port", "{port}"),
        *("--source", "functions/predict.py", "--target", "predict"),
    ]
    with start(command, {"MODEL_URI": str(credit)}) as server:
        send_canaries(server)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        log = log_of(server)
        text = server.logged().lower()

    assert {line["message"] for line in log} == {"model loaded", "request"}
    assert not any(canary.lower() in text for canary in CANARIES)


def test_a_line_with_a_lone_surrogate_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """A lone surrogate cannot be UTF-8, so the line is written with a replacement."""
    with line_fields(location="here"):
        log("error", "plain", count=3, nothing=None)
        log("error", "strange", count=3, name="\ud800x")
    plain, strange = map(json.loads, capsys.readouterr().out.splitlines())

    assert plain.keys() == {"time", "level", "message", "location", "count"}
    assert strange.keys() == {*plain, "name"}
    for line in (plain, strange):
        assert datetime.now(UTC) - datetime.fromisoformat(line["time"]) < timedelta(minutes=1)
        assert line["time"].endswith("Z")
        assert line["count"] == 3
    assert (strange["message"], strange["location"], strange["name"]) == ("strange", "here", "?x")

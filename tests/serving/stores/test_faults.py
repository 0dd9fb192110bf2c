"""Serving from a bucket: few requests are made, and a failing store gives 503."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
import requests
from serving.bundle.manifest import EngineRecord
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.writer import write_bundle
from serving.errors import Conflict
from serving.stores.folder import FolderStore
from serving.stores.location import open_store
from serving.stores.store import Store

from tests.helpers.bundles import upload
from tests.helpers.example import ROW
from tests.helpers.http.proxy import Answer, Asked
from tests.helpers.servers import ROOT, clean_environment, serving
from tests.helpers.stores import SECRETS, Bucket


@pytest.fixture
def published(credit: Path, bucket: Bucket) -> Bucket:
    """Make a bucket that holds the example."""
    upload(open_bundle(FolderStore(credit)), bucket)
    return bucket


def version(bucket: Bucket) -> str:
    """Return the live version."""
    return (bucket.get("credit/latest") or b"").decode()


COLD = """
import json, os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from serving.routes import load_functions
[predict] = [f for f in load_functions("functions") if f.__name__ == "predict"]
class Request:
    method, path, headers, args = "POST", "/", {"Content-Type": "application/json"}, {}
    def get_data(self):
        return os.environ["BODY"].encode()
body, status, headers = predict(Request())
assert status == 200, body
"""


def cold(bucket: Bucket, **environment: str) -> None:
    """Answer one request in a new process that cannot write to any file."""
    subprocess.run(
        [sys.executable, "-c", COLD],
        cwd=ROOT,
        env={
            **clean_environment(),
            **bucket.location.environment,
            "PYTHONPATH": "layer/python",
            "MODEL_URI": f"{bucket.location.uri}/credit",
            "BODY": json.dumps(ROW),
            **environment,
        },
        check=True,
        capture_output=True,  # through pipes: the log must not need a file
        timeout=60,
    )


def test_a_cold_start_fetches_only_what_it_needs(published: Bucket) -> None:
    """A cold start fetches `latest`, then manifest and graph together, and writes no file."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0
    barrier = threading.Barrier(2, timeout=4)

    def together(asked: Asked) -> None:
        if not asked.path.endswith("/latest"):
            barrier.wait()  # Neither is answered before both are requested.

    published.proxy.before = together
    cold(published)

    asked = published.asked("GET")
    assert asked[0] == "latest"
    assert sorted(asked[1:]) == ["manifest.json", "model.onnx"]


def test_a_cold_start_fetches_the_pickle_for_scikit_learn(
    credit: Path, bucket: Bucket, tmp_path: Path
) -> None:
    """With the sklearn engine the pickle is fetched, but only if pickles are allowed."""
    bundle = open_bundle(FolderStore(credit))
    manifest = msgspec.structs.replace(bundle.manifest, engine=EngineRecord(name="sklearn"))
    files = {"model.joblib": bundle.read("model.joblib")}
    upload(Bundle(FolderStore(write_bundle(tmp_path / "credit", manifest, files))), bucket)
    with pytest.raises(subprocess.CalledProcessError):
        cold(bucket)
    assert "model.joblib" not in bucket.asked("GET")

    cold(bucket, ALLOW_PICKLE="1")
    assert bucket.asked("GET")[-1] == "model.joblib"


def test_workers_share_one_fetch(published: Bucket) -> None:
    """The model is fetched and loaded once, before the fork, for both workers."""
    uri = f"{published.location.uri}/credit"
    with serving(uri, **published.location.environment, WEB_CONCURRENCY="2") as server:
        for _ in range(20):
            assert requests.post(f"{server}/v0/predict", json=ROW, timeout=10).ok
        assert server.logged().count('"model loaded"') == 1
    assert sorted(published.asked("GET")) == ["latest", "manifest.json", "model.onnx"]


Fault = Callable[[Bucket], Callable[[], None]]


def answering(change: Callable[[Answer], Answer], suffix: str = "") -> Fault:
    """Make a fault that changes the store's answers for keys with *suffix*."""

    def begin(bucket: Bucket) -> Callable[[], None]:
        def fault(asked: Asked, answer: Answer) -> Answer:
            return change(answer) if asked.path.endswith(suffix) else answer

        bucket.proxy.fault = fault

        def end() -> None:
            bucket.proxy.fault = None

        return end

    return begin


def denied(_: Answer) -> Answer:
    """Answer as S3 does for an unknown access key, which quotes the key."""
    body = f"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{SECRETS['AWS_ACCESS_KEY_ID']}"
    body += "</AWSAccessKeyId></Error>"
    return Answer(403, {"Content-Length": str(len(body))}, body.encode())


def no_bucket(_: Answer) -> Answer:
    """Answer as S3 does for a missing bucket."""
    body = b"<Error><Code>NoSuchBucket</Code></Error>"
    return Answer(404, {"Content-Length": str(len(body))}, body)


def away(bucket: Bucket) -> Callable[[], None]:
    """Stop the store, so that connections are refused."""
    bucket.proxy.stop()
    return bucket.proxy.start


def slow(bucket: Bucket) -> Callable[[], None]:
    """Accept requests and send no answer."""
    held = threading.Event()

    def hold(_: Asked) -> None:
        held.wait(30)

    bucket.proxy.before = hold

    def end() -> None:
        bucket.proxy.before = lambda _: None
        held.set()

    return end


def dripping(bucket: Bucket) -> Callable[[], None]:
    """Send the head of an answer and half of the body, each time."""
    return answering(lambda a: a._replace(cut=len(a.body) // 2), ".onnx")(bucket)


def stored(name: str, change: Callable[[bytes], bytes | None]) -> Fault:
    """Make a fault that changes an object in the bucket."""

    def begin(bucket: Bucket) -> Callable[[], None]:
        key = f"credit/{version(bucket)}/{name}" if name != "latest" else "credit/latest"
        good = bucket.get(key)
        assert good is not None
        bad = change(good)
        if bad is None:
            bucket.delete(key)
        else:
            bucket.put(key, bad)
        return lambda: bucket.put(key, good)

    return begin


FAULTS: dict[str, tuple[Fault, str]] = {
    "bucket missing": (answering(no_bucket), r"/latest: there is no such bucket \(.*NoSuchBucket"),
    "access denied": (answering(denied), r"/latest: access was denied \(.*InvalidAccessKeyId\)"),
    "connection refused": (away, r"/latest: the store cannot be reached \(127\.0\.0\.1:\d+\)"),
    "slow": (slow, r"/latest: no answer within 2 s"),
    "server error": (answering(lambda a: a._replace(status=503)), r"answered with an error .*503"),
    "cut in transit": (dripping, r"/model\.onnx: the connection broke off"),
    "truncated": (stored("model.onnx", lambda c: c[:-1]), r"/model\.onnx is not .* size differs"),
    "corrupted": (
        stored("model.onnx", lambda c: bytes([c[0] ^ 1]) + c[1:]),
        r"/model\.onnx is not the file that its manifest describes: the sha256 differs",
    ),
    "file missing": (stored("model.onnx", lambda _: None), r"/model\.onnx is not there"),
    "manifest missing": (stored("manifest.json", lambda _: None), r"/manifest\.json is not there"),
    "manifest cut": (stored("manifest.json", lambda c: c[1:]), r"\.json is not a manifest"),
    "pointer missing": (stored("latest", lambda _: None), r"neither 'latest' nor manifest\.json"),
    "pointer astray": (
        stored("latest", lambda _: b"../x"),
        r"latest does not name a version",
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in {"server error", "truncated", "pointer astray"}
        else pytest.param(name, marks=pytest.mark.slow)
        for name in FAULTS
    ],
)
def test_a_failing_store_gives_503_until_it_recovers(published: Bucket, name: str) -> None:
    """The client gets 503 with Retry-After and no details; the log says what failed and where."""
    begin, said = FAULTS[name]
    location = published.location
    uri = f"{location.uri}/credit"
    end = begin(published)
    with serving(uri, **location.environment, STORE_TIMEOUT_SECONDS="2") as server:
        started = time.monotonic()
        answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=30)
        took = time.monotonic() - started
        [first, *_] = reasons(server.logged())

        assert answer.status_code == 503
        assert took < 6
        problem = answer.json()
        assert problem["detail"] == "No model can be served at the moment."
        assert answer.headers["Retry-After"] == "1"
        for told in (location.uri, "s3:", "127.0.0.1", "bucket", "latest", "onnx"):
            assert told not in answer.text
        assert first.startswith((uri, f"no model in {uri}"))
        assert len(first) < 300
        assert re.search(said, first), first

        end()
        assert until_ok(server) == 200, server.logged()
        assert not any(secret in server.logged() for secret in SECRETS.values())
        assert "Traceback" not in server.logged()


def reasons(logged: str) -> Iterator[str]:
    """Yield the reason of each log line that has one."""
    for line in logged.splitlines():
        if line.startswith("{") and "reason" in (entry := json.loads(line)):
            yield entry["reason"]


def until_ok(server: str) -> int:
    """Send requests once a second until one succeeds; return the last status."""
    status = 0
    for _ in range(12):
        status = requests.post(f"{server}/v0/predict", json=ROW, timeout=30).status_code
        if status == 200:
            break
        time.sleep(1)
    return status


def test_a_loaded_model_is_served_without_its_store(published: Bucket) -> None:
    """A worker that is forked later serves the loaded model, even if the store is down."""
    uri = f"{published.location.uri}/credit"
    with serving(uri, **published.location.environment, WEB_CONCURRENCY="1") as server:
        assert until_ok(server) == 200
        published.proxy.stop()
        [worker] = psutil.Process(server.process.pid).children()
        worker.kill()
        worker.wait(5)
        for _ in range(5):
            assert requests.post(f"{server}/v0/predict", json=ROW, timeout=10).status_code == 200


def opened(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Open *bucket* in this process."""
    for name, value in bucket.location.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(bucket.location.uri, timeout=10)


def test_a_conditional_write_is_retried_after_409(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 may answer 409 to two writes at once and store neither; the write is repeated."""
    refused = iter([True, True])

    def fault(asked: Asked, answer: Answer) -> Answer:
        if asked.method != "PUT" or not next(refused, False):
            return answer
        bucket.delete("x")
        body = b"<Error><Code>ConditionalRequestConflict</Code></Error>"
        return Answer(409, {"Content-Length": str(len(body))}, body)

    bucket.proxy.fault = fault
    opened(bucket, monkeypatch).create("x", b"one")

    assert bucket.get("x") == b"one"
    assert bucket.asked("PUT") == ["x"] * 3


def test_three_conflicts_end_the_write(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """After three answers of 409 the write raises Conflict."""

    def fault(asked: Asked, answer: Answer) -> Answer:
        if asked.method != "PUT":
            return answer
        bucket.delete("x")
        return Answer(409, {"Content-Length": "0"}, b"")

    bucket.proxy.fault = fault
    location = opened(bucket, monkeypatch)
    with pytest.raises(Conflict):
        location.create("x", b"one")

    assert bucket.asked("PUT") == ["x"] * 3

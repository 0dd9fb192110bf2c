"""The example fits a dyno's memory and Lambda's, under the kernel's own limit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.helpers.aws.lambdas import http_event, runtime
from tests.helpers.control_group import Limited, memory_limit
from tests.helpers.example import JSON, ROW
from tests.helpers.servers import start

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
BODY = 4 * MIB
ROWS = json.dumps({"instances": [ROW] * 10_000}).encode()


def instances(row: bytes, count: int) -> bytes:
    """Write a body by hand."""
    return b'{"instances":[%s]}' % b",".join([row] * count)


#: Each request, and its answer: the largest ones allowed that take the most memory.
BODIES = {
    "one row": (json.dumps(ROW).encode(), 200),
    "10,000 rows": (ROWS, 200),
    "4 MiB of 10,000 rows": (ROWS.replace(b"]}", b" " * (BODY - len(ROWS)) + b"]}"), 200),
    "100,000 rows": (instances(b'[0,"",0,0,"","","",0,0,0,0,0,0]', 100_000), 413),
    "a million empty rows": (instances(b"{}", 1_390_000), 413),
    "a row of a million numbers": (instances(b"[" + b"1.5," * 1_040_000 + b"1]", 1), 422),
}


@contextmanager
def limit(megabytes: int) -> Iterator[Limited]:
    """Limit the memory of what is started in it, or skip the test where that is impossible."""
    try:
        limited = memory_limit(megabytes * MIB)
        group = limited.__enter__()
    except OSError as error:
        pytest.skip(f"no control groups may be made here: {error.strerror}")
    try:
        yield group
    finally:
        limited.__exit__(None, None, None)


def post(server: str, body: bytes) -> requests.Response:
    """Ask for predictions."""
    headers = {"Content-Type": "application/json"}
    return requests.post(f"{server}/v0/predict", data=body, headers=headers, timeout=60)


def test_a_dyno_s_memory_suffices(credit: Path) -> None:
    """Two workers serve the largest requests on every thread at once within 512 MB."""
    assert max(len(body) for body, _ in BODIES.values()) <= BODY
    command = [
        *(sys.executable, "-m", "gunicorn", "--config", "python:serving.adapters.gunicorn"),
        *("--bind", "127.0.0.1:{port}", "serving.adapters.flask:create_app()"),
    ]
    settings = {"MODEL_URI": str(credit), "WEB_CONCURRENCY": "2", "LOG_LEVEL": "error"}
    with limit(512) as group, start([*group.prefix, *command], settings) as server:
        with ThreadPoolExecutor(8) as pool:
            for body, status in BODIES.values():
                answers = list(pool.map(partial(post, server), [body] * 16))
                assert {answer.status_code for answer in answers} == {status}
                assert len({answer.content for answer in answers if status == 200}) <= 1
        assert group.kills() == 0
        assert "SIGKILL" not in server.logged()


def test_lambda_s_memory_suffices(credit: Path) -> None:
    """AWS's own runtime client serves the largest requests, one after the other, in 256 MB."""
    settings = {"MODEL_URI": str(credit), "FUNCTION_TARGET": "predict", "LOG_LEVEL": "error"}
    headers = {name.replace("_", "-"): value for name, value in JSON.items()}
    with limit(256) as group, runtime(settings, prefix=group.prefix) as api:
        for body, status in BODIES.values():
            for _ in range(3):
                answer = api.invoke(http_event("POST", "/v0/predict", body, headers))
                assert answer["statusCode"] == status
        assert group.kills() == 0


def test_the_memory_limit_is_enforced() -> None:
    """A process over the limit is killed and counted, so the tests above can fail."""
    with limit(64) as group:
        hog = "held = [bytes([1]) * 1_000_000 for _ in range(200)]"
        run = subprocess.run([*group.prefix, sys.executable, "-c", hog], check=False)
        assert run.returncode == -signal.SIGKILL
        assert group.kills() == 1

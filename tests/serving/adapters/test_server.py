"""The Heroku server: gunicorn with preload, real processes and real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests
from serving.errors import FunctionsError
from serving.process import Process
from serving.routes import load_functions

from tests.helpers.access.keys import API_KEYS
from tests.helpers.example import JSON, ROW
from tests.helpers.platforms import direct
from tests.helpers.servers import ROOT, clean_environment, lines, serving, start, wait_for


def test_onnxruntime_sends_no_telemetry(credit: Path, tmp_path: Path) -> None:
    """Telemetry in onnxruntime is off: it writes no id to the home folder, and starts no thread."""
    with serving(credit, HOME=str(tmp_path), WEB_CONCURRENCY="1") as server:
        assert requests.get(f"{server}/health", timeout=10).status_code == 200
        environment = Path(f"/proc/{server.process.pid}/environ").read_text()

    assert "ORT_DISABLE_TELEMETRY" not in environment, "the server must set it itself"
    assert list(tmp_path.rglob("*")) == []


def test_sigterm_finishes_requests_in_flight(credit: Path) -> None:
    """Requests in flight at SIGTERM are all answered, and then the processes end."""
    rows = {"instances": [ROW] * 10_000}
    with serving(credit, LOG_LEVEL="error") as server, ThreadPoolExecutor(4) as pool:
        requests.post(f"{server}/v0/predict", json=ROW, timeout=30)
        slow = [
            pool.submit(requests.post, f"{server}/v0/predict", json=rows, timeout=30)
            for _ in range(4)
        ]
        time.sleep(0.15)
        server.process.terminate()
        answers = [request.result() for request in slow]
        code = server.process.wait(20)

        assert [answer.status_code for answer in answers] == [200] * 4
        assert all(len(answer.json()["predictions"]) == 10_000 for answer in answers)
        assert code == 0
        assert "SIGABRT" not in server.logged()


def test_workers_share_the_model(credit: Path) -> None:
    """The model is loaded once, in the master; both forked workers use it."""
    with serving(credit, WEB_CONCURRENCY="2") as server:
        master = psutil.Process(server.process.pid)
        wait_for(lambda: len(master.children()) == 2)  # gunicorn forks the workers a moment apart.
        for _ in range(20):
            assert requests.post(f"{server}/v0/predict", json=ROW, timeout=10).status_code == 200

        assert len(master.children()) == 2
        assert server.logged().count('"model loaded"') == 1


def test_a_killed_worker_is_replaced(credit: Path) -> None:
    """A worker that dies is forked again from the loaded master."""
    with serving(credit, WEB_CONCURRENCY="1") as server:
        assert requests.get(f"{server}/health", timeout=10).status_code == 200
        [worker] = psutil.Process(server.process.pid).children()
        worker.send_signal(signal.SIGKILL)
        worker.wait(5)

        assert requests.post(f"{server}/v0/predict", json=ROW, timeout=10).status_code == 200


def test_concurrent_first_requests_load_once(
    credit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sixteen simultaneous first requests cause one load, and all get the right answer."""
    with direct(credit) as send:
        barrier = threading.Barrier(16)

        def first() -> int:
            barrier.wait()
            return send("predict", "POST", json.dumps(ROW).encode(), **JSON).status

        with ThreadPoolExecutor(16) as pool:
            statuses = [call.result() for call in [pool.submit(first) for _ in range(16)]]

    assert statuses == [200] * 16
    assert capsys.readouterr().out.count('"model loaded"') == 1


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_damaged_bundle_is_not_served(
    credit: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle with one wrong byte gives 503 and a log line; once repaired it is served."""
    version = (credit / "latest").read_text().strip()
    bundle = tmp_path / version
    bundle.mkdir()
    for file in (credit / version).iterdir():
        (bundle / file.name).write_bytes(file.read_bytes())
    good = (bundle / name).read_bytes()
    (bundle / name).write_bytes(bytes([good[0] ^ 1]) + good[1:])

    with direct(bundle) as send:
        assert send("health", "GET").status == 503
        assert name in capsys.readouterr().out
        (bundle / name).write_bytes(good)
        time.sleep(1.1)  # the loader does not retry at once
        assert send("health", "GET").status == 200


def test_the_log_line_has_all_fields_and_no_values(
    credit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each request writes one JSON line for the operator, without feature values."""
    with direct(credit) as send:
        row = {**ROW, "home": "zanzibar", "price": 98765.25}
        send("predict", "POST", json.dumps(row).encode(), **JSON, X_Request_Id="r-1")
        send("predict", "POST", json.dumps({**row, "age": "sixty"}).encode(), **JSON)
    output = capsys.readouterr().out
    lines = [json.loads(line) for line in output.splitlines()]
    [done, refused] = [line for line in lines if line["message"] == "request"]

    assert done.keys() >= {"time", "level", "duration_ms", "model_version"}
    assert (done["request_id"], done["route"], done["status"], done["rows"]) == (
        "r-1",
        "/v0/predict",
        200,
        1,
    )
    assert (refused["status"], refused["error"]) == (422, "invalid-instances")
    assert not any(value in output for value in ("zanzibar", "98765", "sixty"))


def test_base_path_prefixes_every_route(credit: Path) -> None:
    """Paths are served below BASE_PATH only, apart from /health; the 404 lists them."""
    with serving(credit, BASE_PATH="/ml") as server:
        found = {
            path: requests.get(server + path, timeout=10)
            for path in ("/ml/v0/model_info", "/v0/model_info", "/ml/health", "/health", "/ml/x")
        }

    assert [answer.status_code for answer in found.values()] == [200, 404, 200, 200, 404]
    assert "POST /ml/v0/predict" in found["/ml/x"].json()["detail"]


_START = """
from serving.routes import load_functions
load_functions("functions")
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST", "localhost"),
        ("PORT", "http"),
        ("MAX_INSTANCES", "0"),
        ("MAX_BODY_BYTES", "4MB"),
        ("MAX_BODY_BYTES", "٣٣"),
        ("MAX_MODEL_BYTES", "99999999999999999999"),
        ("LOG_LEVEL", "loud"),
        ("CORS_ORIGINS", "shop.example"),
        ("ALLOW_PICKLE", "yes"),
        ("WEB_CONCURRENCY", "-1"),
        ("MODEL_URI", "s3:///models"),
        ("BASE_PATH", "ml"),
        ("BASE_PATH", "/../ml"),
        ("BASE_PATH", "/health"),
        ("STORE_TIMEOUT_SECONDS", "soon"),
    ],
)
def test_an_invalid_setting_stops_the_start(name: str, value: str) -> None:
    """One sentence names the variable and its value, without a traceback."""
    run = subprocess.run(
        [sys.executable, "-c", _START],
        cwd=ROOT,
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 1
    assert run.stderr.startswith(f"canoa: {name} is {value!r}, but must be ")
    assert len(run.stderr.splitlines()) == 1


def test_a_folder_without_functions_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing, empty or unreadable folder, or a file, stops the start with one sentence."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "_helper.py").touch()
    (tmp_path / "file").touch()
    for name in ("empty", "file", "gone"):
        with pytest.raises(FunctionsError, match=f"^no functions in {tmp_path}/{name}: start"):
            load_functions(tmp_path / name)

    def denied(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(FunctionsError, match=f"^no functions in {ROOT}/functions: start"):
        load_functions(ROOT / "functions")


def test_a_server_survives_a_contradictory_bundle(credit: Path, tmp_path: Path) -> None:
    """A live bundle is changed to contradict itself and reloaded; the server goes on serving."""
    folder = tmp_path / "credit"
    shutil.copytree(credit, folder)
    version = (folder / "latest").read_text().split()[0]
    path = folder / version / "manifest.json"
    good = path.read_text()
    with serving(folder) as server:
        status = requests.get(f"{server}/health", timeout=10).status_code
        assert status == 200  # The server has the good model.
        path.write_text(good.replace('"name": "seniority"', '"name": "home"'))
        server.process.send_signal(signal.SIGHUP)
        said = "contradicts itself: the feature 'home' appears twice"
        wait_for(lambda: said in server.logged())
        time.sleep(1)

        assert requests.get(f"{server}/health", timeout=10).json()["model"]["version"] == version
    with serving(folder) as server:
        assert requests.get(f"{server}/health", timeout=10).status_code == 503


def test_a_read_only_root_is_enough(credit: Path) -> None:
    """If only /dev/shm is writable, the server starts, answers and counts."""
    script = (
        "mount --rbind / / && mount -o remount,ro,bind / && mount -t tmpfs none /dev/shm"
        " && for at in $(awk '$2 != \"/dev/shm\" {{print $2}}' /proc/mounts); do"
        ' mount -o remount,ro,bind "$at" 2> /dev/null; done; touch /tmp/x /var/tmp/x . 2> /dev/null'
        ' && exit 3; exec "$0" "$@"'
    )
    alone = ["unshare", "--mount", "bash", "-c"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespaces may be made here")
    command = [
        *(*alone, script, sys.executable, "-m", "gunicorn"),
        *("--config", "python:serving.adapters.gunicorn", "--bind", "127.0.0.1:{port}"),
        "serving.adapters.flask:create_app()",
    ]
    with start(command, {"MODEL_URI": str(credit)}) as server:
        assert requests.post(f"{server}/v0/predict", json=ROW, timeout=10).status_code == 200
        assert 'status="200"' in requests.get(f"{server}/metrics", timeout=10).text


def bound(**environment: str) -> list[str]:
    """Return the addresses on which the configuration listens, from a new process."""
    run = subprocess.run(
        [sys.executable, "-c", "import serving.adapters.gunicorn as c; print(*c.bind)"],
        cwd=ROOT,
        env={**clean_environment(), "PORT": "8123", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()[-1].split()


def test_a_laptop_listens_on_loopback(credit: Path) -> None:
    """On a laptop the server listens on both loopback addresses only."""
    command = [sys.executable, "-m", "gunicorn", "--config", "python:serving.adapters.gunicorn"]
    command.append("serving.adapters.flask:create_app()")
    with start(command, {"MODEL_URI": str(credit)}) as server:
        port = server.rpartition(":")[2]
        listening = psutil.Process(server.process.pid).net_connections()
        addresses = {one.laddr.ip for one in listening if one.status == psutil.CONN_LISTEN}
        for address in addresses:
            host = f"[{address}]" if ":" in address else address
            assert requests.get(f"http://{host}:{port}/health", timeout=10).status_code == 200

    assert addresses == ({"127.0.0.1", "::1"} if has_ipv6() else {"127.0.0.1"})


def has_ipv6() -> bool:
    """Return whether this machine has an IPv6 loopback."""
    addresses = [one for every in psutil.net_if_addrs().values() for one in every]
    return any(one.address == "::1" for one in addresses)


def test_host_sets_the_address() -> None:
    """A cloud listens on every address, a laptop on loopback; HOST overrides both."""
    everywhere = "[::]:8123" if has_ipv6() else "0.0.0.0:8123"
    assert bound(DYNO="web.1", AUTH="none") == [everywhere]
    assert bound(DYNO="web.1", AUTH="none", HOST="127.0.0.1") == ["127.0.0.1:8123"]
    assert bound(HOST="127.0.0.2") == ["127.0.0.2:8123"]
    assert bound(HOST="::1") == ["[::1]:8123"]


OPEN = "open: this address accepts every request"


@pytest.mark.parametrize(
    ("hosts", "settings", "warned"),
    [
        (["127.0.0.1", "::1"], {}, False),
        (["127.0.0.1", "192.0.2.1"], {}, True),
        (["::"], {}, True),
        ([], {}, True),
        (["192.0.2.1"], {"AUTH": "none"}, False),
        (["192.0.2.1"], {"API_KEYS": API_KEYS}, False),
        (["192.0.2.1"], {"DYNO": "web.1"}, False),
    ],
)
def test_an_open_server_on_a_public_address_warns(
    hosts: list[str], settings: dict[str, str], warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning is due unless keys close the API or AUTH=none opens it on purpose."""
    Process(settings).listen((host, 8000) for host in hosts)

    assert (OPEN in capsys.readouterr().out) is warned


def test_the_warning_is_logged_at_the_start(credit: Path, tmp_path: Path) -> None:
    """The warning says what to set, also if others can only reach the second socket."""
    command = [sys.executable, "-m", "gunicorn", "--config", "python:serving.adapters.gunicorn"]
    command += ["--bind", "127.0.0.1:{port}", "--bind", f"unix:{tmp_path}/socket"]
    command.append("serving.adapters.flask:create_app()")
    with start(command, {"MODEL_URI": str(credit), "WEB_CONCURRENCY": "1"}) as server:
        assert requests.get(f"{server}/health", timeout=10).status_code == 200
        [line] = lines(server, OPEN)
    with serving(credit, WEB_CONCURRENCY="1") as server:
        assert lines(server, OPEN) == []

    assert line["level"] == "warning"
    assert "API_KEYS" in line["reason"]

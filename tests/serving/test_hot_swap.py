"""A running server swaps its model: under load, with a failing store, and after SIGHUP."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import requests
from serving.bundle.latest import move_latest, read_latest
from serving.bundle.reader import Bundle
from serving.stores.folder import FolderStore
from sklearn.ensemble import RandomForestRegressor

from tests.helpers.bundles import upload
from tests.helpers.http.proxy import Answer, Asked
from tests.helpers.servers import Server, lines, serving, wait_for
from tests.helpers.stores import Bucket
from training.export.build import build_bundle

SWAPS, ROLLBACKS = 20, 5
CLIENTS = 16
ROW = {"x0": 0.1, "x1": -0.2, "x2": 0.3}


class Versions(NamedTuple):
    """Versions of one model; the n-th answers between 1000 n and 1000 n + 1."""

    folder: Path
    numbers: dict[str, int]

    def bundle(self, number: int) -> Bundle:
        """Open the n-th version."""
        [name] = [name for name, other in self.numbers.items() if other == number]
        return Bundle(FolderStore(self.folder / name))


@pytest.fixture(scope="module")
def versions(moto: Server, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """Make six versions, if the store can run that all tests here need."""
    versions = Versions(tmp_path_factory.mktemp("models") / "swapped", {})
    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 3))
    for number in range(1, 7):
        forest = RandomForestRegressor(60, random_state=number)
        forest.fit(data, 1000 * number + rng.uniform(size=200))
        path = build_bundle(versions.folder, "swapped", forest, data)
        versions.numbers[path.name] = number
    return versions


def point(bucket: Bucket, bundle: Bundle) -> None:
    """Make live a version that is in *bucket*."""
    bucket.put("swapped/latest", bundle.manifest.version.encode())


def publish(bucket: Bucket, bundle: Bundle) -> None:
    """Copy a version to *bucket* and make it live."""
    upload(bundle, bucket, "swapped")


@contextlib.contextmanager
def load(server: Server) -> Iterator[list[Any]]:
    """Send requests from many threads without a pause; collect every answer or error."""
    answers: list[Any] = []
    over = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not over.is_set():
                try:
                    answer = session.post(f"{server}/v0/predict", json=ROW, timeout=30)
                    answers.append((answer.status_code, answer.json()))
                except requests.RequestException as error:
                    answers.append((0, repr(error)))

    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(CLIENTS):
            pool.submit(ask)
        try:
            yield answers
        finally:
            over.set()


def memory(server: Server) -> float:
    """Return the proportional set size of the workers in bytes."""
    workers = psutil.Process(server.process.pid).children()
    return float(sum(worker.memory_full_info().pss for worker in workers))


@pytest.mark.slow
def test_swaps_lose_no_request(versions: Versions, bucket: Bucket) -> None:
    """25 swaps under load lose no request, although a third of the store's answers fail."""
    chance = random.Random(1)

    def fault(_: Asked, answer: Answer) -> Answer:
        kind = chance.randrange(6)
        if kind == 0:
            return Answer(500, {"Content-Length": "0"}, b"")
        if kind == 1 and answer.body:
            return answer._replace(cut=len(answer.body) // 2)
        return answer

    for number in range(1, 7):
        publish(bucket, versions.bundle(number))
    point(bucket, versions.bundle(1))
    settings = {"MODEL_REFRESH_SECONDS": "0.2", "LOG_LEVEL": "info", **bucket.location.environment}
    with serving(f"{bucket.location.uri}/swapped", **settings) as server:
        wait_for(lambda: requests.get(f"{server}/health", timeout=10).status_code == 200)
        bucket.proxy.fault = fault
        sizes = []
        # One move back after every four moves forward.
        numbers = [n for turn in range(ROLLBACKS) for n in (2, 3, 4, 5 + turn % 2, 4)]
        assert len(numbers) == SWAPS + ROLLBACKS
        with load(server) as answers:
            for number in numbers:
                began = len(answers)
                point(bucket, versions.bundle(number))
                wait_for(partial(settled, answers, began, number))
                sizes.append(memory(server))
        bucket.proxy.fault = None

    failed = [answer for answer in answers if answer[0] != 200]
    assert failed == []
    for _, answer in answers:
        number = versions.numbers[answer["model"]["version"]]
        assert 1000 * number <= answer["prediction"]["value"] <= 1000 * number + 1
    # The first swaps unshare the workers' memory; after them it stays constant.
    assert sizes[-1] < 1.1 * sizes[5], [f"{size / 1e6:.0f}" for size in sizes]


def settled(answers: list[Any], began: int, number: int) -> bool:
    """Return whether the last hundred answers all came from version *number*."""
    last = answers[max(began, len(answers) - 100) :]
    values = {answer["prediction"]["value"] // 1000 for status, answer in last if status == 200}
    return len(last) == 100 and values == {number}


def version(server: str) -> str:
    """Return the version that answers."""
    answer = requests.get(f"{server}/health", timeout=10).json()
    return str(answer["model"]["version"])


def conditional(asked: Asked) -> bool:
    """Return whether the request is conditional."""
    return "if-none-match" in {name.lower() for name in asked.headers}


def test_refreshing_costs_one_conditional_request(versions: Versions, bucket: Bucket) -> None:
    """Only `latest` is requested, conditionally, and no client waits for a slow store."""
    publish(bucket, versions.bundle(1))
    settings = {"MODEL_REFRESH_SECONDS": "0.2", **bucket.location.environment}
    with serving(f"{bucket.location.uri}/swapped", WEB_CONCURRENCY="1", **settings) as server:
        wait_for(lambda: requests.get(f"{server}/health", timeout=10).status_code == 200)
        wait_for(lambda: any(conditional(asked) for asked in bucket.proxy.asked))
        bucket.proxy.asked.clear()
        time.sleep(1)
        polls = list(bucket.proxy.asked)
        bucket.proxy.fault = lambda _, answer: time.sleep(2) or answer  # type: ignore[func-returns-value]
        time.sleep(0.5)
        slowest = 0.0
        for _ in range(50):
            began = time.perf_counter()
            requests.post(f"{server}/v0/predict", json=ROW, timeout=10).raise_for_status()
            slowest = max(slowest, time.perf_counter() - began)
        bucket.proxy.fault = None

    assert 3 <= len(polls) <= 8
    assert {asked.path.rpartition("/")[2] for asked in polls} == {"latest"}
    assert all(conditional(asked) for asked in polls)
    assert slowest < 1


def test_a_damaged_bundle_is_rejected(versions: Versions, bucket: Bucket) -> None:
    """The old version stays live, health is degraded, and the log says why once."""
    publish(bucket, versions.bundle(1))
    bad = versions.bundle(2)
    publish(bucket, bad)
    point(bucket, versions.bundle(1))
    graph = bad.read("model.onnx")
    bucket.put(f"swapped/{bad.manifest.version}/model.onnx", graph[:-1] + bytes([graph[-1] ^ 1]))
    settings = {"MODEL_REFRESH_SECONDS": "0.2", **bucket.location.environment}
    with serving(f"{bucket.location.uri}/swapped", WEB_CONCURRENCY="1", **settings) as server:
        good = version(server)
        point(bucket, bad)
        wait_for(lambda: requests.get(f"{server}/health", timeout=10).json()["status"] != "ok")
        time.sleep(1)
        health = requests.get(f"{server}/health", timeout=10)
        answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=10)
        refusals = lines(server, "the model was not renewed")
        publish(bucket, versions.bundle(3))
        wait_for(lambda: version(server) == versions.bundle(3).manifest.version)
        after = requests.get(f"{server}/health", timeout=10).json()

    assert health.status_code == 200
    assert health.json()["status"] == "degraded"
    assert answer.json()["model"]["version"] == good
    assert len(refusals) == 1
    assert bad.manifest.version in refusals[0]["reason"]
    assert "sha256" in refusals[0]["reason"]
    assert after["status"] == "ok"


def test_a_damaged_first_bundle_is_tried_again(versions: Versions, bucket: Bucket) -> None:
    """The server starts and answers 503, and loads the bundle once it is repaired."""
    publish(bucket, versions.bundle(1))
    manifest = f"swapped/{versions.bundle(1).manifest.version}/manifest.json"
    bucket.put(manifest, b"{}")
    settings = {"MODEL_REFRESH_SECONDS": "0.3", **bucket.location.environment}
    with serving(f"{bucket.location.uri}/swapped", WEB_CONCURRENCY="1", **settings) as server:
        refused = requests.post(f"{server}/v0/predict", json=ROW, timeout=10)
        bucket.put(manifest, versions.bundle(1).raw)
        wait_for(lambda: bool(lines(server, "model loaded")))

    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"


def test_sighup_reloads_the_model(versions: Versions, bucket: Bucket) -> None:
    """Without MODEL_REFRESH_SECONDS, SIGHUP loads the new version; no request is lost."""
    publish(bucket, versions.bundle(1))
    with serving(f"{bucket.location.uri}/swapped", **bucket.location.environment) as server:
        assert version(server) == versions.bundle(1).manifest.version
        publish(bucket, versions.bundle(2))
        time.sleep(0.5)
        assert version(server) == versions.bundle(1).manifest.version
        server.process.send_signal(signal.SIGHUP)
        answers: list[requests.Response] = []
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            answers.append(requests.post(f"{server}/v0/predict", json=ROW, timeout=10))
        loaded = lines(server, "model loaded")

    assert {answer.status_code for answer in answers} == {200}
    live = versions.bundle(2).manifest.version
    assert {answer.json()["model"]["version"] for answer in answers[-200:]} == {live}
    # The master loaded it once more, and the workers share it.
    assert len(loaded) == 2


def test_a_replaced_worker_serves_the_live_version(versions: Versions, bucket: Bucket) -> None:
    """A worker forked after a swap never answers from the model that the master started with."""
    publish(bucket, versions.bundle(1))
    settings = {"MODEL_REFRESH_SECONDS": "0.5", **bucket.location.environment}
    with serving(f"{bucket.location.uri}/swapped", WEB_CONCURRENCY="1", **settings) as server:
        publish(bucket, versions.bundle(2))
        live = versions.bundle(2).manifest.version
        wait_for(lambda: version(server) == live)
        [worker] = psutil.Process(server.process.pid).children()
        worker.kill()
        worker.wait(10)
        seen = set()
        for _ in range(50):
            with contextlib.suppress(requests.ConnectionError):
                seen.add(version(server))
            time.sleep(0.02)

    assert seen == {live}


def test_a_folder_s_model_is_swapped(versions: Versions, tmp_path: Path) -> None:
    """On a laptop a newly trained model is swapped into the running server."""
    folder = tmp_path / "swapped"
    shutil.copytree(versions.folder, folder)
    first, second = (versions.bundle(n).manifest.version for n in (1, 2))
    (folder / "latest").write_text(first)
    with serving(folder, MODEL_REFRESH_SECONDS="0.2") as server:
        assert version(server) == first
        pointer = read_latest(FolderStore(folder))
        move_latest(FolderStore(folder), second, pointer)
        wait_for(lambda: {version(server) for _ in range(20)} == {second})


def health(server: Server) -> Any:
    """Fetch /health."""
    return requests.get(f"{server}/health", timeout=10).json()


def test_an_invalid_latest_is_degraded(versions: Versions, tmp_path: Path) -> None:
    """If `latest` names no version, the old one stays live and health is degraded until fixed."""
    folder = tmp_path / "swapped"
    shutil.copytree(versions.folder, folder)
    first = versions.bundle(1).manifest.version
    (folder / "latest").write_text(first)
    with serving(folder, WEB_CONCURRENCY="1", MODEL_REFRESH_SECONDS="0.2") as server:
        assert version(server) == first
        (folder / "latest").write_text("../../etc")
        wait_for(lambda: health(server)["status"] == "degraded")
        assert version(server) == first
        (folder / "latest").write_text(first)
        wait_for(lambda: health(server)["status"] == "ok")


def test_sighup_to_a_damaged_model_is_degraded(versions: Versions, tmp_path: Path) -> None:
    """New workers serve the old model until SIGHUP comes with a good one."""
    folder = tmp_path / "swapped"
    shutil.copytree(versions.folder, folder)
    first, second, third = (versions.bundle(n).manifest.version for n in (1, 2, 3))
    (folder / "latest").write_text(first)
    (folder / second / "model.onnx").write_bytes(b"no graph")
    with serving(folder) as server:
        assert version(server) == first
        (folder / "latest").write_text(second)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: {health(server)["status"] for _ in range(20)} == {"degraded"})
        assert {version(server) for _ in range(20)} == {first}
        [refusal] = lines(server, "the model was not renewed")
        assert second in refusal["reason"]
        (folder / "latest").write_text(third)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: {version(server) for _ in range(20)} == {third})
        assert health(server)["status"] == "ok"


@pytest.mark.slow
def test_sighup_to_a_model_on_scikit_learn(versions: Versions, tmp_path: Path) -> None:
    """A pickle is loaded in each worker, not in the master, and replaces the old model."""
    folder = tmp_path / "swapped"
    shutil.copytree(versions.folder, folder)
    first, second = (versions.bundle(n).manifest.version for n in (1, 2))
    (folder / "latest").write_text(first)
    manifest = folder / second / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name": "onnx"', '"name": "sklearn"'))
    with serving(folder, ALLOW_PICKLE="1") as server:
        assert version(server) == first
        (folder / "latest").write_text(second)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: {version(server) for _ in range(20)} == {second})
        engines = {line["engine"] for line in lines(server, "model loaded")}

    assert engines == {"onnx", "sklearn"}


def test_sighup_to_a_worker_is_ignored(versions: Versions, tmp_path: Path) -> None:
    """A worker ignores SIGHUP, which a closed terminal sends to its whole process group."""
    folder = tmp_path / "swapped"
    shutil.copytree(versions.folder, folder)
    with serving(folder, WEB_CONCURRENCY="1") as server:
        before = version(server)
        [worker] = psutil.Process(server.process.pid).children()
        worker.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert version(server) == before
        assert psutil.Process(server.process.pid).children() == [worker]

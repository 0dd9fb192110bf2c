"""GET /metrics: the counts of all workers together, in Prometheus's format."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families
from serving.adapters.flask import create_app

from tests.helpers.example import ROW
from tests.helpers.http.wire import talk
from tests.helpers.platforms import direct
from tests.helpers.servers import Server, end_a_worker, serving, wait_for, workers
from tests.helpers.versions import versions_of

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str) -> Samples:
    """Read every sample, and check that each occurs once."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def scrape(server: Server) -> Samples:
    """Fetch the metrics on a new connection, so that any worker may answer."""
    answer = requests.get(f"{server}/metrics", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(answer.text)


def total(samples: Samples, name: str, /, **labels: str) -> float:
    """Add up the samples that have these labels."""
    return sum(
        value
        for (found, pairs), value in samples.items()
        if found == name and labels.items() <= set(pairs)
    )


def ask(server: Server, count: int) -> None:
    """Send this many requests of three rows each, in parallel, on new connections."""
    rows = {"instances": [ROW] * 3}

    def one(_: int) -> None:
        requests.post(f"{server}/v0/predict", json=rows, timeout=30).raise_for_status()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(count)))


def test_metrics_add_up_all_workers(credit: Path) -> None:
    """Either worker reports every request, every row and the time they took."""
    with serving(credit, WEB_CONCURRENCY="2", LOG_LEVEL="warning") as server:
        wait_for(lambda: len(workers(server)) == 2)
        ask(server, 200)
        requests.post(f"{server}/v0/predict", json={}, timeout=10)
        seen = [scrape(server) for _ in range(20)]
        [version] = {
            dict(pairs)["version"] for name, pairs in seen[0] if name == "canoa_model_workers"
        }

    for number, samples in enumerate(seen):
        predict = {"method": "POST", "route": "/v0/predict"}
        assert total(samples, "canoa_requests_total", **predict, status="200") == 200
        assert total(samples, "canoa_requests_total", **predict, status="422") == 1
        assert total(samples, "canoa_requests_total", route="/metrics") == number
        assert total(samples, "canoa_rows_total") == 600
        durations = {"route": "/v0/predict"}
        assert total(samples, "canoa_request_duration_seconds_count", **durations) == 201
        assert (
            total(samples, "canoa_request_duration_seconds_bucket", **durations, le="+Inf") == 201
        )
        assert 0 < total(samples, "canoa_request_duration_seconds_sum", **durations) < 201
        assert total(samples, "canoa_model_loads_total", outcome="loaded") == 1
        assert total(samples, "canoa_model_loads_total", outcome="refused") == 0
        assert total(samples, "canoa_model_workers", version=version, name="credit") == 2
        assert time.time() - 60 < total(samples, "canoa_start_time_seconds") < time.time()
    assert version == (credit / "latest").read_text().strip()


def test_counts_survive_their_workers(credit: Path) -> None:
    """Counts are kept when workers die, and the number of files stays the number of workers."""
    with serving(credit, WEB_CONCURRENCY="2", LOG_LEVEL="error") as server:
        wait_for(lambda: len(workers(server)) == 2)
        folder = metrics_folder(server)
        ask(server, 40)
        files = set()
        for turn in range(1, 5):
            end_a_worker(server, signal.SIGKILL if turn % 2 else signal.SIGTERM)
            ask(server, 40)
            samples = scrape(server)
            assert total(samples, "canoa_requests_total", status="200", route="/v0/predict") == (
                40 + 40 * turn
            )
            wait_for(lambda: total(scrape(server), "canoa_model_workers") == 2)
            files |= {path.name for path in folder.iterdir()}
        starts = total(scrape(server), "canoa_worker_starts_total")
        server.process.terminate()
        server.process.wait(20)

    assert starts == 2 + 4
    assert {name.rpartition("_")[2] for name in files} == {"0.db", "1.db", "master.db"}
    assert not folder.exists()


def metrics_folder(server: Server) -> Path:
    """Find the workers' metrics folder by the files that they have mapped."""
    maps = Path(f"/proc/{workers(server)[0].pid}/maps").read_text()
    [folder] = {
        line.split()[-1]
        for line in maps.splitlines()
        if "/canoa-metrics-" in line and "counter" in line
    }
    return Path(folder).parent


def test_labels_are_bounded(credit: Path) -> None:
    """All unknown paths share one label, and so do all unsupported methods."""
    with serving(credit, WEB_CONCURRENCY="1", LOG_LEVEL="error") as server:
        for n, method in enumerate(("PROPFIND", "MKCOL", "REPORT", "PURGE", "SEARCH", "LOCK")):
            requests.request(method, f"{server}/path/{n}?{n}", timeout=10)
            requests.request(method, f"{server}/health", timeout=10)
            talk(server, b"%s /%d HTTP/0.9\r\n\r\n" % (method.encode(), n))
        samples = scrape(server)

    found = {tuple(sorted(pairs)) for name, pairs in samples if name == "canoa_requests_total"}
    assert found == {
        (("method", "other"), ("route", "none"), ("status", "404")),
        (("method", "other"), ("route", "none"), ("status", "400")),
        (("method", "other"), ("route", "/health"), ("status", "405")),
    }


def test_a_swap_and_a_rejected_model_are_counted(credit: Path, tmp_path: Path) -> None:
    """After a swap both workers report the new version; a rejected version is counted."""
    model = versions_of(credit, tmp_path / "models", ["1", "2", "3"])
    graph = model / "3" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    with serving(model, MODEL_REFRESH_SECONDS="0.2", WEB_CONCURRENCY="2") as server:
        wait_for(lambda: total(scrape(server), "canoa_model_workers", version="1") == 2)
        (model / "latest").write_text("2")
        wait_for(lambda: total(scrape(server), "canoa_model_workers", version="2") == 2)
        samples = scrape(server)
        assert total(samples, "canoa_model_workers", version="1") == 0
        assert total(samples, "canoa_model_loads_total", outcome="loaded") == 3
        (model / "latest").write_text("3")
        wait_for(lambda: total(scrape(server), "canoa_model_loads_total", outcome="refused") == 2)


def test_one_process_has_metrics(credit: Path) -> None:
    """The app alone, under any server, has the same page."""
    with direct(credit):
        client = create_app().test_client()
        client.post("/v0/predict", json=ROW)
        before = parse(client.get("/metrics").text)
        client.post("/v0/predict", json=ROW)
        after = parse(client.get("/metrics").text)

    assert total(after, "canoa_rows_total") == total(before, "canoa_rows_total") + 1
    assert total(after, "canoa_model_workers") == 1

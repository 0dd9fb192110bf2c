"""`make bench`: every measurement in one run, and one table."""

from __future__ import annotations

import argparse
import contextlib
import csv
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import msgspec
import pandas as pd
from rich.console import Console
from serving.bundle.reader import Bundle, open_bundle
from serving.model.engines.inputs import feed_of
from serving.model.model import open_model
from serving.routes import load_functions
from serving.stores.folder import FolderStore
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from tests.bench import measure
from tests.bench.lambdas import measure_lambda
from tests.bench.servers import Starter, starters
from tests.bench.table import Figures
from tests.helpers.platforms import direct
from tests.helpers.servers import ROOT, Server

SERVERS = ("canoa, adapter", "tutorial", "constant")
COLD = ("canoa, adapter", "canoa, emulator", "tutorial", "bare, gunicorn", "bare, emulator")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--model-uri", type=Path, default=Path("models/credit"))
    parser.add_argument(
        "--rounds", type=int, default=9, help="of cold starts; all else in proportion"
    )
    options = parser.parse_args()
    bundle = Path(str(open_bundle(FolderStore(options.model_uri)).location)).absolute()
    figures = Figures()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = starters(bundle, folder)
        instances = _instances()
        one = msgspec.json.encode({"instances": instances[:1]})
        console.print("cold starts …")
        _cold(figures, {name: every[name] for name in COLD}, one, options.rounds)
        with _all_running(every) as servers:
            console.print("latency, throughput, memory …")
            _requests(figures, servers, one, folder, min(5, options.rounds))
            console.print("batches …")
            _batches(figures, servers["canoa, adapter"], bundle, instances)
    console.print("in process …")
    _own_code(figures, bundle, one)
    console.print("AWS Lambda …")
    costs = measure_lambda(figures, bundle, one, options.rounds)
    console.print(figures.table, costs)


def _cold(figures: Figures, chosen: dict[str, Starter], body: bytes, rounds: int) -> None:
    times = measure.cold_start(chosen, body, rounds)
    for ours, bare in (("canoa, adapter", "bare, gunicorn"), ("canoa, emulator", "bare, emulator")):
        for peer, bound in (("tutorial", 1 / 3), (bare, 1.5)):
            figures.compare(
                f"cold start: {ours}", times[ours], (peer, times[peer]), bound, unit="ms"
            )


def _requests(
    figures: Figures, servers: dict[str, Server], body: bytes, folder: Path, turns: int
) -> None:
    times = measure.latency(servers, body, folder, turns)
    ours = times["canoa, adapter"]
    figures.compare("one instance, p50", ours, ("tutorial", times["tutorial"]), 1 / 40, unit="ms")
    rates = measure.throughput(servers, body, folder, turns)
    ours = rates["canoa, adapter"]
    for peer, bound in (("tutorial", -40.0), ("constant", -0.5)):
        figures.compare("requests at 16", ours, (peer, rates[peer]), bound, unit="/s")
    sizes = {name: measure.memory(server) for name, server in servers.items()}
    ours = sizes["canoa, adapter"]
    figures.compare("memory (PSS)", ours, ("tutorial", sizes["tutorial"]), 0.6, unit="MB")


def _batches(
    figures: Figures, server: Server, bundle: Path, instances: list[dict[str, Any]]
) -> None:
    model = open_model(Bundle(FolderStore(bundle)))
    engine: Any = model._engine
    pipeline = joblib.load(bundle / "model.joblib")
    for count in (1_000, 10_000):
        rows = (instances * (count // len(instances) + 1))[:count]
        body = msgspec.json.encode({"instances": rows})
        feed = feed_of(engine._inputs, model.schema.decode(body, count).columns)
        answer = {"predictions": model.predict(model.schema.decode(body, count).columns)}
        frame = pd.DataFrame(rows)
        connection = measure.connect(server)
        calls: dict[str, Callable[[], object]] = {
            "ours": partial(measure.post, connection, body),
            "runtime": partial(engine._session.run, engine._outputs, feed),
            "decode": partial(msgspec.json.decode, body),
            "encode": partial(msgspec.json.encode, answer),
            "sklearn": partial(pipeline.predict_proba, frame),
        }
        times = measure.in_process(calls, 20)
        floor = times["runtime"] + times["decode"] + times["encode"]
        figures.compare(
            f"{count:,} instances", times["ours"], ("onnxruntime + JSON", floor), 1.5, unit="ms"
        )
        figures.tell("  scikit-learn alone", "", f"{times['sklearn'] * 1e3:,.2f} ms")


def _own_code(figures: Figures, bundle: Path, body: bytes) -> None:
    headers = [("Content-Type", "application/json")]
    with direct(bundle, LOG_LEVEL="warning"):
        functions = {f.__name__: f for f in load_functions(ROOT / "functions")}

        def request(path: str, **how: Any) -> Any:
            made = Request(EnvironBuilder(path, headers=headers, **how).get_environ())
            made.get_data()
            return made

        predict = partial(functions["predict"], request("/v0/predict", method="POST", data=body))
        explain = partial(functions["explain"], request("/v0/explain", method="POST", data=body))
        page = partial(functions["index"], request("/"))
        time_of = measure.in_process({"predict": predict}, 5_000)["predict"]
        cpu = measure.in_process({"explain": explain, "page": page}, 50, time.process_time)
        size = len(page()[0])
    figures.compare("our own code, one instance", time_of, ("bound", 100e-6), 1.0, unit="ms")
    figures.compare("explain, one instance, CPU", cpu["explain"], ("bound", 0.03), 1.0, unit="ms")
    figures.compare("the page, CPU", cpu["page"], ("bound", 0.005), 1.0, unit="ms")
    figures.compare("the page's size", size, ("bound", 60e3), 1.0, unit="kB")


def _instances() -> list[dict[str, Any]]:
    """Return the example's rows as a client sends them."""
    with (ROOT / "training" / "data" / "credit.csv").open(encoding="utf-8") as file:
        return [
            {name: _value(text) for name, text in row.items() if name != "status"}
            for row in csv.DictReader(file)
        ]


def _value(text: str) -> Any:
    if not text:
        return None
    return int(text) if text.lstrip("-").isdecimal() else text


@contextlib.contextmanager
def _all_running(every: dict[str, Starter]) -> Iterator[dict[str, Server]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(every[name]()) for name in SERVERS}


if __name__ == "__main__":
    main()

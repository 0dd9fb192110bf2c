"""`make bench`: everything side by side in one run, and one table."""

from __future__ import annotations

import argparse
import contextlib
import csv
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import msgspec
import pandas as pd
from rich.console import Console
from rich.table import Table
from serving.bundle import Bundle, open_bundle
from serving.folder import FolderStore
from serving.loader import open_model
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from tests.bench import measure
from tests.bench.servers import Starter, starters
from tests.platforms import direct
from tests.servers import ROOT, Server

SERVERS = ("canoa, adapter", "tutorial", "constant")
COLD = ("canoa, adapter", "canoa, emulator", "tutorial", "bare, gunicorn", "bare, emulator")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--model-uri", type=Path, default=Path("models/credit"))
    parser.add_argument("--rounds", type=int, default=9, help="of cold starts")
    options = parser.parse_args()
    bundle = Path(str(open_bundle(FolderStore(options.model_uri)).place)).absolute()
    table = Table("figure", "Canoa", "peer", "ratio", "bound", "", title="measured in this run")
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = starters(bundle, folder)
        instances = _instances()
        one = msgspec.json.encode({"instances": instances[:1]})
        console.print("cold starts …")
        _cold(table, {name: every[name] for name in COLD}, one, options.rounds)
        with _all_running(every) as servers:
            console.print("latency, throughput, memory …")
            _requests(table, servers, one, folder)
            console.print("batches …")
            _batches(table, servers["canoa, adapter"], bundle, instances)
    console.print("in process …")
    _own_code(table, bundle, one)
    console.print(table)


def _row(  # noqa: PLR0917  # a table's columns
    table: Table, figure: str, ours: float, peer: tuple[str, float], bound: float, unit: str
) -> None:
    """Add a row; a bound below zero is one that the ratio must reach, otherwise not exceed."""
    name, value = peer
    ratio = ours / value
    met = ratio >= -bound if bound < 0 else ratio <= bound
    sign = "≥" if bound < 0 else "≤"
    scale = {"ms": 1e3, "MB": 1e-6, "/s": 1.0}[unit]
    table.add_row(
        figure,
        f"{ours * scale:,.2f} {unit}",
        f"{value * scale:,.2f} {unit} ({name})",
        f"{ratio:.3f}",
        f"{sign} {abs(bound):.3f}",
        "met" if met else "missed",
    )


def _cold(table: Table, chosen: dict[str, Starter], body: bytes, rounds: int) -> None:
    times = measure.cold_start(chosen, body, rounds)
    for ours, bare in (("canoa, adapter", "bare, gunicorn"), ("canoa, emulator", "bare, emulator")):
        for peer, bound in (("tutorial", 1 / 3), (bare, 1.5)):
            _row(table, f"cold start: {ours}", times[ours], (peer, times[peer]), bound, "ms")


def _requests(table: Table, servers: dict[str, Server], body: bytes, folder: Path) -> None:
    times = measure.latency(servers, body, folder)
    ours = times["canoa, adapter"]
    _row(table, "one instance, p50", ours, ("tutorial", times["tutorial"]), 1 / 40, "ms")
    rates = measure.throughput(servers, body, folder)
    ours = rates["canoa, adapter"]
    for peer, bound in (("tutorial", -40.0), ("constant", -0.5)):
        _row(table, "requests at 16", ours, (peer, rates[peer]), bound, "/s")
    sizes = {name: measure.memory(server) for name, server in servers.items()}
    ours = sizes["canoa, adapter"]
    _row(table, "memory (PSS)", ours, ("tutorial", sizes["tutorial"]), 0.6, "MB")


def _batches(table: Table, server: Server, bundle: Path, instances: list[dict[str, Any]]) -> None:
    model = open_model(Bundle(FolderStore(bundle)), allow_pickle=False)
    engine: Any = model._engine
    pipeline = joblib.load(bundle / "model.joblib")
    for count in (1_000, 10_000):
        rows = (instances * (count // len(instances) + 1))[:count]
        body = msgspec.json.encode({"instances": rows})
        feed = engine._feed(model.schema.decode(body, count).columns)
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
        _row(table, f"{count:,} instances", times["ours"], ("onnxruntime + JSON", floor), 1.5, "ms")
        table.add_row("  scikit-learn alone", "", f"{times['sklearn'] * 1e3:,.2f} ms", "", "", "")


def _own_code(table: Table, bundle: Path, body: bytes) -> None:
    headers = [("Content-Type", "application/json")]
    environ = EnvironBuilder("/v0/predict", method="POST", data=body, headers=headers).get_environ()
    from serving.routes import load_functions

    with direct(bundle, LOG_LEVEL="warning"):
        [predict] = [f for f in load_functions(ROOT / "functions") if f.__name__ == "predict"]
        request: Any = Request(environ)
        request.get_data()
        times = measure.in_process({"ours": lambda: predict(request)}, 5_000)
    _row(table, "our own code, one instance", times["ours"], ("bound", 100e-6), 1.0, "ms")


def _instances() -> list[dict[str, Any]]:
    """The example's rows, as a client sends them."""
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

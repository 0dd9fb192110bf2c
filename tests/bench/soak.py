"""`make soak`: minutes at the highest rate that the server holds, and then with workers killed."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from urllib3.util.retry import Retry

from tests.bench.measure import memory
from tests.bench.open_loop import Figures, send_at
from tests.helpers.example import ROW
from tests.helpers.http.load import CLIENTS, Clients
from tests.helpers.servers import Server, end_a_worker, serving, workers

BODY = json.dumps({"instances": [ROW]}).encode()
#: The bound on the 99th percentile, in seconds.
P99 = 0.050
TRIAL_SECONDS = 6
#: Seconds between two kills of a worker, and of all kills together.
EVERY, FOR_SECONDS = 10, 60


def main() -> None:
    """Find the highest rate, soak, kill workers, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--model-uri", type=Path, default=Path("models/credit"))
    parser.add_argument("--seconds", type=int, default=300, help="length of the soak")
    options = parser.parse_args()
    console = Console()
    with serving(options.model_uri.absolute(), LOG_LEVEL="warning") as server:
        while len(workers(server)) < 2:
            time.sleep(0.1)
        send_at(server, BODY, rate=200, seconds=2)
        rate = _highest_rate(server, console)
        # A rate that holds for seconds may not hold for minutes; then a lower one is tried.
        for _ in range(5):
            with console.status(f"soaking for {options.seconds} s at {rate:,.0f} requests/s …"):
                before = memory(server)
                figures = send_at(server, BODY, rate=rate, seconds=options.seconds)
                after = memory(server)
            console.print(_soaked(rate, options.seconds, figures, before, after))
            if figures.errors or figures.at(0.99) < P99:
                break
            rate *= 0.85
        seconds = min(FOR_SECONDS, options.seconds)
        with console.status("stopping workers …"):
            table = Table("every 10 s", "requests", "lost", "sent again", title="workers stopped")
            table.add_row("SIGTERM, clients do not retry", *_ended(server, signal.SIGTERM, seconds))
            retry = Retry(3, allowed_methods=None, backoff_factor=0.05)
            row = _ended(server, signal.SIGKILL, seconds, retry)
            table.add_row("SIGKILL, clients retry closed connections", *row)
        console.print(table)


def _highest_rate(server: Server, console: Console) -> float:
    """Raise the rate until it does not hold, and then bisect, at most twelve trials."""
    held, missed = 0.0, None
    rate = 500.0
    for _ in range(12):
        with console.status(f"trying {rate:,.0f} requests/s …"):
            figures = send_at(server, BODY, rate=rate, seconds=TRIAL_SECONDS)
        holds = not figures.errors and figures.at(0.99) < P99
        console.print(f"{rate:,.0f}/s: p99 {figures.at(0.99) * 1e3:,.1f} ms")
        if holds:
            held = rate
        else:
            missed = rate
        if missed and (missed - held) / missed < 0.05:
            break
        rate = (held + missed) / 2 if missed else rate * 1.6
    if not held:
        raise SystemExit("the server does not hold even the lowest rate")
    return held


def _soaked(rate: float, seconds: int, figures: Figures, before: float, after: float) -> Table:
    table = Table("", "", title=f"{seconds} s at {rate:,.0f} requests/s")
    table.add_row("throughput", f"{figures.throughput:,.0f}/s")
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        table.add_row(name, f"{figures.at(share) * 1e3:,.2f} ms")
    table.add_row("memory (PSS of all) at the start", f"{before / 1e6:,.1f} MB")
    table.add_row("at the end", f"{after / 1e6:,.1f} MB")
    table.add_row("requests", f"{len(figures.took):,}")
    table.add_row("errors", str(dict(figures.errors) or 0))
    return table


def _ended(
    server: Server, by: signal.Signals, seconds: int, retry: Retry | None = None
) -> tuple[str, str, str]:
    """End a worker every ten seconds under load."""
    clients = Clients(server, retry)
    with clients.asking(), _every(EVERY, server, by):
        time.sleep(seconds)
    lost = clients.outcomes.total() - clients.outcomes["200"]
    most = f"{clients.retried} (at most {CLIENTS} each time)" if retry else "-"
    return f"{clients.outcomes.total():,}", str(lost), most


@contextlib.contextmanager
def _every(seconds: float, server: Server, by: signal.Signals) -> Iterator[None]:
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            end_a_worker(server, by)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()

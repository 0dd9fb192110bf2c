"""AWS Lambda's figures, under its own runtime client: cold and warm, memory, cost."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from rich.table import Table
from serving.bundle.trust import Trust

from tests.bench.peers import LAMBDA_BARE, LAMBDA_JOBLIB, LAMBDA_TIMED
from tests.bench.table import Figures
from tests.helpers.aws.lambdas import Runtime, function_package, http_event, runtime
from tests.helpers.aws.layers import NATIVE, NATIVE_SKLEARN, unzipped
from tests.helpers.control_group import cpu_share
from tests.helpers.stores import s3, s3_place
from training.registry.publish import publish

__all__ = ["measure_lambda"]

WARM = 2_000
#: AWS's list price for arm64, in dollars: a GB-second, and a million requests.
GB_SECOND, MILLION_REQUESTS = 0.0000133334, 0.20
#: The memory in MB at which a function has one full core; below, the share is proportional.
ONE_CORE = 1769
SIZES = (256, 512, 1024)


class _Function(NamedTuple):
    """How to run one function."""

    handler: str
    layer: Path
    package: Path
    environment: dict[str, str]

    @contextlib.contextmanager
    def run(self, prefix: list[str] | None = None) -> Iterator[Runtime]:
        with runtime(
            self.environment,
            handler=self.handler,
            layer=self.layer,
            package=self.package,
            prefix=prefix or [],
        ) as api:
            yield api


def measure_lambda(figures: Figures, bundle: Path, body: bytes, rounds: int) -> Table:
    """
    Compare Canoa with the usual handler, and with the smallest possible one.

    Args:
        figures: Gets a row per figure.
        bundle: A version's folder.
        body: One instance.
        rounds: The number of cold starts.

    Returns:
        The table of costs.
    """
    event = http_event("POST", "/v0/predict", body, {"Content-Type": "application/json"})
    with tempfile.TemporaryDirectory() as name, s3() as store:
        place = s3_place(store, store)
        with _environment(place.environment):
            publish(str(bundle), place.uri, Trust())
        remote = {"MODEL_URI": f"{place.uri}/credit", **place.environment}
        functions = _functions(Path(name), bundle, remote)
        cold = _cold_starts(functions, event, rounds)
        ours, fetched = cold["canoa"], cold["canoa, model in S3"]
        figures.compare("Lambda, cold", ours, ("joblib", cold["joblib"]), 1 / 5, unit="ms")
        figures.compare("Lambda, cold", ours, ("bare", cold["bare"]), 1.3, unit="ms")
        figures.compare("Lambda, fetch from S3", fetched - ours, ("bound", 0.150), 1.0, unit="ms")
        warm, memory = _warm(functions["canoa, timed"], event)
        figures.compare("Lambda, warm, our part", warm, ("bound", 160e-6), 1.0, unit="µs")
        figures.compare("Lambda, peak memory", memory, ("bound", 150e6), 1.0, unit="MB")
        return _costs(functions, event, rounds)


def _functions(folder: Path, bundle: Path, remote: dict[str, str]) -> dict[str, _Function]:
    """Write the peers' packages to *folder*, and ours with a clock around it."""
    for name, source in (("joblib_", LAMBDA_JOBLIB), ("bare", LAMBDA_BARE)):
        (folder / name).mkdir()
        (folder / name / "function.py").write_text(source)
    shutil.copytree(function_package(), folder / "timed")
    (folder / "timed" / "function.py").write_text(LAMBDA_TIMED)
    light, heavy = unzipped(NATIVE), unzipped(NATIVE_SKLEARN)
    shared = {"FUNCTION_TARGET": "predict", "AUTH": "none", "OMP_NUM_THREADS": "1"}
    ours = "serving.adapters.aws.handler"
    local = shared | {"MODEL_URI": str(bundle)}
    remote = shared | remote
    joblib = shared | {"PIPELINE": str(bundle / "model.joblib"), "OPENBLAS_NUM_THREADS": "1"}
    graph = shared | {"GRAPH": str(bundle / "model.onnx")}
    return {
        "canoa": _Function(ours, light, function_package(), local),
        "canoa, model in S3": _Function(ours, light, function_package(), remote),
        "canoa, timed": _Function("function.handler", light, folder / "timed", remote),
        "joblib": _Function("function.handler", heavy, folder / "joblib_", joblib),
        "bare": _Function("function.handler", light, folder / "bare", graph),
    }


def _cold_starts(
    functions: dict[str, _Function], event: dict[str, Any], rounds: int
) -> dict[str, float]:
    """Return median seconds from the client's start to its first answer, rounds interleaved."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            took = _cold_start(function, event)
            if turn:  # the first round warms the page cache
                found[name].append(took)
    return {name: median(times) for name, times in found.items()}


def _cold_start(
    function: _Function, event: dict[str, Any], prefix: list[str] | None = None
) -> float:
    with function.run(prefix) as api:
        _invoke(api, event)
        return time.perf_counter() - api.spawned


def _warm(function: _Function, event: dict[str, Any]) -> tuple[float, float]:
    """Return our handler's median seconds per invocation, and the process's peak resident bytes."""
    with function.run() as api:
        took = [float(_invoke(api, event)["headers"]["X-Took"]) for _ in range(WARM)]
        return median(took[WARM // 10 :]), _peak(api)


def _peak(api: Runtime) -> float:
    status = Path(f"/proc/{api.process.pid}/status").read_text("utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return float(line.split()[1]) * 1024


def _costs(functions: dict[str, _Function], event: dict[str, Any], rounds: int) -> Table:
    """
    Compute the price of a million predictions of one row each, by memory.

    AWS bills each millisecond begun. Invocations run without a pause, with the share of a core that
    the memory buys, so that no handler saves up CPU time.
    """
    table = Table("", *(f"{size} MB" for size in SIZES), title="Lambda, by memory")
    for name in ("canoa, model in S3", "joblib"):
        cold, billed, cost = [], [], []
        for size in SIZES:
            try:
                start, took, peak = _throttled(functions[name], event, size, rounds)
            except OSError as error:
                table.caption = f"not measured: no control groups here ({error.strerror})"
                return table
            price = MILLION_REQUESTS + 1e6 * took * size / 1024 * GB_SECOND
            fits = "" if peak < size * 2**20 * 0.9 else " (memory too small)"
            cold.append(f"{start * 1e3:,.0f} ms{fits}")
            billed.append(f"{took * 1e3:,.1f} ms")
            cost.append(f"${price:,.2f}")
        table.add_row(f"{name}: cold", *cold)
        table.add_row("  billed for a prediction", *billed)
        table.add_row("  a million predictions", *cost)
    return table


def _throttled(
    function: _Function, event: dict[str, Any], size: int, rounds: int
) -> tuple[float, float, float]:
    """Return seconds of a cold start, billed seconds per invocation, and peak bytes."""
    with cpu_share(min(1.0, size / ONE_CORE)) as limited:
        cold = median(_cold_start(function, event, limited.prefix) for _ in range(min(3, rounds)))
        with function.run(limited.prefix) as api:
            _invoke(api, event)
            billed = []
            for _ in range(min(300, 35 * rounds)):
                began = time.perf_counter()
                _invoke(api, event)
                billed.append(math.ceil((time.perf_counter() - began) * 1e3) / 1e3)
            return cold, mean(billed), _peak(api)


def _invoke(api: Runtime, event: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = api.invoke(event, timeout=60)
    if answer["statusCode"] != 200:
        raise RuntimeError(f"answered {answer}\n{api.logged()}")
    return answer


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set *variables* while the context is open."""
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield

"""Starts Canoa and its peers with the same workers, threads and BLAS threads, bytecode warm."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import peers
from tests.helpers.servers import Server, start

__all__ = ["Starter", "starters"]

Starter = Callable[[], contextlib.AbstractContextManager[Server]]

_GUNICORN = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:{port}"]
_SAME = [
    "--worker-class",
    "gthread",
    "--threads",
    "4",
    "--keep-alive",
    "75",
    "--log-level",
    "error",
]
_FRAMEWORK = [sys.executable, "-m", "functions_framework", "--host", "127.0.0.1"]


def starters(bundle: Path, folder: Path) -> dict[str, Starter]:
    """Write the peers to *folder*, and return how to start each, and Canoa, on *bundle*."""
    for name in ("tutorial", "floor", "bare", "bare_function"):
        (folder / f"{name}.py").write_text(getattr(peers, name.upper()))
    ours = [*_GUNICORN, "--config", "python:serving.adapters.gunicorn"]
    function = ["--port", "{port}", "--target", "predict", "--source"]
    commands = {
        "canoa, adapter": [*ours, "serving.adapters.flask:create_app()"],
        "canoa, emulator": [*_FRAMEWORK, *function, "functions/predict.py"],
        "tutorial": [*_GUNICORN, *_SAME, "tutorial:app"],
        "constant": [*_GUNICORN, *_SAME, "--preload", "floor:app"],
        "bare, gunicorn": [*_GUNICORN, *_SAME, "--preload", "bare:app"],
        "bare, emulator": [*_FRAMEWORK, *function, str(folder / "bare_function.py")],
    }
    path = [str(folder), os.environ.get("PYTHONPATH", "")]
    environment = {
        "MODEL_URI": str(bundle),
        "PIPELINE": str(bundle / "model.joblib"),
        "GRAPH": str(bundle / "model.onnx"),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONDONTWRITEBYTECODE": "",  # every server has its bytecode
        "WEB_CONCURRENCY": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return {name: _starter(command, environment) for name, command in commands.items()}


def _starter(command: list[str], environment: dict[str, str]) -> Starter:
    @contextlib.contextmanager
    def run() -> Iterator[Server]:
        with start(command, environment) as server:
            yield server

    return run

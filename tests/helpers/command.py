"""Runs `python -m training` in a process of its own, on a pipe or on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.helpers.servers import ROOT, clean_environment
from tests.helpers.stores import SECRETS, Location

__all__ = ["assert_refused", "on_a_terminal", "run", "run_in", "start"]

_PATH = os.pathsep.join([str(ROOT), str(ROOT / "layer" / "python")])


def start(location: Location, *arguments: str) -> subprocess.Popen[str]:
    """Start the command line on pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "training", *arguments],
        env={**clean_environment(), **location.environment, "PYTHONPATH": _PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(location: Location, *arguments: str) -> tuple[int, str]:
    """Run the command line; return its exit status and its output."""
    with start(location, *arguments) as process:
        output, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors, errors
    assert not any(secret in output + errors for secret in SECRETS.values())
    return process.returncode, output + errors


def on_a_terminal(location: Location, *arguments: str, columns: int = 120) -> str:
    """Run the command line on a terminal; check that it succeeds, and return its output."""
    ours, theirs = pty.openpty()
    shown = {"TERM": "xterm", "COLUMNS": str(columns)}
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *arguments],
        env={**clean_environment(), **location.environment, "PYTHONPATH": _PATH, **shown},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            said += os.read(ours, 65536)
        except OSError:  # a terminal raises this when its last writer has closed it
            break
    os.close(ours)
    assert process.wait(10) == 0, said
    return said.decode()


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in *folder*."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    path = os.pathsep.join(
        str(ROOT / p) if p == "layer/python" else p for p in path.split(os.pathsep)
    )
    return subprocess.run(
        [sys.executable, "-m", "training", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check for exit status 2 and a last line that holds *words*, without a traceback."""
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("training: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in last

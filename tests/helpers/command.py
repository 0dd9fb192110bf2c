"""Runs `python -m training` in a new process, on a pipe or on a terminal."""

from __future__ import annotations

import multiprocessing
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.helpers.servers import ROOT, clean_environment
from tests.helpers.stores import SECRETS, Location

__all__ = ["Run", "assert_refused", "on_a_terminal", "run", "run_in", "start"]

#: Runs a command in this process; returns its exit status and its lines.
Run = Callable[..., tuple[int, list[str]]]

#: What the fork server imports once. Each command is a fork of it.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.helpers.command", "training.train", "training.pack"])
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
    done = _fork(ROOT, {**clean_environment(), **location.environment}, arguments)
    assert "Traceback" not in done.stderr, done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS.values())
    return done.returncode, done.stdout + done.stderr


def _fork(
    folder: Path, environment: dict[str, str], arguments: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a fork of a process that has imported scikit-learn already."""
    sys.audit("subprocess.Popen", "training")  # multiprocessing raises no such event
    with tempfile.TemporaryDirectory() as files:
        paths = [Path(files) / name for name in ("output", "errors")]
        # A Server is a string with a process, which cannot be pickled.
        plain = {name: str(value) for name, value in environment.items()}
        work = (tuple(map(str, arguments)), folder, plain, paths)
        process = _FORKS.Process(target=_main, args=work)
        process.start()
        process.join(60)
        assert process.exitcode is not None, "it did not end within a minute"
        output, errors = (path.read_text() for path in paths)
        return subprocess.CompletedProcess(arguments, process.exitcode, output, errors)


def _main(
    arguments: tuple[str, ...], folder: Path, environment: dict[str, str], paths: list[Path]
) -> None:
    for descriptor, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, "")  # as `python -m` does
    from training.__main__ import main

    sys.exit(main(arguments))


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
        except OSError:  # a terminal raises this once its last writer has closed it
            break
    os.close(ours)
    assert process.wait(10) == 0, said
    return said.decode()


def run_in(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in *folder*, with these settings."""
    return _fork(folder, {**clean_environment(), **settings}, arguments)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check for exit status 2 and a last line that holds *words*, without a traceback."""
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("training: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in last

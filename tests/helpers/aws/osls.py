"""Runs osls as `make deploy-aws` does, but against `tests.helpers.aws.account`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tests.helpers.aws.account import KEYS
from tests.helpers.servers import ROOT, Server, free_port, opened, program, start

__all__ = ["offline", "offline_at", "osls", "package"]


def package(server: str, folder: Path, *options: str) -> Path:
    """
    Run `osls package` and return its output folder.

    The layer is a zip of one file, so that packaging is quick and needs no build.
    """
    layer = folder / "layer.zip"
    with zipfile.ZipFile(layer, "w") as archive:
        archive.writestr("python/stand_in.py", "")
    made = folder / "package"
    osls(server, "package", "--package", str(made), "--param", f"layer={layer}", *options)
    return made


def osls(server: str, *arguments: str) -> str:
    """
    Run osls against *server*, and return its output.

    Raises:
        RuntimeError: It failed; the text is its output.
    """
    run = subprocess.run(
        [program("osls"), *arguments],
        cwd=ROOT,
        env={**os.environ, **KEYS, "AWS_ENDPOINT_URL": server, "NODE_NO_WARNINGS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"osls {' '.join(arguments)} ended with {run.returncode}:\n{run.stdout}")
    return run.stdout


def offline(model_uri: Path | str, **environment: str) -> AbstractContextManager[Server]:
    """Run every function of the repository; see `offline_at`."""
    return offline_at(ROOT, model_uri, **environment)


@contextlib.contextmanager
def offline_at(root: Path, model_uri: Path | str, **environment: str) -> Iterator[Server]:
    """
    Run every function under serverless-offline, each in its own Python process, behind HTTP.

    A request to a busy function starts another process for it, as on Lambda.

    Args:
        root: The folder with functions/, serverless.yml and tests/offline.
        model_uri: The model.
        environment: Further settings.
    """
    ports = ["--httpPort", "{port}", "--lambdaPort", str(free_port())]
    command = [program("osls"), "offline", "--noSponsor", "--host", "127.0.0.1", *ports]
    given = {
        **KEYS,
        "LAMBDA_TASK_ROOT": str(root),
        "MODEL_URI": str(model_uri),
        "NODE_NO_WARNINGS": "1",
        # The emulator starts the python3 of this environment.
        "VIRTUAL_ENV": sys.prefix,
    }
    with start(command, given | opened(environment), root / "tests" / "offline") as server:
        yield server

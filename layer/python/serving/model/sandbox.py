"""Opens a graph in a child process first, so that a harmful graph cannot harm this one.

onnxruntime is not made for untrusted graphs. One may divide by zero in a way that ends the process,
run forever, or take all memory. A process that already serves a model tries a new graph here first.
"""

from __future__ import annotations

import os
import sys

import msgspec

from serving.bundle.manifest import Manifest
from serving.errors import BundleError, SandboxFailed

__all__ = ["try_in_sandbox"]

#: How long a trial may take, from the start of the child process.
SECONDS = 30.0


class _Verdict(msgspec.Struct):
    refusal: str | None


def try_in_sandbox(manifest: Manifest, graph: bytes, *, max_model_bytes: int) -> None:
    """
    Open *graph* in a child process and score the manifest's example there.

    Args:
        manifest: The verified manifest.
        graph: The verified graph.
        max_model_bytes: The limit of memory for the graph's tensors.

    Raises:
        SandboxFailed: The graph is rejected, or the child process does not survive it.
        BundleError: No process can be started.
    """
    import subprocess

    refused = f"{manifest.name} {manifest.version} cannot be served"
    # The child finds this package here: not every platform sets PYTHONPATH.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        run = subprocess.run(
            [sys.executable, "-m", "serving.model.probe", str(max_model_bytes)],
            input=msgspec.json.encode(manifest) + b"\n" + graph,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,  # gunicorn's master may have reaped the child: its output decides
        )
    except subprocess.TimeoutExpired:
        raise SandboxFailed(f"{refused}: to open it takes over {SECONDS:g} s.") from None
    except OSError as error:
        raise BundleError(f"{refused}: no process to try it in: {error.strerror}.") from error
    try:
        verdict = msgspec.json.decode(run.stdout, type=_Verdict)
    except msgspec.DecodeError:
        raise SandboxFailed(f"{refused}: it ends the process that opens it.") from None
    if verdict.refusal is not None:
        raise SandboxFailed(verdict.refusal)

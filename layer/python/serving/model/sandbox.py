"""Opens a graph in another process first: what it does there, it does to nobody.

onnxruntime is made for graphs of one's own. One of a stranger's may divide by zero in a way that
ends the process, never end, or take all memory. Where a model is being served, and has that to
lose, another is tried here before it is let in.
"""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec

from serving.bundle.manifest import Manifest, decode_manifest
from serving.errors import BundleError, SandboxFailed
from serving.settings import settings

__all__ = ["try_in_sandbox"]

#: How long a trial may take, from the start of its process.
SECONDS = 30.0


class _Verdict(msgspec.Struct):
    refusal: str | None


def try_in_sandbox(manifest: Manifest, graph: bytes) -> None:
    """
    Open the model of a *manifest* and a *graph* that were verified, and try its example, elsewhere.

    Raises:
        SandboxFailed: It is refused there, or the process does not live through it.
        BundleError: No process can be started.
    """
    import subprocess

    refused = f"{manifest.name} {manifest.version} cannot be served"
    # Where it finds this package: not all platforms say it by a variable.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        run = subprocess.run(
            [sys.executable, "-m", "serving.model.sandbox"],
            input=msgspec.json.encode(manifest) + b"\n" + graph,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,  # gunicorn's master may have taken its status: what it wrote counts
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


def _main() -> None:
    raw, _, graph = sys.stdin.buffer.read().partition(b"\n")
    from serving.model.model import open_graph

    # The file is copied as it is read, and what is set aside for numbers is rounded up.
    _limit_memory(2 * settings().max_model_bytes + 4 * len(graph))
    refusal = None
    try:
        open_graph(decode_manifest(raw, "the manifest"), graph)
    except BundleError as error:
        refusal = str(error)
    except MemoryError:
        refusal = "it takes more memory than MAX_MODEL_BYTES."
    sys.stdout.buffer.write(msgspec.json.encode(_Verdict(refusal)))
    sys.stdout.flush()
    os._exit(0)  # a library's threads are not waited for


def _limit_memory(more: int) -> None:
    """Let this process take so many bytes *more* than it has, where that can be said."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        import serving.model.engines.onnx  # noqa: F401  # what it maps is not the graph's

        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        size = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _main()

"""Opens a graph in this process and reports whether it can be served: the child of `sandbox`."""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec

from serving.bundle.codec import decode_manifest
from serving.errors import BundleError
from serving.model.model import open_graph

__all__: list[str] = []


def _main(max_model_bytes: int) -> None:
    raw, _, graph = sys.stdin.buffer.read().partition(b"\n")
    # Parsing copies the file, and the arena for tensors rounds its size up.
    _limit_memory(2 * max_model_bytes + 4 * len(graph))
    refusal = None
    try:
        open_graph(decode_manifest(raw, "the manifest"), graph, max_model_bytes=max_model_bytes)
    except BundleError as error:
        refusal = str(error)
    except MemoryError:
        refusal = "it takes more memory than MAX_MODEL_BYTES."
    sys.stdout.buffer.write(msgspec.json.encode({"refusal": refusal}))
    sys.stdout.flush()
    os._exit(0)  # do not wait for a library's threads


def _limit_memory(more: int) -> None:
    """Let this process allocate *more* bytes than it holds now, where the platform has limits."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        import serving.model.engines.onnx  # noqa: F401  # what it maps does not count

        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        size = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _main(int(sys.argv[1]))

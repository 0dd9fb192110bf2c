"""The next step after `pack`: the command that serves the bundle, and warnings."""

from __future__ import annotations

import functools
import importlib.util
import shlex
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

from serving.bundle.manifest import GRAPH_FILE, PIPELINE_FILE, Manifest

__all__ = ["next_step"]


def next_step(model: Path, manifest: Manifest, max_model_bytes: int) -> list[str]:
    """
    Write the command that serves the bundle here, below what a server would reject it for.

    Args:
        model: The model's folder.
        manifest: The bundle's.
        max_model_bytes: The setting MAX_MODEL_BYTES, here.
    """
    lines = [f"Warning: {line}" for line in _modules(manifest.engine.modules)]
    served = GRAPH_FILE if manifest.engine.name == "onnx" else PIPELINE_FILE
    size, limit = manifest.files[served].size, ""
    if size > max_model_bytes:
        limit = f"MAX_MODEL_BYTES={size} "
        lines.append(
            f"Warning: {served} has {size} bytes, over MAX_MODEL_BYTES, which is "
            f"{max_model_bytes}. A server rejects it unless that is raised."
        )
    return [*lines, "Serve it:", f"  {limit}MODEL_URI={shlex.quote(str(model))} make run"]


def _modules(names: list[str]) -> Iterator[str]:
    installed = _installed() if names else {}
    for name in names:
        top = name.partition(".")[0]
        if found := installed.get(top):
            package = f"{found[0]}=={version(found[0])}"
            yield f"the server needs the module {name}: install {package} where you serve."
        elif _is_here(top):
            yield (
                f"the server needs the module {name}, which is in this folder. `make run` finds "
                "it here; elsewhere, put it into a package that requirements.txt installs."
            )
        else:
            yield (
                f"the server lacks the module {name}, which is not in this folder: move it here, "
                "or install it as a package."
            )


#: Reads the metadata of every package, which takes a tenth of a second.
_installed = functools.cache(packages_distributions)


def _is_here(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return any(place and Path(place).resolve().is_relative_to(Path.cwd()) for place in places)

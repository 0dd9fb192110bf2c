"""Finds the functions: one file of `functions/` is one function, of the file's name."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import cast

from serving.endpoint import Function

__all__ = ["load_functions"]


def load_functions(folder: Path) -> list[Function]:
    """
    Load every function of *folder*, by path, in order of name.

    The files are no package: functions-framework loads them by path too, and a module named like
    a library must not replace it.

    Raises:
        SystemExit: The folder has none, or a file lacks the function that its name promises.
    """
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    if not files:
        raise SystemExit(f"canoa: no functions in {folder.absolute()}: start from the repository.")
    return [_load(path) for path in files]


def _load(path: Path) -> Function:
    spec = importlib.util.spec_from_file_location(f"functions.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"canoa: {path} cannot be loaded as Python.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, path.stem, None)
    if not hasattr(function, "route"):
        raise SystemExit(f"canoa: {path} needs a function '{path.stem}' under @endpoint(…).")
    return cast(Function, function)

"""Finds the functions: one file of `functions/` is one function, of the file's name."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable
from typing import cast

from serving.endpoint import Answer, Function, Request, Route
from serving.errors import NotFound

__all__ = ["load_functions", "not_found"]


def load_functions(folder: str | os.PathLike[str], target: str | None = None) -> list[Function]:
    """
    Load every function of *folder*, or the *target* alone, by path, in order of name.

    The files are no package: functions-framework loads them by path too, and a module named like
    a library must not replace it.

    Raises:
        SystemExit: The folder has none, or not the target, or a file lacks the function that its
            name promises.
    """
    files: list[str] = []
    with contextlib.suppress(OSError):
        files = os.listdir(folder)
    names = sorted(f[:-3] for f in files if f.endswith(".py") and not f.startswith("_"))
    if not names:
        raise SystemExit(
            f"canoa: no functions in {os.path.abspath(folder)}: start from the repository."
        )
    if target is not None:
        if target not in names:
            raise SystemExit(
                f"canoa: FUNCTION_TARGET is {target!r}, but must be one of {', '.join(names)}."
            )
        names = [target]
    return [_load(os.path.join(folder, f"{name}.py"), name) for name in names]


def not_found(routes: list[Route]) -> Callable[[Request], Answer]:
    """Return the handler of every path that is none of *routes*: it names those that are."""
    listed = ", ".join(f"{route.method} {route.path}" for route in routes)

    def refuse(_: Request) -> Answer:
        raise NotFound(f"There is {listed}.")

    return refuse


def _load(path: str, name: str) -> Function:
    spec = importlib.util.spec_from_file_location(f"functions.{name}", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"canoa: {path} cannot be loaded as Python.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not hasattr(function, "route"):
        raise SystemExit(f"canoa: {path} needs a function '{name}' under @endpoint(…).")
    return cast(Function, function)

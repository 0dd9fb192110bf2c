"""Finds the functions: each file of `functions/` holds one, named like the file."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import traceback
from collections.abc import Callable, Iterable
from typing import cast

from serving.endpoint import Answer, Function, Request, Route
from serving.errors import FunctionsError, NotFound
from serving.process import process

__all__ = ["functions_by_path", "load_functions", "not_found", "scopes"]

#: The health checks of platforms also find it without BASE_PATH.
_HEALTH = "/health"


def load_functions(
    folder: str | os.PathLike[str], target: str | None = None, *, taken: Iterable[str] = ()
) -> list[Function]:
    """
    Load every function of *folder*, or the *target* alone, in order of name.

    Files are loaded by path, as functions-framework does: they are not a package, and a file that
    is named like a library must not replace it.

    Args:
        folder: Where the files are.
        target: The one function to load.
        taken: The paths that the server answers itself.

    Raises:
        FunctionsError: The folder has no functions or lacks the target, a file cannot be loaded or
            lacks the function that its name promises, or two functions have the same path.
        SystemExit: A setting cannot be read.
    """
    process()  # first, so that a wrong setting is not reported as a file's fault
    files: list[str] = []
    with contextlib.suppress(OSError):
        files = os.listdir(folder)
    names = sorted(f[:-3] for f in files if f.endswith(".py") and not f.startswith("_"))
    if not names:
        raise FunctionsError(
            f"no functions in {os.path.abspath(folder)}: start from the repository."
        )
    if target is not None:
        if target not in names:
            raise FunctionsError(
                f"FUNCTION_TARGET is {target!r}, but must be one of {', '.join(names)}."
            )
        names = [target]
    files = [os.path.join(folder, f"{name}.py") for name in names]
    functions = [_load(file, name) for file, name in zip(files, names, strict=True)]
    # One path leads to one function, for every method; with a slash at its end or without.
    owners = {path.rstrip("/"): "the server itself" for path in taken}
    for file, function in zip(files, functions, strict=True):
        owner = owners.setdefault(function.route.path.rstrip("/"), file)
        if owner != file:
            route = function.route
            raise FunctionsError(
                f"{file} answers {route.method} {route.path}, but {owner} has this path already: "
                "give each function a path of its own."
            )
    return functions


def functions_by_path(functions: Iterable[Function], base: str) -> dict[str, Function]:
    """
    Return the function of each path that is served.

    Every path begins with *base* (BASE_PATH); /health is also served without it. A path that ends
    in a slash is also served without this slash.
    """
    found = {}
    for function in functions:
        path = base + function.route.path
        found[path] = found[path.rstrip("/") or "/"] = function
        if function.route.path == _HEALTH:
            found[_HEALTH] = function
    return found


def not_found(routes: list[Route], base: str) -> Callable[[Request], Answer]:
    """Return a handler for all other paths. It answers 404 and lists *routes* below *base*."""
    listed = ", ".join(f"{route.method} {base}{route.path}" for route in routes)

    def reject(_: Request) -> Answer:
        raise NotFound(f"There is {listed}.")

    return reject


def scopes(functions: Iterable[Function]) -> list[str]:
    """Return the scopes that *functions* ask for, each once, sorted."""
    return sorted({f.route.scope for f in functions if f.route.scope is not None})


def _load(path: str, name: str) -> Function:
    spec = importlib.util.spec_from_file_location(f"functions.{name}", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise FunctionsError(f"{path} must be a regular file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise FunctionsError(f"{path}{_reason(error, spec.origin)}") from error
    function = getattr(module, name, None)
    if not isinstance(getattr(function, "route", None), Route):
        raise FunctionsError(f"{path} needs a function '{name}' under @endpoint(…).")
    return cast(Function, function)


def _reason(error: BaseException, file: str | None) -> str:
    """Say in one line where in *file* the *error* arose, and what it is."""
    text = str(error)
    if isinstance(error, SyntaxError) and error.filename == file:
        line, text = error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)
    kind = f"{type(error).__name__}: "
    if isinstance(error.__context__, FunctionsError):  # from @endpoint
        kind, text = "", str(error.__context__)
    return f"{f', line {line}' if line else ''}: {kind}{' '.join(text.split())}"

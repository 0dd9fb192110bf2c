"""What a function is, and where it answers. Each file of `functions/` holds one, named like it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, cast

import msgspec

from serving.access.api_keys import SCOPE
from serving.access.gate import Caller
from serving.errors import FunctionsError
from serving.model.json_schema import ModelSchema
from serving.process import process
from serving.request import JSON, Request

__all__ = [
    "Answer",
    "Function",
    "Limit",
    "Response",
    "Route",
    "check_function",
    "function_names",
    "functions_by_path",
    "list_routes",
    "load_functions",
    "scopes",
]


#: What Flask and functions-framework accept from a view: body, status, headers.
Response = tuple[bytes, int, dict[str, str]]


class Answer(NamedTuple):
    """What a function answers: *body* is sent as JSON, the rest goes into the log line."""

    body: Any
    rows: int | None = None
    model_version: str | None = None
    #: The media type of a body that is text or bytes, and is sent as it is.
    media_type: str | None = None
    #: What callers without the scope "info" get instead of *body*.
    public: Any = None
    #: Sent with this answer, beside the headers of all answers.
    headers: Mapping[str, str] = {}


#: Counts a caller's request. Raises TooManyRequests if it is one too many.
Limit = Callable[[Caller], None]


class Route(NamedTuple):
    """The method, path and access of a function."""

    method: str
    path: str
    #: The scope that a caller needs; None lets anyone in.
    scope: str | None = "predict"
    #: The types of the body and the answer, for /openapi.json; None for any object. An answer that
    #: is not JSON has its media type here.
    body: Any = None
    answer: Any = None
    #: What browsers get instead of a problem where a key is needed.
    locked: Answer | None = None
    #: The media types of bodies that it takes.
    media: tuple[str, ...] = (JSON,)

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method that it answers, as the Allow header lists them."""
        return (self.method, *(("HEAD",) if self.method == "GET" else ()), "OPTIONS")


class Function(Protocol):
    """A function of `functions/`, as the platforms call it."""

    __name__: str
    __doc__: str | None
    route: Route

    def __call__(self, request: Request, limit: Limit | None = None) -> Response:
        """Answer *request*. Raises nothing."""


def load_functions(
    folder: str | os.PathLike[str], target: str | None = None, *, taken: Iterable[str] = ()
) -> list[Function]:
    """
    Load every function of *folder*, or the *target* alone, in order of name.

    Files are loaded by path, as functions-framework does: they are not a package, and a file that
    is named like a library must not replace it. A process loads a file once.

    Args:
        folder: Where the files are.
        target: The one function to load.
        taken: The paths that the server answers itself.

    Raises:
        FunctionsError: The folder has no functions or lacks the target, a file cannot be loaded or
            does not hold one function, named like it, a type of its route cannot be described, or
            two functions have the same path.
        SystemExit: A setting cannot be read.
    """
    process()  # first, so that a wrong setting is not reported as a file's fault
    folder = os.path.abspath(folder)
    names = function_names(folder)
    if not names:
        raise FunctionsError(f"no functions in {folder}: start from the repository.")
    if target is not None:
        if target not in names:
            raise FunctionsError(
                f"FUNCTION_TARGET is {target!r}, but must be one of {', '.join(names)}."
            )
        names = [target]
    functions = []
    # One path leads to one function, for every method; with a slash at its end or without.
    owners = {path.rstrip("/"): "the server itself" for path in taken}
    for name in names:
        file = os.path.join(folder, f"{name}.py")
        function = _load(file, name)
        route = function.route
        owner = owners.setdefault(route.path.rstrip("/"), file)
        if owner != file:
            raise FunctionsError(
                f"{file} answers {route.method} {route.path}, but {owner} has this path already: "
                "give each function a path of its own."
            )
        functions.append(function)
    return functions


def function_names(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of the functions in *folder*, sorted; none if it cannot be read."""
    files: list[str] = []
    with contextlib.suppress(OSError):
        files = os.listdir(folder)
    return sorted(f[:-3] for f in files if f.endswith(".py") and not f.startswith("_"))


def check_function(handler: Callable[..., Any], route: Route) -> None:
    """
    Check what `@endpoint` decorates, and what it was given.

    Raises:
        FunctionsError: The method, the path or the scope is not of a known form, a type cannot be
            described, the function is async, or its file has another function already.
    """
    method, path, scope = route.method, route.path, route.scope
    if method not in _OWN_METHODS:
        raise FunctionsError(f"the method is {method!r}, but must be {', '.join(_OWN_METHODS)}.")
    if not (isinstance(path, str) and _PATH.fullmatch(path)):
        raise FunctionsError(
            f"the path is {path!r}, but must start with / and have no blank or any of <>{{}}?#."
        )
    if scope is not None and not (isinstance(scope, str) and SCOPE.fullmatch(scope)):
        raise FunctionsError(
            f"the scope is {scope!r}, but must be None or a word of small letters, digits, '.', "
            "'_' and '-'."
        )
    try:
        _check_types(route)
    except FunctionsError as error:
        if not isinstance(error.__cause__, NameError):  # the file may define it further below
            raise
    name = getattr(handler, "__name__", "function")
    if inspect.iscoroutinefunction(handler):
        raise FunctionsError(f"{name} is async; write a plain function, def {name}(request).")
    names = getattr(inspect.unwrap(handler), "__globals__", {})
    for other in filter(inspect.isfunction, names.values()):
        # An imported function belongs to another file.
        theirs, home = getattr(other, "route", None), getattr(other, "__module__", None)
        if isinstance(theirs, Route) and home == handler.__module__ and other.__name__ != name:
            raise FunctionsError(
                f"the functions '{other.__name__}' and '{name}' are in one file: give each "
                "function a file of its own."
            )


def _check_types(route: Route) -> None:
    for argument, kind in (("body", route.body), ("answer", route.answer)):
        try:
            if not isinstance(kind, str | ModelSchema | None):
                msgspec.json.schema_components([kind])
        except Exception as error:
            reason = str(error).rpartition("\n")[2]
            raise FunctionsError(
                f"the {argument} is {kind!r}, but must be a type that msgspec describes, such as a "
                f"msgspec.Struct: {reason}."
            ) from error


#: The methods that a function may have; `endpoint` answers OPTIONS, and HEAD for GET, by itself.
_OWN_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: Frameworks and OpenAPI read text in < > or { } as a variable, and paths here have none.
_PATH = re.compile(r"/[^<>{}?#\s]*")


#: The health checks of platforms also find it without BASE_PATH.
_HEALTH = "/health"


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


def list_routes(functions: Iterable[Function], base: str) -> str:
    """List the methods and paths of *functions* below *base*, for an answer 404."""
    return ", ".join(f"{f.route.method} {base}{f.route.path}" for f in functions)


def scopes(functions: Iterable[Function]) -> list[str]:
    """Return the scopes that *functions* ask for, each once, sorted."""
    return sorted({f.route.scope for f in functions if f.route.scope is not None})


@functools.cache
def _load(path: str, name: str) -> Function:
    spec = importlib.util.spec_from_file_location(f"functions.{name}", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise FunctionsError(f"{path} must be a regular file.")
    module = importlib.util.module_from_spec(spec)
    # Postponed annotations are looked up there. No library has a name below "functions".
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(spec.name, None)
        raise FunctionsError(f"{path}{_reason(error, spec.origin)}") from error
    function: Any = getattr(module, name, None)
    if not isinstance(getattr(function, "route", None), Route):
        raise FunctionsError(f"{path} needs a function '{name}' under @endpoint(…).")
    try:
        _check_types(function.route)
    except FunctionsError as error:
        raise FunctionsError(f"{path}: {error}") from error
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

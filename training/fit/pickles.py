"""Pickled pipelines: opened with a clear message, and checked that a server can open them."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
from serving.bundle.manifest import Task
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from training.errors import TrainingError, describe
from training.fit.files import check_content

__all__ = ["check_model", "check_pickles", "open_pickle"]

_MOVE = "move it to a module that the server can import, and fit again"
_CUT = re.compile(
    r"truncated|requires a buffer|Ran out of input|end-of-stream|Expected \d+ bytes", re.IGNORECASE
)


def open_pickle(path: Path) -> tuple[Any, str | None]:
    """
    Open a joblib file, which can run any code that is in it.

    Returns:
        What it holds, and the scikit-learn that wrote it, if it was another one than this.

    Raises:
        TrainingError: It cannot be opened; the error says what was found, and what would be right.
    """
    check_content(path)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = joblib.load(path)
    except Exception as error:  # a pickle may raise anything
        raise TrainingError(f"{path} cannot be opened with joblib: {_why(error)}.") from error
    versions = [
        str(warning.message.original_sklearn_version)
        for warning in caught
        if isinstance(warning.message, InconsistentVersionWarning)
    ]
    return found, versions[0] if versions else None


def check_pickles(pipeline: Any) -> None:
    """
    Check that *pipeline* can be pickled, and that a server could open the pickle.

    Raises:
        TrainingError: A step holds a lambda, a function within a function, or a class of __main__.
    """
    try:
        pickled = pickle.dumps(pipeline)
    except Exception as error:  # an estimator may raise anything
        what, why = _culprit(pipeline), _unpicklable(error)
        raise TrainingError(f"{what} cannot be pickled: {why}.") from error
    if b"__main__" in pickled and (name := _of_main(pickle.dumps(pipeline, protocol=2))):
        raise TrainingError(
            f"{_culprit(pipeline)} needs {name} of __main__, which a server does not have: {_MOVE}."
        )


def check_model(model: Any, path: Path, task_of: Callable[[Any], Task | None]) -> None:
    """
    See that the file at *path* holds a pipeline that can be served.

    Args:
        model: What the file holds.
        path: The file.
        task_of: Says what a model is for; None if it is for nothing that can be served.

    Raises:
        TrainingError: It does not; the sentence says what was found, and what to do.
    """
    found = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
    if isinstance(model, dict):
        found += f" with the keys {', '.join(map(str, [*model][:10]))}"
        raise TrainingError(f"{path} holds a {found}; {_as_pipeline(path, model)}")
    if isinstance(model, BaseEstimator) and not hasattr(model, "predict"):
        raise TrainingError(
            f"{path} holds {found}, which has no predict; {_as_pipeline(path, model)}"
        )
    if isinstance(model, type) or not hasattr(model, "predict") or task_of(model) is None:
        raise TrainingError(
            f"{path} holds {found}, not a scikit-learn pipeline that ends in a classifier, a "
            "regressor, a clusterer or a detector of outliers; write one with "
            "joblib.dump(pipeline, 'model.joblib')."
        )


def _as_pipeline(path: Path, model: Any) -> str:
    """Write the five lines that make a pipeline of the parts that a file holds."""
    parts, last = "scaler", "classifier"
    if isinstance(model, dict):
        steps = [f"parts[{name!r}]" for name, part in model.items() if hasattr(part, "transform")]
        models = [f"parts[{name!r}]" for name, part in model.items() if hasattr(part, "predict")]
        parts, last = ", ".join(steps) or 'parts["scaler"]', (models or ['parts["model"]'])[0]
    return f"""make a pipeline of its parts, which are fitted already, and pack that:
    import joblib
    from sklearn.pipeline import make_pipeline
    parts = joblib.load({path.name!r})
    pipeline = make_pipeline({parts}, {last})
    joblib.dump(pipeline, "pipeline.joblib")"""


def _why(error: Exception) -> str:
    text = str(error)
    if match := re.search(r"Can't get attribute '(\w+)' on <module '[\w.]*__main__'", text):
        return f"it needs {match[1]}, which was defined in a notebook or a script: {_MOVE}"
    if match := re.search(r"Can't get attribute '(\w+)' on <module '([\w.]+)'", text):
        return f"it needs {match[1]} of the module {match[2]}, whose version here has none"
    if isinstance(error, ModuleNotFoundError):
        return f"it needs the module {error.name}, which is not installed here, nor in this folder"
    if isinstance(error, EOFError) or _CUT.search(text):
        return "it is cut off; copy or save it again"
    if isinstance(error, pickle.UnpicklingError | KeyError | IndexError | UnicodeDecodeError):
        return f"it is not a pickle, or it is damaged ({describe(error)}); joblib.dump() writes one"
    return describe(error)


def _unpicklable(error: Exception) -> str:
    text = str(error)
    if "<lambda>" in text:
        return "it holds a lambda. Define a function in a module that the server can import"
    if match := re.search(r"([\w.]+)\.<locals>\.(\w+)", text):
        return f"{match[2]} is defined within {match[1].rpartition('.')[2]}(): {_MOVE}"
    if match := re.search(r"__main__\.(\w+)", text):
        return f"{match[1]} is defined in __main__, a notebook or a script: {_MOVE}"
    return describe(error)


def _of_main(pickled: bytes) -> str | None:
    match = re.search(rb"c__main__\n(\w+)\n", pickled)
    return match[1].decode() if match else None


def _culprit(pipeline: Any) -> str:
    """Name the step that fails, by its class."""
    for name, step in getattr(pipeline, "steps", ()):
        try:
            failed = _of_main(pickle.dumps(step, protocol=2)) is not None
        except Exception:  # an estimator may raise anything
            failed = True
        if failed:
            return f"the step {name} ({type(step).__name__})"
    return f"the {type(pipeline).__name__}"

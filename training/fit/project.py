"""The user's own file: imported, asked for its data and its pipeline, and checked."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import (
    BaseEstimator,
    is_classifier,
    is_clusterer,
    is_outlier_detector,
    is_regressor,
)
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.pipeline import make_pipeline

from training.errors import TrainingError, blame
from training.fit.split import Chosen

__all__ = [
    "as_estimator",
    "build_pipeline",
    "hold_out",
    "import_project",
    "load_data",
    "read_purpose",
]


#: In characters: the manifest is read at every cold start.
_LONGEST_PURPOSE = 5000

#: What a pipeline may be: scikit-learn's own checks, and two classes that they do not cover.
_KINDS = (is_classifier, is_regressor, is_clusterer, is_outlier_detector)
_MIXTURES = (GaussianMixture, BayesianGaussianMixture)


def import_project(project: str) -> ModuleType:
    """
    Import a project.

    Args:
        project: A module's name, such as training.churn, or its file, such as training/churn.py.

    Raises:
        TrainingError: It cannot be imported, or lacks load_data() or build_pipeline().
    """
    name = _module_name(project)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # the import below has a better error
        spec = None
    with blame(f"the project {project} cannot be imported", spec.origin if spec else None):
        module = importlib.import_module(name)
    for function in ("load_data", "build_pipeline"):
        if not callable(getattr(module, function, None)):
            raise TrainingError(f"the project {project} has no function {function}().")
    return module


def load_data(module: ModuleType) -> tuple[Any, Any]:
    """
    Ask the project for its data, and return the features and the target as they are.

    Raises:
        TrainingError: load_data() raises, or returns anything but two things.
    """
    with blame("load_data() failed", module.__file__):
        found = module.load_data()
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise TrainingError("load_data() must return two things: the features and the target.")
    return found[0], found[1]


def read_purpose(module: ModuleType) -> str:
    """Return what the model is for: `CARD.md` beside the project, or else its docstring."""
    card = Path(module.__file__ or "").with_name("CARD.md")
    try:
        text = card.read_text("utf-8")
    except (OSError, ValueError):
        text = inspect.cleandoc(module.__doc__ or "")
    return text.strip()[:_LONGEST_PURPOSE]


def hold_out(module: ModuleType, data: Any) -> Chosen | None:
    """
    Ask the project which rows to hold out; None if it does not decide that itself.

    Args:
        module: The project.
        data: The n rows as load_data() returned them.

    Raises:
        TrainingError: hold_out() raises, or returns no boolean mask of these n rows.
    """
    function = getattr(module, "hold_out", None)
    if function is None:
        return None
    with blame("hold_out() failed", module.__file__):
        # A column that it adds for itself is no feature.
        found = function(data.copy() if hasattr(data, "copy") else data)
        mask, digest = np.asarray(found), _digest(function)
    if mask.shape != (len(data),) or mask.dtype != np.bool_:
        raise TrainingError(
            f"hold_out() must return one boolean a row, shape ({len(data)},), but it returned "
            f"{mask.dtype} of shape {mask.shape}."
        )
    if isinstance(found, pd.Series):
        mask = _in_order(found, data)
    if not mask.any() or mask.all():
        raise TrainingError(f"hold_out() chose {int(mask.sum()):,} of {len(mask):,} rows.")
    return Chosen(mask, digest)


def as_estimator(model: Any) -> Any:
    """Return *model*, or a pipeline around one, such as CatBoost's, that is not scikit-learn's."""
    if not _is_foreign(model):
        return model
    names = list(getattr(model, "feature_names_", None) or ())
    if names != [str(place) for place in range(len(names))]:  # which it calls an array's columns
        model.feature_names_in_ = np.array(names, dtype=object)
    return make_pipeline(model)


def build_pipeline(module: ModuleType) -> Any:
    """
    Ask the project for its unfitted pipeline.

    Raises:
        TrainingError: It is no pipeline, or its last step predicts nothing that can be served.
    """
    with blame("build_pipeline() failed", module.__file__):
        pipeline = as_estimator(module.build_pipeline())
        good = isinstance(pipeline, BaseEstimator) and (
            any(is_one(pipeline) for is_one in _KINDS)
            or isinstance(getattr(pipeline, "steps", [(0, pipeline)])[-1][1], _MIXTURES)
        )
    if not good:
        last = pipeline.steps[-1][1] if getattr(pipeline, "steps", None) else pipeline
        found = "None" if last is None else f"a {type(last).__name__}"
        if isinstance(last, type):
            found = f"the class {last.__name__} itself: call it"
        raise TrainingError(
            "build_pipeline() must return a scikit-learn pipeline whose last step is a classifier, "
            f"a regressor, a clusterer or a detector of outliers, but it is {found}."
        )
    with blame("the pipeline cannot be copied", module.__file__):
        for part in filter(_is_foreign, pipeline.get_params().values()):
            # scikit-learn's clone() rejects the lists in CatBoost's parameters
            lists = {k: tuple(v) for k, v in part.get_params().items() if isinstance(v, list)}
            if lists:  # a fitted model takes no parameters
                part.set_params(**lists)
    return pipeline


def _is_foreign(model: Any) -> bool:
    """Whether it is an estimator of another library that only behaves like scikit-learn's."""
    return not isinstance(model, BaseEstimator | type) and hasattr(model, "__sklearn_tags__")


def _module_name(project: str) -> str:
    """Return the module's name. A file outside this folder is imported from its own folder."""
    path = Path(project)
    if path.suffix != ".py" and len(path.parts) < 2:
        return project
    path = path.with_name(f"{path.name.removesuffix('.py')}.py")
    if not path.is_file():
        raise TrainingError(f"the project {path} is not there; name a file or a module.")
    path = path.resolve()
    here = Path.cwd().resolve()
    parts = path.with_suffix("").relative_to(here).parts if path.is_relative_to(here) else ()
    if parts and all(part.isidentifier() for part in parts):
        return ".".join(parts)
    if not path.stem.isidentifier():
        raise TrainingError(
            f"the project {project} cannot be imported: its file's name must be letters, digits "
            "and '_', as in churn_model.py."
        )
    sys.path.insert(0, str(path.parent))
    return path.stem


def _in_order(mask: Any, data: Any) -> Any:
    """Return a Series as an array in the order of the rows of *data*."""
    index = getattr(data, "index", None)
    index = index if isinstance(index, pd.Index) else pd.RangeIndex(len(data))
    if mask.index.equals(index):
        return mask.to_numpy()
    if not (index.is_unique and mask.index.is_unique and index.isin(mask.index).all()):
        raise TrainingError(
            "hold_out() returned a Series whose index is not that of the rows: return one with the "
            "same index, or an array in the order of the rows."
        )
    return mask.reindex(index).to_numpy()


def _digest(function: Any) -> str:
    """Digest a function's source, and the constants of its module that it names."""
    parts = [inspect.getsource(function)]
    if isinstance(function, FunctionType):
        for name in sorted(function.__code__.co_names):
            value = function.__globals__.get(name)
            if value is not None and not isinstance(value, ModuleType) and not callable(value):
                parts.append(f"{name} = {value!r}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()

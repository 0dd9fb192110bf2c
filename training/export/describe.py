"""The manifest's first draft: what a fitted pipeline and its data say of themselves."""

from __future__ import annotations

import hashlib
import pickle
import pickletools
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from serving.bundle.manifest import (
    BUNDLE_FORMAT,
    EngineRecord,
    Estimator,
    Example,
    Importances,
    Label,
    Lineage,
    Manifest,
    Output,
    Task,
)
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from training.errors import TrainingError, blame
from training.export.contract import VECTORIZERS, read_uses, takes_texts
from training.export.features import check_text, read_features
from training.export.walk import best_of, classes_of, last_of, task_of, walk, without_task

__all__ = ["draft_manifest", "own_modules"]

#: The modules of a server that has scikit-learn.
_GIVEN = {"joblib", "numpy", "pandas", "scipy", "sklearn", *sys.stdlib_module_names}


def draft_manifest(
    name: str,
    pipeline: Any,
    data: pd.DataFrame,
    *,
    named: bool,
    rows: Any,
    metrics: dict[str, dict[str, Any]],
    permutation: dict[str, float] | None,
    seed: int | None,
    outputs: Sequence[str] = (),
) -> Manifest:
    """
    Fill in what can be read off the fitted *pipeline* and its *data*.

    What can only be found out by trying (label rule, unseen categories, engine, example) is left
    at its default.

    Raises:
        TrainingError: The pipeline cannot be served.
    """
    task = task_of(pipeline)
    if task is None:
        raise TrainingError(without_task(pipeline))
    with blame("the pipeline cannot score one row alone"):
        several = _outputs(pipeline, task, rows, outputs)
    classes = None if several else classes_of(pipeline)
    if task == "clustering":
        classes = range(_clusters(pipeline))
    uses = read_uses(pipeline, len(data.columns))
    ignored = [name for name, use in zip(data.columns, uses, strict=True) if use.ignored]
    if not named or len(ignored) == len(uses):
        ignored = []
    features = read_features(data, uses, ignored=ignored)
    return Manifest(
        format=BUNDLE_FORMAT,
        name=name,
        version="",
        created_at="",
        task="outputs" if several else task,
        outputs=several,
        classes=None if classes is None else [_label(value) for value in classes],
        has_probabilities=classes is not None and hasattr(pipeline, "predict_proba"),
        named_columns=named,
        takes_texts=takes_texts(pipeline),
        features=features,
        ignored=ignored,
        estimator=_describe(pipeline),
        importances=Importances(permutation=permutation, estimator=_own_importances(pipeline)),
        metrics=metrics,
        example=Example(instance={}, prediction={}),
        engine=EngineRecord(name="sklearn"),
        files={},
        lineage=_lineage(data, seed),
    )


def _outputs(pipeline: Any, task: Task, rows: Any, names: Sequence[str]) -> list[Output]:
    """Describe the outputs, if the model has several."""
    shape = np.shape(pipeline.predict(rows))
    if len(shape) < 2 or shape[1] == 1:
        return []
    names = names or [f"y{i}" for i in range(shape[1])]
    if len(names) != shape[1]:
        raise TrainingError(f"it predicts {shape[1]} outputs, but {len(names)} are named.")
    check_text("the target's column names", list(names))
    if task != "classification":
        return [Output(name=name) for name in names]
    classes: Any = pipeline.classes_
    if not isinstance(classes, list) or len(classes) != len(names):
        classes = [[0, 1]] * len(names)  # each label is there, or is not
    chances = hasattr(pipeline, "predict_proba")
    return [
        Output(name=name, classes=[_label(v) for v in values], has_probabilities=chances)
        for name, values in zip(names, classes, strict=True)
    ]


def _clusters(pipeline: Any) -> int:
    last = last_of(pipeline)
    for name in ("cluster_centers_", "means_", "subcluster_centers_"):
        if hasattr(last, name):
            found = getattr(last, "subcluster_labels_", getattr(last, name))
            return int(np.max(found)) + 1 if found.ndim == 1 else len(found)
    raise TrainingError(f"a {type(last).__name__} does not say how many clusters it has.")


def own_modules(pipeline: Any) -> list[str]:
    """Name the modules that opening the pickle imports, beside scikit-learn and its libraries."""
    # The oldest protocols write a module's name in one piece.
    pickled = pickle.dumps(pipeline, protocol=2, fix_imports=False)
    named = {
        str(argument).partition(" ")[0]
        for operation, argument, _ in pickletools.genops(pickled)
        if operation.name == "GLOBAL"
    }
    return sorted(
        # Some modules of Cython are called "_loss", and are found as well.
        name
        for name in named
        if name.partition(".")[0] not in _GIVEN and not name.startswith("_")
    )


def _label(value: Any) -> Label:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    if not isinstance(plain, bool | int | str):
        raise TrainingError(
            f"the target holds {plain!r}; a class is a string, an integer or a boolean."
        )
    if _is_huge(plain):
        raise TrainingError(
            f"the target holds {plain}, and readers of JSON lose digits of integers beyond 2**53: "
            "make strings of the classes (target.astype(str)), and fit again."
        )
    if isinstance(plain, str):
        check_text("the target's classes", [plain])
    return plain


def _is_huge(value: Any) -> bool:
    """Whether JSON's readers would lose digits of an integer."""
    return isinstance(value, int) and abs(value) > 2**53


def _describe(pipeline: Any) -> Estimator:
    pipeline = best_of(pipeline)
    steps = list(getattr(pipeline, "steps", [("", pipeline)]))
    last, trees = steps[-1][1], None
    if isinstance(last, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        trees = last.n_iter_
    elif hasattr(last, "estimators_") and hasattr(last, "feature_importances_"):
        trees = len(last.estimators_)
    return Estimator(
        type=type(last).__name__,
        steps=[type(step).__name__ for _, step in steps],
        parameters={key: _json(value) for key, value in last.get_params(deep=False).items()},
        num_trees=trees,
    )


def _json(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    if _is_huge(plain) or (isinstance(plain, float) and not np.isfinite(plain)):
        return repr(plain)
    return plain if plain is None or isinstance(plain, bool | int | float | str) else repr(plain)


def _own_importances(pipeline: Any) -> dict[str, float] | None:
    pipeline = best_of(pipeline)
    last = pipeline[-1] if hasattr(pipeline, "steps") else pipeline
    values = getattr(last, "feature_importances_", None)
    if values is None or not np.isfinite(values).all():
        return None
    if any(isinstance(step, VECTORIZERS) for _, step in walk(pipeline)):
        return None  # the columns are named after words of the training texts
    try:
        names = [str(name) for name in pipeline[:-1].get_feature_names_out()]
    except (AttributeError, TypeError, ValueError):  # some step cannot name its columns
        names = [f"column {i}" for i in range(len(values))]
    return dict(zip(names, np.asarray(values).tolist(), strict=True))


def _lineage(data: pd.DataFrame, seed: int | None) -> Lineage:
    packages = ("scikit-learn", "numpy", "pandas", "skl2onnx", "onnxruntime")
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    return Lineage(
        rows=len(data),
        data_sha256=hashlib.sha256(data.to_csv(index=False).encode()).hexdigest(),
        seed=seed,
        versions=versions,
        git_commit=_git_commit(),
    )


def _git_commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()

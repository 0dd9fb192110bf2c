"""Makes the bundle of a fitted pipeline: schema, graph, proof, manifest, files."""

from __future__ import annotations

import hashlib
import io
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pandas as pd
from serving.bundle import write_bundle
from serving.engines.onnx import OnnxEngine
from serving.engines.sklearn import SklearnEngine
from serving.errors import BundleError
from serving.manifest import (
    BUNDLE_FORMAT,
    GRAPH_FILE,
    PIPELINE_FILE,
    Engine,
    Estimator,
    Example,
    Importances,
    Label,
    Lineage,
    Manifest,
)
from serving.predictions import to_predictions

from training.compile import CannotCompileError, compile_pipeline, walk
from training.errors import TrainingError
from training.features import as_frame, read_features, take, to_columns
from training.parity import check_parity

__all__ = ["build_bundle"]

Report = Callable[[str], None]


def build_bundle(
    folder: Path,
    name: str,
    pipeline: Any,
    data: Any,
    *,
    metrics: dict[str, dict[str, Any]],
    permutation: dict[str, float] | None,
    seed: int | None,
    report: Report,
) -> Path:
    """
    Write the bundle of *pipeline* to `<folder>/<version>` and point `latest` at it.

    Args:
        folder: The model's, such as models/credit.
        name: The model's.
        pipeline: Fitted; a classifier or a regressor.
        data: Rows like the training rows (DataFrame, or array of shape (n, features)); the schema
            is read from them, and parity proved on them.
        metrics: By part, for the manifest.
        permutation: Importances per feature, for the manifest.
        seed: The one that training used.
        report: Told what is being done.

    Returns:
        The bundle's folder.

    Raises:
        TrainingError: The data or the pipeline cannot be served.
    """
    data_frame, named = as_frame(data)
    for _, estimator in walk(pipeline):
        if getattr(estimator, "n_jobs", None) not in (None, 1):
            estimator.n_jobs = 1  # Lambda has no shared memory for workers, and we have one core
    draft = _draft(
        name,
        pipeline,
        data_frame,
        named=named,
        metrics=metrics,
        permutation=permutation,
        seed=seed,
    )
    columns = to_columns(data_frame, draft.features)
    engine = SklearnEngine(draft, pipeline)
    draft = _settle_labels(draft, pipeline, data)
    draft = _settle_unseen(draft, pipeline, columns)
    engine = SklearnEngine(draft, pipeline)
    _check_reconstruction(engine, pipeline, data, columns)

    report("compiling to ONNX and proving parity")
    chosen, graph = _choose_engine(draft, engine, pipeline, columns)
    pickled = io.BytesIO()
    joblib.dump(pipeline, pickled)
    files = {PIPELINE_FILE: pickled.getvalue()}
    if graph is not None:
        files[GRAPH_FILE] = graph
    runs = hashlib.sha256(graph or files[PIPELINE_FILE]).hexdigest()
    now = datetime.now(UTC)
    manifest = msgspec.structs.replace(
        draft,
        engine=chosen,
        version=f"{now:%Y%m%d-%H%M%S}-{runs[:8]}",
        created_at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    served = SklearnEngine(manifest, pipeline) if graph is None else OnnxEngine(manifest, graph)
    manifest = msgspec.structs.replace(manifest, example=_example(manifest, served, columns))
    report("writing the bundle")
    return write_bundle(folder, manifest, files)


def _draft(
    name: str,
    pipeline: Any,
    data: pd.DataFrame,
    *,
    named: bool,
    metrics: dict[str, dict[str, Any]],
    permutation: dict[str, float] | None,
    seed: int | None,
) -> Manifest:
    classes = getattr(pipeline, "classes_", None)
    if isinstance(classes, list):
        raise TrainingError("the pipeline predicts several targets at once; train one for each.")
    if classes is None and not hasattr(pipeline, "predict"):
        raise TrainingError(f"a {type(pipeline).__name__} has no predict: it is no model.")
    return Manifest(
        format=BUNDLE_FORMAT,
        name=name,
        version="",
        created_at="",
        task="regression" if classes is None else "classification",
        classes=None if classes is None else [_label(value) for value in classes],
        has_probabilities=classes is not None and hasattr(pipeline, "predict_proba"),
        named_columns=named,
        features=read_features(data),
        estimator=_describe(pipeline),
        importances=Importances(permutation=permutation, estimator=_own_importances(pipeline)),
        metrics=metrics,
        example=Example(instance={}, prediction={}),
        engine=Engine(name="sklearn"),
        files={},
        lineage=_lineage(data, seed),
    )


def _label(value: Any) -> Label:
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, bool | int | float | str):
        raise TrainingError(
            f"the target holds {plain!r}; a class is a string, a whole number or a boolean."
        )
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain


def _describe(pipeline: Any) -> Estimator:
    steps = list(getattr(pipeline, "steps", [("", pipeline)]))
    last = steps[-1][1]
    trees = getattr(last, "n_iter_", None) if hasattr(last, "_predictors") else None
    if trees is None and hasattr(last, "estimators_") and hasattr(last, "feature_importances_"):
        trees = len(last.estimators_)
    return Estimator(
        type=type(last).__name__,
        steps=[type(step).__name__ for _, step in steps],
        parameters={key: _json(value) for key, value in last.get_params(deep=False).items()},
        num_trees=trees,
    )


def _json(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and not np.isfinite(plain):
        return repr(plain)
    return plain if plain is None or isinstance(plain, bool | int | float | str) else repr(plain)


def _own_importances(pipeline: Any) -> dict[str, float] | None:
    last = pipeline[-1] if hasattr(pipeline, "steps") else pipeline
    values = getattr(last, "feature_importances_", None)
    if values is None:
        return None
    try:
        names = [str(name) for name in pipeline[:-1].get_feature_names_out()]
    except (AttributeError, TypeError, ValueError):  # some step cannot name its columns
        names = [f"column {i}" for i in range(len(values))]
    return dict(zip(names, np.asarray(values).tolist(), strict=True))


def _settle_labels(draft: Manifest, pipeline: Any, data: Any) -> Manifest:
    """Find out whether a label is always the class of the highest probability."""
    if not draft.has_probabilities:
        return draft
    best = np.argmax(pipeline.predict_proba(data), axis=1)
    same = np.asarray(pipeline.classes_)[best] == pipeline.predict(data)
    engine = Engine(name="sklearn", label_rule="argmax" if bool(np.all(same)) else "model")
    return msgspec.structs.replace(draft, engine=engine)


def _settle_unseen(draft: Manifest, pipeline: Any, columns: list[list[Any]]) -> Manifest:
    """Try a category never seen in each column: does the pipeline answer?"""
    features = list(draft.features)
    engine = SklearnEngine(draft, pipeline)
    first = take(columns, [0])
    for j, feature in enumerate(features):
        if feature.kind == "category":
            row = [*first[:j], ["a category never seen"], *first[j + 1 :]]
            try:
                engine.score(row)
            except Exception:  # noqa: S112  # whatever it raises, it does not take the category
                continue
            features[j] = msgspec.structs.replace(feature, accepts_unseen=True)
    return msgspec.structs.replace(draft, features=features)


def _check_reconstruction(
    engine: SklearnEngine, pipeline: Any, data: Any, columns: list[list[Any]]
) -> None:
    """Make sure that rows rebuilt from JSON mean to the pipeline what the original rows do."""
    scores = engine.score(columns)
    if scores.probabilities is not None:
        found, expected = scores.probabilities, pipeline.predict_proba(data)
    else:
        found, expected = scores.values, np.asarray(pipeline.predict(data)).reshape(-1)
        if hasattr(pipeline, "classes_"):
            found = np.asarray(pipeline.classes_)[found]
            if (found == expected).all():
                return
            found, expected = found != expected, np.zeros(len(expected))
    if not np.allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-9, atol=1e-9):
        raise TrainingError(
            "the pipeline answers differently when its rows come as JSON: a column holds values "
            "that JSON cannot tell apart."
        )


def _choose_engine(
    draft: Manifest, engine: SklearnEngine, pipeline: Any, columns: list[list[Any]]
) -> tuple[Engine, bytes | None]:
    try:
        graph = compile_pipeline(pipeline, draft.features)
        parity, reason = check_parity(draft, engine, OnnxEngine(draft, graph), columns)
    except (CannotCompileError, BundleError) as error:
        return msgspec.structs.replace(draft.engine, reason=str(error)), None
    if reason is not None:
        return msgspec.structs.replace(draft.engine, reason=reason, parity=parity), None
    return msgspec.structs.replace(draft.engine, name="onnx", parity=parity), graph


def _example(manifest: Manifest, engine: Any, columns: list[list[Any]]) -> Example:
    """Take a row without gaps, if there is one."""
    rows = range(len(columns[0]))
    whole = next((i for i in rows if all(column[i] is not None for column in columns)), 0)
    row = take(columns, [whole])
    instance = {
        feature.name: int(column[0]) if _is_whole(column[0]) else column[0]
        for feature, column in zip(manifest.features, row, strict=True)
    }
    return Example(instance=instance, prediction=to_predictions(manifest, engine.score(row))[0])


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) < 2**53


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

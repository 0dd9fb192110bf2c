"""Makes the bundle of a fitted pipeline: schema, graph, proof, manifest, files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import msgspec
from serving.bundle.manifest import (
    GRAPH_FILE,
    PIPELINE_FILE,
    EngineRecord,
    Example,
    HoldOut,
    Manifest,
)
from serving.bundle.writer import Sign, write_bundle
from serving.errors import BundleError
from serving.model.engines.onnx import OnnxEngine
from serving.model.engines.sklearn import SklearnEngine
from serving.model.model import Model

from training.errors import TrainingError, blame
from training.export.compile import CannotCompileError, compile_pipeline, walk
from training.export.describe import draft_manifest, own_modules
from training.export.features import as_frame, take, to_columns
from training.export.inputs import merge_inputs
from training.export.outputs import leave_out_label
from training.export.parity import check_parity
from training.export.probe import probe_pipeline
from training.export.trees import rewrite_trees

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
    promote: bool = True,
    sign: Sign | None = None,
    hold_out: HoldOut | None = None,
    fitted_with: str | None = None,
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
        promote: Whether `latest` moves.
        sign: Signs the manifest.
        hold_out: The rule that kept rows out of training.
        fitted_with: The scikit-learn that fitted it, if it was another one.

    Returns:
        The bundle's folder.

    Raises:
        TrainingError: The data or the pipeline cannot be served.
    """
    data_frame, named = as_frame(data)
    for _, estimator in walk(pipeline):
        if getattr(estimator, "n_jobs", None) not in (None, 1):
            estimator.n_jobs = 1  # Lambda has no shared memory for workers, and we have one core
    draft = draft_manifest(
        name,
        pipeline,
        data_frame,
        named=named,
        metrics=metrics,
        permutation=permutation,
        seed=seed,
    )
    lineage = msgspec.structs.replace(draft.lineage, fitted_with=fitted_with)
    draft = msgspec.structs.replace(draft, lineage=lineage, hold_out=hold_out)
    columns = to_columns(data_frame, draft.features)
    draft = probe_pipeline(draft, pipeline, data, columns)
    report("compiling to ONNX and proving parity")
    engine, graph = _choose_engine(draft, pipeline, columns)
    if graph is None:
        engine = msgspec.structs.replace(engine, modules=own_modules(pipeline))
    files = {PIPELINE_FILE: _pickle(pipeline)}
    if graph is not None:
        files[GRAPH_FILE] = graph
    runs = hashlib.sha256(graph or files[PIPELINE_FILE]).hexdigest()
    now = datetime.now(UTC)
    manifest = msgspec.structs.replace(
        draft,
        engine=engine,
        version=f"{now:%Y%m%d-%H%M%S}-{runs[:8]}",
        created_at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    runner = SklearnEngine(manifest, pipeline) if graph is None else OnnxEngine(manifest, graph)
    example = _example(Model(manifest, runner), columns)
    report("writing the bundle")
    manifest = msgspec.structs.replace(manifest, example=example)
    try:
        return write_bundle(folder, manifest, files, sign=sign, promote=promote)
    except OSError as error:
        raise TrainingError(
            f"{error.filename or folder} cannot be written: {error.strerror}."
        ) from error


def _pickle(pipeline: Any) -> bytes:
    pickled = io.BytesIO()
    with blame("the pipeline cannot be pickled, so it could not be loaded again"):
        joblib.dump(pipeline, pickled)
    return pickled.getvalue()


def _choose_engine(
    draft: Manifest, pipeline: Any, columns: list[list[Any]]
) -> tuple[EngineRecord, bytes | None]:
    engine = SklearnEngine(draft, pipeline)
    failed = draft.engine
    try:
        compiled = compile_pipeline(pipeline, draft.features)
    except CannotCompileError as error:
        return msgspec.structs.replace(failed, reason=str(error)), None
    for graph in filter(None, (rewrite_trees(compiled), compiled)):
        needed = leave_out_label(graph) if draft.label_is_likeliest else graph
        merged, inputs = merge_inputs(needed)
        chosen = msgspec.structs.replace(draft.engine, name="onnx", inputs=inputs)
        served = msgspec.structs.replace(draft, engine=chosen)
        try:
            parity, reason = check_parity(served, engine, OnnxEngine(served, merged), columns)
        except BundleError as error:
            parity, reason = None, str(error)
        if reason is None:
            return msgspec.structs.replace(chosen, parity=parity), merged
        failed = msgspec.structs.replace(draft.engine, reason=reason, parity=parity)
    return failed, None


def _example(model: Model, columns: list[list[Any]]) -> Example:
    """Take a row without gaps, if there is one, and score it as a client would have it scored."""
    rows = range(len(columns[0]))
    whole = next((i for i in rows if all(column[i] is not None for column in columns)), 0)
    instance = {
        feature.name: int(column[0]) if _is_whole(column[0]) else column[0]
        for feature, column in zip(model.manifest.features, take(columns, [whole]), strict=True)
    }
    decoded = model.schema.decode(msgspec.json.encode(instance), 1)
    return Example(instance=instance, prediction=model.predict(decoded.columns)[0])


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) < 2**53

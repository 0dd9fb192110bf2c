"""Makes the bundle of a fitted pipeline: schema, graph, proof, manifest, files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import timeit
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import joblib
import msgspec
import pandas as pd
from msgspec.structs import replace
from serving.bundle.manifest import (
    BACKGROUND_FILE,
    GRAPH_FILE,
    PIPELINE_FILE,
    Example,
    Feature,
    HoldOut,
    Manifest,
)
from serving.bundle.plots import Plots
from serving.bundle.writer import Sign, write_bundle
from serving.errors import BundleError
from serving.model.engines import Engine
from serving.model.engines.onnx import OnnxEngine
from serving.model.engines.sklearn import SklearnEngine
from serving.model.model import Model
from serving.model.predictions import to_predictions
from sklearn.impute import KNNImputer
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from training.errors import TrainingError, blame
from training.export.compile import CannotCompileError, compile_pipeline
from training.export.contract import read_uses
from training.export.describe import draft_manifest, own_modules
from training.export.features import as_frame, as_pandas, read_features, take, to_columns
from training.export.parity import check_parity
from training.export.probe import probe_pipeline
from training.export.walk import walk
from training.fit.background import pick_background
from training.fit.curves import draw_shapes

__all__ = ["build_bundle"]

Report = Callable[[str], None]


def build_bundle(
    folder: Path,
    name: str,
    pipeline: Any,
    data: Any,
    *,
    metrics: dict[str, dict[str, Any]] | None = None,
    permutation: dict[str, float] | None = None,
    seed: int | None = None,
    report: Report = lambda _: None,
    promote: bool = True,
    sign: Sign | None = None,
    hold_out: HoldOut | None = None,
    fitted_with: str | None = None,
    background: bool = True,
    plots: Plots | None = None,
    purpose: str = "",
    outputs: Sequence[str] = (),
    measure: Callable[[Model], dict[str, dict[str, Any]]] | None = None,
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
        background: Whether rows of *data* go into the bundle, so that answers can be explained.
        plots: How good it is on rows held out. The features' shapes are added here.
        purpose: What it is for, in the words of its project.
        outputs: The targets' names, if it predicts several; y0, y1, … by default.
        measure: Measures the model as it will be served; returns more parts of the metrics.

    Returns:
        The bundle's folder.

    Raises:
        TrainingError: The data or the pipeline cannot be served.
    """
    data, metrics = as_pandas(data), metrics or {}
    data_frame, named = as_frame(data)
    for _, estimator in walk(pipeline):
        if getattr(estimator, "n_jobs", None) not in (None, 1):
            estimator.n_jobs = 1  # Lambda has no shared memory for workers, and we have one core
    draft = draft_manifest(
        name,
        pipeline,
        data_frame,
        named=named,
        rows=data[:1],
        metrics=metrics,
        permutation=permutation,
        seed=seed,
        outputs=outputs,
    )
    lineage = replace(draft.lineage, fitted_with=fitted_with)
    draft = replace(draft, lineage=lineage, hold_out=hold_out)
    with threadpool_limits(1):  # many small answers are asked for: threads would wait on each other
        draft, columns = _probe(draft, pipeline, data, data_frame)
        report("compiling to ONNX and proving parity")
        draft, graph = _choose_engine(draft, pipeline, columns, list(data_frame.columns))
    if graph is None:
        draft = _with_engine(draft, modules=own_modules(pipeline))
    files = {PIPELINE_FILE: _pickle(pipeline)}
    if graph is not None:
        files[GRAPH_FILE] = graph
    runs = hashlib.sha256(graph or files[PIPELINE_FILE]).hexdigest()
    now = datetime.now(UTC)
    while (folder / (version := f"{now:%Y%m%d-%H%M%S}-{runs[:8]}")).exists():
        now += timedelta(seconds=1)  # the same model was packed within this second
    manifest = replace(
        draft,
        version=version,
        created_at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    runner = SklearnEngine(manifest, pipeline) if graph is None else OnnxEngine(manifest, graph)
    model = Model(manifest, runner)
    example = _example(model, runner, columns)
    manifest = _with_engine(manifest, row_milliseconds=_row_milliseconds(model, columns))
    if background and (rows := pick_background(model, columns)):
        files[BACKGROUND_FILE] = rows
    if measure is not None:
        report("scoring the held-out rows as the server would")
        metrics = {**metrics, **measure(model)}
    report("writing the bundle")
    shapes = draw_shapes(manifest.features, columns)
    manifest = replace(
        manifest,
        example=example or manifest.example,
        metrics=metrics or {},
        purpose=purpose,
        plots=replace(plots or Plots(), features=shapes),
    )
    try:
        return write_bundle(folder, manifest, files, sign=sign, promote=promote)
    except OSError as error:
        raise TrainingError(
            f"{error.filename or folder} cannot be written: {error.strerror}."
        ) from error


def _probe(
    draft: Manifest, pipeline: Any, data: Any, data_frame: pd.DataFrame
) -> tuple[Manifest, list[list[Any]]]:
    """Settle the contract: without the columns that no step reads, if the pipeline allows it."""
    if draft.ignored:
        with contextlib.suppress(TrainingError):
            columns = to_columns(data_frame, draft.features)
            return probe_pipeline(draft, pipeline, data, columns), columns
        features = read_features(data_frame, read_uses(pipeline, len(data_frame.columns)))
        draft = replace(draft, features=features, ignored=[])
    columns = to_columns(data_frame, draft.features)
    return probe_pipeline(draft, pipeline, data, columns), columns


def _pickle(pipeline: Any) -> bytes:
    pickled = io.BytesIO()
    with blame("the pipeline cannot be pickled, so it could not be loaded again"):
        joblib.dump(pipeline, pickled)
    return pickled.getvalue()


def _choose_engine(
    draft: Manifest, pipeline: Any, columns: list[list[Any]], names: list[str]
) -> tuple[Manifest, bytes | None]:
    """Return the manifest with its engine, and the graph if that is what serving runs."""
    try:
        compiled = compile_pipeline(pipeline, draft, names)
    except CannotCompileError as error:
        return _with_engine(draft, reason=str(error)), None
    served = _with_engine(
        replace(draft, features=compiled.features),
        name="onnx",
        inputs=compiled.inputs,
        texts=compiled.texts,
        inexact=compiled.inexact,
        rows_at_once=compiled.rows_at_once,
        tie_tolerance=1e-6 if compiled.inexact else 0.0,
    )
    try:
        graph = OnnxEngine(served, compiled.graph)
        parity, reason = check_parity(served, SklearnEngine(draft, pipeline), graph, columns)
    except BundleError as error:
        parity, reason = None, str(error)
    if reason is None:
        return _with_engine(served, parity=parity), compiled.graph
    return _with_engine(
        draft, reason=reason + _way_out(pipeline, draft.features), parity=parity
    ), None


def _way_out(pipeline: Any, features: list[Feature]) -> str:
    """Say what helps where the graph rounds in another way than the pipeline."""
    if any(isinstance(step, KNNImputer) for _, step in walk(pipeline)):
        return "; rounding picks among equally near rows of KNNImputer: use SimpleImputer"
    short = [f.name for f in features if f.dtype.lower() in ("float16", "float32")]
    if not short:
        return ""
    columns = ", ".join(f'"{name}": "float64"' for name in short)
    return f"; numbers were rounded in {short[0]}: fit the pipeline on data.astype({{{columns}}})"


def _with_engine(manifest: Manifest, **changes: Any) -> Manifest:
    return replace(manifest, engine=replace(manifest.engine, **changes))


def _example(model: Model, engine: Engine, columns: list[list[Any]]) -> Example | None:
    """
    Make an instance that the pipeline takes, and score it as a client would.

    It is not a training row: each value is a usual one of its column, and a text is a made one, or
    one that five rows or more share. None if the pipeline takes no such instance.
    """
    features = model.manifest.features
    tries = [(0.5, _words, 6), (0.25, _words, 6), (0.75, _words, 6), (0.5, _shaped, 6)]
    tries += [(0.5, _common, 6), (0.5, _common, 17)]  # fractions may be codes: no digit is left out
    rows = [
        [_usual(column, feature, *how) for column, feature in zip(columns, features, strict=True)]
        for how in tries
    ]
    for row in rows:
        instance = {feature.name: value for feature, value in zip(features, row, strict=True)}
        with contextlib.suppress(Exception):  # a step of the user's own may raise any
            decoded = model.schema.decode(msgspec.json.encode(instance), 1)
            [prediction] = to_predictions(model.manifest, engine.score(decoded.columns))
            return Example(instance=instance, prediction=prediction)
    if model.manifest.engine.name == "onnx":  # opening a graph tries the example
        raise TrainingError("the model has no answer for the usual values of its columns.")
    return None


def _words(_: list[Any]) -> str:
    return "a few words of text"


def _shaped(column: list[Any]) -> str:
    """Write a text of the shape of the commonest: letters become x, and dates stay dates."""
    text = next(iter(Counter(filter(None, column)).most_common(1)), ("", 0))[0]
    letters = "".join("x" if letter.isalpha() else letter for letter in text)
    years = {4: "2020", 8: "20200101"}
    return re.sub(r"\d+", lambda d: years.get(len(d[0]), "1" * len(d[0])), letters)


def _common(column: list[Any]) -> str:
    texts = Counter(filter(None, column)).most_common(1)
    return texts[0][0] if texts and texts[0][1] >= 5 else _words(column)


def _row_milliseconds(model: Model, columns: list[list[Any]]) -> float:
    row = take(columns, [0])
    times = timeit.repeat(lambda: model.predict(row), number=1, repeat=20)
    return round(median(times) * 1000, 3)


def _usual(
    column: list[Any],
    feature: Feature,
    share: float,
    text: Callable[[list[Any]], str],
    digits: int,
) -> Any:
    known = [value for value in column if value is not None]
    if feature.kind == "text":
        return text(column)
    if not known:
        return None
    if feature.kind != "number":
        return Counter(known).most_common(1)[0][0]
    middle = sorted(known)[int(len(known) * share)]  # a number that occurs: codes have no fractions
    whole = middle.is_integer() and abs(middle) < 2**53
    return int(middle) if whole else float(f"{middle:.{digits}g}")  # to be read by people

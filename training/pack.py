"""`pack`: the bundle of a pipeline that was fitted elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from serving.bundle.reader import read_manifest
from serving.bundle.trust import Trust
from serving.stores.folder import FolderStore
from sklearn.base import BaseEstimator, is_clusterer, is_outlier_detector

from training.errors import TrainingError, blame
from training.export.build import build_bundle
from training.export.contract import (
    categories_of_text,
    coded_columns,
    own_columns,
    read_uses,
    takes_texts,
)
from training.export.walk import classes_of, task_of, without_task
from training.fit.files import check_csv
from training.fit.pickles import check_model, check_pickles, open_pickle
from training.fit.project import as_estimator
from training.fit.readings import check_categories, unclear_columns
from training.fit.review.columns import about_dates, dated_columns
from training.fit.review.findings import FEW_ROWS
from training.fit.sample import read_sample
from training.fit.tasks.sample import measure_sample
from training.registry.location import check_name
from training.registry.next_step import next_step
from training.registry.release import Release, Wish
from training.registry.signing import read_signer
from training.report import progress, say

__all__ = ["pack"]


def pack(
    pipeline: Path,
    sample: Path,
    targets: Sequence[str],
    name: str,
    models: Path,
    *,
    texts: Sequence[str] = (),
    key: str | None = None,
    background: bool = True,
    promote: bool = False,
    max_model_bytes: int = Trust().max_model_bytes,
) -> bool:
    """
    Write the bundle of the pipeline in the joblib file *pipeline*.

    With a target, and something suspicious about the rows, it does not go live.

    Args:
        pipeline: A fitted classifier or regressor. Opening it runs any code that is in it.
        sample: CSV or Parquet of rows like those it was trained on; the schema is read from them.
        targets: The sample's target columns, in the model's order: with them, metrics are
            recorded, and several name the model's outputs.
        name: The model's.
        models: The folder of all models.
        texts: The columns of a CSV that are text, though they hold digits.
        key: The private key that signs the bundle, as `read_signer` takes it.
        background: Whether 100 rows go into the bundle, so that answers can be explained.
        promote: Whether it goes live in spite of warnings.
        max_model_bytes: The largest model file that the server reads.

    Returns:
        Whether it is live.

    Raises:
        TrainingError: A file cannot be read, or the two do not fit together.
    """
    name = check_name(name)
    signer = read_signer(key) if key else None
    release = Release(models / name, Wish(despite_warnings=promote))
    check_csv(sample)
    header = read_sample(sample).columns  # a wrong sample is reported before the pickle is opened
    for column in (*targets, *texts):
        if column not in header:
            has = ", ".join(map(str, header))
            raise TrainingError(f"{sample} has no column {column}; it has {has}.")
    for target in targets:
        if targets.count(target) > 1:
            raise TrainingError(f"--target {target} is given twice; name each output once.")
    _say(
        f"opening {pipeline}, which is a pickle: it can run any code that is in it. Pack only what "
        "you trust."
    )
    model, fitted_with = open_pickle(pipeline)
    with blame(f"{pipeline} holds a {type(model).__name__} that cannot be used"):
        model = as_estimator(model)
        grouped = isinstance(model, BaseEstimator) and (
            is_clusterer(model) or is_outlier_detector(model)
        )
        if grouped and task_of(model) is None:
            raise TrainingError(f"{pipeline} cannot be served: {without_task(model)}")
        check_model(model, pipeline, task_of)
        check_pickles(model)
        check_categories(model, sample)
        strings = categories_of_text(model, [name for name in header if name not in targets])
        strings |= {name: strings.get(name, set()) for name in texts}
        classes = classes_of(model)
        strings |= _text_targets(targets, classes)
    if fitted_with is not None:
        _say(
            f"{pipeline} was fitted with scikit-learn {fitted_with}, and this is "
            f"{sklearn.__version__}: its answers may have changed, and the bundle answers as they "
            f"are here. Compare a few with the original, or pack with {fitted_with}."
        )
    rows = read_sample(sample, strings=strings, coded=coded_columns(model))
    fitted_on = set(getattr(model, "feature_names_in_", ()))  # a target among them is a leak
    truth = {name: rows[name].to_numpy() for name in targets}
    rows = rows.drop(columns=[name for name in targets if name not in fitted_on])
    data = _select(model, rows, sample)
    frame = data if isinstance(data, pd.DataFrame) else rows
    own = [name for name in own_columns(model, list(map(str, frame))) if name not in strings]
    unclear = unclear_columns(model, frame, sample, own, as_frame=frame is data)
    with _about_dates(rows), progress() as report:
        report("evaluating on the sample")
        learnt = task_of(model) in ("classification", "regression")
        found = measure_sample(
            model,
            data,
            _read_columns(model, frame),
            truth if learnt else {},
            file=sample,
            report=report,
        )
        with blame("the pipeline cannot be made a bundle"):
            path = build_bundle(
                models / name,
                name,
                model,
                data,
                metrics=found.metrics,
                permutation=found.importances,
                seed=None,
                report=report,
                promote=False,
                sign=signer,
                fitted_with=fitted_with,
                outputs=targets if len(targets) > 1 else (),
                background=background,
            )
    doubts = found.findings if targets else []
    if not targets:  # no figures to doubt
        say(*(f"Warning: {finding}" for finding in found.findings))
    live = release.finish(path, [*unclear, *doubts])
    if found.metrics and len(rows) < FEW_ROWS:
        say(f"Warning: the sample has only {len(rows)} rows: figures of so few are chance.")
    _, manifest = read_manifest(FolderStore(path))
    say(*next_step(models / name if live else path, manifest, max_model_bytes))
    return live


@contextlib.contextmanager
def _about_dates(rows: pd.DataFrame) -> Iterator[None]:
    """Add to a failure that the rows hold dates as text, which CSV has no other form for."""
    try:
        yield
    except TrainingError as error:
        said = [str(error), *map(about_dates, dated_columns(rows))]
        raise TrainingError(" Maybe it is this: ".join(said)) from error


def _text_targets(targets: Sequence[str], classes: Any) -> dict[str, set[str]]:
    """Return the targets whose classes are texts, such as "True" and "1", and those classes."""
    outputs = classes if isinstance(classes, list) else [() if classes is None else classes]
    return {
        target: set(known)
        for target, known in zip(targets, outputs, strict=False)
        if len(known) and all(isinstance(value, str) for value in known)
    }


def _read_columns(model: Any, data: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that the pipeline reads, but for texts."""
    if takes_texts(model):
        return pd.DataFrame(index=range(len(data)))
    uses = read_uses(model, data.shape[1])
    return data.iloc[:, [i for i, use in enumerate(uses) if not (use.ignored or use.text)]]


def _select(model: Any, rows: pd.DataFrame, sample: Path) -> Any:
    """Take the columns that the model was fitted on, as it was given them."""
    if takes_texts(model) and len(rows.columns) == 1:
        return rows.iloc[:, 0]
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        missing = [str(name) for name in names if name not in rows]
        if missing:
            raise TrainingError(
                f"{sample} lacks {', '.join(missing)}, which the pipeline was fitted on."
            )
        extra = [name for name in rows if name not in set(names)]
        if extra:
            _say(f"not a feature, left out: {', '.join(map(str, extra))}")
        return rows[list(names)]
    count = getattr(model, "n_features_in_", 0) or rows.shape[1]  # CatBoost's is 0
    if rows.shape[1] != count:
        raise TrainingError(
            f"{sample} has {rows.shape[1]} feature columns, but the pipeline was fitted on "
            f"{count}. Name the target with --target if it is among them."
        )
    return np.asarray(rows)


def _say(text: str) -> None:
    print(f"training: {text}", file=sys.stderr)

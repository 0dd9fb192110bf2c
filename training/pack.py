"""`pack`: the bundle of a pipeline that somebody fitted elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_regressor

from training.errors import TrainingError, blame
from training.export.build import build_bundle
from training.fit import evaluate
from training.fit.sample import categories_of_text, read_sample
from training.registry.signing_key import read_signer
from training.report import progress, show_bundle
from training.train import SEED, check_name

__all__ = ["pack"]


def pack(
    pipeline: Path,
    sample: Path,
    target: str | None,
    name: str,
    models: Path,
    *,
    key: str | None = None,
) -> Path:
    """
    Write the bundle of the pipeline in the joblib file *pipeline*.

    Args:
        pipeline: A fitted classifier or regressor. Opening it runs whatever code is in it.
        sample: CSV of rows like those it was trained on; the schema is read from them.
        target: The sample's target column: with it, metrics and importances are recorded.
        name: The model's.
        models: The folder of all models.
        key: The private key that signs the bundle, as `read_signer` takes it.

    Raises:
        TrainingError: A file cannot be read, or the two do not fit together.
    """
    name = check_name(name)
    signer = read_signer(key) if key else None
    read_sample(sample)  # what is wrong with it is said before the pickle is opened
    print(
        f"training: opening {pipeline}, which is a pickle: it can run any code that is in it. "
        "Pack only what you trust.",
        file=sys.stderr,
    )
    model = _unpickle(pipeline)
    rows = read_sample(sample, strings=categories_of_text(model))
    truth = None
    if target is not None:
        if target not in rows:
            raise TrainingError(f"{sample} has no column {target}; it has {_listed(rows)}.")
        truth = rows.pop(target).to_numpy()
    data = _select(model, rows, sample)
    metrics: dict[str, dict[str, Any]] = {}
    importances = None
    with progress() as report:
        if truth is not None:
            report("evaluating on the sample")
            with blame(f"the pipeline cannot be evaluated against the column {target}"):
                metrics["sample"] = evaluate.evaluate(model, data, truth)
                classes = len(model.classes_) if hasattr(model, "classes_") else None
                scoring = evaluate.scorer(model, classes)
                importances = evaluate.permutation(model, data, truth, scoring=scoring, seed=SEED)
        path = build_bundle(
            models / name,
            name,
            model,
            data,
            metrics=metrics,
            permutation=importances,
            seed=None,
            report=report,
            sign=signer,
        )
    show_bundle(path)
    return path


def _unpickle(path: Path) -> Any:
    try:
        model = joblib.load(path)
    except Exception as error:  # a pickle may raise anything
        raise TrainingError(f"{path} cannot be opened with joblib: {error!r}.") from error
    if not isinstance(model, BaseEstimator) or not (is_classifier(model) or is_regressor(model)):
        found = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TrainingError(
            f"{path} holds {found}, and no scikit-learn pipeline that ends in a classifier or a "
            "regressor."
        )
    return model


def _select(model: Any, rows: pd.DataFrame, sample: Path) -> Any:
    """Take the columns that the model was fitted on, as it was given them."""
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        missing = [str(name) for name in names if name not in rows]
        if missing:
            raise TrainingError(
                f"{sample} lacks {', '.join(missing)}, which the pipeline was fitted on."
            )
        extra = [name for name in rows if name not in set(names)]
        if extra:
            print(
                f"training: not a feature, left out: {', '.join(map(str, extra))}", file=sys.stderr
            )
        return rows[list(names)]
    count = getattr(model, "n_features_in_", rows.shape[1])
    if rows.shape[1] != count:
        raise TrainingError(
            f"{sample} has {rows.shape[1]} feature columns, but the pipeline was fitted on "
            f"{count}. Name the target with --target if it is among them."
        )
    return np.asarray(rows)


def _listed(rows: pd.DataFrame) -> str:
    return ", ".join(map(str, rows.columns))

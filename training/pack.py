"""`pack`: the bundle of a pipeline that was fitted elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from serving.bundle.reader import read_manifest
from serving.bundle.trust import Trust
from serving.stores.folder import FolderStore
from sklearn.base import BaseEstimator

from training.errors import TrainingError, blame
from training.export.build import build_bundle
from training.export.contract import categories_of_text, takes_texts
from training.export.walk import classes_of, task_of
from training.fit import evaluate
from training.fit.files import check_csv
from training.fit.pickles import check_pickles, open_pickle
from training.fit.sample import read_sample
from training.fit.tasks import outputs
from training.registry.location import check_name
from training.registry.next_step import next_step
from training.registry.signing_key import read_signer
from training.registry.summary import show_bundle
from training.report import progress, say

__all__ = ["pack"]


def pack(
    pipeline: Path,
    sample: Path,
    targets: Sequence[str],
    name: str,
    models: Path,
    *,
    key: str | None = None,
    background: bool = True,
    max_model_bytes: int = Trust().max_model_bytes,
) -> Path:
    """
    Write the bundle of the pipeline in the joblib file *pipeline*.

    Args:
        pipeline: A fitted classifier or regressor. Opening it runs any code that is in it.
        sample: CSV of rows like those it was trained on; the schema is read from them.
        targets: The sample's target columns, in the model's order: with them, metrics are
            recorded, and several name the model's outputs.
        name: The model's.
        models: The folder of all models.
        key: The private key that signs the bundle, as `read_signer` takes it.
        background: Whether 100 rows go into the bundle, so that answers can be explained.
        max_model_bytes: The largest model file that the server reads.

    Raises:
        TrainingError: A file cannot be read, or the two do not fit together.
    """
    name = check_name(name)
    signer = read_signer(key) if key else None
    check_csv(sample)
    header = read_sample(sample).columns  # a wrong sample is reported before the pickle is opened
    _say(
        f"opening {pipeline}, which is a pickle: it can run any code that is in it. Pack only what "
        "you trust."
    )
    model, fitted_with = open_pickle(pipeline)
    with blame(f"{pipeline} holds a {type(model).__name__} that cannot be used"):
        _check_model(model, pipeline)
        check_pickles(model)
        strings = categories_of_text(model, [name for name in header if name not in targets])
        classes = classes_of(model)
        if len(targets) == 1 and classes is not None and all(isinstance(v, str) for v in classes):
            strings[targets[0]] = set(classes)  # "True" and "1" are texts to such a model
    if fitted_with is not None:
        _say(
            f"{pipeline} was fitted with scikit-learn {fitted_with}, and this is "
            f"{sklearn.__version__}: its answers may have changed, and the bundle answers as they "
            f"are here. Compare a few with the original, or pack with {fitted_with}."
        )
    rows = read_sample(sample, strings=strings)
    for target in targets:
        if target not in rows:
            raise TrainingError(f"{sample} has no column {target}; it has {_listed(rows)}.")
    truth = [rows.pop(target).to_numpy() for target in dict.fromkeys(targets)]
    data = _select(model, rows, sample)
    metrics: dict[str, dict[str, Any]] = {}
    importances = None
    with progress() as report:
        if len(truth) > 1:
            report("evaluating on the sample")
            with blame(f"the pipeline cannot be evaluated against {', '.join(targets)}"):
                _check_outputs(model, data, len(truth))
                answers = outputs.ask(model, data, len(truth))
                pairs = zip(truth, answers, strict=True)
                found = [{"sample": evaluate.measure(*pair)} for pair in pairs]
                metrics = outputs.together(targets, found)
        elif truth and task_of(model) in ("classification", "regression"):
            report("evaluating on the sample")
            with blame(f"the pipeline cannot be evaluated against the column {targets[0]}"):
                if classes is not None:
                    _check_labels(truth[0], classes, f"the column {targets[0]} of {sample}")
                metrics["sample"] = evaluate.evaluate(model, data, truth[0])
                scoring = evaluate.scorer(model, None if classes is None else len(classes))
                if not takes_texts(model):
                    importances = evaluate.permutation(
                        model, data, truth[0], scoring=scoring, seed=evaluate.SEED
                    )
        with blame("the pipeline cannot be made a bundle"):
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
                fitted_with=fitted_with,
                outputs=targets if len(truth) > 1 else (),
                background=background,
            )
    show_bundle(path)
    _, manifest = read_manifest(FolderStore(path))
    say(*next_step(models / name, manifest, max_model_bytes))
    return path


def _check_labels(truth: Any, classes: Any, what: str) -> None:
    if missing := int(pd.isna(truth).sum()):
        raise TrainingError(f"{what} is missing in {missing} rows; leave those rows out.")
    known = dict.fromkeys(np.asarray(classes).tolist())
    strange = [value for value in truth.tolist() if value not in known]
    if len(strange) == len(truth) or len({isinstance(v, str) for v in [*strange, *known]}) > 1:
        shown = ", ".join(map(repr, list(known)[:10]))
        raise TrainingError(f"{what} holds {strange[0]!r}, but the model's classes are {shown}.")


def _check_outputs(model: Any, data: Any, targets: int) -> None:
    shape = np.shape(model.predict(data[:1]))
    predicted = shape[1] if len(shape) == 2 else 1
    if predicted != targets:
        raise TrainingError(
            f"the pipeline predicts {predicted} at once, but {targets} columns are given by "
            "--target; name each of its outputs, in their order."
        )


def _check_model(model: Any, path: Path) -> None:
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
            "regressor, a clusterer or a detector of outliers."
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
    count = getattr(model, "n_features_in_", rows.shape[1])
    if rows.shape[1] != count:
        raise TrainingError(
            f"{sample} has {rows.shape[1]} feature columns, but the pipeline was fitted on "
            f"{count}. Name the target with --target if it is among them."
        )
    return np.asarray(rows)


def _listed(rows: pd.DataFrame) -> str:
    return ", ".join(map(str, rows.columns))


def _say(text: str) -> None:
    print(f"training: {text}", file=sys.stderr)

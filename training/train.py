"""`train`: split, cross-validate, fit, evaluate, explain, and write the bundle."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from serving.bundle.manifest import HoldOut, Task
from sklearn.compose import ColumnTransformer

from training.errors import TrainingError, blame
from training.export.build import build_bundle
from training.export.contract import read_columns
from training.export.features import as_frame, as_pandas, read_features
from training.export.walk import task_of, walk, without_task
from training.fit import evaluate, project, split
from training.fit.pickles import check_pickles
from training.fit.row_hash import read_ids
from training.fit.tasks import outputs
from training.fit.tasks.learn import Fit, fit_alone, fit_to
from training.fit.tasks.target import check_target, read_target
from training.registry.location import check_name
from training.registry.release import Release, Wish
from training.registry.signing import read_signer
from training.registry.verdict.conditions import check_metrics
from training.report import progress

__all__ = ["train"]

#: Tasks that are learnt from the features alone.
WITHOUT_TARGET = ("outliers", "clustering")


def train(
    source: str,
    name: str | None,
    models: Path,
    *,
    wish: Wish,
    column: str | None = None,
    key: str | None = None,
    background: bool = True,
) -> bool:
    """
    Train a project and write its bundle. The model that was evaluated is the one that is served.

    Args:
        source: The project: a module with load_data() and build_pipeline(), or its file.
        name: The model's; the last part of the module's name if None.
        models: The folder of all models.
        wish: What the model must meet to go live, and where.
        column: The id column: decides which rows are held out, and is no feature.
        key: The private key that signs the bundle, as `read_signer` takes it.
        background: Whether 100 rows go into the bundle, so that answers can be explained.

    Returns:
        Whether the model is live.

    Raises:
        TrainingError: The project or its data are not right.
        BundleError: The store fails, or someone else moved `latest` meanwhile.
    """
    module = project.import_project(source)
    name = check_name(name or module.__name__.rpartition(".")[2])
    release = Release(models / name, wish)
    signer = read_signer(key) if key else None
    with progress() as report:
        report(f"loading the data of {source}")
        loaded, target = project.load_data(module)
        loaded = as_pandas(loaded)
        data = _without(loaded, column)
        frame, _ = as_frame(data)
        data = data if hasattr(data, "iloc") else np.asarray(data)
        pipeline = project.build_pipeline(module)
        if not any(isinstance(step, ColumnTransformer) for _, step in walk(pipeline)):
            read_features(frame)  # otherwise no step may read the column that JSON cannot carry
        task, names = _task(pipeline, target)
        chances = hasattr(pipeline, "predict_proba")
        check_metrics(wish.conditions, task, probabilities=chances, outputs=names)
        fit = Fit(module, pipeline, data, frame, report, partial(read_columns, pipeline))
        if task in WITHOUT_TARGET:
            if column is not None or hasattr(module, "hold_out"):
                raise TrainingError(
                    "without a target no rows are held out, so --id and hold_out() decide nothing; "
                    "leave them out, and drop an id column in load_data()."
                )
            held, rule = None, None
            fitted = fit_alone(fit, task)
        else:
            target = read_target(target, len(frame))
            for one in outputs.columns(target):
                check_target(one, regression=task == "regression")
            held, mask, rule = _hold_out(fit, name, loaded, target, column)
            if column is not None:
                ids = read_ids(split.key_frame(loaded), column)
                fit = fit._replace(ids=np.array(ids))
            fitted = fit_to(fit, target, mask, names, regression=task == "regression")
        check_pickles(pipeline)
        with blame("the pipeline cannot be made a bundle", module.__file__):
            path = build_bundle(
                models / name,
                name,
                pipeline,
                fitted.seen,
                metrics=fitted.metrics,
                permutation=fitted.importances,
                seed=evaluate.SEED,
                report=report,
                promote=False,
                sign=signer,
                hold_out=rule,
                background=background,
                plots=fitted.plots,
                purpose=project.read_purpose(module),
                outputs=names,
                measure=None if held is None else partial(release.compare, held=held),
            )
    return release.finish(path, fitted.findings)


def _task(pipeline: Any, target: Any) -> tuple[Task, list[str]]:
    """Return what the pipeline is for, and the names of its outputs if it has several."""
    task = task_of(pipeline)
    last = pipeline.steps[-1][1] if hasattr(pipeline, "steps") else pipeline
    if task is None:
        raise TrainingError(without_task(pipeline))
    if task in WITHOUT_TARGET and target is not None:
        raise TrainingError(
            f"a {type(last).__name__} learns without a target: let load_data() return None as the "
            "second thing."
        )
    if task not in WITHOUT_TARGET and target is None:
        raise TrainingError(
            f"load_data() returns no target (None), and a {type(last).__name__} needs one."
        )
    return task, [] if target is None else outputs.column_names(target)


def _hold_out(
    fit: Fit, name: str, loaded: Any, target: Any, column: str | None
) -> tuple[split.HeldOut, split.Mask, HoldOut]:
    """Return the rows to hold out, which of all rows they are, and the rule."""
    chosen = project.hold_out(fit.module, loaded)
    if chosen is not None and column is not None:
        raise TrainingError("the project has a hold_out(), so --id decides nothing; leave one out.")
    keys = split.key_frame(loaded)
    mask, rule = split.hold_out(name, keys, target, column=column, chosen=chosen)
    answer = chosen and split.Chosen(mask[mask], chosen.source_sha256)
    return split.HeldOut(fit.data[mask], target[mask], keys[mask], answer), mask, rule


def _without(loaded: Any, column: str | None) -> Any:
    """Return the features: all columns but the id."""
    if column is None or column not in getattr(loaded, "columns", ()):
        return loaded
    return loaded.drop(columns=column)

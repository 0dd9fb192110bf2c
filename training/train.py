"""`train`: split, cross-validate, fit, evaluate, explain, and write the bundle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from serving.bundle.trust import Trust
from sklearn.base import is_regressor
from sklearn.model_selection import train_test_split

from training.errors import TrainingError, blame
from training.export.build import build_bundle
from training.fit import evaluate
from training.fit.project import build_pipeline, check_target, import_project, load_data
from training.registry.gate import Condition, check_metrics
from training.registry.location import find_live, open_location
from training.registry.release import release
from training.registry.signing_key import read_signer
from training.report import progress

__all__ = ["check_name", "train"]

SEED = 0
HELD_OUT = 0.2
FOLDS = 5


def train(
    project: str,
    name: str | None,
    models: Path,
    *,
    trust: Trust,
    conditions: Sequence[Condition] = (),
    to: str | None = None,
    key: str | None = None,
) -> bool:
    """
    Train a project and write its bundle; the model that was evaluated is the one that is served.

    Args:
        project: A module with load_data() and build_pipeline().
        name: The model's; the last part of the module's name if None.
        models: The folder of all models.
        trust: Which signatures are required where it is published.
        conditions: What the model must reach to go live.
        to: The location of all models in a store, if it is to be published there.
        key: The private key that signs the bundle, as `read_signer` takes it.

    Returns:
        Whether the model is live.

    Raises:
        TrainingError: The project or its data are not right.
        BundleError: The store fails, or somebody else moved the pointer meanwhile.
    """
    module = import_project(project)
    name = check_name(name or project.rpartition(".")[2])
    if to is not None:
        find_live(
            open_location(to).at(name)
        )  # a store that is not there is found now, not at the end
    signer = read_signer(key) if key else None
    with progress() as report:
        report(f"loading the data of {project}")
        data, target = load_data(module)
        pipeline = build_pipeline(module)
        regression = bool(is_regressor(pipeline))
        check_metrics(
            conditions,
            "regression" if regression else "classification",
            probabilities=hasattr(pipeline, "predict_proba"),
        )
        check_target(target, regression=regression)
        with blame("the data cannot be split into training rows and held-out rows"):
            seen, unseen, truth, held_out = train_test_split(
                data,
                target,
                test_size=HELD_OUT,
                random_state=SEED,
                stratify=None if regression else target,
            )
        classes = None if regression else len(np.unique(target))
        scoring = evaluate.scorer(pipeline, classes)
        with blame("the pipeline cannot be fitted to the data", module.__file__):
            report(f"cross-validating on {len(seen):,} rows")
            validation = _cross_validate(pipeline, seen, truth, scoring, regression=regression)
            report("fitting")
            pipeline = pipeline.fit(seen, truth)
        with blame("the fitted pipeline cannot be evaluated", module.__file__):
            report(f"evaluating on {len(unseen):,} rows held out")
            metrics = {
                "held_out": evaluate.evaluate(pipeline, unseen, held_out),
                "baseline": evaluate.baseline(
                    seen, truth, (unseen, held_out), regression=regression
                ),
            }
            if validation is not None:
                metrics["cross_validation"] = validation
            report("permuting features")
            importances = evaluate.permutation(
                pipeline, unseen, held_out, scoring=scoring, seed=SEED
            )
        path = build_bundle(
            models / name,
            name,
            pipeline,
            seen,
            metrics=metrics,
            permutation=importances,
            seed=SEED,
            report=report,
            promote=not conditions,
            sign=signer,
        )
    return release(path, (unseen, held_out), conditions, to, trust)


def check_name(name: str) -> str:
    """
    Return *name* if it can be a folder and part of an address.

    Raises:
        TrainingError: It cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise TrainingError(
            f"{name!r} is no model name: use letters, digits, '_', '.' and '-', at most 64."
        )
    return name


def _cross_validate(
    pipeline: Any, data: Any, target: Any, scoring: str, *, regression: bool
) -> dict[str, Any] | None:
    # R² is not defined for one row, so a fold has two.
    rows = len(target) // 2 if regression else int(np.unique(target, return_counts=True)[1].min())
    folds = min(FOLDS, rows)
    if folds < 2:
        return None
    return evaluate.cross_validation(pipeline, data, target, folds=folds, scoring=scoring)

"""`train`: split, cross-validate, fit, evaluate, explain, and write the bundle."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from serving.bundle.manifest import HoldOut
from sklearn.base import is_regressor

from training.errors import TrainingError, blame
from training.export.build import build_bundle
from training.export.features import as_frame, read_features
from training.fit import curves, evaluate, project, split
from training.fit.pickles import check_pickles
from training.fit.review import review
from training.registry.location import check_name, find_live, open_location
from training.registry.release import Wish, release
from training.registry.signing_key import read_signer
from training.registry.verdict.gate import check_metrics
from training.report import progress

__all__ = ["train"]

FOLDS = 5


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
        wish: What the model must reach to go live, and where.
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
    if wish.to is not None:
        find_live(open_location(wish.to).at(name))  # a store that is missing is reported now
    signer = read_signer(key) if key else None
    with progress() as report:
        report(f"loading the data of {source}")
        loaded, target = project.load_data(module)
        data = _without(loaded, column)
        frame, _ = as_frame(data)
        read_features(frame)
        data = data if hasattr(data, "iloc") else np.asarray(data)
        pipeline = project.build_pipeline(module)
        regression = bool(is_regressor(pipeline))
        check_metrics(
            wish.conditions,
            "regression" if regression else "classification",
            probabilities=hasattr(pipeline, "predict_proba"),
        )
        target = project.read_target(target, len(frame))
        project.check_target(target, regression=regression)
        mask, rule, chosen = _hold_out(module, name, loaded, target, column)
        held = split.HeldOut(data[mask], target[mask], split.key_frame(loaded)[mask], chosen)
        seen, truth = data[~mask], target[~mask]
        if not regression:
            _check_classes(truth, held.truth)
        scoring = evaluate.scorer(pipeline, None if regression else len(np.unique(target)))
        with blame("the pipeline cannot be fitted to the data", module.__file__):
            report(f"cross-validating on {len(truth):,} rows")
            validation = _cross_validate(pipeline, seen, truth, scoring, regression=regression)
            report("fitting")
            pipeline = pipeline.fit(seen, truth)
        with blame("the fitted pipeline cannot be evaluated", module.__file__):
            report(f"evaluating on {len(held.truth):,} rows held out")
            answers = evaluate.ask(pipeline, held.data)
            metrics = {
                "held_out": evaluate.measure(held.truth, answers),
                "intervals": evaluate.intervals(held.truth, answers),
                "baseline": evaluate.baseline(truth, held.truth, regression=regression),
            }
            if validation is not None:
                metrics["cross_validation"] = validation
            report("permuting features")
            importances = evaluate.permutation(
                pipeline, held.data, held.truth, scoring=scoring, seed=evaluate.SEED
            )
        with blame("the data cannot be reviewed"):
            figures, trivial = metrics["held_out"], metrics["baseline"]
            findings = review(frame, target, mask, figures=figures, trivial=trivial)
        check_pickles(pipeline)
        with blame("the pipeline cannot be made a bundle", module.__file__):
            path = build_bundle(
                models / name,
                name,
                pipeline,
                seen,
                metrics=metrics,
                permutation=importances,
                seed=evaluate.SEED,
                report=report,
                promote=False,
                sign=signer,
                hold_out=rule,
                background=background,
                plots=curves.draw_curves(held.truth, answers),
                purpose=project.read_purpose(module),
            )
    return release(path, held, findings, wish)


def _hold_out(
    module: ModuleType, name: str, loaded: Any, target: Any, column: str | None
) -> tuple[split.Mask, HoldOut, split.Chosen | None]:
    """Return which rows are held out, the rule, and the project's answer for the rows held out."""
    chosen = project.hold_out(module, loaded)
    if chosen is not None and column is not None:
        raise TrainingError("the project has a hold_out(), so --id decides nothing; leave one out.")
    keys = split.key_frame(loaded)
    mask, rule = split.hold_out(name, keys, target, column=column, chosen=chosen)
    return mask, rule, chosen and split.Chosen(mask[mask], chosen.source_sha256)


def _check_classes(seen: Any, unseen: Any) -> None:
    lost = sorted(set(np.unique(unseen).tolist()) - set(np.unique(seen).tolist()))
    if lost:
        raise TrainingError(
            f"the data cannot be split: every row of the class {lost[0]!r} is held out. Find more "
            "rows of it, leave it out, or define hold_out(data) in the project."
        )


def _without(loaded: Any, column: str | None) -> Any:
    """Return the features: all columns but the id."""
    if column is None or column not in getattr(loaded, "columns", ()):
        return loaded
    return loaded.drop(columns=column)


def _cross_validate(
    pipeline: Any, data: Any, target: Any, scoring: str, *, regression: bool
) -> dict[str, Any] | None:
    # R² is not defined for one row, so a fold has two.
    rows = len(target) // 2 if regression else int(np.unique(target, return_counts=True)[1].min())
    folds = min(FOLDS, rows)
    if folds < 2:
        return None
    return evaluate.cross_validation(pipeline, data, target, folds=folds, scoring=scoring)

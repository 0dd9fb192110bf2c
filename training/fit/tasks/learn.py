"""Fits a pipeline and measures it: to a target, to several, or to none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from serving.bundle.manifest import Task
from serving.bundle.plots import Plots

from training.errors import TrainingError, blame
from training.fit import curves, split, validation
from training.fit.review.findings import review, review_rows
from training.fit.tasks import outputs

__all__ = ["Fit", "Fitted", "fit_alone", "fit_to"]


class Fit(NamedTuple):
    """A pipeline, and the rows that it is fitted to."""

    module: ModuleType
    pipeline: Any
    #: n rows, as the pipeline gets them.
    data: Any
    frame: pd.DataFrame
    report: Callable[[str], None]
    #: Returns the columns of a frame that the fitted pipeline reads.
    read: Callable[[pd.DataFrame], pd.DataFrame]
    #: Of each row whose it is, shape (n,); None if that is not known.
    ids: NDArray[Any] | None = None


class Fitted(NamedTuple):
    """The rows that a pipeline was fitted to, its figures, and the findings."""

    #: The rows that the pipeline is fitted to.
    seen: Any
    metrics: dict[str, dict[str, Any]]
    importances: dict[str, float] | None
    plots: Plots | None
    #: What is suspicious.
    findings: list[str]


def fit_alone(fit: Fit, task: Task) -> Fitted:
    """Fit to all rows: there is no truth to hold out."""
    with _fitting(fit.module.__file__):
        fit.report(f"fitting on {len(fit.frame):,} rows")
        fit.pipeline.fit(fit.data)
    with blame("the fitted pipeline cannot be evaluated", fit.module.__file__):
        said = np.asarray(fit.pipeline.predict(fit.data))
    if task == "outliers":
        figures = {"outlier_share": float((said == -1).mean())}
    else:
        sizes = np.unique(said, return_counts=True)[1] / len(said)
        figures = {"smallest_cluster": float(sizes.min()), "largest_cluster": float(sizes.max())}
    with blame("the data cannot be reviewed"):
        findings = review_rows(fit.read(fit.frame))
    return Fitted(fit.data, {"fitted": figures}, None, None, findings)


def fit_to(
    fit: Fit, target: Any, mask: split.Mask, names: list[str], *, regression: bool
) -> Fitted:
    """Fit to the rows that are not held out, and measure on those that are."""
    pipeline, report = fit.pipeline, fit.report
    seen, truth, unseen, held = fit.data[~mask], target[~mask], fit.data[mask], target[mask]
    if not regression:
        for known, one in zip(outputs.columns(truth), outputs.columns(held), strict=True):
            _check_classes(known, one)
    count = len(names) or 1
    classes = None if regression else len(np.unique(outputs.columns(target)[0]))
    scoring = validation.scorer(pipeline, classes, outputs=count)
    with _fitting(fit.module.__file__):
        report(f"cross-validating on {len(truth):,} rows")
        ids = None if fit.ids is None else fit.ids[~mask]
        folds = validation.divide(truth, ids, by_class=not (regression or names))
        validated = folds and validation.cross_validation(
            pipeline, seen, truth, folds=folds, scoring=scoring, report=report
        )
        report("fitting")
        pipeline.fit(seen, truth)
    with blame("the fitted pipeline cannot be evaluated", fit.module.__file__):
        report(f"evaluating on {len(held):,} rows held out")
        answers = outputs.ask(pipeline, unseen, count)
        parts = outputs.measure(truth, held, answers, regression=regression)
        metrics = outputs.together(names, parts)
        if validated:
            metrics["cross_validation"] = validated
        importances = validation.permutation(pipeline, unseen, held, scoring=scoring, report=report)
    with blame("the data cannot be reviewed"):
        frame = fit.read(fit.frame)
        findings = outputs.review_all(
            names,
            outputs.columns(target),
            parts,
            lambda one, part: review(
                frame, one, mask, figures=part["held_out"], trivial=part["baseline"]
            ),
        )
    plots = curves.draw_plots(names, outputs.columns(held), answers)
    return Fitted(seen, metrics, importances, plots, findings)


def _check_classes(seen: Any, unseen: Any) -> None:
    lost = sorted(set(np.unique(unseen).tolist()) - set(np.unique(seen).tolist()))
    if lost:
        raise TrainingError(
            f"the data cannot be split: every row of the class {lost[0]!r} is held out. Find more "
            "rows of it, leave it out, or define hold_out(data) in the project."
        )


@contextlib.contextmanager
def _fitting(file: str | None) -> Iterator[None]:
    """Blame the pipeline of *file*, and say what helps if it takes texts for numbers."""
    try:
        with blame("the pipeline cannot be fitted to the data", file):
            yield
    except TrainingError as error:
        said = str(error)
        if "could not convert string to float" in said:
            way = "encode texts in the pipeline, with a OneHotEncoder or an OrdinalEncoder"
            raise TrainingError(f"{said.rstrip('.')}; {way}.") from error
        raise

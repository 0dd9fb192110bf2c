"""Measures a pipeline that was fitted elsewhere on the rows that came with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from training.errors import TrainingError, blame
from training.fit import evaluate, validation
from training.fit.evaluate import Answers
from training.fit.review.findings import review_sample
from training.fit.tasks import outputs

__all__ = ["Measured", "measure_sample"]


class Measured(NamedTuple):
    """The figures of a pipeline on its sample, and the findings."""

    metrics: dict[str, dict[str, Any]]
    importances: dict[str, float] | None
    #: What is suspicious.
    findings: list[str]


def measure_sample(
    model: Any,
    data: Any,
    frame: pd.DataFrame,
    truth: dict[str, Any],
    *,
    file: Path,
    report: Callable[[str], None],
) -> Measured:
    """
    Measure *model* beside the trivial one, and look for suspicious data.

    Args:
        model: Fitted; a classifier or a regressor.
        data: The n rows, as the model takes them.
        frame: The columns that it reads.
        truth: Of each target its n values; none if they are not known.
        file: The sample's, for the sentences.
        report: Told what is being done.

    Raises:
        TrainingError: The targets do not fit the model.
    """
    if not truth:
        return Measured({}, None, review_sample(frame))
    columns, targets = list(truth), list(truth.values())
    names = columns if len(columns) > 1 else []
    hint = " Give --target in the order of the model's outputs." if names else ""
    what = ", ".join(columns) if names else f"the column {columns[0]}"
    importances = None
    with blame(f"the pipeline cannot be evaluated against {what}"):
        if names:
            _check_outputs(model, data, len(names))
        answers = outputs.ask(model, data, len(columns))
        for name, one, answer in zip(columns, targets, answers, strict=True):
            if answer.classes is not None:
                _check_labels(one, answer.classes, f"the column {name} of {file}", hint)
        parts = [_measure(*pair) for pair in zip(targets, answers, strict=True)]
        if not names:
            classes = answers[0].classes
            scoring = validation.scorer(model, None if classes is None else len(classes))
            importances = validation.permutation(
                model, data, targets[0], scoring=scoring, report=report
            )
    with blame("the sample cannot be reviewed"):
        findings = outputs.review_all(
            names,
            targets,
            parts,
            lambda one, part: review_sample(
                frame, one, figures=part["sample"], trivial=part.get("baseline")
            ),
        )
    return Measured(outputs.together(names, parts), importances, findings)


def _measure(truth: Any, answers: Answers) -> outputs.Metrics:
    found = {"sample": evaluate.measure(truth, answers)}
    if len(np.unique(truth)) > 1:  # otherwise the trivial model is always right
        found["baseline"] = evaluate.baseline(truth, truth, regression=answers.classes is None)
    return found


def _check_labels(truth: Any, classes: Any, what: str, hint: str) -> None:
    if missing := int(pd.isna(truth).sum()):
        raise TrainingError(f"{what} is missing in {missing} rows; leave those rows out.")
    known = dict.fromkeys(np.asarray(classes).tolist())
    strange = [value for value in truth.tolist() if value not in known]
    if len(strange) == len(truth) or len({isinstance(v, str) for v in [*strange, *known]}) > 1:
        shown = ", ".join(map(repr, list(known)[:10]))
        raise TrainingError(
            f"{what} holds {strange[0]!r}, but the model's classes are {shown}.{hint}"
        )


def _check_outputs(model: Any, data: Any, targets: int) -> None:
    shape = np.shape(model.predict(data[:1]))
    predicted = shape[1] if len(shape) == 2 else 1
    if predicted != targets:
        raise TrainingError(
            f"the pipeline predicts {predicted} at once, but {targets} columns are given by "
            "--target; name each of its outputs, in their order."
        )

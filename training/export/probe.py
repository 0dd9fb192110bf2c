"""Finds out by trying a pipeline what its attributes do not tell."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from msgspec.structs import replace
from serving.bundle.manifest import Feature, Manifest
from serving.model.engines.sklearn import SklearnEngine
from sklearn.base import is_classifier
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.svm import SVC, NuSVC

from training.errors import TrainingError, blame
from training.export.contract import read_uses
from training.export.features import take
from training.export.perturb import perturbed
from training.export.walk import walk

__all__ = ["probe_pipeline"]

#: Whose label need not be the class of the highest probability: a threshold of its own, or
#: probabilities from a calibration apart (Platt 1999).
_OWN_LABELS = (FixedThresholdClassifier, TunedThresholdClassifierCV, SVC, NuSVC)


def probe_pipeline(draft: Manifest, pipeline: Any, data: Any, columns: list[list[Any]]) -> Manifest:
    """
    Settle which unseen categories are answered, and how a label follows from probabilities.

    Args:
        draft: The manifest so far.
        pipeline: Fitted.
        data: Rows as training had them.
        columns: The same rows as JSON has them.

    Raises:
        TrainingError: The pipeline does not answer rows that come as JSON as it answers *data*.
    """
    with blame("the pipeline cannot score the rows"):
        _check_reconstruction(SklearnEngine(draft, pipeline), draft, pipeline, data, columns)
        names = getattr(data, "columns", [feature.name for feature in draft.features])
        uses = zip(names, read_uses(pipeline, len(names)), strict=True)
        imputed = {str(name) for name, use in uses if use.imputed}
        features = _accept_unseen(draft, pipeline, columns, imputed)
        draft = replace(draft, features=features)
        rule = _label_rule(draft, pipeline, columns)
    engine = replace(draft.engine, label_rule=rule)
    return replace(draft, engine=engine)


def _label_rule(
    draft: Manifest, pipeline: Any, columns: list[list[Any]]
) -> Literal["argmax", "model"]:
    """Return "argmax" only for scikit-learn's own classifiers, and only if a trial confirms it."""
    if not draft.has_probabilities:
        return "argmax"
    for _, estimator in walk(pipeline):
        if is_classifier(estimator) and (
            isinstance(estimator, _OWN_LABELS)
            or not type(estimator).__module__.startswith("sklearn.")
        ):
            return "model"
    engine = replace(draft.engine, label_rule="model")
    model = SklearnEngine(replace(draft, engine=engine), pipeline)
    around, _ = perturbed(columns, draft.features, 200, np.random.default_rng(0), long=False)
    for rows in (columns, around):
        try:
            scores = model.score(rows)
        except (ValueError, ArithmeticError):  # it rejects such rows: nothing to compare
            continue
        if np.argmax(np.asarray(scores.probabilities), axis=1).tolist() != scores.values:
            return "model"
    return "argmax"


def _accept_unseen(
    draft: Manifest, pipeline: Any, columns: list[list[Any]], imputed: set[str]
) -> list[Feature]:
    """Try a category never seen in each column, and a gap: does the pipeline answer?"""
    engine = SklearnEngine(draft, pipeline)
    first = take(columns, [0])
    # An encoder without gaps treats null as an unseen category, so null is not tried there.
    gaps = [
        j
        for j, feature in enumerate(draft.features)
        if not feature.nullable
        and (feature.kind == "number" or (feature.is_text and feature.name in imputed))
    ]
    every = [[None if j in gaps else column[0]] for j, column in enumerate(columns)]
    all_at_once = bool(gaps) and _is_answered(engine, every)
    features = []
    for j, feature in enumerate(draft.features):
        accepts, nullable = False, feature.nullable
        if feature.kind == "category":
            unseen: Any = "a category never seen"
            if feature.is_whole:
                unseen = max(int(value) for value in feature.categories or ()) + 1
            accepts = _answers(engine, first, j, unseen)
        if j in gaps:
            nullable = all_at_once or _answers(engine, first, j, None)
        features.append(replace(feature, accepts_unseen=accepts, nullable=nullable))
    return features


def _answers(engine: SklearnEngine, row: list[list[Any]], j: int, value: Any) -> bool:
    return _is_answered(engine, [*row[:j], [value], *row[j + 1 :]])


def _is_answered(engine: SklearnEngine, row: list[list[Any]]) -> bool:
    try:
        scores = engine.score(row)
    except Exception:  # any exception means that it rejects the value
        return False
    answers = (p.values if p.probabilities is None else p.probabilities for p in scores.parts)
    return all(np.isfinite(np.asarray(answer, dtype=np.float64)).all() for answer in answers)


def _check_reconstruction(
    engine: SklearnEngine, draft: Manifest, pipeline: Any, data: Any, columns: list[list[Any]]
) -> None:
    """Make sure that rows rebuilt from JSON mean to the pipeline what the original rows do."""
    expected = pipeline.decision_function(data) if draft.task == "outliers" else None
    if expected is None and draft.has_probabilities:
        expected = pipeline.predict_proba(data)
    if expected is None:
        expected = pipeline.predict(data)
    wanted = np.asarray(expected).reshape(len(columns[0]), -1)
    parts = []
    for part, output in zip(engine.score(columns).parts, draft.parts, strict=True):
        if draft.has_probabilities:
            parts.append(np.asarray(part.probabilities))
        elif output.classes is None:
            parts.append(np.asarray(part.values, float).reshape(-1, 1))
        else:
            parts.append(np.asarray(output.classes)[part.values].reshape(-1, 1))
    found = np.hstack(parts)
    if found.dtype.kind in "fiub" and wanted.dtype.kind in "fiub":
        same = np.allclose(found.astype(float), wanted.astype(float), rtol=1e-9, atol=1e-9)
    else:
        same = bool((found.astype(str) == wanted.astype(str)).all())
    if not same:
        raise TrainingError(
            "the pipeline answers differently when its rows come as JSON: a column holds values "
            "that JSON cannot tell apart."
        )

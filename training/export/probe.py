"""What of a pipeline can only be found out by trying it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from serving.bundle.manifest import Feature, Manifest
from serving.model.engines.sklearn import SklearnEngine
from sklearn.base import is_classifier
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.svm import SVC, NuSVC

from training.errors import TrainingError, blame
from training.export.compile import walk
from training.export.features import take
from training.export.perturb import perturbed

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
        _check_single(pipeline, data)
        _check_reconstruction(SklearnEngine(draft, pipeline), pipeline, data, columns)
        draft = msgspec.structs.replace(draft, features=_accept_unseen(draft, pipeline, columns))
        rule = _label_rule(draft, pipeline, columns)
    engine = msgspec.structs.replace(draft.engine, label_rule=rule)
    return msgspec.structs.replace(draft, engine=engine)


def _check_single(pipeline: Any, data: Any) -> None:
    shape = np.shape(pipeline.predict(data))
    if len(shape) != 1 and shape[1:] != (1,):
        raise TrainingError("the pipeline predicts several targets at once; train one for each.")


def _label_rule(
    draft: Manifest, pipeline: Any, columns: list[list[Any]]
) -> Literal["argmax", "model"]:
    """Say "argmax" only of scikit-learn's own classifiers, and where it is seen to hold."""
    if not draft.has_probabilities:
        return "argmax"
    for _, estimator in walk(pipeline):
        if is_classifier(estimator) and (
            isinstance(estimator, _OWN_LABELS)
            or not type(estimator).__module__.startswith("sklearn.")
        ):
            return "model"
    engine = msgspec.structs.replace(draft.engine, label_rule="model")
    model = SklearnEngine(msgspec.structs.replace(draft, engine=engine), pipeline)
    around = perturbed(columns, draft.features, 200, np.random.default_rng(0))
    for rows in (columns, around):
        try:
            scores = model.score(rows)
        except (ValueError, ArithmeticError):  # it does not take such rows: nothing to compare
            continue
        if np.argmax(np.asarray(scores.probabilities), axis=1).tolist() != scores.values:
            return "model"
    return "argmax"


def _accept_unseen(draft: Manifest, pipeline: Any, columns: list[list[Any]]) -> list[Feature]:
    """Try a category never seen in each column: does the pipeline answer?"""
    engine = SklearnEngine(draft, pipeline)
    first = take(columns, [0])
    return [
        msgspec.structs.replace(feature, accepts_unseen=_answers(engine, first, j))
        if feature.kind == "category"
        else feature
        for j, feature in enumerate(draft.features)
    ]


def _answers(engine: SklearnEngine, row: list[list[Any]], j: int) -> bool:
    try:
        engine.score([*row[:j], ["a category never seen"], *row[j + 1 :]])
    except Exception:  # whatever it raises, it does not take the category
        return False
    return True


def _check_reconstruction(
    engine: SklearnEngine, pipeline: Any, data: Any, columns: list[list[Any]]
) -> None:
    """Make sure that rows rebuilt from JSON mean to the pipeline what the original rows do."""
    scores = engine.score(columns)
    found: Any
    if scores.probabilities is not None:
        found, expected = scores.probabilities, pipeline.predict_proba(data)
    else:
        found, expected = scores.values, np.asarray(pipeline.predict(data)).reshape(-1)
        if hasattr(pipeline, "classes_"):
            found = np.asarray(pipeline.classes_)[found]
            if (found == expected).all():
                return
            found, expected = found != expected, np.zeros(len(expected))
    if not np.allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-9, atol=1e-9):
        raise TrainingError(
            "the pipeline answers differently when its rows come as JSON: a column holds values "
            "that JSON cannot tell apart."
        )

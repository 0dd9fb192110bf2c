"""Several targets at once: each is measured as one alone is, and its figures carry its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from training.errors import TrainingError
from training.fit import evaluate
from training.fit.evaluate import Answers
from training.fit.uncertainty import Draws

__all__ = [
    "ask",
    "column_names",
    "columns",
    "draws",
    "figures",
    "measure",
    "review_all",
    "together",
]

Metrics = dict[str, dict[str, Any]]


def column_names(target: Any) -> list[str]:
    """
    Name the columns of *target*: a DataFrame has names, an array gets y0, y1 and so on.

    Returns:
        Nothing, if it has one column.

    Raises:
        TrainingError: Two have the same name.
    """
    shape = np.shape(target)
    if len(shape) != 2 or shape[1] == 1:
        return []
    names = [str(name) for name in getattr(target, "columns", ())]
    names = names or [f"y{i}" for i in range(shape[1])]
    if twice := [name for name in names if names.count(name) > 1]:
        raise TrainingError(f"the target has two columns {twice[0]!r}; rename one.")
    return names


def columns(target: Any) -> list[Any]:
    """Return each column of *target*, shape (n,) or (n, outputs)."""
    return [target] if target.ndim == 1 else [_plain(column) for column in target.T]


def ask(model: Any, data: Any, outputs: int) -> list[Answers]:
    """
    Score rows with *model*, fitted by scikit-learn.

    Args:
        model: It predicts *outputs* targets at once.
        data: n rows.
        outputs: 1, or as many as the target has columns.

    Returns:
        For each output its answers.
    """
    if outputs == 1:
        return [evaluate.ask(model, data)]
    predicted = columns(np.asarray(model.predict(data)))
    classes: Any = getattr(model, "classes_", None)
    if is_regressor(model):
        return [Answers(one, None, None) for one in predicted]
    if not isinstance(classes, list) or len(classes) != outputs:
        classes = [np.array([0, 1])] * outputs  # each label is there, or is not
    chances: Any = [None] * outputs
    if hasattr(model, "predict_proba"):
        found = model.predict_proba(data)
        if not isinstance(found, list):  # of each label, that it is there
            found = [np.column_stack([1 - one, one]) for one in np.asarray(found).T]
        chances = found
    return [Answers(*parts) for parts in zip(predicted, chances, classes, strict=True)]


def measure(seen: Any, unseen: Any, answers: list[Answers], *, regression: bool) -> list[Metrics]:
    """
    Measure each output beside the trivial model.

    Args:
        seen: The targets that the model was fitted to, shape (m,) or (m, outputs).
        unseen: The truth, shape (n,) or (n, outputs).
        answers: The model's, for each output.
        regression: Whether the outputs are values.

    Returns:
        For each output its figures, by part of the manifest.
    """
    return [
        {
            "held_out": evaluate.measure(truth, answer),
            "intervals": evaluate.intervals(truth, answer),
            "baseline": evaluate.baseline(known, truth, regression=regression),
        }
        for known, truth, answer in zip(columns(seen), columns(unseen), answers, strict=True)
    ]


def figures(names: Sequence[str], truth: Any, answers: list[Answers]) -> dict[str, Any]:
    """Measure each output; of several, each figure carries its output's name."""
    pairs = zip(columns(truth), answers, strict=True)
    return _together(names, [evaluate.measure(*pair) for pair in pairs])


def draws(names: Sequence[str], truth: Any, answers: list[Answers]) -> Draws:
    """Measure the same figures on rows drawn again; see `training.fit.uncertainty.draw`."""
    pairs = zip(columns(truth), answers, strict=True)
    return _together(names, [evaluate.draws(*pair) for pair in pairs])


def together(names: Sequence[str], parts: list[Metrics]) -> Metrics:
    """Write the figures of all outputs into one table, each with its output's name."""
    return {part: _together(names, [found.get(part, {}) for found in parts]) for part in parts[0]}


def review_all(
    names: Sequence[str],
    truth: Sequence[Any],
    parts: list[Metrics],
    find: Callable[[Any, Metrics], list[str]],
) -> list[str]:
    """
    List the findings about each output, and those about all outputs once.

    Args:
        names: The outputs'; none for a single one.
        truth: Of each output, shape (n,).
        parts: Of each output its figures.
        find: Lists the findings about one output.
    """
    found = [find(one, part) for one, part in zip(truth, parts, strict=True)]
    shared = [finding for finding in found[0] if all(finding in one for one in found)]
    own = [
        f"{name}: {finding}"
        for name, one in zip(names, found, strict=False)
        for finding in one
        if finding not in shared
    ]
    return shared + own


def _together(names: Sequence[str], found: list[dict[str, Any]]) -> dict[str, Any]:
    if not names:
        return found[0]
    return {
        f"{figure} of {name}": value
        for name, figures in zip(names, found, strict=True)
        for figure, value in figures.items()
        if figure != "confusion"
    }


def _plain(column: Any) -> Any:
    """Return a column of objects as the type that they have."""
    return np.array(column.tolist()) if column.dtype == object else column

"""Turns scores into the JSON and CSV of answers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from serving.bundle.manifest import Label, Manifest, Output
from serving.model.engines import Scores

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["answer_names", "label_key", "max_prediction_bytes", "to_columns", "to_predictions"]


def to_predictions(manifest: Manifest, scores: Scores) -> list[dict[str, Any]]:
    """
    Write n scores as n objects that JSON can hold.

    Raises:
        FloatingPointError: JSON cannot hold them: one is infinite or NaN.
    """
    if manifest.task == "outliers":
        _check_finite(scores.values)
        return [{"outlier": score < 0, "score": score} for score in scores.values]
    if manifest.task == "clustering":
        return _clusters(scores)
    if not manifest.outputs:
        return _predictions(manifest.classes, scores)
    names = [output.name for output in manifest.outputs]
    parts = [
        _predictions(output.classes, part)
        for output, part in zip(manifest.outputs, scores.parts, strict=True)
    ]
    return [{"outputs": dict(zip(names, row, strict=True))} for row in zip(*parts, strict=True)]


def to_columns(manifest: Manifest, scores: Scores) -> dict[str, npt.NDArray[Any]]:
    """
    Write n scores, in arrays, as columns of n values: for CSV and for files.

    Raises:
        FloatingPointError: One is infinite or NaN.
    """
    import numpy as np

    def by_place(labels: list[Label]) -> npt.NDArray[Any]:
        array = np.empty(len(labels), dtype=object)  # it keeps the type of each
        array[:] = labels
        return array

    values: list[Any] = []
    for output, part in zip(manifest.parts, scores.parts, strict=True):
        if manifest.task == "outliers":
            values += [part.values < 0, part.values]
        elif output.classes is None or manifest.task == "clustering":
            values.append(part.values)
        else:
            values.append(by_place(output.classes)[part.values])
        if part.probabilities is not None:
            values += list(part.probabilities.T)
    if not all(column.dtype.kind != "f" or np.isfinite(column).all() for column in values):
        raise FloatingPointError
    return dict(zip(answer_names(manifest), values, strict=True))


def answer_names(manifest: Manifest) -> list[str]:
    """Return the names of the columns of `to_columns`."""
    names = []
    for output in manifest.parts:
        if manifest.task == "outliers":
            found = ["outlier", "score"]
        elif manifest.task == "clustering":
            found = ["cluster"]
        else:
            found = ["value" if output.classes is None else "label"]
        if output.has_probabilities:
            found += [f"probability_{label_key(label)}" for label in output.classes or ()]
        names += [f"{output.name}.{name}" for name in found] if manifest.outputs else found
    return names


def _check_finite(values: Iterable[float]) -> None:
    if not all(map(isfinite, values)):
        raise FloatingPointError


def _clusters(scores: Scores) -> list[dict[str, Any]]:
    if scores.probabilities is None:
        return [{"cluster": value} for value in scores.values]
    _check_finite(chain.from_iterable(scores.probabilities))
    return [
        {"cluster": value, "probabilities": row}
        for value, row in zip(scores.values, scores.probabilities, strict=True)
    ]


def _predictions(classes: list[Label] | None, scores: Scores) -> list[dict[str, Any]]:
    values, probabilities = scores.values, scores.probabilities
    if classes is None:
        _check_finite(values)
        return [{"value": value} for value in values]
    if probabilities is None:
        return [{"label": classes[value]} for value in values]
    _check_finite(chain.from_iterable(probabilities))
    keys = [label_key(label) for label in classes]
    return [
        {"label": classes[i], "probability": row[i], "probabilities": dict(zip(keys, row))}  # noqa: B905  # strict costs a third of the time, and the widths are the graph's own
        for i, row in zip(values, probabilities, strict=True)
    ]


def max_prediction_bytes(manifest: Manifest) -> int:
    """
    Return the most bytes that one prediction takes in an answer.

    They are counted as they stand in the event that Lambda returns: JSON within a JSON string,
    where each quote is escaped. So one estimate serves all platforms.
    """
    parts = [_longest(output) for output in manifest.parts]
    longest = Scores([], None, parts) if manifest.outputs else parts[0]
    text = msgspec.json.encode(to_predictions(manifest, longest)).decode()
    return len(msgspec.json.encode(text))


def _longest(output: Output) -> Scores:
    classes = output.classes
    if classes is None:
        return Scores([_LONGEST], None)
    label = max(range(len(classes)), key=lambda i: len(msgspec.json.encode(classes[i])))
    return Scores([label], [[_LONGEST] * len(classes)] if output.has_probabilities else None)


#: No float64 has a longer text: 24 characters.
_LONGEST = -2.2250738585072014e-308


def label_key(label: bool | float | str) -> str:
    """Write a class as a key of `probabilities`: its JSON text, a string without its quotes."""
    return label if isinstance(label, str) else msgspec.json.encode(label).decode()

"""Scores in the form of the wire."""

from __future__ import annotations

from itertools import chain
from math import isfinite
from typing import Any

import msgspec

from serving.bundle.manifest import Manifest
from serving.model.engines import Scores

__all__ = ["label_key", "max_prediction_bytes", "to_predictions"]


def to_predictions(manifest: Manifest, scores: Scores) -> list[dict[str, Any]]:
    """
    Write n scores as n objects that JSON can hold.

    Raises:
        FloatingPointError: It cannot hold them: one is infinite, or no number.
    """
    values, probabilities, classes = scores.values, scores.probabilities, manifest.classes
    if classes is None:
        if not all(map(isfinite, values)):
            raise FloatingPointError
        return [{"value": value} for value in values]
    if probabilities is None:
        return [{"label": classes[value]} for value in values]
    if not all(map(isfinite, chain.from_iterable(probabilities))):
        raise FloatingPointError
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
    classes = manifest.classes
    if classes is None:
        longest = Scores([_LONGEST], None)
    else:
        label = max(range(len(classes)), key=lambda i: len(msgspec.json.encode(classes[i])))
        row = [_LONGEST] * len(classes)
        longest = Scores([label], [row] if manifest.has_probabilities else None)
    text = msgspec.json.encode(to_predictions(manifest, longest)).decode()
    return len(msgspec.json.encode(text))


#: No float64 has a longer text: 24 characters.
_LONGEST = -2.2250738585072014e-308


def label_key(label: bool | float | str) -> str:
    """Write a class as a key of `probabilities`: its JSON text, a string without its quotes."""
    return label if isinstance(label, str) else msgspec.json.encode(label).decode()

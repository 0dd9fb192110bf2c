"""Scores in the form of the wire."""

from __future__ import annotations

from itertools import chain
from math import isfinite
from typing import Any

import msgspec

from serving.bundle.manifest import Manifest
from serving.model.engines import Scores

__all__ = ["label_key", "to_predictions"]


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


def label_key(label: bool | float | str) -> str:
    """Write a class as a key of `probabilities`: its JSON text, a string without its quotes."""
    return label if isinstance(label, str) else msgspec.json.encode(label).decode()

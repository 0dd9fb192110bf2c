"""The rows of the training data against which the server explains answers."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from serving.errors import Problem
from serving.model.explain import BACKGROUND_ROWS, Explainer, read_question
from serving.model.model import Model

from training.fit.evaluate import SEED

__all__ = ["pick_background"]


def pick_background(model: Model, columns: list[list[Any]]) -> bytes | None:
    """
    Draw rows, and write them as a request.

    Args:
        model: As it will be served.
        columns: The training rows: one list of n values per feature.

    Returns:
        The file's content; None if the model rejects the rows, or has no number to explain.
    """
    count = len(columns[0])
    drawn = random.Random(SEED).sample(range(count), min(count, BACKGROUND_ROWS))  # noqa: S311
    rows = [[column[i] for column in columns] for i in sorted(drawn)]
    content = msgspec.json.encode({"instances": rows})
    try:
        read_question(model.manifest, {})
        Explainer(model, content)
    except Problem:
        return None
    return content

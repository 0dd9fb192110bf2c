"""Sends rows to a model as a client would: which rows it accepts, and its answers."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pandas as pd
from serving.bundle.manifest import Output
from serving.errors import InvalidInstances
from serving.model.model import Model
from serving.model.predictions import label_key

from training.export.features import to_columns
from training.fit.evaluate import Answers
from training.fit.split import Mask

__all__ = ["Contender"]

#: How many rows are scored at once.
_BATCH = 10_000


class Contender:
    """A model, and n rows to be scored as the server scores them."""

    def __init__(self, model: Model, frame: pd.DataFrame) -> None:
        """
        Encode the rows.

        Raises:
            ValueError: A column holds no values of the model's kind.
        """
        self.manifest = model.manifest
        self._model = model
        self._rows = list(zip(*to_columns(frame, self.manifest.features), strict=True))
        #: Shape (n,): whether the server takes the row.
        self.accepted: Mask = np.full(len(self._rows), fill_value=True)
        if not self._accepts(self._rows):
            self.accepted = np.array([self._accepts([row]) for row in self._rows])

    def answers(self, rows: Mask) -> list[Answers]:
        """
        Score the rows of a mask; return the answers of each output.

        Raises:
            InvalidInstances: The model has no finite answer for one.
        """
        chosen = [row for row, good in zip(self._rows, rows, strict=True) if good]
        said: list[dict[str, Any]] = []
        for start in range(0, len(chosen), _BATCH):
            said += self._model.predict(list(zip(*chosen[start : start + _BATCH], strict=True)))
        if not self.manifest.outputs:
            return [_gather(part, said) for part in self.manifest.parts]
        return [
            _gather(part, [one["outputs"][part.name] for one in said])
            for part in self.manifest.parts
        ]

    def _accepts(self, rows: list[tuple[Any, ...]]) -> bool:
        try:
            self._model.schema.decode(msgspec.json.encode({"instances": rows}), len(rows))
        except InvalidInstances:
            return False
        return True


def _gather(part: Output, said: list[dict[str, Any]]) -> Answers:
    """Turn what was answered to n rows into columns."""
    if said and "outlier" in said[0]:
        found = np.array([one["outlier"] for one in said])
        scores = np.array([one["score"] for one in said])
        return Answers(found, None, np.array([False, True]), scores)
    if said and "cluster" in said[0]:
        return Answers(np.array([one["cluster"] for one in said]), None, np.array(part.classes))
    if part.classes is None:
        return Answers(np.array([one["value"] for one in said]), None, None)
    keys = [label_key(label) for label in part.classes]
    shares = [[one["probabilities"][key] for key in keys] for one in said if part.has_probabilities]
    labels = np.array([one["label"] for one in said])
    return Answers(labels, np.array(shares) if shares else None, np.array(part.classes))

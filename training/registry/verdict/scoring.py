"""A model and rows as a client would send them: which rows it accepts, and its answers."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pandas as pd
from serving.bundle.manifest import Manifest
from serving.errors import InvalidInstances
from serving.model.model import Model
from serving.model.predictions import label_key

from training.export.features import to_columns
from training.fit.evaluate import METRICS, Answers
from training.fit.split import Chosen, Mask, was_held_out

__all__ = ["CannotCompareError", "Contender", "held_out_rows"]

#: How many rows are scored at once.
_BATCH = 10_000


class CannotCompareError(Exception):
    """Two models cannot be compared on these rows. The text is a clause that says why."""


class Contender:
    """A model, and n rows to be scored as the server scores them."""

    def __init__(self, model: Model, frame: pd.DataFrame) -> None:
        """
        Encode the rows.

        Raises:
            CannotCompareError: The model's task has no figures that could be compared.
            ValueError: A column holds no values of the model's kind.
        """
        if model.manifest.task not in METRICS:
            raise CannotCompareError(f"models of the task {model.manifest.task} have no verdict")
        self.manifest = model.manifest
        self._model = model
        self._rows = list(zip(*to_columns(frame, self.manifest.features), strict=True))
        #: Shape (n,): whether the server takes the row.
        self.accepted: Mask = np.full(len(self._rows), fill_value=True)
        if not self._accepts(self._rows):
            self.accepted = np.array([self._accepts([row]) for row in self._rows])

    def answers(self, rows: Mask) -> Answers:
        """
        Score the rows of a mask.

        Raises:
            InvalidInstances: The model has no finite answer for one.
        """
        chosen = [row for row, good in zip(self._rows, rows, strict=True) if good]
        classes = self.manifest.classes
        values: list[Any] = []
        shares: list[list[float]] = []
        keys = [label_key(label) for label in classes or ()]
        for start in range(0, len(chosen), _BATCH):
            columns = list(zip(*chosen[start : start + _BATCH], strict=True))
            for answer in self._model.predict(columns):
                values.append(answer["value" if classes is None else "label"])
                if self.manifest.has_probabilities:
                    shares.append([answer["probabilities"][key] for key in keys])
        return Answers(
            np.array(values),
            np.array(shares) if shares else None,
            None if classes is None else np.array(classes),
        )

    def _accepts(self, rows: list[tuple[Any, ...]]) -> bool:
        try:
            self._model.schema.decode(msgspec.json.encode({"instances": rows}), len(rows))
        except InvalidInstances:
            return False
        return True


def held_out_rows(manifest: Manifest, keys: pd.DataFrame, chosen: Chosen | None) -> Mask:
    """
    Return which rows the model of *manifest* was not fitted to, shape (n,).

    Args:
        manifest: With the rule that was recorded.
        keys: All columns of the n rows, the id among them.
        chosen: The answer of the project's hold_out() for these rows, if it has one.

    Raises:
        CannotCompareError: It recorded no rule.
        CannotApplyError: The rule cannot be applied to these rows.
    """
    if manifest.hold_out is None:
        raise CannotCompareError("it did not record which rows it was fitted to")
    return was_held_out(manifest.hold_out, manifest.name, keys, chosen)

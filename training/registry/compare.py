"""A new model and the live one on the same rows, each answering as the server would."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle
from serving.bundle.trust import Trust
from serving.errors import BundleError, InvalidInstances
from serving.model.model import Model, open_model
from serving.model.predictions import label_key
from serving.stores.folder import FolderStore
from serving.stores.store import Store

from training.export.features import as_frame, to_columns
from training.fit.evaluate import measure

__all__ = ["Comparison", "compare"]

#: How many rows are scored at once.
_BATCH = 10_000
#: The largest share of the rows that may be left out because the live model refuses them.
_MOST_LEFT_OUT = 0.05


class Comparison(NamedTuple):
    """What both models reach, by the figure's name."""

    figures: dict[str, Any]
    #: The live model's: None if no model is live, and empty if that cannot answer.
    live: dict[str, Any] | None
    #: One sentence: why it cannot.
    problem: str | None
    #: How many rows were left out, because one of the two refuses them.
    left_out: int


class CannotCompareError(Exception):
    """The live model has no answer for these rows; the text continues "because"."""


def compare(path: Path, live: Store | None, data: Any, target: Any, trust: Trust) -> Comparison:
    """
    Score the version at *path* and the one at *live* on rows that the first was not fitted to.

    A row that one of them refuses, as the server would, is left out for both.

    Args:
        path: The new version's folder.
        live: The live version's location, if one is live. What the server may not open, we do not.
        data: The rows, as training has them.
        target: What is true of them, shape (n,).
        trust: Which signatures the live model needs, and whether its pickle may be opened.
    """
    frame, _ = as_frame(data)
    truth = np.asarray(target)
    ours = Bundle(FolderStore(path), trust=Trust(allow_pickle=True))  # written a moment ago, by us
    new = _Contender(open_model(ours), frame)
    theirs, problem, rows = None, None, new.accepted
    if live is not None:
        try:
            old = _Contender(_open_live(live, new.model.manifest, trust), frame)
            common = _common(new, old)
            theirs, rows = old.figures(truth, common), common
        except (CannotCompareError, BundleError, InvalidInstances) as error:
            theirs, problem = {}, f"The live model cannot be compared: {str(error).rstrip('.')}."
    return Comparison(new.figures(truth, rows), theirs, problem, int((~rows).sum()))


class _Contender:
    """A model, and the rows as a client would send them to it."""

    def __init__(self, model: Model, frame: pd.DataFrame) -> None:
        self.model = model
        self._rows = list(zip(*to_columns(frame, model.manifest.features), strict=True))
        #: Shape (n,): whether the server would take the row.
        self.accepted = np.full(len(self._rows), fill_value=True)
        if not self._accepts(self._rows):
            self.accepted = np.array([self._accepts([row]) for row in self._rows])

    def figures(self, truth: Any, rows: Any) -> dict[str, Any]:
        """
        Evaluate the answers for *rows*, a mask.

        Raises:
            InvalidInstances: The model has no finite answer for one.
        """
        if not rows.any():
            return {}
        chosen = [row for row, good in zip(self._rows, rows, strict=True) if good]
        manifest = self.model.manifest
        values: list[Any] = []
        shares: list[list[float]] = []
        keys = [label_key(label) for label in manifest.classes or ()]
        for start in range(0, len(chosen), _BATCH):
            columns = list(zip(*chosen[start : start + _BATCH], strict=True))
            for answer in self.model.predict(columns):
                values.append(answer["value" if manifest.classes is None else "label"])
                if manifest.has_probabilities:
                    shares.append([answer["probabilities"][key] for key in keys])
        classes = None if manifest.classes is None else np.array(manifest.classes)
        probabilities = np.array(shares) if shares else None
        if probabilities is not None:  # a graph's are of float32, and so is their sum
            probabilities /= probabilities.sum(axis=1, keepdims=True)
        return measure(truth[rows], np.array(values), probabilities, classes)

    def _accepts(self, rows: list[tuple[Any, ...]]) -> bool:
        try:
            self.model.schema.decode(msgspec.json.encode({"instances": rows}), len(rows))
        except InvalidInstances:
            return False
        return True


def _open_live(location: Store, new: Manifest, trust: Trust) -> Model:
    """Open the live model, if it is for the same question as the *new* one."""
    live = Bundle(location, trust=trust)
    manifest = live.manifest
    if manifest.task != new.task:
        raise CannotCompareError(f"it is a {manifest.task}, and this a {new.task}")
    if manifest.classes != new.classes:
        raise CannotCompareError(f"its classes are {_some(manifest.classes)}")
    kinds = {feature.name: feature.kind for feature in new.features}
    for feature in manifest.features:
        if feature.name not in kinds:
            raise CannotCompareError(f"it wants the feature {feature.name}, which is here no more")
        if feature.kind != kinds[feature.name]:
            raise CannotCompareError(
                f"the feature {feature.name} is a {feature.kind} to it, and here a "
                f"{kinds[feature.name]}"
            )
    return open_model(live)


def _common(new: _Contender, old: _Contender) -> Any:
    """Return which rows both accept, if those are most of what either accepts."""
    for who, takes, refuses in (("it", new, old), ("the new one", old, new)):
        refused = int((takes.accepted & ~refuses.accepted).sum())
        if refused > _MOST_LEFT_OUT * len(takes.accepted):
            raise CannotCompareError(
                f"{who} refuses {refused:,} of the {len(takes.accepted):,} rows"
            )
    return new.accepted & old.accepted


def _some(classes: list[Any] | None) -> str:
    names = [str(label) for label in classes or ()]
    return ", ".join(names[:10]) + (" and others" if len(names) > 10 else "")

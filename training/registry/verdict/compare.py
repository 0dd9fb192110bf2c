"""Two models on the same rows, each answering as the server would."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle
from serving.bundle.trust import Trust
from serving.errors import BundleError, InvalidInstances
from serving.model.model import open_model
from serving.stores.folder import FolderStore
from serving.stores.store import Store

from training.export.features import as_frame
from training.fit.evaluate import draws, measure
from training.fit.split import CannotApplyError, HeldOut, Mask
from training.fit.uncertainty import Draws
from training.registry.verdict.scoring import CannotCompareError, Contender, held_out_rows

__all__ = [
    "LEAST_OF_A_CLASS",
    "LEAST_ROWS",
    "Beside",
    "Comparison",
    "check_enough",
    "check_same_answers",
    "common_rows",
    "compare",
    "pair",
]

#: A verdict needs this many rows that neither model was fitted to, and this many of each class.
LEAST_ROWS, LEAST_OF_A_CLASS = 100, 20
#: The largest share of the rows that may be left out because one of the models rejects them.
_MOST_LEFT_OUT = 0.05


class Beside(NamedTuple):
    """The figures of two models on the same rows."""

    ours: dict[str, Any]
    theirs: dict[str, Any]
    #: The same figures on rows drawn again, paired.
    our_draws: Draws
    their_draws: Draws
    rows: int


class Comparison(NamedTuple):
    """The new model's figures, and those of the new and the live one on the same rows."""

    #: On every row that was held out from the new one, and that it accepts.
    figures: dict[str, Any]
    #: Whether a model is live.
    is_live: bool
    #: None if no model is live, or if there is no verdict.
    beside: Beside | None
    #: One sentence: why there is no verdict.
    problem: str | None
    #: How many of the held-out rows were left out.
    left_out: int


def compare(path: Path, live: Store | None, held: HeldOut, trust: Trust) -> Comparison:
    """
    Score the version at *path*, and beside it the live one on rows that neither was fitted to.

    A row that one of them rejects, as the server would, is left out for both.

    Args:
        path: The new version's folder.
        live: The live version's location, if one is live.
        held: The rows held out from the new version.
        trust: Which signatures the live model needs, and whether its pickle may be opened.
    """
    frame, _ = as_frame(held.data)
    ours = Bundle(FolderStore(path), trust=Trust(allow_pickle=True))  # written a moment ago, by us
    new = Contender(open_model(ours), frame)
    truth = np.asarray(held.truth)
    figures = measure(truth[new.accepted], new.answers(new.accepted)) if new.accepted.any() else {}
    left_out = int((~new.accepted).sum())
    if live is None:
        return Comparison(figures, False, None, None, left_out)
    try:
        theirs = Bundle(live, trust=trust)
        check_same_answers(theirs.manifest, ours.manifest)
        _check_features(theirs.manifest, ours.manifest)
        rows = held_out_rows(theirs.manifest, held.keys, held.chosen)
        old = Contender(open_model(theirs), frame)
        rows &= common_rows(new, old)
        check_enough(truth[rows], ours.manifest)
        beside = pair(new, old, truth, rows)
    except (CannotCompareError, CannotApplyError, BundleError, InvalidInstances) as error:
        problem = f"The live model cannot be compared: {str(error).rstrip('.')}."
        return Comparison(figures, True, None, problem, left_out)
    return Comparison(figures, True, beside, None, int((~(new.accepted & old.accepted)).sum()))


def pair(new: Contender, old: Contender, truth: Any, rows: Mask) -> Beside:
    """
    Measure both models on *rows*, a mask.

    Raises:
        InvalidInstances: One has no finite answer for a row.
    """
    target = truth[rows]
    ours, theirs = new.answers(rows), old.answers(rows)
    return Beside(
        measure(target, ours),
        measure(target, theirs),
        draws(target, ours),
        draws(target, theirs),
        int(rows.sum()),
    )


def check_same_answers(live: Manifest, new: Manifest) -> None:
    """
    Check that two models answer the same question.

    Raises:
        CannotCompareError: The task or the classes differ.
    """
    if live.task != new.task:
        raise CannotCompareError(f"it is a {live.task}, and this a {new.task}")
    if live.classes != new.classes:
        raise CannotCompareError(f"its classes are {_some(live.classes)}")


def check_enough(truth: Any, manifest: Manifest) -> None:
    """
    Check that the rows that neither model was fitted to are enough for a verdict.

    Raises:
        CannotCompareError: They are too few, or too few of a class.
    """
    if len(truth) < LEAST_ROWS:
        raise CannotCompareError(
            f"only {len(truth)} rows were held out from both models, and a verdict needs "
            f"{LEAST_ROWS}"
        )
    for label in manifest.classes or ():
        count = int((truth == label).sum())
        if count < LEAST_OF_A_CLASS:
            raise CannotCompareError(
                f"only {count} rows of the class {label} were held out from both models, and a "
                f"verdict needs {LEAST_OF_A_CLASS} of each class"
            )


def common_rows(new: Contender, old: Contender) -> Mask:
    """
    Return which rows both accept, shape (n,).

    Raises:
        CannotCompareError: One rejects too many of those that the other accepts.
    """
    for who, takes, rejects in (("it", new, old), ("the new one", old, new)):
        rejected = int((takes.accepted & ~rejects.accepted).sum())
        if rejected > _MOST_LEFT_OUT * len(takes.accepted):
            raise CannotCompareError(
                f"{who} rejects {rejected:,} of the {len(takes.accepted):,} rows"
            )
    return new.accepted & old.accepted


def _some(classes: list[Any] | None) -> str:
    names = [str(label) for label in classes or ()]
    return ", ".join(names[:10]) + (" and others" if len(names) > 10 else "")


def _check_features(live: Manifest, new: Manifest) -> None:
    """Check that the new model's rows hold the *live* one's features."""
    kinds = {feature.name: feature.kind for feature in new.features}
    for feature in live.features:
        if feature.name not in kinds:
            raise CannotCompareError(f"it needs the feature {feature.name}, which is gone")
        if feature.kind != kinds[feature.name]:
            raise CannotCompareError(
                f"its feature {feature.name} is a {feature.kind}, and here it is a "
                f"{kinds[feature.name]}"
            )

"""Two models on the same rows, each answering as the server would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle
from serving.bundle.trust import Trust
from serving.errors import CanoaError
from serving.model.model import Model, open_model
from serving.stores.store import Store

from training.export.features import as_frame
from training.fit.split import CannotCompareError, HeldOut, Mask, was_held_out
from training.fit.tasks import outputs
from training.fit.uncertainty import Draws, interval
from training.registry.verdict.scoring import Contender

__all__ = [
    "Beside",
    "Comparison",
    "check_enough",
    "check_same_answers",
    "common_rows",
    "compare",
    "pair",
]

#: A verdict needs this many rows that neither model was fitted to, and this many of each class.
_LEAST_ROWS, _LEAST_OF_A_CLASS = 100, 20
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

    def difference(self, metric: str) -> tuple[float, tuple[float, float] | None]:
        """Return a figure's difference, ours less theirs, and where it lies with 95 %."""
        ours, theirs = self.our_draws.get(metric), self.their_draws.get(metric)
        ends = None if ours is None or theirs is None else interval(ours - theirs)
        return self.ours[metric] - self.theirs[metric], ends


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


def compare(model: Model, live: Store | None, held: HeldOut, trust: Trust) -> Comparison:
    """
    Score a new *model*, and beside it the live one on rows that neither was fitted to.

    A row that one of them rejects, as the server would, is left out for both.

    Args:
        model: The new version, as it will be served.
        live: The live version's location, if one is live.
        held: The rows held out from the new model.
        trust: Which signatures the live model needs, and whether its pickle may be opened.
    """
    frame, _ = as_frame(held.data)
    new, ours = Contender(model, frame), model.manifest
    truth = np.asarray(held.truth)
    figures: dict[str, Any] = {}
    if new.accepted.any():
        names = [output.name for output in ours.outputs]
        figures = outputs.figures(names, truth[new.accepted], new.answers(new.accepted))
    left_out = int((~new.accepted).sum())
    if live is None:
        return Comparison(figures, False, None, None, left_out)
    try:
        bundle = Bundle(live, trust=trust)
        theirs = bundle.manifest
        check_same_answers(theirs, ours)
        _check_features(theirs, ours)
        rows = was_held_out(theirs.hold_out, theirs.name, held.keys, held.chosen)
        old = Contender(open_model(bundle), frame)
        rows &= common_rows(new, old)
        check_enough(truth[rows], ours)
        beside = pair(new, old, truth, rows)
    except (CannotCompareError, CanoaError, ValueError) as error:
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
    names = [output.name for output in new.manifest.outputs]
    ours, theirs = new.answers(rows), old.answers(rows)
    return Beside(
        outputs.figures(names, target, ours),
        outputs.figures(names, target, theirs),
        outputs.draws(names, target, ours),
        outputs.draws(names, target, theirs),
        int(rows.sum()),
    )


def check_same_answers(live: Manifest, new: Manifest) -> None:
    """
    Check that two models answer the same question.

    Raises:
        CannotCompareError: The task, the outputs or the classes differ.
    """
    if live.task != new.task:
        raise CannotCompareError(f"it is a {live.task}, and this a {new.task}")
    names = [[output.name for output in manifest.outputs] for manifest in (live, new)]
    if names[0] != names[1]:
        raise CannotCompareError(f"its outputs are {_some(names[0])}")
    if live.task == "clustering":
        return  # how many there are may change
    for old, part in zip(live.parts, new.parts, strict=True):
        if old.classes != part.classes:
            whose = f" of {part.name}" if part.name else ""
            raise CannotCompareError(f"its classes{whose} are {_some(old.classes)}")


def check_enough(truth: Any, manifest: Manifest) -> None:
    """
    Check that the rows that neither model was fitted to are enough for a verdict.

    Raises:
        CannotCompareError: They are too few, or too few of a class.
    """
    if len(truth) < _LEAST_ROWS:
        raise CannotCompareError(
            f"only {len(truth)} rows were held out from both models, and a verdict needs "
            f"{_LEAST_ROWS}"
        )
    for part, one in zip(manifest.parts, outputs.columns(truth), strict=True):
        for label in part.classes or ():
            count = int((one == label).sum())
            if count < _LEAST_OF_A_CLASS:
                whose = f" of {part.name}" if part.name else ""
                raise CannotCompareError(
                    f"only {count} rows of the class {label}{whose} were held out from both "
                    f"models, and a verdict needs {_LEAST_OF_A_CLASS} of each class"
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


def _some(classes: Sequence[Any] | None) -> str:
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

"""The quality gate: what a new model must reach before it goes live, and whether it does."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from serving.bundle.manifest import Task

from training.errors import TrainingError

__all__ = ["METRICS", "Condition", "check_metrics", "judge", "read_conditions"]

#: What a condition may be about, by task: the figures of `training.evaluate`, most telling first.
METRICS: dict[Task, tuple[str, ...]] = {
    "classification": ("roc_auc", "log_loss", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
}
#: What a classifier without probabilities does not have.
_OF_PROBABILITIES = ("roc_auc", "log_loss")

#: What gets better as it falls.
_ERRORS = ("log_loss", "rmse", "mae")

_COMPARE = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_TURNED = str.maketrans("<>", "><")
_CHANGE = {"+": operator.add, "-": operator.sub, "*": operator.mul}

_NUMBER = r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_CONDITION = re.compile(
    rf"(?P<metric>[A-Za-z]\w*)\s*(?P<compare>[<>]=?)\s*"
    rf"(?:(?P<number>[-+]?{_NUMBER})|live(?:\s*(?P<change>[-+*])\s*(?P<by>{_NUMBER}))?)"
)


class Condition(NamedTuple):
    """`METRIC >= NUMBER`, or `METRIC >= live - NUMBER`."""

    metric: str
    compare: str
    #: None where the live model's figure is the bound.
    number: float | None
    change: str = "+"
    by: float = 0.0

    def bound(self, live: float) -> float:
        """Return what the figure is compared with, given the *live* model's."""
        return self.number if self.number is not None else _CHANGE[self.change](live, self.by)

    def lets_in_only_worse(self) -> bool:
        """Whether it is the wrong way round; a bound beyond live guards against the too good."""
        falls = self.metric in _ERRORS
        if self.number is not None or (self.compare[0] == "<") == falls:
            return False
        return self.bound(1.0) >= 1.0 if falls else self.bound(1.0) <= 1.0

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.metric} {self.compare} {self.number:g}"
        changed = f" {self.change} {self.by:g}" if self.by or self.change == "*" else ""
        return f"{self.metric} {self.compare} live{changed}"


def read_conditions(texts: Iterable[str]) -> list[Condition]:
    """
    Read conditions, one or several to a text, joined by "and"; all must be met.

    Raises:
        TrainingError: One cannot be read, or is about no metric that there is.
    """
    parts = [part for text in texts for part in re.split(r"\band\b", text, flags=re.IGNORECASE)]
    return [_read_condition(part.strip()) for part in parts]


def check_metrics(conditions: Iterable[Condition], task: Task, *, probabilities: bool) -> None:
    """
    See that a model of this *task* has what *conditions* are about.

    Raises:
        TrainingError: It has not.
    """
    for condition in conditions:
        if condition.metric not in METRICS[task]:
            raise TrainingError(
                f"--promote-if: a {task} has no {condition.metric}, but {_listed(METRICS[task])}."
            )
        if condition.metric in _OF_PROBABILITIES and not probabilities:
            raise TrainingError(
                f"--promote-if: {condition.metric} needs probabilities, and the pipeline has no "
                "predict_proba; accuracy can be asked for."
            )


def judge(
    conditions: Sequence[Condition],
    figures: Mapping[str, float],
    live: Mapping[str, float] | None,
) -> tuple[bool, list[str]]:
    """
    Say whether a model may go live, and how each condition came out.

    Args:
        conditions: All must be met.
        figures: The new model's.
        live: The live model's on the same rows; None if no model is live.

    Returns:
        Whether all are met, and a line for each.
    """
    found = [_judge(condition, figures, live) for condition in conditions]
    return all(met for met, _ in found), [
        f"{condition} is {'met' if met else 'not met'}: {why}"
        for condition, (met, why) in zip(conditions, found, strict=True)
    ]


def _judge(
    condition: Condition,
    figures: Mapping[str, float],
    live: Mapping[str, float] | None,
) -> tuple[bool, str]:
    metric, relative = condition.metric, condition.number is None
    if metric not in figures:
        return False, f"{metric} is not defined on these rows"
    value = figures[metric]
    if not relative:
        return _COMPARE[condition.compare](value, condition.bound(0.0)), f"{value:.6g}"
    if live is None:
        return True, f"{value:.6g}, and no model is live yet"
    if metric not in live:
        return False, f"{value:.6g}, and the live model has no {metric} on these rows"
    bound = condition.bound(live[metric])
    against = f"{value:.6g}, and the live model has {live[metric]:.6g}"
    if bound != live[metric]:
        against += f", which makes the bound {bound:.6g}"
    return _COMPARE[condition.compare](value, bound), against


def _read_condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise TrainingError(
            f"--promote-if: {text!r} cannot be read; write a metric, one of >= > <= <, and a "
            "number, or live, or live with + - or * and a number, such as 'roc_auc >= live - 0.01'"
            f" (metrics: {_all_metrics()})."
        )
    if not any(match["metric"] in names for names in METRICS.values()):
        raise TrainingError(
            f"--promote-if: there is no metric {match['metric']}; there are {_all_metrics()}."
        )
    number = None if match["number"] is None else float(match["number"])
    change, by = match["change"] or "+", float(match["by"] or 0)
    condition = Condition(match["metric"], match["compare"], number, change, by)
    if condition.lets_in_only_worse():
        raise TrainingError(
            f"--promote-if: {text!r} would let in only what is no better than the live model; "
            f"turn it round: {condition.metric} {condition.compare.translate(_TURNED)} live."
        )
    return condition


def _all_metrics() -> str:
    return "; ".join(f"for {task} {_listed(names)}" for task, names in METRICS.items())


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"

"""The quality gate: the conditions that a new model must meet before it goes live."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from serving.bundle.manifest import Task

from training.errors import TrainingError
from training.fit.evaluate import ERRORS, METRICS
from training.fit.uncertainty import interval
from training.registry.verdict.compare import Beside, Comparison

__all__ = ["Condition", "check_metrics", "judge", "read_conditions", "write_difference"]

#: The figures that a classifier without probabilities does not have.
_OF_PROBABILITIES = ("roc_auc", "log_loss")

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
        """Return the bound for a figure, given the *live* model's figure."""
        return self.number if self.number is not None else _CHANGE[self.change](live, self.by)

    def lets_in_only_worse(self) -> bool:
        """
        Whether only a model that is no better than the live one can meet it.

        `roc_auc <= live + 0.1` is no such condition: it guards against a leak.
        """
        falls = self.metric in ERRORS
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
    Read conditions. A text holds one, or several joined by "and".

    Raises:
        TrainingError: A condition cannot be read, or names an unknown metric.
    """
    parts = [part for text in texts for part in re.split(r"\band\b", text, flags=re.IGNORECASE)]
    return [_read_condition(part.strip()) for part in parts]


def check_metrics(conditions: Iterable[Condition], task: Task, *, probabilities: bool) -> None:
    """
    Check that a model of this *task* has the metrics of the *conditions*.

    Raises:
        TrainingError: It lacks one.
    """
    for condition in conditions:
        if task not in METRICS:
            what = {"outputs": "several outputs", "outliers": "outliers"}.get(task, "clusters")
            raise TrainingError(
                f"--promote-if: a model of {what} has no {condition.metric} to judge it by; leave "
                "the condition out."
            )
        if condition.metric not in METRICS[task]:
            raise TrainingError(
                f"--promote-if: a {task} has no {condition.metric}, but {_listed(METRICS[task])}."
            )
        if condition.metric in _OF_PROBABILITIES and not probabilities:
            raise TrainingError(
                f"--promote-if: {condition.metric} needs probabilities, and the pipeline has no "
                "predict_proba; accuracy can be asked for."
            )


def judge(conditions: Sequence[Condition], found: Comparison) -> tuple[bool, list[str]]:
    """
    Decide whether a model may go live, and write the result of each condition.

    A condition without `live` is about the new model's own held-out rows; one with `live` is about
    the rows that neither model was fitted to. Without such rows it is not met: there is no verdict.

    Args:
        conditions: All must be met.
        found: The figures.

    Returns:
        Whether all are met, and a line for each.
    """
    judged = [_judge(condition, found) for condition in conditions]
    return all(met for met, _ in judged), [
        f"{condition} {line}" for condition, (_, line) in zip(conditions, judged, strict=True)
    ]


def write_difference(metric: str, beside: Beside) -> str:
    """Write the difference of a figure, ours less theirs, and where it lies."""
    text = f"{beside.ours[metric] - beside.theirs[metric]:+.4g}"
    ends = _interval_of(metric, beside)
    return f"{text}, 95 % between {ends[0]:+.4g} and {ends[1]:+.4g}" if ends else text


def _judge(condition: Condition, found: Comparison) -> tuple[bool, str]:
    metric = condition.metric
    if condition.number is None and found.is_live:
        return _judge_beside(condition, found.beside)
    if metric not in found.figures:
        return False, f"is not met: {metric} is not defined on these rows"
    value = found.figures[metric]
    if condition.number is None:
        return True, f"is met: {value:.6g}, and no model is live yet"
    met = _COMPARE[condition.compare](value, condition.bound(0.0))
    return met, f"{_is_met(met)}: {value:.6g}"


def _judge_beside(condition: Condition, beside: Beside | None) -> tuple[bool, str]:
    metric = condition.metric
    if beside is None:
        return False, "has no verdict: the live model cannot be compared"
    for figures, whose in ((beside.ours, "the new model"), (beside.theirs, "the live model")):
        if metric not in figures:
            return False, f"is not met: {whose} has no {metric} on these rows"
    value, live = beside.ours[metric], beside.theirs[metric]
    bound = condition.bound(live)
    met = _COMPARE[condition.compare](value, bound)
    said = f"{_is_met(met)}: {value:.6g}, and the live model has {live:.6g}"
    if bound != live:
        said += f", which makes the bound {bound:.6g}"
    said += f"; the difference is {write_difference(metric, beside)}"
    return met, said + (", so these rows cannot tell" if _is_open(condition, beside) else "")


def _is_open(condition: Condition, beside: Beside) -> bool:
    """Whether the condition is met in some of the draws, and not met in others."""
    if condition.metric not in beside.our_draws or condition.metric not in beside.their_draws:
        return False
    ours, theirs = (d[condition.metric] for d in (beside.our_draws, beside.their_draws))
    change = _CHANGE[condition.change]
    ends = interval(ours - change(theirs, condition.by))
    return ends is not None and ends[0] < 0 < ends[1]


def _interval_of(metric: str, beside: Beside) -> tuple[float, float] | None:
    if metric not in beside.our_draws or metric not in beside.their_draws:
        return None
    return interval(beside.our_draws[metric] - beside.their_draws[metric])


def _is_met(met: bool) -> str:
    return "is met" if met else "is not met"


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
            f"--promote-if: {text!r} would accept only models no better than the live one; "
            f"reverse it: {condition.metric} {condition.compare.translate(_TURNED)} live."
        )
    return condition


def _all_metrics() -> str:
    return "; ".join(f"for {task} {_listed(names)}" for task, names in METRICS.items())


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"

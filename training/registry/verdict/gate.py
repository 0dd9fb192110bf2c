"""The quality gate: the conditions that a new model must meet before it goes live."""

from __future__ import annotations

from collections.abc import Sequence

from training.fit.uncertainty import interval
from training.registry.verdict.compare import Beside, Comparison
from training.registry.verdict.conditions import CHANGE, COMPARE, Condition

__all__ = ["judge", "write_difference"]


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
    difference, ends = beside.difference(metric)
    text = f"{difference:+.4g}"
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
    met = COMPARE[condition.compare](value, condition.bound(0.0))
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
    met = COMPARE[condition.compare](value, bound)
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
    change = CHANGE[condition.change]
    ends = interval(ours - change(theirs, condition.by))
    return ends is not None and ends[0] < 0 < ends[1]


def _is_met(met: bool) -> str:
    return "is met" if met else "is not met"

"""The conditions of `--promote-if`: read, and checked that a model has what they are about."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from serving.bundle.manifest import Task

from training.errors import TrainingError
from training.fit.evaluate import ERRORS, METRICS

__all__ = ["CHANGE", "COMPARE", "Condition", "check_metrics", "read_conditions"]

#: The figures that a classifier without probabilities does not have.
_OF_PROBABILITIES = ("roc_auc", "log_loss")

COMPARE = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_TURNED = str.maketrans("<>", "><")
CHANGE = {"+": operator.add, "-": operator.sub, "*": operator.mul}

_NUMBER = r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_CONDITION = re.compile(
    rf"(?P<metric>[A-Za-z]\w*(\s+of\s+[^<>=]*[^<>=\s])?)\s*(?P<compare>[<>]=?)\s*"
    rf"(?:(?P<number>[-+]?{_NUMBER})|live(?:\s*(?P<change>[-+*])\s*(?P<by>{_NUMBER}))?)"
)


class Condition(NamedTuple):
    """`METRIC >= NUMBER`, or `METRIC >= live - NUMBER`."""

    #: Such as "rmse", or "rmse of debt" for one of several outputs.
    metric: str
    compare: str
    #: None where the live model's figure is the bound.
    number: float | None
    change: str = "+"
    by: float = 0.0

    @property
    def figure(self) -> str:
        """The metric without the name of an output."""
        return self.metric.partition(" of ")[0]

    def bound(self, live: float) -> float:
        """Return the bound for a figure, given the *live* model's figure."""
        return self.number if self.number is not None else CHANGE[self.change](live, self.by)

    def lets_in_only_worse(self) -> bool:
        """
        Whether only a model that is no better than the live one can meet it.

        `roc_auc <= live + 0.1` is no such condition: it guards against a leak.
        """
        falls = self.figure in ERRORS
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


def check_metrics(
    conditions: Iterable[Condition], task: Task, *, probabilities: bool, outputs: Sequence[str] = ()
) -> None:
    """
    Check that a model of this *task* has the metrics of the *conditions*.

    Args:
        conditions: As they were read.
        task: What each output is for.
        probabilities: Whether the pipeline has any.
        outputs: The names of several; none for a single one.

    Raises:
        TrainingError: It lacks one.
    """
    for condition in conditions:
        figure, _, output = condition.metric.partition(" of ")
        if task not in METRICS:
            what = "outliers" if task == "outliers" else "clusters"
            raise TrainingError(
                f"--promote-if: a model of {what} has no {figure} to judge it by; leave the "
                "condition out."
            )
        if output not in (outputs or ("",)):
            known = f"its outputs are {', '.join(outputs)}" if outputs else "there is one output"
            example = f"{figure} of {outputs[0]}" if outputs else figure
            raise TrainingError(
                f"--promote-if: {condition.metric} cannot be judged: {known}, so write "
                f"'{example} {condition.compare} …'."
            )
        if figure not in METRICS[task]:
            raise TrainingError(
                f"--promote-if: a {task} has no {figure}, but {_listed(METRICS[task])}."
            )
        if figure in _OF_PROBABILITIES and not probabilities:
            raise TrainingError(
                f"--promote-if: {figure} needs probabilities, and the pipeline has no "
                "predict_proba; accuracy can be asked for."
            )


def _read_condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise TrainingError(
            f"--promote-if: {text!r} cannot be read; write a metric, one of >= > <= <, and a "
            "number, or live, or live with + - or * and a number, such as 'roc_auc >= live - 0.01'"
            f" (metrics: {_all_metrics()})."
        )
    figure, _, output = match["metric"].partition(" of ")
    if not any(figure.strip() in names for names in METRICS.values()):
        raise TrainingError(
            f"--promote-if: there is no metric {match['metric']}; there are {_all_metrics()}."
        )
    metric = f"{figure.strip()} of {output.strip()}" if output else figure
    number = None if match["number"] is None else float(match["number"])
    change, by = match["change"] or "+", float(match["by"] or 0)
    condition = Condition(metric, match["compare"], number, change, by)
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

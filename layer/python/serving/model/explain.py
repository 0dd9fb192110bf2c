"""Reasons for an answer: Shapley values against the background rows of the bundle.

The values are interventional (Lundberg and Lee 2017; Janzing et al. 2020). Each background row is
changed into the explained row, one feature after the other, in a random order and in its reverse.
A feature's contribution is the mean change of the output at its step. Every background row is used
equally often, so the contributions add up to the output, and they are exact for models in which
features do not interact.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from math import fsum
from typing import Any, NamedTuple

from serving.bundle.manifest import Manifest, Output
from serving.errors import InvalidQuery, NotExplainable, TooLarge
from serving.model.model import Model
from serving.model.predictions import label_key
from serving.model.schema import Instances

__all__ = ["BACKGROUND_ROWS", "Explainer", "Question", "read_question"]

#: How many background rows training writes.
BACKGROUND_ROWS = 100
#: How many values are scored or kept at once.
_BATCH_CELLS = 1_000_000
#: How many values one request may score. Of very wide tables fewer background rows are used.
_MOST_CELLS = 20_000_000
_DEFAULT_TOP = 4

_Row = tuple[Any, ...]


class Question(NamedTuple):
    """What is asked about each instance."""

    #: How many reasons are listed.
    top: int
    #: The output's name, where the model has several.
    target: str | None
    #: The key of the class; None for the predicted one, and where there are no classes.
    label: str | None
    classes: list[str] | None


def read_question(manifest: Manifest, parameters: Mapping[str, str]) -> Question:
    """
    Read the parameters `top`, `target` and `output` of a query string.

    Raises:
        NotExplainable: The model answers with labels alone.
        InvalidQuery: A parameter has no meaning for this model.
    """
    for name in parameters:
        if name not in ("top", "target", "output"):
            raise InvalidQuery(f"There is no parameter {name[:50]!r}; use top, target or output.")
        # Werkzeug's parameters, and those of Lambda's events, may be repeated.
        if hasattr(parameters, "getlist") and len(parameters.getlist(name)) > 1:
            raise InvalidQuery(f"The parameter {name} is given several times; give it once.")
    top = parameters.get("top", str(_DEFAULT_TOP))
    if not (top.isascii() and top.isdecimal()) or int(top[:9]) < 1:
        raise InvalidQuery("top must be an integer above 0.")
    part = _part(manifest, parameters.get("target"))
    if part.classes is not None and not part.has_probabilities:
        raise NotExplainable("The model answers with labels alone, and a label has no size.")
    classes = None if part.classes is None else [label_key(label) for label in part.classes]
    label = parameters.get("output")
    if label is not None and label not in (classes or ()):
        one_of = f"one of {', '.join(classes[:20])}" if classes else "left out for this model"
        raise InvalidQuery(f"output must be {one_of}.")
    return Question(int(top[:9]), part.name or None, label, classes)


def _part(manifest: Manifest, target: str | None) -> Output:
    if target is None:
        return manifest.parts[0]
    found = next((output for output in manifest.outputs if output.name == target), None)
    if found is None:
        names = ", ".join(output.name for output in manifest.outputs[:20])
        raise InvalidQuery(f"target must be {f'one of {names}' if names else 'left out'}.")
    return found


class Explainer:
    """Explains the answers of one model."""

    def __init__(self, model: Model, background: bytes) -> None:
        """
        Read and score the background.

        Args:
            model: Its seed decides the orders of features.
            background: Training rows in the form of a request.

        Raises:
            Problem: The model does not take the rows.
        """
        self._model = model
        features = model.manifest.features
        columns = model.schema.decode(background, BACKGROUND_ROWS).columns
        most = max(1, _MOST_CELLS // (2 * len(features) ** 2))
        self._background: list[_Row] = list(islice(zip(*columns, strict=True), most))
        self._scored = model.predict(list(zip(*self._background, strict=True)))
        chance = random.Random(model.manifest.lineage.seed or 0)  # noqa: S311  # equal every time
        self._orders = [
            chance.sample(range(len(features)), len(features)) for _ in self._background
        ]

    def explain(self, instances: Instances, question: Question) -> list[dict[str, Any]]:
        """
        Explain the answer for each instance. Equal instances are explained once.

        Raises:
            TooLarge: There are so many instances and features that it would take too long.
            InvalidInstances: The pipeline has no finite answer for an instance, or for a mixture
                of it and a background row.
        """
        rows: list[_Row] = list(zip(*instances.columns, strict=True))
        different = list(dict.fromkeys(rows))
        cells = len(self._background) * 2 * len(instances.columns) ** 2
        if len(different) > (fits := max(1, _MOST_CELLS // cells)):
            most = f"{fits} different instances" if fits > 1 else "1 instance"
            raise TooLarge(
                f"The model has {len(instances.columns)} features; at most {most} can be explained "
                "at once."
            )
        predictions = self._model.predict(list(zip(*different, strict=True)))
        found = {
            row: self._explain(row, prediction, question)
            for row, prediction in zip(different, predictions, strict=True)
        }
        return [found[row] for row in rows]

    def _explain(self, row: _Row, prediction: dict[str, Any], question: Question) -> dict[str, Any]:
        label = question.label
        if label is None and question.classes is not None:
            label = _predicted(prediction, question.target)
        read = _reader(question, label)
        base, contributions = self._contributions(row, read(prediction), read)
        features = self._model.manifest.features
        order = sorted(range(len(row)), key=lambda i: -abs(contributions[i]))
        shown, rest = order[: question.top], order[question.top :]
        found: dict[str, Any] = {"prediction": prediction}
        if question.target is not None:
            found["target"] = question.target
        if label is not None:
            found["output"] = label
        return found | {
            "base": base,
            "reasons": [
                {
                    "feature": features[i].name,
                    "value": _plain(row[i]),
                    "contribution": contributions[i],
                }
                for i in shown
            ],
            "others": fsum(contributions[i] for i in rest),
        }

    def _contributions(
        self, row: _Row, value: float, read: Callable[[dict[str, Any]], float]
    ) -> tuple[float, list[float]]:
        """Return the background's mean output, and what each feature adds to it in *row*."""
        starts = [read(prediction) for prediction in self._scored]
        changes: list[list[float]] = [[] for _ in row]
        group = max(1, _BATCH_CELLS // (2 * len(row) ** 2))
        for first in range(0, len(starts), group):
            part = slice(first, first + group)
            begun = list(zip(self._background[part], starts[part], strict=True))
            walks = [
                (start, list(_walk(before, row, order)))
                for (before, start), forth in zip(begun, self._orders[part], strict=True)
                for order in (forth, forth[::-1])
            ]
            known = {**dict(begun), row: value}
            # In one order, so that sums are rounded equally every time.
            new = dict.fromkeys(key for _, walk in walks for _, key in walk if key not in known)
            self._score(new, known, read)
            for start, walk in walks:
                last = start
                for i, key in walk:
                    changes[i].append(known[key] - last)
                    last = known[key]
        count = len(starts)
        return fsum(starts) / count, [fsum(found) / (2 * count) for found in changes]

    def _score(
        self,
        rows: Iterable[_Row],
        known: dict[_Row, float],
        read: Callable[[dict[str, Any]], float],
    ) -> None:
        """Add the output for each of *rows* to *known*."""
        left = iter(rows)
        size = max(1, _BATCH_CELLS // len(self._orders[0]))
        while batch := list(islice(left, size)):
            answers = self._model.predict(list(zip(*batch, strict=True)))
            known.update(zip(batch, map(read, answers), strict=True))


def _walk(before: _Row, after: _Row, order: list[int]) -> Iterator[tuple[int, _Row]]:
    """Change one row into another; yield each feature that differs, and the row after its step."""
    row = list(before)
    for i in order:
        if row[i] != after[i]:
            row[i] = after[i]
            yield i, tuple(row)


def _predicted(prediction: dict[str, Any], target: str | None) -> str:
    answer = prediction["outputs"][target] if target is not None else prediction
    return label_key(answer["cluster"] if "cluster" in answer else answer["label"])


def _reader(question: Question, label: str | None) -> Callable[[dict[str, Any]], float]:
    """Return a function that takes the explained number out of a prediction."""
    target, classes = question.target, question.classes

    def read(prediction: dict[str, Any]) -> float:
        answer = prediction["outputs"][target] if target is not None else prediction
        if classes is None:
            return float(answer["value"] if "value" in answer else answer["score"])
        chances = answer["probabilities"]
        return float(chances[label] if isinstance(chances, dict) else chances[classes.index(label)])  # type: ignore[arg-type]

    return read


def _plain(value: Any) -> Any:
    """Write an integral number without a fraction, as clients do."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value

"""Bootstrap: scikit-learn's figures on resampled rows, and paired differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from training.fit.evaluate import Answers, draws, measure
from training.fit.uncertainty import interval

RANDOM = np.random.default_rng(0)


def classified(classes: int, count: int = 400) -> tuple[Any, Answers]:
    """Make random targets, and answers that are better than chance; a tenth of them are ties."""
    truth = RANDOM.integers(0, classes, count)
    said = RANDOM.dirichlet(np.ones(classes), count)
    said[np.arange(count), truth] += 0.4
    said[: count // 10] = said[0]
    said /= said.sum(axis=1, keepdims=True)
    return truth, Answers(said.argmax(axis=1), said, np.arange(classes))


@pytest.mark.parametrize("classes", [2, 3, 7, None])
def test_a_draw_equals_scikit_learn_s_figure(classes: int | None) -> None:
    """The first draw, computed with weights, equals the figure of the resampled rows."""
    if classes is None:
        truth = RANDOM.normal(size=400)
        answers = Answers(truth + RANDOM.normal(size=400), None, None)
    else:
        truth, answers = classified(classes)
    rows = np.sort(np.random.default_rng(0).integers(0, 400, 400))
    shares = None if answers.probabilities is None else answers.probabilities[rows]
    expected = measure(truth[rows], Answers(answers.predicted[rows], shares, answers.classes))
    found = draws(truth, answers)

    assert set(found) == set(expected) - {"confusion"}
    for name, values in found.items():
        assert values[0] == pytest.approx(expected[name], abs=1e-12)


def test_an_interval_covers_the_truth_in_95_percent() -> None:
    """The intervals of about 95 % of 200 samples of a coin contain the true value."""
    hits = 0
    for _ in range(200):
        truth = np.zeros(150, int)
        answers = Answers((RANDOM.random(150) < 0.3).astype(int), None, np.array([0, 1]))
        ends = interval(draws(truth, answers)["accuracy"])
        assert ends is not None
        hits += ends[0] <= 0.7 <= ends[1]

    assert 180 <= hits <= 199


def test_two_models_on_the_same_rows_are_paired() -> None:
    """If one model is better on every row, it is better in every draw."""
    truth = RANDOM.normal(size=300)
    noise = RANDOM.normal(size=300)
    worse, better = (Answers(truth + by * noise, None, None) for by in (1.0, 0.95))
    difference = draws(truth, worse)["mae"] - draws(truth, better)["mae"]
    ends, alone = interval(difference), interval(draws(truth, worse)["mae"])

    assert ends is not None
    assert alone is not None
    assert 0 < ends[0] < ends[1] < (alone[1] - alone[0]) / 2


def test_an_undefined_figure_has_no_interval() -> None:
    """A constant target has no R², so there is no interval."""
    assert interval(draws(np.ones(5), Answers(np.ones(5), None, None))["r2"]) is None

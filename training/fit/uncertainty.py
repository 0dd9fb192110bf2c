"""How sure a figure is: a bootstrap over the rows it was measured on (Efron 1979)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draws", "draw", "interval"]

_SEED = 0
#: How many times the rows are drawn again: at most, and at least where there are very many.
_MOST, _LEAST = 1000, 200
#: Rows times classes times draws: what the number of draws is cut down to.
_WORK = 5e7
#: How many weights are held at once.
_CHUNK = 2_000_000

#: Of each figure, its value in each draw, shape (draws,).
Draws = dict[str, NDArray[np.float64]]

#: From weights of the rows, shape (b, n), to the figure, shape (b,).
_Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def draw(target: Any, predicted: Any, probabilities: Any, classes: Any) -> Draws:
    """
    Measure every figure of `measure` again and again, on rows drawn with replacement.

    The draws depend on the number of rows and of classes only. So those of two models on the same
    rows are paired: their difference, draw by draw, is the difference's distribution.

    Args:
        target: The true answers, shape (n,).
        predicted: The model's answers, shape (n,).
        probabilities: Shape (n, classes), each row summing to 1; None if there are none.
        classes: In the order of the probabilities; None for regression.
    """
    count = len(target)
    if classes is None:
        statistics = _of_values(np.asarray(target, float), np.asarray(predicted, float))
    else:
        statistics = _of_classes(np.asarray(target), np.asarray(predicted), probabilities, classes)
    work = count * (1 if classes is None else len(classes))
    total = int(np.clip(_WORK // max(work, 1), _LEAST, _MOST))
    random = np.random.default_rng(_SEED)
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in statistics}
    step = max(1, _CHUNK // max(count, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, total, step):
            weights = np.stack(
                [
                    np.bincount(random.integers(0, count, count), minlength=count)
                    for _ in range(min(step, total - start))
                ]
            ).astype(float)
            for name, statistic in statistics.items():
                found[name].append(statistic(weights))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return where 95 % of the draws lie; None if too many of them have no value."""
    finite = values[np.isfinite(values)]
    if len(finite) < len(values) / 2:
        return None
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def _of_values(
    target: NDArray[np.float64], predicted: NDArray[np.float64]
) -> dict[str, _Statistic]:
    squares, sizes = (predicted - target) ** 2, abs(predicted - target)
    centred = target - target.mean()

    def spread(w: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(w @ centred**2 - (w @ centred) ** 2 / len(target))

    return {
        "rmse": lambda w: np.sqrt(w @ squares / len(target)),
        "mae": lambda w: w @ sizes / len(target),
        "r2": lambda w: 1 - (w @ squares) / spread(w),
    }


def _of_classes(
    target: NDArray[Any], predicted: NDArray[Any], probabilities: Any, classes: Any
) -> dict[str, _Statistic]:
    right = (target == predicted).astype(float)
    found: dict[str, _Statistic] = {"accuracy": lambda w: w @ right / len(target)}
    if probabilities is None:
        return found
    truth = target[:, None] == np.asarray(classes)[None, :]  # shape (n, classes)
    smallest = np.finfo(float).eps
    losses = -np.log(np.clip(probabilities[truth], smallest, 1.0))
    if len(losses) == len(target):
        found["log_loss"] = lambda w: w @ losses / len(target)
    if truth.any(axis=0).all():
        found["roc_auc"] = _roc_auc(truth, np.asarray(probabilities, float))
    return found


def _roc_auc(truth: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> _Statistic:
    """Of two classes the second's; of more each against the rest, by how frequent it is."""
    chosen = [1] if truth.shape[1] == 2 else list(range(truth.shape[1]))
    ranked = []
    for k in chosen:
        order = np.argsort(probabilities[:, k], kind="stable")
        scores = probabilities[order, k]
        starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])  # ties count half
        ranked.append((order, starts, truth[order, k]))

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        sums, shares = np.zeros(len(weights)), np.zeros(len(weights))
        for order, starts, positive in ranked:
            ordered = weights[:, order]
            up = np.add.reduceat(ordered * positive, starts, axis=1)
            down = np.add.reduceat(ordered * ~positive, starts, axis=1)
            below = np.cumsum(down, axis=1) - down / 2
            ups, downs = up.sum(axis=1), down.sum(axis=1)
            sums += (up * below).sum(axis=1) / downs
            shares += ups
        return sums / shares

    return statistic

"""Probabilities of several classes from those of each pair, as libsvm finds them.

Wu, Lin, Weng: "Probability Estimates for Multi-class Classification by Pairwise Coupling" (2004).
libsvm stops early, so its answers are off by up to 1e-3, and jump where it stops a round later.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from training.export.graph import Graph

__all__ = ["MOST_CLASSES", "coupled"]

#: Ten classes take five rounds at most, and a row of so many takes a thousand nodes.
MOST_CLASSES, ROUNDS = 10, 6


def coupled(graph: Graph, first: str, classes: int) -> str:
    """
    Write the probability of each class, shape (rows, classes), MOST_CLASSES at most.

    *first* is the probability of the first class of each pair, shape (rows, pairs).
    """
    matrix, diagonal, rows = _matrix(graph, first, classes)
    none = graph.node("Mul", diagonal, 0.0)
    chances = graph.node("Add", none, 1 / classes)
    for _ in range(ROUNDS):
        product, mean, done = _apart(graph, matrix, chances, classes)
        better = chances
        for t in range(classes):
            own, slope = (graph.columns(value, t) for value in (product, diagonal))
            step = graph.node("Div", graph.node("Sub", mean, own), slope)
            scale = graph.node("Add", step, 1.0)
            twice = graph.node("Mul", own, 2.0)
            rise = graph.node("Add", graph.node("Mul", step, slope), twice)
            mean = graph.node("Add", mean, graph.node("Mul", step, rise))
            mean = graph.node("Div", graph.node("Div", mean, scale), scale)
            product = graph.node("Add", product, graph.node("Mul", step, rows[t]))
            product = graph.node("Div", product, scale)
            unit = graph.constant(np.eye(classes)[t : t + 1])
            better = graph.node("Add", better, graph.node("Mul", step, unit))
            better = graph.node("Div", better, scale)
        chances = graph.node("Where", done, chances, better)
    *_, done = _apart(graph, matrix, chances, classes)
    graph.poison(graph.node("Where", done, 0.0, np.nan))
    return str(chances)


def _matrix(graph: Graph, first: str, classes: int) -> tuple[str, str, list[str]]:
    """Write the matrix whose quadratic form is minimised, its diagonal, and its rows."""
    second = graph.node("Sub", 1.0, first)
    nothing = graph.node("Mul", graph.columns(first, 0), 0.0)
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    places = np.full((classes, classes), 2 * len(pairs))
    for place, (i, j) in enumerate(pairs):
        places[i, j], places[j, i] = place, len(pairs) + place
    every = graph.node("Concat", first, second, nothing, axis=1)
    wins, losses = (
        graph.node(
            "Reshape",
            graph.columns(every, *order.ravel().tolist()),
            graph.integers(-1, classes, classes),
        )
        for order in (places, places.T)
    )
    squares = graph.node("Mul", losses, losses)
    diagonal = graph.node("ReduceSum", squares, graph.integers(2), keepdims=0)
    others = graph.node("Neg", graph.node("Mul", losses, wins))
    wide = graph.node("Unsqueeze", diagonal, graph.integers(2))
    own = graph.node("Mul", wide, np.eye(classes)[None])
    matrix = graph.node("Add", others, own)
    rows = [
        graph.node("Gather", matrix, graph.constant(t, np.int64), axis=1) for t in range(classes)
    ]
    return matrix, diagonal, rows


def _apart(graph: Graph, matrix: str, chances: str, classes: int) -> tuple[Any, Any, Any]:
    """Write the gradient, its mean, and whether libsvm stops there."""
    column = graph.node("Unsqueeze", chances, graph.integers(2))
    product = graph.node("Squeeze", graph.node("MatMul", matrix, column), graph.integers(2))
    weighted = graph.node("Mul", chances, product)
    mean = graph.row_sums(weighted)
    apart = graph.node("Abs", graph.node("Sub", product, mean))
    most = graph.node("ReduceMax", apart, graph.integers(1), keepdims=1)
    return product, mean, graph.node("Less", most, 0.005 / classes)

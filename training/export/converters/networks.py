"""Neural networks: layers of weighted sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from training.export.converters.linear import chances, weighted_sum
from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Table

_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}


def _layers(graph: Graph, model: Any, table: Table) -> str:
    value = graph.finite(table)
    for i, (weights, base) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        value = weighted_sum(graph, value, np.asarray(weights, np.float64), base)
        if i < len(model.coefs_) - 1 and model.activation == "relu":
            value = graph.node("Max", value, 0.0)
        elif i < len(model.coefs_) - 1 and model.activation != "identity":
            value = graph.node(_ACTIVATIONS[model.activation], value)
    return value


@converts("values", MLPRegressor)
def _network(graph: Graph, model: Any, table: Table) -> str:
    value = _layers(graph, model, table)
    if model.out_activation_ != "identity":
        raise CannotCompileError(f"loss={model.loss!r} has no converter: 'squared_error' has")
    return value


@converts("probabilities", MLPClassifier)
def _network_classifier(graph: Graph, model: Any, table: Table) -> str:
    return chances(graph, _layers(graph, model, table), model)

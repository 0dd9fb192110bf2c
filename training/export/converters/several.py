"""Models of several targets at once, made of one for each."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)

from training.export.converters import registry
from training.export.converters.registry import Part, converts
from training.export.graph import CannotCompileError, Graph, Table


@converts("several", MultiOutputRegressor)
def _regressors(graph: Graph, model: Any, table: Table) -> list[Part]:
    return [Part(values=registry.values(graph, m, table)) for m in model.estimators_]


@converts("several", MultiOutputClassifier)
def _classifiers(graph: Graph, model: Any, table: Table) -> list[Part]:
    return [_classified(graph, member, table) for member in model.estimators_]


def _classified(graph: Graph, member: Any, table: Table) -> Part:
    label = registry.label(graph, member, table)
    if not hasattr(member, "predict_proba"):
        return Part(label=label)
    return Part(label=label, probabilities=registry.probabilities(graph, member, table))


@converts("several", RegressorChain)
def _regressor_chain(graph: Graph, model: Any, table: Table) -> list[Part]:
    parts = [Part()] * len(model.estimators_)
    for place, member in zip(model.order_, model.estimators_, strict=True):
        found = registry.values(graph, member, table)
        parts[place] = Part(values=found)
        table = table + graph.computed(found, 1)
    return parts


@converts("several", ClassifierChain)
def _classifier_chain(graph: Graph, model: Any, table: Table) -> list[Part]:
    if model.chain_method != "predict":
        raise CannotCompileError("only chain_method='predict' has a converter")
    parts = [Part()] * len(model.estimators_)
    for place, member in zip(model.order_, model.estimators_, strict=True):
        parts[place] = _classified(graph, member, table)
        classes = np.asarray(member.classes_, np.float64).reshape(-1, 1)
        said = graph.node("Gather", classes, parts[place].label)
        table = table + graph.computed(said, 1, small=True)
    return parts

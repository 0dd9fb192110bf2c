"""Finds the converter of a fitted step, and calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_regressor

from training.export.graph import CannotCompileError, Graph, Table
from training.export.walk import best_of

__all__ = [
    "ANSWERS",
    "Part",
    "converter_of",
    "converts",
    "decide",
    "hands_on",
    "label",
    "probabilities",
    "score",
    "several",
    "transform",
    "values",
]

Converter = Callable[[Graph, Any, Table], Any]
_CONVERTERS: dict[tuple[str, str], Converter] = {}


def converts(method: str, *types: type | str) -> Callable[[Converter], Converter]:
    """Register a converter of *method* for these classes; a class may be given by its full name."""

    def register(converter: Converter) -> Converter:
        for kind in types:
            _CONVERTERS[method, kind if isinstance(kind, str) else _full_name(kind)] = converter
        return converter

    return register


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def converter_of(method: str, estimator: Any) -> Converter | None:
    """Return the converter for exactly this class: a subclass may compute something else."""
    return _CONVERTERS.get((method, _full_name(type(estimator))))


def _call(method: str, graph: Graph, estimator: Any, table: Table) -> Any:
    estimator = best_of(estimator)
    found = converter_of(method, estimator)
    around, graph.step = graph.step, type(estimator).__name__
    try:
        if found is None:
            from training.export.converters.fallback import convert

            return convert(method, graph, estimator, table)
        return found(graph, estimator, table)
    except CannotCompileError as error:
        if error.step is None:
            error.step = estimator
        raise
    finally:
        graph.step = around


def transform(graph: Graph, estimator: Any, table: Table) -> Table:
    """Write what `estimator.transform` computes."""
    found: Table = _call("transform", graph, estimator, table)
    return found


def values(graph: Graph, estimator: Any, table: Table) -> str:
    """Write what a regressor's `predict` computes, shape (rows, targets)."""
    return str(_call("values", graph, estimator, table))


def probabilities(graph: Graph, estimator: Any, table: Table) -> str:
    """Write what `predict_proba` computes, shape (rows, classes)."""
    return str(_call("probabilities", graph, estimator, table))


def decide(graph: Graph, estimator: Any, table: Table) -> str:
    """Write what `decision_function` computes, shape (rows, 1) or (rows, classes)."""
    return str(_call("decision", graph, estimator, table))


def score(graph: Graph, estimator: Any, table: Table) -> str:
    """Write how sure a classifier of two classes is of the second, shape (rows, 1)."""
    if hasattr(estimator, "decision_function"):
        return decide(graph, estimator, table)
    return graph.columns(probabilities(graph, estimator, table), 1)


class Part(NamedTuple):
    """The tensors of one of several outputs."""

    values: str = ""
    label: str = ""
    probabilities: str = ""


def several(graph: Graph, estimator: Any, table: Table) -> list[Part]:
    """Write what `predict` and `predict_proba` compute of several targets at once."""
    estimator = best_of(estimator)
    if converter_of("several", estimator):
        found: list[Part] = _call("several", graph, estimator, table)
        return found
    if not is_regressor(estimator):
        error = CannotCompileError(
            "it predicts several targets at once: a MultiOutputClassifier of it has a converter"
        )
        error.step = estimator
        raise error
    matrix = values(graph, estimator, table)
    count = np.shape(estimator.predict(np.zeros((1, len(table)))))[1]
    return [Part(values=graph.columns(matrix, i)) for i in range(count)]


def label(graph: Graph, estimator: Any, table: Table) -> str:
    """Write what a classifier's `predict` computes, as indices into `classes_`, shape (rows,)."""
    estimator = best_of(estimator)
    if converter_of("label", estimator):
        return str(_call("label", graph, estimator, table))
    if converter_of("decision", estimator):
        found = decide(graph, estimator, table)
        if len(estimator.classes_) == 2:
            return graph.index(graph.node("Greater", found, 0.0))
    elif converter_of("probabilities", estimator):
        found = probabilities(graph, estimator, table)
    else:
        return str(_call("label", graph, estimator, table))
    return graph.likeliest(found)


#: What a model answers, and what writes it.
ANSWERS: dict[str, Callable[[Graph, Any, Table], Any]] = {
    "values": values,
    "probabilities": probabilities,
    "decision": decide,
    "label": label,
    "several": several,
}
_METHODS = {"transform": transform, **ANSWERS}

Inner = Callable[[Graph, Any, Table], tuple[Any, Table]]


def hands_on(methods: Iterable[str], *types: type | str) -> Callable[[Inner], Inner]:
    """Register a function that returns the step that answers for these, and the table it reads."""

    def register(inner: Inner) -> Inner:
        def convert(graph: Graph, step: Any, table: Table, write: Converter) -> Any:
            return write(graph, *inner(graph, step, table))

        for method in methods:
            converts(method, *types)(partial(convert, write=_METHODS[method]))
        return inner

    return register

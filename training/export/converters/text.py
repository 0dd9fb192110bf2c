"""Vectorizers of text: the server splits a text into terms, and the graph counts them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from serving.bundle.manifest import TextRule
from serving.model.texts import is_linear
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)

from training.export.converters.linear import rows_of
from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Hashed, Table

#: The most columns of hashes that any step may read; linear models read the hashes themselves.
WRITTEN_OUT = 2**16


@converts("transform", CountVectorizer)
def _count(graph: Graph, step: Any, table: Table) -> Table:
    counts = _counts(graph, step, table)
    return graph.computed(counts, len(step.vocabulary_), small=True)


@converts("transform", HashingVectorizer)
def _hashes(graph: Graph, step: Any, table: Table) -> Table:
    if np.dtype(step.dtype) != np.float64:
        raise CannotCompileError(f"its dtype {np.dtype(step.dtype)} has no converter: float64 has")
    rule = msgspec.structs.replace(
        _rule(step, table),
        stop_words=sorted(step.get_stop_words() or ()),
        hashes=int(step.n_features),
        alternate_sign=bool(step.alternate_sign),
    )
    found = graph.terms(table[0].place, rule)
    places, values = (
        graph.node("Gather", found, graph.constant(i, np.int64), axis=2) for i in (0, 1)
    )
    if step.binary:  # a column of which terms cancel each other counts, too
        values = graph.node("GreaterOrEqual", places, graph.constant(0, np.int64))
    return _hashed(graph, places, _normal(graph, graph.cast(values), step.norm), step.n_features)


def _hashed(graph: Graph, places: str, values: str, width: int) -> Table:
    graph.spread(min(width, WRITTEN_OUT))
    if width > WRITTEN_OUT:
        return Hashed([], width, places, values)
    rows = graph.node("Gather", graph.node("Shape", places), graph.integers(0))
    shape = graph.node("Concat", rows, graph.integers(width), axis=0)
    empty = graph.node("Expand", graph.constant([[0.0]]), shape)
    dense = graph.node("ScatterElements", empty, places, values, axis=1, reduction="add")
    return Hashed(graph.computed(dense, width, small=True), width, places, values)


@converts("transform", TfidfVectorizer)
def _tfidf_vectorizer(graph: Graph, step: Any, table: Table) -> Table:
    width = len(step.vocabulary_)
    idf = step.idf_ if step.use_idf else None
    value = _weighted(graph, _counts(graph, step, table), step, idf)
    return graph.computed(value, width, small=True)


@converts("transform", TfidfTransformer)
def _tfidf(graph: Graph, step: Any, table: Table) -> Table:
    idf = step.idf_ if step.use_idf else None
    if isinstance(table, Hashed):
        if idf is not None:
            idf = rows_of(graph, np.reshape(idf, (-1, 1)), table.places)
            idf = graph.node("Squeeze", idf, graph.integers(2))
        value = _weighted(graph, table.values, step, idf)
        return _hashed(graph, table.places, value, table.width)
    value = _weighted(graph, graph.finite(table), step, idf)
    return graph.computed(value, len(table), small=True)


def _rule(step: Any, table: Table) -> TextRule:
    """Say how a vectorizer splits a text; its stop words are still to be filled in."""
    if len(table) != 1 or not table[0].text or table[0].source is not None:
        raise CannotCompileError(
            "it is not given one column of text as clients send it: drop the step before it"
        )
    for option in ("preprocessor", "tokenizer"):
        if getattr(step, option) is not None:
            raise CannotCompileError(
                f"its {option} is a function of your own: token_pattern has a converter"
            )
    if callable(step.analyzer) or callable(step.strip_accents) or step.input != "content":
        raise CannotCompileError(
            "a function of your own splits its texts: analyzer='word' and 'char' have a converter"
        )
    if step.analyzer == "word" and not is_linear(step.token_pattern):
        raise CannotCompileError(
            f"its token_pattern {step.token_pattern!r} is more than one set of characters, such as "
            r"r'\S+' or r'\b[a-z]+\b'"
        )
    low, high = step.ngram_range
    return TextRule(
        analyzer=step.analyzer,
        lowercase=bool(step.lowercase),
        strip_accents=step.strip_accents,
        pattern=step.token_pattern if step.analyzer == "word" else "",
        ngrams=(int(low), int(high)),
    )


def _counts(graph: Graph, step: Any, table: Table) -> str:
    """Write how often each term of the vocabulary stands in a text, shape (rows, terms)."""
    rule = _rule(step, table)
    # Stop words are not counted, but in longer terms they separate other words.
    if step.ngram_range[1] > 1:
        rule = msgspec.structs.replace(rule, stop_words=sorted(step.get_stop_words() or ()))
    vocabulary = sorted(step.vocabulary_, key=step.vocabulary_.__getitem__)
    counts = graph.node(
        "TfIdfVectorizer",
        graph.terms(table[0].place, rule),
        mode="TF",
        min_gram_length=1,
        max_gram_length=1,
        max_skip_count=0,
        ngram_counts=[0],
        ngram_indexes=list(range(len(vocabulary))),
        pool_strings=vocabulary,
    )
    graph.spread(len(vocabulary))
    if step.binary:
        counts = graph.node("Greater", counts, graph.constant(0.0, np.float32))
    return graph.cast(counts)


def _weighted(graph: Graph, value: str, step: Any, idf: Any) -> str:
    if step.sublinear_tf:
        there = graph.node("Greater", value, 0.0)
        safe = graph.node("Where", there, value, 1.0)
        logarithm = graph.node("Add", graph.node("Log", safe), 1.0)
        value = graph.node("Where", there, logarithm, 0.0)
    if idf is not None:
        value = graph.node("Mul", value, idf if isinstance(idf, str) else graph.constant(idf))
    return _normal(graph, value, step.norm)


def _normal(graph: Graph, value: str, norm: str | None) -> str:
    if norm is None:
        return value
    size = graph.node("Abs", value) if norm == "l1" else graph.node("Mul", value, value)
    total = graph.row_sums(size)
    if norm == "l2":
        total = graph.node("Sqrt", total)
    none = graph.node("Equal", total, 0.0)
    return graph.node("Div", value, graph.node("Where", none, 1.0, total))

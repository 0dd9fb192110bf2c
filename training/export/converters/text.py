"""Vectorizers of text: the server splits a text into terms, and the graph counts them."""

from __future__ import annotations

from typing import Any

import numpy as np
from serving.bundle.manifest import TextRule
from serving.model.texts import is_linear
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)

from training.export.converters.registry import converts
from training.export.graph import CannotCompileError, Graph, Table

__all__: list[str] = []


@converts("transform", CountVectorizer)
def _count(graph: Graph, step: Any, table: Table) -> Table:
    counts = _counts(graph, step, table)
    return graph.computed(counts, len(step.vocabulary_), small=True)


@converts("transform", HashingVectorizer)
def _hashes(graph: Graph, step: Any, table: Table) -> Table:  # noqa: ARG001
    raise CannotCompileError(
        f"its n_features={step.n_features} are hashes, which no operator computes: use a "
        "TfidfVectorizer with max_features"
    )


@converts("transform", TfidfVectorizer)
def _tfidf_vectorizer(graph: Graph, step: Any, table: Table) -> Table:
    width = len(step.vocabulary_)
    idf = step.idf_ if step.use_idf else None
    value = _weighted(graph, _counts(graph, step, table), step, idf)
    return graph.computed(value, width, small=True)


@converts("transform", TfidfTransformer)
def _tfidf(graph: Graph, step: Any, table: Table) -> Table:
    idf = step.idf_ if step.use_idf else None
    value = _weighted(graph, graph.finite(table), step, idf)
    return graph.computed(value, len(table), small=True)


def _counts(graph: Graph, step: Any, table: Table) -> str:
    """Write how often each term of the vocabulary stands in a text, shape (rows, terms)."""
    if len(table) != 1 or not table[0].text or table[0].source is not None:
        raise CannotCompileError("it is not given one column of text as clients send it")
    for option in ("preprocessor", "tokenizer"):
        if getattr(step, option) is not None:
            raise CannotCompileError(f"its {option} is a function of your own")
    if callable(step.analyzer) or callable(step.strip_accents) or step.input != "content":
        raise CannotCompileError("a function of your own splits its texts")
    if step.analyzer == "word" and not is_linear(step.token_pattern):
        raise CannotCompileError(
            f"its token_pattern {step.token_pattern!r} is more than one set of characters"
        )
    stop_words = step.get_stop_words()
    low, high = step.ngram_range
    rule = TextRule(
        analyzer=step.analyzer,
        lowercase=bool(step.lowercase),
        strip_accents=step.strip_accents,
        pattern=step.token_pattern if step.analyzer == "word" else "",
        ngrams=(int(low), int(high)),
        # Stop words are not counted, but in longer terms they separate other words.
        stop_words=sorted(stop_words) if stop_words and high > 1 else [],
    )
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
        there = graph.node("Greater", value, graph.constant(0.0))
        safe = graph.node("Where", there, value, graph.constant(1.0))
        logarithm = graph.node("Add", graph.node("Log", safe), graph.constant(1.0))
        value = graph.node("Where", there, logarithm, graph.constant(0.0))
    if idf is not None:
        value = graph.node("Mul", value, graph.constant(idf))
    if step.norm is None:
        return value
    size = graph.node("Abs", value) if step.norm == "l1" else graph.node("Mul", value, value)
    total = graph.node("ReduceSum", size, graph.integers(1), keepdims=1)
    if step.norm == "l2":
        total = graph.node("Sqrt", total)
    none = graph.node("Equal", total, graph.constant(0.0))
    return str(graph.node("Div", value, graph.node("Where", none, graph.constant(1.0), total)))

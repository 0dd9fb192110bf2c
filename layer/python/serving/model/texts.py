"""Splits texts into terms, as scikit-learn's vectorizers do, for graphs that count them."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from serving.bundle.manifest import TextRule

__all__ = ["is_linear", "terms"]

#: A pattern of one set of characters, which is never slow: a manifest comes from outside.
_LINEAR = re.compile(
    r"(\(\?u\))?(\\b)?((\\w|\[[\w\\'&@#%$.+-]+\])(\+|\{\d{1,3},?\d{0,3}\})?){1,2}(\\b)?", re.ASCII
)
_SPACES = re.compile(r"\s\s+")


def is_linear(pattern: str) -> bool:
    """Whether a token pattern takes time in proportion to any text."""
    return _LINEAR.fullmatch(pattern) is not None


def terms(text: str, rule: TextRule) -> list[str]:
    """Return the terms of *text*, with repetitions."""
    if rule.lowercase:
        text = text.lower()
    if rule.strip_accents == "ascii":
        text = unicodedata.normalize("NFKD", text).encode("ASCII", "ignore").decode("ASCII")
    elif rule.strip_accents == "unicode" and not text.isascii():
        text = "".join(
            c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
        )
    low, high = rule.ngrams
    if rule.analyzer == "word":
        words = _pattern(rule.pattern).findall(text)
        if rule.stop_words:
            stop = _stop_words(tuple(rule.stop_words))
            words = [word for word in words if word not in stop]
        if high == 1:
            return words
        return [
            " ".join(words[i : i + n])
            for n in range(low, min(high, len(words)) + 1)
            for i in range(len(words) - n + 1)
        ]
    text = _SPACES.sub(" ", text)
    if rule.analyzer == "char":
        return _pieces(text, low, high)
    found = []
    for word in text.split():
        padded = f" {word} "
        for n in range(low, high + 1):
            pieces = _pieces(padded, n, n)
            found += pieces or [padded]
            if len(pieces) <= 1:  # a word shorter than this counts once
                break
    return found


def _pieces(text: str, low: int, high: int) -> list[str]:
    return [
        text[i : i + n]
        for n in range(low, min(high, len(text)) + 1)
        for i in range(len(text) - n + 1)
    ]


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@cache
def _stop_words(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(words)

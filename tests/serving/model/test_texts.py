"""Texts are split into the same terms as by scikit-learn's vectorizers."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving.bundle.manifest import TextRule
from serving.model.texts import hashes, is_linear, terms
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

HOSTILE = [
    *("", " ", "a", "I am", "don't stop-word", "100% 3.14 007", "x_y __z", "ÉTÉ Straße İstanbul"),
    *(
        "cafe\u0301 naïve Ångström ﬁn",
        "😀 👩‍👩‍👧 ok",
        "東京 日本語",
        "\t\n two  spaces \u00a0 here",
        "ΟΔΥΣΣΕΥΣ ς",
    ),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "words": {},
    "two words": {"ngram_range": (1, 2)},
    "two or three words": {"ngram_range": (2, 3), "stop_words": ["the", "am", "two"]},
    "one letter": {"token_pattern": r"(?u)\b\w+\b"},
    "letters": {"token_pattern": r"[a-zA-Z]+", "lowercase": False},
    "no blanks": {"token_pattern": r"\S+"},
    "no digits": {"token_pattern": r"\b[^\d\W]+\b"},
    "accents": {"strip_accents": "unicode"},
    "ascii": {"strip_accents": "ascii", "ngram_range": (1, 2)},
    "characters": {"analyzer": "char", "ngram_range": (1, 3)},
    "characters within words": {"analyzer": "char_wb", "ngram_range": (2, 5)},
}


def rule(vectorizer: CountVectorizer | HashingVectorizer) -> TextRule:
    """Write a vectorizer's options in the manifest's form."""
    return TextRule(
        analyzer=vectorizer.analyzer,
        lowercase=vectorizer.lowercase,
        strip_accents=vectorizer.strip_accents,
        pattern=vectorizer.token_pattern if vectorizer.analyzer == "word" else "",
        ngrams=vectorizer.ngram_range,
        stop_words=list(vectorizer.get_stop_words() or ()),
    )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@given(text=st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40)))
def test_terms_are_those_of_scikit_learn(options: dict[str, Any], text: str) -> None:
    """Each text gives the same terms and counts as in scikit-learn."""
    vectorizer = CountVectorizer(**options)

    assert sorted(terms(text, rule(vectorizer))) == sorted(vectorizer.build_analyzer()(text))


@given(text=st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40)))
def test_hashes_are_scikit_learns(text: str) -> None:
    """The columns of each text, and what they count: half of the terms count by -1."""
    vectorizer = HashingVectorizer(n_features=2**20, norm=None)
    found = vectorizer.transform([text]).tocoo()
    hashed = msgspec.structs.replace(rule(vectorizer), hashes=2**20, alternate_sign=True)

    expected = dict(zip(found.col.tolist(), found.data.tolist(), strict=True))
    assert hashes(text, hashed) == expected


@pytest.mark.parametrize(
    ("pattern", "linear"),
    [
        (r"(?u)\b\w\w+\b", True),
        (r"(?u)\b\w+\b", True),
        (r"\w{1,}", True),
        (r"[a-zA-Z']+", True),
        (r"\b[a-z]{2,}\b", True),
        (r"\S+", True),
        (r"[^\s]+", True),
        (r"(?u)\b[^\d\W]+\b", True),
        (r"\d+", True),
        (r"#\w+", True),
        (r"(?i)[a-z]\w{3,}\b", True),
        (r"\w+[.]+", False),
        (r"[.]+\b", False),
        (r"[a-z]+(?=\s)", False),
        (r"(\w+)+$", False),
        (r"(a|a)*b", False),
        (r"\w+\w+\w+\w+\w+!", False),
        (r"(?=(.*))\1x", False),
    ],
)
def test_only_simple_patterns_are_served(pattern: str, linear: bool) -> None:
    """Only one repeated set of characters is allowed, as other patterns may take forever."""
    assert is_linear(pattern) == linear


PATTERNS = [
    *(r"(?u)\b\w\w+\b", r"\S+", r"\w\w\w+\b", r"\b[\w.]{9,}\b", r"\b[^q]+\b", r"[a-z]{900,}"),
    r"\b[^\d\W]+\b",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_long_text_is_split_quickly(pattern: str) -> None:
    """100 kB of one word, or of no word, are split quickly."""
    assert is_linear(pattern)
    for text in (
        "a" * 100_000,
        "a " * 50_000,
        "!" * 100_000,
        "a." * 9 + "." * 100_000,
        "a." * 50_000,
    ):
        start = time.perf_counter()
        terms(
            text,
            TextRule(
                analyzer="word", lowercase=True, strip_accents=None, pattern=pattern, ngrams=(1, 1)
            ),
        )
        assert time.perf_counter() - start < 5

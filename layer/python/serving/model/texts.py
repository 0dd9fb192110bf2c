"""Splits texts into terms, as scikit-learn's vectorizers do, for graphs that count them."""

from __future__ import annotations

import re
import struct
import unicodedata
from functools import cache

from serving.bundle.manifest import TextRule

__all__ = ["hashes", "is_linear", "terms"]

#: A pattern of one set of characters repeated, behind a few that are not, which no text makes slow:
#: a manifest comes from outside.
_SET = r"(\\[wWdDsS]|\[\^?(\\.|[^\]\[\\])+\]|[A-Za-z0-9_#@'-])"
_LINEAR = re.compile(
    rf"(\(\?[aiu]+\))?(?P<start>\\b)?({_SET}(\{{\d\}})?){{0,3}}"
    rf"(?P<last>{_SET})(\+|\{{\d{{1,3}},?\d{{0,3}}\}})?(?P<end>\\b)?"
)
_SPACES = re.compile(r"\s\s+")


def is_linear(pattern: str) -> bool:
    """Whether a token pattern takes time in proportion to any text."""
    found = _LINEAR.fullmatch(pattern)
    # To look for the end of a word again and again takes time, unless it ends the set or began it.
    return found is not None and (
        found["end"] is None or found["start"] is not None or found["last"] == r"\w"
    )


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
        words = re.findall(rule.pattern, text)
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


def hashes(text: str, rule: TextRule) -> dict[int, int]:
    """Return the columns that the terms of *text* are hashed to, and what each column counts."""
    found: dict[int, int] = {}
    for term in terms(text, rule):
        number = _murmur(term.encode())
        column = abs(number) % rule.hashes
        step = -1 if rule.alternate_sign and number < 0 else 1
        found[column] = found.get(column, 0) + step
    return found


def _murmur(data: bytes) -> int:
    """Hash as MurmurHash3 does, to a signed number of 32 bits (Appleby 2011, the seed is 0)."""
    most, found, end = 0xFFFFFFFF, 0, len(data) & ~3
    for (block,) in struct.iter_unpack("<I", data[:end]):
        mixed = block * 0xCC9E2D51 & most
        found ^= (mixed << 15 | mixed >> 17) * 0x1B873593 & most
        found = ((found << 13 | found >> 19) & most) * 5 + 0xE6546B64 & most
    if data[end:]:
        mixed = int.from_bytes(data[end:], "little") * 0xCC9E2D51 & most
        found ^= (mixed << 15 | mixed >> 17) * 0x1B873593 & most
    found ^= len(data)
    found = (found ^ found >> 16) * 0x85EBCA6B & most
    found = (found ^ found >> 13) * 0xC2B2AE35 & most
    found ^= found >> 16
    return found - (found >> 31 << 32)


def _pieces(text: str, low: int, high: int) -> list[str]:
    return [
        text[i : i + n]
        for n in range(low, min(high, len(text)) + 1)
        for i in range(len(text) - n + 1)
    ]


@cache
def _stop_words(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(words)

"""Text: hashes and tokens are served from the graph, without scikit-learn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving.bundle.manifest import Manifest
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from training.export.build import build_bundle

WORDS = ["cheap", "free", "Meeting", "café", "100%", "don't", "😀", "東京", "a", "tomorrow"]
RANDOM = np.random.default_rng(0)
TEXTS = pd.Series([" ".join(RANDOM.choice(WORDS, 6)) for _ in range(60)])
TARGET = np.where(TEXTS.str.contains("free"), "spam", "ham")
FOREST = RandomForestClassifier(5, random_state=0)


def _packed(folder: Path, pipeline: Any) -> Manifest:
    build_bundle(folder, "m", pipeline.fit(TEXTS, TARGET), TEXTS)
    return open_bundle(FolderStore(folder)).manifest


def _plain(**options: Any) -> HashingVectorizer:
    return HashingVectorizer(alternate_sign=False, norm=None, **options)


def _words(pattern: str) -> TfidfVectorizer:
    return TfidfVectorizer(token_pattern=pattern)


PIPELINES = {
    "hashes, a million": make_pipeline(HashingVectorizer(), LogisticRegression()),
    "hashes, weighted": make_pipeline(
        _plain(n_features=2**17), TfidfTransformer(), LogisticRegression()
    ),
    "hashes, all used": make_pipeline(_plain(n_features=2**17), MultinomialNB()),
    "hashes, few": make_pipeline(HashingVectorizer(n_features=16, binary=True), FOREST),
    "whatever is no blank": make_pipeline(_words(r"\S+"), FOREST),
}


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_a_text_is_served_from_the_graph(pipeline: Any, tmp_path: Path) -> None:
    """In float64, and in a graph that holds what the model uses of a million columns."""
    manifest = _packed(tmp_path, pipeline)

    assert manifest.engine.name == "onnx", manifest.engine.reason
    assert manifest.engine.inexact == []
    assert manifest.files["model.onnx"].size < 3_000_000


@pytest.mark.parametrize(
    ("pipeline", "advice"),
    [
        (make_pipeline(HashingVectorizer(n_features=2**17), FOREST), r"n_features=2\*\*16"),
        (
            make_pipeline(_words(r"\w+(?=\s)"), LogisticRegression()),
            r"such as r'\\S\+'",
        ),
    ],
)
def test_what_has_no_graph_falls_back_with_an_option_that_has(
    pipeline: Any, advice: str, tmp_path: Path
) -> None:
    """The sentence holds what to write instead."""
    manifest = _packed(tmp_path, pipeline)

    assert manifest.engine.name == "sklearn"
    assert re.search(advice, str(manifest.engine.reason))

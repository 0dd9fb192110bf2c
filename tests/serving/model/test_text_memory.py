"""Memory: many texts with a large vocabulary are scored in chunks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tests.helpers.servers import ROOT
from training.export.build import build_bundle

WORDS, TEXTS, MEGABYTES = 50_000, 10_000, 500

SCORE = """
import json, sys
from serving.bundle.reader import open_bundle
from serving.model.model import open_model
from serving.stores.folder import FolderStore
model = open_model(open_bundle(FolderStore(sys.argv[1])))
answers = model.predict(model.decode(open(sys.argv[2], "rb").read()).columns)
print(json.dumps([model.manifest.engine.name, len(answers)]))
# Unlike ru_maxrss, this is not inherited from the process that started this one.
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
def test_many_texts_over_a_large_vocabulary_take_little_memory(tmp_path: Path) -> None:
    """A process that scores 10,000 texts over 50,000 words stays below 500 MB."""
    import msgspec

    random = np.random.default_rng(0)
    words = np.array([f"w{n}" for n in range(WORDS)])
    texts = pd.Series([" ".join(row) for row in random.permutation(words).reshape(-1, 50)])
    target = np.arange(len(texts)) % 2
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, target)
    path = build_bundle(tmp_path / "m", "m", pipeline, texts[:200])
    body = tmp_path / "body.json"
    rows = [{"text": " ".join(random.choice(words, 30))} for _ in range(TEXTS)]
    body.write_bytes(msgspec.json.encode({"instances": rows}))

    said = subprocess.run(
        [sys.executable, "-c", SCORE, str(path.parent), str(body)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")

    assert said[0] == f'["onnx", {TEXTS}]'
    assert int(said[1]) / 1024 < MEGABYTES

"""Compiling: the same pipeline gives the same graph, whatever Python's hashes are."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.servers import ROOT

COMPILE = """
import hashlib
from training.build import rewrite_trees
from training.compile import compile_pipeline
from training.credit import build_pipeline, load_data
from training.features import read_features
from training.inputs import merge_inputs
data, target = load_data()
pipeline = build_pipeline().set_params(**{"randomforestclassifier__n_estimators": 3})
graph = compile_pipeline(pipeline.fit(data, target), read_features(data))
print(hashlib.sha256(merge_inputs(rewrite_trees(graph))[0]).hexdigest())
"""


def test_the_same_pipeline_gives_the_same_graph() -> None:
    """A version's name holds the graph's digest: the same model is then seen to be the same."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", COMPILE],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "3", "5")
    }

    assert len(digests) == 1

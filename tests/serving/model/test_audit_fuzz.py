"""Thousands of mutated graphs with valid digests: none ends the process that opens it."""

from __future__ import annotations

import contextlib
import random
import select
import struct
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import psutil
import pytest
import requests
from onnx import ModelProto, helper, numpy_helper
from serving.bundle.latest import move_latest, read_latest
from serving.bundle.reader import Bundle
from serving.bundle.writer import write_bundle
from serving.stores.folder import FolderStore

from tests.helpers.bundles import upload
from tests.helpers.graphs.hostile import DEADLY, HOSTILE, with_four_numbers
from tests.helpers.graphs.made import chain, model, older_chain
from tests.helpers.graphs.mutants import mutate
from tests.helpers.pipelines import CASES
from tests.helpers.servers import ROOT, Server, clean_environment, lines, serving, wait_for
from tests.helpers.stores import Bucket
from training.export.build import build_bundle

MUTANTS = 10_000
#: Small pipelines that together use every operator that our compiler writes.
PIPELINES = {
    "iris, strings",
    "iris, one tree",
    "iris, naive Bayes",
    "wine, SVM",
    "wine, PCA",
    "breast cancer, gradient boosting",
    "breast cancer, network",
    "diabetes, ridge",
    "diabetes, tree",
    "diabetes, polynomial",
    "mixed with gaps, logistic",
}

#: Opens one graph after another as a server does, and reports the outcome of each.
OPENER = """
import os, resource, struct, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from serving.errors import BundleError
from serving.bundle.codec import decode_manifest
from serving.model.model import open_graph
given, told = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
while header := given.read(8):
    sizes = struct.unpack("<II", header)
    manifest, graph = (given.read(size) for size in sizes)
    manifest = decode_manifest(manifest, "here")
    row = [[manifest.example.instance[feature.name]] * 50 for feature in manifest.features]
    try:
        model = open_graph(manifest, graph, max_model_bytes=2**28)
        said = b"S"
        try:
            model.predict(row)
        except Exception:
            said = b"F"
    except BundleError:
        said = b"R"
    told.write(said)
    told.flush()
"""


class Graph(NamedTuple):
    """A graph and the manifest that belongs to it."""

    content: bytes
    manifest: bytes


class Opener:
    """A process that opens graphs, and is restarted when one crashes it."""

    def __init__(self) -> None:
        self._process = self._start()

    def open(self, graph: Graph) -> str:
        """Return the outcome: served, refused, failed later, or how the process ended."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        sizes = struct.pack("<II", len(graph.manifest), len(graph.content))
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(sizes + graph.manifest + graph.content)
            process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], 30)
        said = process.stdout.read(1) if ready else b""
        if said:
            return {b"S": "served", b"R": "refused", b"F": "failed later"}[said]
        self.close()
        self._process = self._start()
        return f"ended with {process.returncode}" if ready else "did not end"

    def close(self) -> None:
        """End the process."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", OPENER],
            cwd=ROOT,
            env={**clean_environment(), "PYTHONPATH": "layer/python", "LOG_LEVEL": "error"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture
def opener() -> Iterator[Opener]:
    """Start one process."""
    opener = Opener()
    yield opener
    opener.close()


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> list[Graph]:
    """Compile the pipelines."""
    found = []
    for case in CASES:
        if case.name not in PIPELINES:
            continue
        data, target = case.data()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = build_bundle(
                tmp_path_factory.mktemp("model"), "model", case.pipeline().fit(data, target), data
            )
        bundle = Bundle(FolderStore(path))
        found.append(Graph(bundle.read("model.onnx"), bundle.raw))
    assert len(found) == len(PIPELINES)
    return found


@pytest.mark.slow
def test_no_mutant_ends_the_process(graphs: list[Graph], opener: Opener) -> None:
    """Each mutant is served or rejected; none crashes, hangs, or raises another exception."""
    chance = random.Random(4)
    contents = [graph.content for graph in graphs]
    for graph in graphs:
        assert opener.open(graph) == "served"
    came: Counter[str] = Counter()
    for number in range(MUTANTS):
        graph = chance.choice(graphs)
        mutant = mutate(chance, graph.content, contents)
        said = opener.open(graph._replace(content=mutant))
        assert said in ("served", "refused", "failed later"), f"mutant {number} {said}"
        came[said] += 1

    # The mutants are close enough to valid graphs that some still answer.
    assert came["refused"] > MUTANTS / 2
    assert came["served"] > MUTANTS / 20


@pytest.mark.slow
def test_the_opener_detects_a_crash(graphs: list[Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the audit a deep tree ends the process, so the test above can fail."""
    unchecked = OPENER.replace(
        "given, told", "from serving.model.engines import onnx; onnx.audit_graph = len\ngiven, told"
    )
    monkeypatch.setattr(sys.modules[__name__], "OPENER", unchecked)
    opener = Opener()
    deep = graphs[0]._replace(content=older_chain(100_000).SerializeToString())

    assert opener.open(deep) == "ended with -11"
    assert opener.open(graphs[0]) == "served"
    opener.close()


@pytest.mark.slow
def test_a_running_server_survives_hostile_graphs(credit: Path, tmp_path: Path) -> None:
    """Each hostile graph is made live and rejected; the same process serves the old one."""
    manifest = with_four_numbers(credit)
    axes = numpy_helper.from_array(np.array([1]), "axes")
    total = model([helper.make_node("ReduceSum", ["x", "axes"], ["y"])], axes)
    folder = tmp_path / manifest.name

    def write(version: str, graph: ModelProto) -> None:
        named = msgspec.structs.replace(manifest, version=version)
        files = {"model.onnx": graph.SerializeToString()}
        write_bundle(folder, named, files, promote=version == "good")

    def refused(server: Server, version: str) -> bool:
        said = lines(server, "the model was not renewed")
        move_latest(FolderStore(folder), version, read_latest(FolderStore(folder)))
        wait_for(lambda: len(lines(server, "the model was not renewed")) > len(said))
        answer = requests.post(f"{server}/v0/predict", json=row, timeout=10).json()
        assert answer["model"]["version"] == "good"
        return bool(answer["prediction"] == {"value": 10.0})

    write("good", total)
    row = {"x0": 1, "x1": 2, "x2": 3, "x3": 4}
    hostile = [graph for graph, _ in (HOSTILE | DEADLY).values()] + [
        chain(30_000),
        older_chain(100_000),
    ]
    with serving(folder, MODEL_REFRESH_SECONDS="0.2", WEB_CONCURRENCY="1") as server:
        wait_for(lambda: requests.get(f"{server}/health", timeout=10).status_code == 200)
        before = psutil.Process(server.process.pid).children()
        for number, graph in enumerate(hostile):
            write(f"bad{number}", graph)
            assert refused(server, f"bad{number}")
        assert psutil.Process(server.process.pid).children() == before
        assert requests.get(f"{server}/health", timeout=10).json()["status"] == "degraded"


def test_a_server_starts_with_a_deadly_graph(credit: Path, tmp_path: Path, bucket: Bucket) -> None:
    """A graph in a store that would crash onnxruntime gives 503, and no process ends."""
    manifest = msgspec.structs.replace(with_four_numbers(credit), version="deadly")
    deadly, _ = DEADLY["much text"]
    files = {"model.onnx": deadly.SerializeToString()}
    upload(Bundle(FolderStore(write_bundle(tmp_path, manifest, files))), bucket)
    settings = {"MODEL_REFRESH_SECONDS": "0.2", **bucket.location.environment}
    with serving(f"{bucket.location.uri}/credit", **settings) as server:
        wait_for(lambda: requests.get(f"{server}/health", timeout=10).status_code == 503)
        master = psutil.Process(server.process.pid)
        wait_for(lambda: len(master.children()) == 2)  # gunicorn forks the workers a moment apart
        before = master.children()
        for _ in range(10):
            assert requests.get(f"{server}/health", timeout=10).status_code == 503
        assert master.children() == before
        assert "cannot be served" in lines(server, "no model")[0]["reason"]
        assert len(lines(server, "no model")) <= 3

"""Graphs that pass the audit and must still be rejected, each with a part of the message."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from serving.bundle.manifest import Manifest
from serving.bundle.reader import open_bundle
from serving.stores.folder import FolderStore

from tests.helpers.graphs.made import body, model, scan

__all__ = ["DEADLY", "HOSTILE", "with_four_numbers"]


def with_four_numbers(credit: Path) -> Manifest:
    """Make a manifest of a regression over four numbers, x0 to x3."""
    manifest = open_bundle(FolderStore(credit)).manifest
    [number, *_] = [feature for feature in manifest.features if feature.kind == "number"]
    return msgspec.structs.replace(
        manifest,
        task="regression",
        classes=None,
        has_probabilities=False,
        engine=msgspec.structs.replace(manifest.engine, inputs=None),
        features=[msgspec.structs.replace(number, name=f"x{i}") for i in range(4)],
        example=msgspec.structs.replace(
            manifest.example, instance={f"x{i}": 1.0 for i in range(4)}, prediction={"value": 1.0}
        ),
    )


SUM = helper.make_node("ReduceSum", ["big"], ["y"], keepdims=1)

SHAPE = numpy_helper.from_array(np.array([10**9]), "shape")


def doubling(times: int) -> list[NodeProto]:
    """Concatenate the rows with themselves *times* times."""
    names = ["x", *(f"x{i}" for i in range(1, times)), "big"]
    return [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in pairwise(names)]


HOSTILE: dict[str, tuple[ModelProto, str]] = {
    "much memory at once": (
        model([helper.make_node("ConstantOfShape", ["shape"], ["big"]), SUM], SHAPE),
        "cannot score its own example: .*[Mm]emory",
    ),
    "much memory by and by": (
        model([*doubling(40), SUM]),
        "cannot score its own example: .*[Mm]emory",
    ),
    "much time": (
        model(
            [
                helper.make_node("ConstantOfShape", ["shape"], ["big"]),
                scan("big", body(helper.make_node("Neg", ["z"], ["r"]))),
            ],
            numpy_helper.from_array(np.array([10**7, 1]), "shape"),
        ),
        "cannot score its own example: takes over",
    ),
    "another shape": (model([helper.make_node("Neg", ["x"], ["y"])]), "answers 1 rows with"),
    "two rows for one": (
        model(
            [
                helper.make_node("Concat", ["x", "x"], ["r"], axis=0),
                helper.make_node("ReduceSum", ["r", "axes"], ["y"]),
            ],
            numpy_helper.from_array(np.array([1]), "axes"),
        ),
        "answers 1 rows with",
    ),
    "text for numbers": (
        model([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)]),
        "cannot open|cannot score",
    ),
    "no such row": (
        model([helper.make_node("Gather", ["x", "shape"], ["y"], axis=0)], SHAPE),
        "cannot score its own example",
    ),
}

TEXT = numpy_helper.from_array(np.array(["x" * 1_000_000], object), "text")

MANY = numpy_helper.from_array(np.array([2_000]), "many")

#: These use memory that onnxruntime does not count: open them only in the sandbox.
DEADLY: dict[str, tuple[ModelProto, str]] = {
    "much text": (
        model(
            [
                helper.make_node("Expand", ["text", "many"], ["texts"]),
                helper.make_node(
                    "LabelEncoder",
                    ["texts"],
                    ["numbers"],
                    domain="ai.onnx.ml",
                    keys_strings=["a"],
                    values_floats=[1.0],
                ),
                helper.make_node("ReduceSum", ["numbers"], ["y"], keepdims=1),
            ],
            TEXT,
            MANY,
        ),
        "memory|bad_alloc|ends the process",
    ),
}

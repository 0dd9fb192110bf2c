"""The graph audit, tested on graphs that onnx itself writes; and the protobuf reader."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from serving.bundle.codec import decode_manifest
from serving.bundle.manifest import Output
from serving.bundle.reader import open_bundle
from serving.errors import BundleError, InvalidInstances, SandboxFailed
from serving.model import sandbox
from serving.model.audit import protobuf
from serving.model.audit.graph import audit_graph
from serving.model.audit.protobuf import Reader, WireError, varints
from serving.model.audit.trees import MAX_TREE_DEPTH
from serving.model.engines import onnx as engine
from serving.model.engines.onnx import OnnxEngine
from serving.model.model import open_graph
from serving.model.sandbox import try_in_sandbox
from serving.stores.folder import FolderStore

from tests.helpers.graphs.hostile import DEADLY, HOSTILE, with_four_numbers
from tests.helpers.graphs.made import (
    CONSTANT,
    NEG,
    also,
    body,
    chain,
    elsewhere,
    hidden,
    model,
    older_chain,
    older_trees,
    scan,
    trees,
    trees_of_two_names,
)

LIMIT = 256 * 1024 * 1024  # bytes
REFUSED: dict[str, tuple[ModelProto | bytes, str]] = {
    "a loop": (model([helper.make_node("Loop", ["n", "c", "x"], ["y"])]), "operator 'Loop'"),
    "a branch": (model([helper.make_node("If", ["x"], ["y"])]), "operator 'If'"),
    "chance": (model([helper.make_node("RandomNormal", [], ["y"], shape=[1])]), "'RandomNormal'"),
    "another domain": (
        model([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]),
        "operator 'com.microsoft.Gelu'",
    ),
    "a domain that is none": (
        model([helper.make_node("Neg", ["x"], ["y"], domain="ai.onnx.ml")]),
        "operator 'ai.onnx.ml.Neg'",
    ),
    "no operator": (model([NodeProto(output=["y"])]), "operator ''"),
    "another one behind": (
        also(helper.make_node("Loop", ["x"], ["z"]).SerializeToString()),
        "operator 'Loop'",
    ),
    "two operators": (
        also(NEG.SerializeToString() + NodeProto(op_type="Loop").SerializeToString()),
        "says 'Neg' and something else",
    ),
    "a hidden graph": (hidden(), "too large a number"),
    "trees under two names": (trees_of_two_names(), "says 'x' and something else"),
    "a file": (model([NEG], elsewhere("/etc/passwd")), "a tensor in another file"),
    "a file, in a constant": (model([CONSTANT]), "a tensor in another file"),
    "a file, in a Scan": (
        model([scan("x", body(helper.make_node("Constant", [], ["r"], value=elsewhere("w"))))]),
        "a tensor in another file",
    ),
    "memory": (model([NEG], elsewhere("*/_ORT_MEM_ADDR_/*")), "a tensor in another file"),
    "a Scan in a Scan": (
        model([scan("x", body(scan("z", body(helper.make_node("Neg", ["z"], ["r"])))))]),
        "a graph within Scan",
    ),
    "a loop in a Scan": (
        model([scan("x", body(helper.make_node("Loop", ["z"], ["r"])))]),
        "operator 'Loop'",
    ),
    "a graph where none belongs": (
        model([helper.make_node("Neg", ["x"], ["y"], body=body())]),
        "a graph within Neg",
    ),
    "a function": (
        helper.make_model(
            model([NEG]).graph,
            functions=[helper.make_function("d", "f", ["a"], ["b"], [], [], [])],
        ),
        "functions of its own",
    ),
    "many nodes": (model([NEG] * 20_001), "more than 20000 nodes"),
    "a deep tree": (chain(MAX_TREE_DEPTH + 1), f"deeper than {MAX_TREE_DEPTH}"),
    "a tree in a circle": (trees([1, 0], [0, 1], ([0, 0], [1, 1])), "deeper than"),
    "a tree that branches in a circle": (trees([1, 0], [1, 0], ([0, 0], [0, 0])), "share branches"),
    "a tree that leads away": (trees([7, 0], [0, 1], ([0, 1], [1, 1])), "lead nowhere"),
    "a tree that leads back": (trees([-7, 0], [0, 1], ([0, 1], [1, 1])), "lead nowhere"),
    "a tree without parts": (trees([1, 0], [0], ([0, 1], [1, 1])), "parts missing"),
    "a deep older tree": (older_chain(MAX_TREE_DEPTH + 1), f"deeper than {MAX_TREE_DEPTH}"),
    "an older tree in a circle": (
        older_trees(
            nodes_modes=["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"],
            nodes_truenodeids=[1, 0, 0],
            nodes_falsenodeids=[2, 2, 0],
        ),
        "deeper than",
    ),
    "an older tree that leads away": (older_trees(nodes_truenodeids=[7, 0, 0]), "lead nowhere"),
    "an older tree beyond 32 bits": (
        older_trees(nodes_truenodeids=[2**32 + 1, 0, 0]),
        "out of range",
    ),
    "an older tree without parts": (older_trees(nodes_modes=["LEAF"]), "parts missing"),
    "nothing that is protobuf": (b"\xff" * 20, "cannot be read"),
    "text": (b"Not a graph at all", "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_disallowed_graph_is_rejected(name: str) -> None:
    """A graph outside the allow-list is rejected with one sentence that says what was found."""
    graph, said = REFUSED[name]
    raw = graph if isinstance(graph, bytes) else graph.SerializeToString()

    with pytest.raises(BundleError, match=r"^the graph .*\.$") as refused:
        audit_graph(raw)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "graph",
    [
        model([NEG]),
        model([scan("x", body(helper.make_node("Neg", ["z"], ["r"])))]),
        chain(MAX_TREE_DEPTH),
        older_chain(MAX_TREE_DEPTH),
        older_trees(),
        trees([0], [1], ([1], [1])),
    ],
)
def test_an_allowed_graph_is_opened(graph: ModelProto) -> None:
    """A graph that the audit allows is opened by onnxruntime, also at the limits."""
    raw = graph.SerializeToString()
    audit_graph(raw)

    session = ort.InferenceSession(raw, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.zeros((3, 4), np.float32)})


@pytest.mark.parametrize("graph", [chain(30_000), older_chain(100_000)], ids=["new", "older"])
def test_a_deep_tree_crashes_onnxruntime(graph: ModelProto) -> None:
    """Without the audit these deep trees crash the process, so the audit bounds their depth."""
    script = (
        "import resource, sys, onnxruntime as ort\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "ort.InferenceSession(sys.stdin.buffer.read(), providers=['CPUExecutionProvider'])\n"
    )
    raw = graph.SerializeToString()
    run = subprocess.run(
        [sys.executable, "-c", script], input=raw, capture_output=True, check=False
    )

    assert run.returncode < 0
    with pytest.raises(BundleError, match="deeper than"):
        audit_graph(raw)


@pytest.fixture
def credit_graph(credit: Path) -> bytes:
    """Return the example's graph."""
    return open_bundle(FolderStore(credit)).read("model.onnx")


def test_onnxruntime_s_own_format_is_rejected(
    credit: Path, credit_graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit and the session's options both reject onnxruntime's own format."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 3
    ort.InferenceSession(credit_graph, options, providers=["CPUExecutionProvider"])
    own = (tmp_path / "model.ort").read_bytes()
    assert ort.InferenceSession(own, providers=["CPUExecutionProvider"])

    manifest = open_bundle(FolderStore(credit)).manifest
    with pytest.raises(BundleError, match="cannot be read"):
        OnnxEngine(manifest, own)
    monkeypatch.setattr(engine, "audit_graph", lambda _: None)
    with pytest.raises(BundleError, match="onnxruntime cannot open the graph"):
        OnnxEngine(manifest, own)


@pytest.mark.parametrize("name", DEADLY)
def test_a_deadly_graph_ends_the_sandbox_only(name: str, credit: Path) -> None:
    """A graph that crashes onnxruntime ends the sandbox process, and is rejected."""
    graph, said = DEADLY[name]

    with pytest.raises(SandboxFailed, match=said):
        try_in_sandbox(with_four_numbers(credit), graph.SerializeToString(), max_model_bytes=LIMIT)


def test_a_sandbox_without_a_result_is_a_failure(
    credit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the sandbox exits without a result, the graph is rejected."""
    monkeypatch.setattr(sys, "executable", "/bin/true")
    bundle = open_bundle(FolderStore(credit))

    with pytest.raises(SandboxFailed, match=r"it ends the process that opens it\.$"):
        try_in_sandbox(bundle.manifest, bundle.read_model(), max_model_bytes=LIMIT)


LEAST = numpy_helper.from_array(np.array([-(2**63)]), "least")
MINUS_ONE = numpy_helper.from_array(np.array([-1]), "minus")


@pytest.mark.parametrize("division", ["Div", "Mod"])
@pytest.mark.parametrize(
    "before",
    [
        [helper.make_node("Identity", ["least"], ["a"])],
        [helper.make_node("Cast", ["x"], ["a"], to=TensorProto.INT32)],
        [helper.make_node("ArgMax", ["x"], ["a"], axis=1)],
        [helper.make_node("TopK", ["x", "minus"], ["most", "a"])],
        [helper.make_node("CastLike", ["x", "least"], ["a"])],
        [
            helper.make_node("IsNaN", ["x"], ["gap"]),
            helper.make_node("Where", ["gap", "least", "minus"], ["a"]),
        ],
        [helper.make_node("Constant", [], ["a"], value_int=-(2**63))],
        [helper.make_node("Constant", [], ["a"], value=LEAST)],
        [
            helper.make_node(
                "LabelEncoder",
                ["x"],
                ["a"],
                domain="ai.onnx.ml",
                keys_floats=[1.0],
                values_int64s=[-(2**63)],
            )
        ],
    ],
    ids=lambda nodes: nodes[-1].op_type,
)
def test_a_division_of_integers_is_rejected(division: str, before: list[NodeProto]) -> None:
    """Dividing integers may crash (-2**63 / -1), so it is rejected wherever they come from."""
    nodes = [
        *before,
        helper.make_node("Concat", ["a", "a"], ["b"], axis=0),
        helper.make_node(division, ["b", "minus"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]

    with pytest.raises(BundleError, match=f"has {division} of integers"):
        audit_graph(model(nodes, LEAST, MINUS_ONE).SerializeToString())


def test_a_division_of_integers_from_a_scan_is_rejected() -> None:
    """The audit trusts a Scan's declared output types, because onnxruntime checks them."""
    inner = helper.make_graph(
        [helper.make_node("Cast", ["z"], ["r"], to=TensorProto.INT64)],
        "inner",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("r", TensorProto.INT64, None)],
    )
    nodes = [
        helper.make_node("Scan", ["x"], ["a"], body=inner, num_scan_inputs=1),
        helper.make_node("Div", ["a", "a"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]

    with pytest.raises(BundleError, match="has Div of integers"):
        audit_graph(model(nodes).SerializeToString())


@pytest.mark.parametrize(
    ("divisor", "good"), [([2], True), ([2, 7], True), ([2, -1], False), ([0], False), ([], False)]
)
@pytest.mark.parametrize("raw", [True, False])
def test_a_safe_constant_divisor_is_allowed(divisor: list[int], good: bool, raw: bool) -> None:
    """Integers may be divided by a constant without 0 and -1, as a quantile's index is halved."""
    if raw:
        two = numpy_helper.from_array(np.array(divisor, np.int64), "two")
    else:
        two = helper.make_tensor("two", TensorProto.INT64, [len(divisor)], divisor)
    nodes = [
        helper.make_node("Div", ["least", "two"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    raw_graph = model(nodes, LEAST, two).SerializeToString()

    if good:
        audit_graph(raw_graph)
    else:
        with pytest.raises(BundleError, match="has Div of integers"):
            audit_graph(raw_graph)


def test_a_truncated_divisor_is_rejected() -> None:
    """A divisor whose bytes are cut short is rejected."""
    two = numpy_helper.from_array(np.array([2]), "two")
    two.raw_data = two.raw_data[:-1]
    nodes = [helper.make_node("Div", ["least", "two"], ["y"])]

    with pytest.raises(BundleError, match="cannot be read: it has a tensor that is cut short"):
        audit_graph(model(nodes, LEAST, two).SerializeToString())


def test_a_divisor_of_an_inner_graph_does_not_count() -> None:
    """A constant inside a Scan does not make an outer divisor of the same name safe."""
    inner = helper.make_graph(
        [helper.make_node("Neg", ["z"], ["r"])],
        "inner",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([2]), "minus")],
    )
    nodes = [
        helper.make_node("Scan", ["x"], ["a"], body=inner, num_scan_inputs=1),
        helper.make_node("Div", ["least", "minus"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]

    with pytest.raises(BundleError, match="has Div of integers"):
        audit_graph(model(nodes, LEAST, MINUS_ONE).SerializeToString())


def test_floats_may_be_divided() -> None:
    """Floats may be divided, also those cast from integers or selected by integers."""
    nodes = [
        helper.make_node("Cast", ["least"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["x", "minus"], ["b"], axis=1),
        helper.make_node("Div", ["b", "a"], ["y"]),
    ]

    audit_graph(model(nodes, LEAST, MINUS_ONE).SerializeToString())


def test_a_slow_sandbox_is_rejected(credit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit covers opening the graph as well as the example."""
    monkeypatch.setattr(sandbox, "SECONDS", 0.01)
    bundle = open_bundle(FolderStore(credit))

    with pytest.raises(SandboxFailed, match=r"to open it takes over 0\.01 s\.$"):
        try_in_sandbox(bundle.manifest, bundle.read_model(), max_model_bytes=LIMIT)


def test_a_good_graph_passes_the_sandbox(credit: Path) -> None:
    """A good graph passes the sandbox without an error."""
    bundle = open_bundle(FolderStore(credit))

    try_in_sandbox(bundle.manifest, bundle.read_model(), max_model_bytes=LIMIT)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_graph_that_cannot_answer_is_rejected_when_opened(
    name: str, credit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a graph runs the example once, with a limit on memory and on time."""
    if name == "much time":
        monkeypatch.setattr(engine, "TRIAL_SECONDS", 0.5)
    graph, said = HOSTILE[name]

    with pytest.raises(BundleError, match=said):
        open_graph(with_four_numbers(credit), graph.SerializeToString(), max_model_bytes=LIMIT)


def test_a_graph_that_answers_with_no_class_is_no_answer(credit: Path) -> None:
    """If a graph of several outputs answers with a place beyond the classes, that is 422."""
    largest = helper.make_node("ArgMax", ["x"], ["i"], axis=1)
    graph = model([largest, helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)])
    manifest = msgspec.structs.replace(
        with_four_numbers(credit), task="outputs", outputs=[Output(name="o", classes=["a", "b"])]
    )
    opened = open_graph(manifest, graph.SerializeToString(), max_model_bytes=LIMIT)

    assert opened.predict([[0.0], [1.0], [0.0], [0.0]]) == [{"outputs": {"o": {"label": "b"}}}]
    with pytest.raises(InvalidInstances):
        opened.predict([[0.0], [0.0], [1.0], [0.0]])


def test_external_data_is_rejected(
    credit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the audit onnxruntime would read a tensor from a file in the working directory."""
    (tmp_path / "w").write_bytes(np.array([1, 2, 3, 4], np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    add = helper.make_node("Add", ["x", "w"], ["s"])
    total = helper.make_node("ReduceSum", ["s"], ["y"])
    raw = model([add, total], elsewhere("w")).SerializeToString()

    with pytest.raises(BundleError, match="in another file"):
        OnnxEngine(with_four_numbers(credit), raw)
    monkeypatch.setattr(engine, "audit_graph", lambda _: None)
    scores = OnnxEngine(with_four_numbers(credit), raw).score([[0.0]] * 4)
    assert scores.values == [10.0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"name":"age"', '"name":"a\\u0000ge"'),
        ('"name":"age"', '"name":"time"'),
        ('"kind":"number"', '"kind":"category"'),
        ('"classes":["bad","good"]', '"classes":["bad","good","best"]'),
        ('"classes":["bad","good"]', '"classes":null'),
        ('"instance":{', '"instance":{"more":1,'),
    ],
)
def test_a_manifest_that_contradicts_its_graph_is_rejected(
    old: str, new: str, credit: Path, credit_graph: bytes
) -> None:
    """If manifest and graph disagree, one sentence rejects the bundle."""
    manifest = open_bundle(FolderStore(credit)).manifest
    raw = msgspec.json.encode(manifest).decode()
    assert old in raw

    refusal = r"^(credit .* cannot be served|here contradicts itself): "
    with pytest.raises(BundleError, match=refusal):
        open_graph(
            decode_manifest(raw.replace(old, new).encode(), "here"),
            credit_graph,
            max_model_bytes=LIMIT,
        )


def read(data: bytes, *, runs: bool) -> list[tuple[int, Any]]:
    """Read a message's fields: integers as lists, texts as bytes."""
    found: list[tuple[int, Any]] = []
    for number, value in Reader(data).fields(slice(0, len(data)), runs=runs):
        if isinstance(value, slice):
            found.append((number, data[value]))
        elif isinstance(value, int):
            found.append((number, np.array([value], np.uint64).astype(np.int64).tolist()))
        else:
            found.append((number, None if value is None else value.tolist()))
    return found


whole = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 300))


@settings(deadline=None, max_examples=30)
@given(
    ints=st.lists(whole, max_size=40),
    times=st.sampled_from([1, 30, 500]),
    floats=st.lists(st.floats(width=32), max_size=300),
    strings=st.lists(st.binary(max_size=20), max_size=5),
    name=st.text(max_size=10),
)
def test_fields_are_read_as_onnx_wrote_them(
    ints: list[int], times: int, floats: list[float], strings: list[bytes], name: str
) -> None:
    """Fields are read in order, with the values that onnx wrote, packed or not, in runs or not."""
    written = AttributeProto(name=name, floats=floats, ints=ints * times, strings=strings)
    data = written.SerializeToString()
    tensor = TensorProto(int64_data=ints).SerializeToString()  # packed
    for runs in (False, True):
        found = read(data, runs=runs)
        numbers = [value for number, values in found if number == 8 for value in values]
        assert numbers == ints * times
        assert [value for number, value in found if number == 9] == strings
        assert [value for number, value in found if number == 1] == [name.encode()]
        packed = [value for number, value in read(tensor, runs=runs) if number == 7]
        assert [n for part in packed for n in varints(part).tolist()] == ints


@settings(deadline=None)
@given(st.binary(max_size=600), st.booleans())
def test_any_bytes_are_read_or_rejected(data: bytes, runs: bool) -> None:
    """Any bytes are read or rejected with WireError or BundleError; nothing else is raised."""
    with suppress(WireError):
        read(data, runs=runs)
    with suppress(WireError):
        varints(data)
    with suppress(BundleError):
        audit_graph(data)


def test_the_number_of_fields_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of fields is limited; a long run of equal fields counts as one."""
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 10_000)

    assert len(read(b"\x40\x01" * 1_000_000, runs=True)) < 1000
    with pytest.raises(WireError, match="more than 10000 fields"):
        read(b"\x40\x01\x48\x01" * 1_000_000, runs=True)

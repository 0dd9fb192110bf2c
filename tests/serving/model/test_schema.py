"""The compiled decoder agrees with a slow and simple reference."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.bundle.manifest import (
    FLOAT32_MAX,
    EngineRecord,
    Estimator,
    Example,
    Feature,
    Importances,
    Lineage,
    Manifest,
)
from serving.errors import InvalidInstances, Malformed, TooLarge
from serving.model.schema import MISSING, Schema

FEATURES = [
    Feature(name="age", kind="number", dtype="int64", nullable=False, magnitude=FLOAT32_MAX),
    Feature(name="share (%)", kind="number", dtype="float64", nullable=True),
    Feature(name="member", kind="boolean", dtype="bool", nullable=False),
    Feature(
        name="class",
        kind="category",
        dtype="str",
        nullable=True,
        categories=["a", "b"],
        accepts_unseen=True,
    ),
    Feature(name="a/~b", kind="category", dtype="str", nullable=False, categories=["x", "y"]),
]


def make_manifest(features: list[Feature]) -> Manifest:
    """Make a manifest with these *features*, and no model."""
    return Manifest(
        format=1,
        name="none",
        version="1",
        created_at="",
        task="regression",
        classes=None,
        has_probabilities=False,
        named_columns=True,
        features=features,
        estimator=Estimator(type="", steps=[], parameters={}),
        importances=Importances(),
        metrics={},
        example=Example(instance={}, prediction={}),
        engine=EngineRecord(name="onnx"),
        files={},
        lineage=Lineage(rows=0, data_sha256="", seed=None, versions={}, git_commit=None),
    )


SCHEMA = Schema(make_manifest(FEATURES))


def reference(body: bytes) -> tuple[str, Any]:
    """Decode and check with json and plain loops; return the columns, or the kind of error."""

    def constant(name: str) -> None:
        raise ValueError(name)

    try:
        data = json.loads(body.decode("utf-8"), parse_constant=constant)
    except ValueError:
        return "malformed", None
    if not isinstance(data, dict):
        return "invalid", None
    single = "instances" not in data
    rows = [data] if single else data["instances"]
    if not single and (len(data) > 1 or not isinstance(rows, list) or not rows):
        return "invalid", None
    decoded = []
    for row in rows:
        if isinstance(row, dict) and row.keys() == {f.name for f in FEATURES}:
            values = [row[f.name] for f in FEATURES]
        elif isinstance(row, list) and len(row) == len(FEATURES) and not single:
            values = row
        else:
            return "invalid", None
        if not all(accepts(value, f) for value, f in zip(values, FEATURES, strict=True)):
            return "invalid", None
        decoded.append(
            [
                float(v) if f.kind == "number" and v is not None else v
                for v, f in zip(values, FEATURES, strict=True)
            ]
        )
    return "valid", [list(column) for column in zip(*decoded, strict=True)]


def accepts(value: Any, feature: Feature) -> bool:
    """Return whether *feature* accepts *value*."""
    if value is None:
        return feature.nullable
    if feature.kind == "boolean":
        return isinstance(value, bool)
    if feature.kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        limit = sys.float_info.max if feature.magnitude is None else feature.magnitude
        return abs(value) <= limit
    if not isinstance(value, str) or value == MISSING:
        return False
    return feature.accepts_unseen or value in (feature.categories or ())


numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([FLOAT32_MAX, -FLOAT32_MAX, 3.5e38, -0.0, 5e-324]),
)
text = st.one_of(st.sampled_from(["a", "b", "x", "y", "", MISSING]), st.text(max_size=5))
junk = st.one_of(st.none(), st.booleans(), numbers, text, st.lists(st.none(), max_size=2))
good = {
    "age": numbers,
    "share (%)": st.none() | numbers,
    "member": st.booleans(),
    "class": st.none() | text,
    "a/~b": st.sampled_from(["x", "y"]),
}
loose = {name: st.one_of(values, values, values, values, junk) for name, values in good.items()}
rows = st.one_of(
    st.fixed_dictionaries(good),
    st.tuples(*good.values()).map(list),
    st.fixed_dictionaries(loose),
    st.dictionaries(st.sampled_from([*good, "more"]), junk),
    st.lists(junk, max_size=6),
    junk,
)
bodies = st.one_of(
    st.builds(lambda many: {"instances": many}, st.lists(rows, max_size=4)),
    st.builds(lambda many: {"instances": many}, st.lists(st.fixed_dictionaries(good), min_size=1)),
    rows,
    st.builds(lambda many, key: {"instances": many, key: 1}, st.lists(rows), st.just("more")),
)


@settings(max_examples=500, deadline=None)
@given(bodies)
def test_the_decoder_agrees_with_the_reference(data: Any) -> None:
    """The decoder accepts and rejects the same bodies as the reference, with the same values."""
    body = json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")
    verdict, columns = reference(body)

    try:
        found = SCHEMA.decode(body, 10**6)
    except Malformed:
        assert verdict == "malformed"
    except InvalidInstances as problem:
        assert (verdict, bool(problem.errors)) == ("invalid", True)  # noqa: PT017  # or else below
    else:
        assert verdict == "valid"
        assert [list(column) for column in found.columns] == columns
        assert found.rows == len(columns[0])


def test_an_unseen_category_gets_a_warning_or_an_error() -> None:
    """Only a feature whose pipeline handles unseen categories accepts one."""
    body = json.dumps([1, None, True, "new", "x"])
    found = SCHEMA.decode(b'{"instances": [' + body.encode() + b"]}", 10)

    assert [warning.pointer for warning in found.warnings] == ["/instances/0/3"]
    with pytest.raises(InvalidInstances) as caught:
        SCHEMA.decode(b'{"instances": [[1, null, true, "a", "new"]]}', 10)
    assert [error.detail for error in caught.value.errors] == ["expected one of 'x', 'y'"]


def test_the_limit_is_checked_before_the_rows() -> None:
    """Too many rows get 413, whether they are valid or not."""
    for body in (b'{"instances": [1, 2, 3]}', b'{"instances": [' + b"[],[],[]" + b"]}"):
        with pytest.raises(TooLarge):
            SCHEMA.decode(body, 2)


def test_a_model_of_one_feature_works() -> None:
    """A model of one feature decodes both forms of a row."""
    schema = Schema(make_manifest(FEATURES[:1]))

    assert schema.decode(b'{"instances": [{"age": 1}, [2]]}', 10).columns == [(1.0, 2.0)]


def test_an_error_after_many_warnings_is_found() -> None:
    """An invalid category is rejected, also after 150 rows with warnings."""
    rows: list[list[object]] = [[1, None, True, "new", "x"]] * 150
    body = json.dumps({"instances": [*rows, [1, None, True, "a", "new"]]}).encode()
    with pytest.raises(InvalidInstances) as caught:
        SCHEMA.decode(body, 1000)

    assert [error.pointer for error in caught.value.errors] == ["/instances/150/4"]
    assert len(SCHEMA.decode(json.dumps({"instances": rows}).encode(), 1000).warnings) == 100

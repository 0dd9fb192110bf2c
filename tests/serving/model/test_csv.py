"""CSV requests are checked as JSON requests are, and answered in either format."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving.bundle.reader import open_bundle
from serving.errors import TooLarge
from serving.model.model import Model, open_model
from serving.model.tables.columns import Column, score_columns
from serving.model.tables.csv_rows import csv_to_json
from serving.stores.folder import FolderStore

from tests.helpers.example import JSON, ROW, assert_problem
from tests.helpers.platforms import Platform, direct
from tests.helpers.score.kinds import CASES, USUAL, as_row, kinds_model

CSV = {"Content_Type": "text/csv; charset=utf-8"}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model with a feature of each kind."""
    return kinds_model(tmp_path_factory.mktemp("models") / "kinds")


@pytest.fixture
def send(kinds: Path) -> Iterator[Platform]:
    """Call the functions with that model."""
    with direct(kinds, LOG_LEVEL="error", MAX_INSTANCES="100") as send:
        yield send


def to_body(*rows: dict[str, Any]) -> bytes:
    """Write rows as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


@pytest.mark.parametrize(
    ("feature", "text", "value"),
    [*CASES, ("level", "9" * 20, "9" * 20), ("price", "9" * 400, "9" * 400)],
)
def test_a_csv_value_is_checked_like_a_json_value(
    send: Platform, feature: str, text: str, value: str
) -> None:
    """A value in CSV gets the same status, answer and errors as in JSON."""
    fields = ", ".join(f'"{n}": {v}' for n, v in {**USUAL, feature: value}.items())
    by_json = send("predict", "POST", f'{{"instances": [{{{fields}}}]}}'.encode(), **JSON)
    by_csv = send("predict", "POST", to_body(as_row(feature, text)), **CSV)

    assert by_json.status == by_csv.status, by_csv.body
    assert by_json.status in (200, 422)
    ours, theirs = by_csv.json(), by_json.json()
    assert ours.pop("request_id", None) != 0
    theirs.pop("request_id", None)
    assert ours == theirs


def column_of(values: list[Any], kind: type) -> Column:
    """Make a column as read from a file: None is a missing value; other types become strays."""
    missing = np.array([value is None for value in values])
    fits = (float, int) if kind is float else (kind,)
    held = [
        type(v) in fits and abs(v) < 2**1023 if kind is float else type(v) is kind for v in values
    ]
    strays = {n: v for n, v in enumerate(values) if v is not None and not held[n]}
    filler = {float: 0.0, bool: False, str: ""}[kind]
    array: Any = np.array(
        [v if ok else filler for v, ok in zip(values, held, strict=True)],
        dtype=object if kind is str else kind,
    )
    return Column(array, missing, strays)


def test_columns_are_checked_like_json(send: Platform, kinds: Path) -> None:
    """Each row of a table gets the answer or the errors that it would get over HTTP."""
    model = open_model(open_bundle(FolderStore(kinds)))
    rows = [
        {name: json.loads(value) for name, value in {**USUAL, feature: value}.items()}
        for feature, _, value in CASES
    ]
    types = {"price": float, "share": float, "member": bool, "town": str, "level": float}
    found = score_columns(
        model, [column_of([row[name] for row in rows], kind) for name, kind in types.items()]
    )

    answered = iter(zip(*(c.tolist() for c in found.answers.values()), strict=True))
    for n, (feature, _, value) in enumerate(CASES):
        fields = ", ".join(f'"{k}": {v}' for k, v in {**USUAL, feature: value}.items())
        reply = send("predict", "POST", f"{{{fields}}}".encode(), **JSON)
        body = reply.json()
        if reply.status == 200:
            assert n not in found.errors, (feature, value)
            prediction = body["prediction"]
            probabilities = [prediction["probabilities"][k] for k in ("no", "yes")]
            label, *numbers = next(answered)
            assert label == prediction["label"], (feature, value)
            np.testing.assert_allclose(numbers, probabilities, rtol=0, atol=1e-15)
            assert (n in found.warnings) == ("warnings" in body)
        else:
            assert found.errors[n] == "; ".join(f"{feature}: {e['detail']}" for e in body["errors"])
    assert list(found.answers) == ["label", "probability_no", "probability_yes"]
    assert next(answered, None) is None
    assert found.unseen == {"town": 6}


def test_csv_errors_point_to_row_and_field(send: Platform) -> None:
    """Errors point to row (from 0) and field; missing and unknown columns are errors."""
    good = as_row("price", "1")
    rows = [good, as_row("price", "x"), as_row("level", "9")]
    problem = assert_problem(
        send("predict", "POST", to_body(*rows), **CSV), 422, "invalid-instances"
    )
    assert [error["pointer"] for error in problem["errors"]] == ["/instances/1/price"]

    del good["town"]
    extra = {**good, "more": "1"}
    problem = assert_problem(
        send("predict", "POST", to_body(extra), **CSV), 422, "invalid-instances"
    )
    found = [(error["pointer"], error["detail"].partition(";")[0]) for error in problem["errors"]]
    assert found == [("/instances/0/town", "missing"), ("/instances/0/more", "unknown field")]


@pytest.mark.parametrize(
    "body",
    [
        b"price,share\n1\n",
        b"price,share\n1,2,3\n",
        b'price\n"1\n',
        b'price\n"1"x\n',
        b"price,price\n1,2\n",
        "price\n\xfc\n".encode("latin-1"),
        "price\n1\n".encode("utf-16"),
    ],
)
def test_a_body_that_is_not_csv_is_malformed(send: Platform, body: bytes) -> None:
    """Ragged rows, open quotes, repeated names and other encodings get 400."""
    assert_problem(send("predict", "POST", body, **CSV), 400, "malformed-body")


def test_csv_may_begin_with_a_byte_order_mark(send: Platform) -> None:
    """Excel writes one; the answers are those without it."""
    body = to_body(as_row("price", "12.5"))
    plain, marked = (send("predict", "POST", start + body, **CSV) for start in (b"", BOM_UTF8))
    assert marked.status == 200
    assert marked.json() == plain.json()


@pytest.mark.parametrize(
    ("separator", "said"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
def test_another_separator_is_named(send: Platform, separator: str, said: str) -> None:
    """What stands between the columns of the header is said, and what is right."""
    body = to_body(as_row("price", "1")).decode().replace(",", separator).encode()
    problem = assert_problem(send("predict", "POST", body, **CSV), 400, "malformed-body")

    assert said in problem["detail"]
    assert "commas" in problem["detail"]


def test_csv_has_the_limits_of_json(send: Platform) -> None:
    """A body without rows gets 422, and one with too many 413."""
    header = to_body(as_row("price", "1")).splitlines()[0]
    assert_problem(send("predict", "POST", header, **CSV), 422, "invalid-instances")
    assert_problem(send("predict", "POST", b"", **CSV), 422, "invalid-instances")
    many = to_body(*[as_row("price", "1")] * 101)
    assert_problem(send("predict", "POST", many, **CSV), 413, "too-large")


@pytest.mark.parametrize(
    ("body", "limit", "megabytes"),
    [
        (b"price" + b"\n1" * 200_000, 10_000, 8),
        (b",".join(b"%0400d" % i for i in range(500)) + (b"\n" + b"," * 499) * 2000, 167, 80),
    ],
    ids=["many rows", "long names"],
)
def test_rows_over_the_limit_are_only_counted(
    kinds: Path, body: bytes, limit: int, megabytes: int
) -> None:
    """Many rows, and short rows below long names, get 413 without the memory of their JSON body."""
    features = open_bundle(FolderStore(kinds)).manifest.features
    tracemalloc.start()
    with pytest.raises(TooLarge, match=rf"has {body.count(10)} instances; at most {limit} are"):
        csv_to_json(body, features, 10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < megabytes * 2**20


def test_accept_chooses_the_format_of_the_answer(send: Platform) -> None:
    """Accept chooses JSON or CSV, with the same numbers; CSV has a column for warnings."""
    rows = [as_row("price", "1"), as_row("town", "new"), as_row("price", "70")]
    plain = send("predict", "POST", to_body(*rows), **CSV).json()["predictions"]
    reply = send("predict", "POST", to_body(*rows), **CSV, Accept="text/csv")

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
    found = pd.read_csv(io.BytesIO(reply.body))
    assert list(found) == ["label", "probability_no", "probability_yes", "warning"]
    assert found["label"].tolist() == [row["label"] for row in plain]
    numbers = [row["probabilities"]["yes"] for row in plain]
    np.testing.assert_allclose(found["probability_yes"], numbers, rtol=0, atol=1e-15)
    assert found["warning"].fillna("").map(lambda text: text.partition(":")[0]).tolist() == [
        *("", "town", "")
    ]


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("text/csv, */*", "text/csv"),
        ("*/*, Text/CSV; header=present", "text/csv"),
        ("application/json;q=0.5, text/csv;q=0.8", "text/csv"),
        ("text/csv;q=0", "application/json"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
    ],
)
def test_accept_is_read_with_its_weights(send: Platform, accept: str, media: str) -> None:
    """Of JSON and CSV the answer is what Accept ranks higher; of equals, what it names first."""
    reply = send("predict", "POST", to_body(as_row("price", "1")), **CSV, Accept=accept)

    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith(media)


def test_the_example_answers_csv(credit: Path) -> None:
    """The example's row gets the same answer from CSV and from JSON."""
    with direct(credit, LOG_LEVEL="error") as send:
        by_csv = send("predict", "POST", to_body(ROW), **CSV).json()
        by_json = send("predict", "POST", json.dumps({"instances": [ROW]}).encode(), **JSON).json()

    assert by_csv == by_json


def test_arrays_are_scored_like_lists(credit: Path) -> None:
    """Both output paths of the engine agree to the bit, also on labels at ties."""
    model: Model = open_model(open_bundle(FolderStore(credit)))
    rows = [{**ROW, "age": age, "income": income} for age in range(20, 60) for income in (50, 150)]
    instances = model.decode(json.dumps({"instances": rows}).encode())
    answers = model.predict_columns(instances.columns)

    for n, prediction in enumerate(model.predict(instances.columns)):
        assert answers["label"][n] == prediction["label"]
        assert answers["probability_bad"][n] == prediction["probabilities"]["bad"]

"""The cuts of a CSV file: its parts hold the rows that the whole holds, each once."""

from __future__ import annotations

import csv
import functools
import io
import random
from itertools import pairwise

import pyarrow as pa
import pytest

from training.score import cuts
from training.score.cuts import find_cuts, open_span
from training.score.tables import read_csv


def rows_of(stream: object) -> list[tuple[object, ...]]:
    """Read a CSV file as `score` reads it."""
    batches = read_csv(stream, ["a", "b"])
    return [row for batch in batches for row in zip(*batch.to_pydict().values(), strict=True)]


def parts_of(content: bytes, rows: int) -> list[list[tuple[object, ...]]] | None:
    """Read a CSV file part by part; None if it is not cut."""
    found = find_cuts(pa.BufferReader(content), rows)
    if found is None:
        return None
    spans = pairwise(found)
    return [rows_of(open_span(pa.BufferReader(content), found[0], *span)) for span in spans]


@pytest.mark.parametrize("block", [1, 7, 8 * 1024 * 1024])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_parts_hold_the_rows_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, block: int, end: str
) -> None:
    """Whatever the fields hold, and wherever a block ends: no row is lost, split or twice."""
    monkeypatch.setattr(cuts, "_BLOCK", block)
    chance = random.Random(0)
    for _ in range(20):
        text = io.StringIO(newline="")
        make = functools.partial(csv.writer, text, lineterminator=end)
        writer = make(quoting=csv.QUOTE_ALL) if chance.random() < 0.5 else make()
        writer.writerow(["a", "b"])
        count = chance.randrange(1, 30)
        for n in range(count):
            writer.writerow([n, chance.choice(["x", "", 'a "b"', "1\n2", '"', ",", "\n", '""\n'])])
        content = text.getvalue().encode()[: None if chance.random() < 0.5 else -len(end)]
        parts = parts_of(content, 7)
        assert parts is not None
        assert [len(part) for part in parts[:-1]] == [7] * (len(parts) - 1)
        assert [row for part in parts for row in part] == rows_of(pa.BufferReader(content))


@pytest.mark.parametrize(
    "content",
    [
        b'a,b\n1,5" pipe\n2,6" pipe\n',  # an inch is no quote
        b'a,b\n1,"x"y"\n2,z\n',
        b"a,b\r1,2\r3,4\r",
        b"a,b\n1,2\r3,4\n",
        b'a,b\n1,"2\n3,4\n',  # the quote never ends
        b"\na,b\n1,2\n",
        b"a,b",
        b"",
    ],
)
def test_a_file_whose_bytes_do_not_show_the_rows_is_not_cut(content: bytes) -> None:
    """Arrow may read it all the same, from its beginning to its end."""
    assert find_cuts(pa.BufferReader(content), 1) is None


def test_a_header_alone_is_one_part_without_rows() -> None:
    """Blank lines are no rows either."""
    assert parts_of(b"a,b\n", 5) == [[]]
    assert parts_of(b"a,b\n\n\n1,2\n", 5) == [[("1", "2")]]

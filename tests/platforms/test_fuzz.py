"""50,000 mutated bodies give no 500 and no hang, and every error is problem+json."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.helpers.example import JSON, ROW
from tests.helpers.platforms import direct, gunicorn

SEED = 20261124
ANSWERS = {200, 400, 413, 422}
TOKENS = [
    *(b"null", b"true", b"NaN", b"1e999", b"-0", b"1e-400", b"[]", b"{}", b'""', b"9" * 400),
    *(b'"\\ud800"', b"\xff", b"\x00", b"\\", b'"', b"[" * 200, b'{"instances":', b"\xef\xb7\x90"),
]


def mutate(body: bytes, chance: random.Random) -> bytes:
    """Change *body* in one to four places: cut, flip, insert, repeat, swap."""
    changed = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at, kind = chance.randrange(len(changed) + 1), chance.randrange(6)
        end = at + chance.randrange(12)
        if kind == 0:
            del changed[at:end]
        elif kind == 1 and at < len(changed):
            changed[at] = chance.randrange(256)
        elif kind == 2:
            changed[at:at] = chance.choice(TOKENS)
        elif kind == 3:
            changed[at:end] = chance.choice(TOKENS)
        elif kind == 4:
            changed[at:at] = changed[at : end + 40]
        else:
            del changed[at:]
    return bytes(changed)


def seeds() -> list[bytes]:
    """Return valid bodies to start from."""
    row = list(ROW.values())
    shapes = [ROW, {"instances": [ROW]}, {"instances": [row]}, {"instances": [ROW, row, ROW]}]
    return [json.dumps(shape).encode() for shape in shapes]


@pytest.mark.parametrize("count", [5_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_mutated_bodies_are_answered_or_rejected(
    credit: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    """Each mutated body gets a known status, a well-formed answer, and within five seconds."""
    chance, starts = random.Random(SEED), seeds()
    with direct(credit, MAX_BODY_BYTES="20000", LOG_LEVEL="error") as send:
        for _ in range(count):
            body = mutate(chance.choice(starts), chance)
            started = time.monotonic()
            reply = send("predict", "POST", body, **JSON)
            assert reply.status in ANSWERS, body
            assert time.monotonic() - started < 5, body
            if reply.status != 200:
                assert reply.headers["Content-Type"] == "application/problem+json"
                assert reply.json()["status"] == reply.status


@pytest.mark.parametrize("count", [200, pytest.param(2_000, marks=pytest.mark.slow)])
def test_mutated_bodies_over_http(credit: Path, count: int) -> None:
    """Mutated bodies over a real connection leave it usable."""
    chance, starts = random.Random(SEED + 1), seeds()
    with gunicorn(credit, LOG_LEVEL="error") as send:
        for _ in range(count):
            assert (
                send("predict", "POST", mutate(chance.choice(starts), chance), **JSON).status
                in ANSWERS
            )
        assert send("health", "GET").status == 200

"""The documentation's examples run unchanged, against a real server and with a real key."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.access.keys import API_KEYS, KEYS
from tests.helpers.documentation import MARKDOWN, README, fences
from tests.helpers.servers import ROOT, Server, clean_environment, serving

CLIENTS = MARKDOWN["docs/clients.md"]


def test_the_first_requests_get_the_answers_shown(credit: Path) -> None:
    """The README's curl commands get the README's answer, apart from the version, and three."""
    [command] = re.findall(r"^curl .*?\]\}'$", README, re.MULTILINE | re.DOTALL)
    [shown] = fences(README, "json")
    [table] = [block for block in fences(README, "sh") if "text/csv" in block]
    with serving(credit) as server:
        answer = json.loads(run(["bash", "-c", command], server))
        answers = json.loads(run(["bash", "-c", table], server))["predictions"]
    assert [answer["label"] for answer in answers] == ["good"] * 3
    expected = json.loads(shown)
    del answer["model"]["version"], expected["model"]["version"]

    assert answer == expected


@pytest.fixture(scope="module")
def server(credit: Path) -> Iterator[Server]:
    """Serve the example to clients that send a key."""
    with serving(credit, API_KEYS=API_KEYS, CORS_ORIGINS="https://www.example.com") as server:
        yield server


def test_the_curl_commands_run(server: Server) -> None:
    """The commands of clients.md get a prediction and the model's description."""
    first, second, preflight = fences(CLIENTS, "sh")
    one, info = (json.loads(run(["bash", "-c", block], server)) for block in (first, second))
    allowed = run(["bash", "-c", preflight], server)

    assert "204" in allowed.splitlines()[0]
    assert re.search("(?i)access-control-allow-origin: https://www.example.com", allowed)
    assert re.search("(?i)access-control-allow-headers:.*x-api-key", allowed)
    assert one["prediction"]["label"] == "good"
    assert info["name"] == "credit"


def test_the_python_client_runs(server: Server) -> None:
    """The script of clients.md prints a label."""
    one, frame = fences(CLIENTS, "python")

    assert run([sys.executable, "-c", one], server) == "good\n"
    assert run([sys.executable, "-c", frame], server) == "20\n"


def test_the_batch_runs(server: Server) -> None:
    """The script of batch.md counts a label for each row of the example's data."""
    [script] = fences(MARKDOWN["docs/batch.md"], "python")
    counts = re.findall(r"^\w+ +(\d+)$", run([sys.executable, "-c", script], server), re.MULTILINE)

    assert sum(map(int, counts)) == 4454


@pytest.mark.skipif(
    shutil.which("node") is None and "CI" not in os.environ, reason="there is no node"
)
def test_the_javascript_client_runs(server: Server) -> None:
    """The script of clients.md, given a token, prints a label."""
    [script] = fences(CLIENTS, "js")
    script = f"const token = process.env.CANOA_KEY;\n{script}"

    assert run(["node", "--input-type=module", "--eval", script], server) == "good\n"


def run(command: list[str], server: str) -> str:
    """Run an example against *server* with a key for all scopes; return its output."""
    here = server.removeprefix("http://")
    done = subprocess.run(
        [part.replace("localhost:8080", here) for part in command],
        cwd=ROOT,
        env={**clean_environment(), "CANOA_KEY": KEYS["all"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

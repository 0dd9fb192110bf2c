"""CONTRIBUTING.md and the Makefile are right."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.helpers.example import ROW
from tests.helpers.servers import ROOT


def read(name: str) -> str:
    """Read a file at the root."""
    return (ROOT / name).read_text("utf-8")


def test_contributing_lists_the_slow_tests() -> None:
    """CONTRIBUTING.md lists the files with tests marked slow, and no other file."""
    listed = re.findall(r"^\| `(tests/\S+\.py)` \|", read("CONTRIBUTING.md"), re.MULTILINE)
    marked = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").glob("[!n]*/**/test_*.py")  # not in tests/node
        if "mark.slow" in path.read_text("utf-8")
    ]

    assert sorted(listed) == sorted(marked)


def test_make_run_prints_a_request_that_fits_the_example() -> None:
    """The row in the Makefile has the example's values, in the order of its features."""
    [row] = re.findall(r"^ROW := (.*)$", read("Makefile"), re.MULTILINE)

    assert json.loads(row) == list(ROW.values())


def test_make_check_skips_a_test_that_starts_a_process() -> None:
    """The test needs no mark, because it is skipped at the attempt."""
    command = [sys.executable, "-m", "pytest", "--no-processes", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, "tests/test_rooms.py", "-k", "importing_serving or imports_go_one_way"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "3 passed, 1 skipped" in run.stdout, run.stdout
    assert "starts a process" in run.stdout

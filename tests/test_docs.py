"""The README is true: what it shows is what happens, and what there is, it names."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from serving.settings import Settings

from tests.helpers.servers import ROOT, serving

README = (ROOT / "README.md").read_text("utf-8")


def test_the_first_request_gets_the_answer_shown(credit: Path) -> None:
    """The curl command, as it stands there, answers as it stands there but for the version."""
    [command] = re.findall(r"^curl .*?\]\}'$", README, re.MULTILINE | re.DOTALL)
    [shown] = re.findall(r"```json\n(.*?)\n```", README, re.DOTALL)
    with serving(credit) as server:
        command = command.replace("localhost:8080", server.removeprefix("http://"))
        run = subprocess.run(
            ["bash", "-c", command],  # noqa: S607
            capture_output=True,
            check=True,
        )
    answer, expected = json.loads(run.stdout), json.loads(shown)
    del answer["model"]["version"], expected["model"]["version"]

    assert answer == expected


def test_every_setting_is_listed_with_its_default() -> None:
    """A setting is documented, or the build is red."""
    defaults = Settings()
    for name in Settings.__struct_fields__:
        [row] = re.findall(rf"^\| `{name.upper()}` \| (.*?) \|", README, re.MULTILINE)
        value = getattr(defaults, name)
        expected = {True: "1", False: "0"}.get(value, str(value)) if value else "none"
        assert row.strip("`") == ("0" if value is False else expected), name


def test_every_function_is_listed() -> None:
    """A function's route stands among the endpoints."""
    for path in (ROOT / "functions").glob("*.py"):
        [(method, route)] = re.findall(r'@endpoint\("(\w+)", "(.*?)"', path.read_text("utf-8"))
        assert f"`{method} {route}`" in README


def test_every_make_command_exists() -> None:
    """What the README says to make is in the Makefile, and each of its targets is in the menu."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    menu = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))

    assert set(re.findall(r"\bmake ([a-z-]+)\b", README)) - {"and"} <= menu


def test_modules_stay_small() -> None:
    """No product module needs scrolling to be understood."""
    for folder in ("functions", "layer/python", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text("utf-8").splitlines()) <= 330, path

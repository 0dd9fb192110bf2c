"""The documentation is right: its links, commands, settings, routes and error codes."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import serving as package
from serving import errors
from serving.settings import Settings

from tests.helpers.documentation import MARKDOWN, README, fences
from tests.helpers.servers import ROOT
from training.__main__ import _parser, main

EVERYTHING = "\n".join(MARKDOWN.values())


def rows(page: str, pattern: str) -> list[Any]:
    """Return the groups of *pattern*, a string or a tuple, in each line of *page* that matches."""
    return re.findall(pattern, MARKDOWN[page], re.MULTILINE)


def test_the_readme_fits_one_screen() -> None:
    """The README has at most 150 lines."""
    assert len(README.splitlines()) <= 150


def test_the_index_lists_every_page() -> None:
    """docs/index.md links each page of docs/, and each page says first what the reader wants."""
    listed = set(re.findall(r"\| \[[\w-]+\]\(([\w-]+\.md)\) \|", MARKDOWN["docs/index.md"]))
    pages = {page.removeprefix("docs/") for page in MARKDOWN if page.startswith("docs/")}

    assert listed == pages - {"index.md"}
    for page in listed:
        assert re.match(r"# .*\n\nYou want ", MARKDOWN[f"docs/{page}"]), page


@pytest.mark.parametrize("page", MARKDOWN)
def test_links_lead_to_a_file_and_heading(page: str) -> None:
    """Each relative link names a file, and its fragment a heading of that file."""
    for link in re.findall(r"\]\(([^)\s]+)\)", MARKDOWN[page]):
        if "://" in link:
            continue
        name, _, fragment = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if fragment:
            assert fragment in anchors(target.read_text("utf-8")), link


def anchors(text: str) -> set[str]:
    """Return the fragments that GitHub makes from the headings of *text*."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_named_files_exist() -> None:
    """Each path in backticks that looks like a file or function of this repository is one."""
    found = re.findall(
        r"`((?:layer|training|functions|tests|docs)/[\w/.-]+\.\w+)(?::(\w+))?`", EVERYTHING
    )
    for name, function in found:
        if name == "functions/payment.py":  # the reader writes this file
            continue
        assert (ROOT / name).is_file(), name
        if function:
            tree = ast.parse((ROOT / name).read_text("utf-8"))
            kinds = (ast.FunctionDef, ast.ClassDef)
            assert function in {node.name for node in tree.body if isinstance(node, kinds)}, (
                f"{name} has no {function}"
            )


def test_every_make_command_exists() -> None:
    """Each make target that the documentation names is in the Makefile's menu."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    menu = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    named = re.findall(r"`make ([a-z-]+)\b", EVERYTHING)
    for block in fences(EVERYTHING, "sh"):
        named += re.findall(r"^(?:[A-Z_]+=\S+ )*make ([a-z-]+)\b", block, re.MULTILINE)

    assert set(named) <= menu


def training_commands() -> Iterator[list[str]]:
    """Yield the arguments of each `python -m training …` in a block of shell commands."""
    for block in fences(EVERYTHING, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            _, found, arguments = line.partition("python -m training ")
            if found:
                yield shlex.split(arguments, comments=True)


def test_training_commands_parse() -> None:
    """The command line accepts each documented training command."""
    commands = list(training_commands())

    assert len(commands) > 10
    for arguments in commands:
        try:
            _parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(f"invalid command: python -m training {shlex.join(arguments)}")


def test_every_training_command_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command of `python -m training`, and each option of it, is in the documentation."""
    commands = re.findall(r"^    (\w+) ", _help(capsys), re.MULTILINE)

    assert set(commands) == {arguments[0] for arguments in training_commands()}
    for command in commands:
        for option in re.findall(r"^  (--[\w-]+)", _help(capsys, command), re.MULTILINE):
            assert re.search(rf"{option}\b", EVERYTHING), f"{command} {option}"


def _help(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    return capsys.readouterr().out


def test_every_setting_is_listed_with_its_default() -> None:
    """docs/settings.md lists each setting once, with its default, and nothing else."""
    listed = dict(rows("docs/settings.md", r"^\| `([A-Z_]+)` \| (.*?) \|"))
    defaults = Settings()

    assert set(listed) == {name.upper() for name in Settings.__struct_fields__}
    for name in Settings.__struct_fields__:
        value = getattr(defaults, name)
        expected = str(int(value)) if isinstance(value, bool) else str(value) if value else "none"
        assert listed[name.upper()].strip("`") == expected, name


def test_every_route_is_listed() -> None:
    """docs/api.md lists the route and the scope of each function, and /metrics, and no other."""
    listed = rows("docs/api.md", r"^\| `([A-Z]+) (/\S*)` \| `?(\w+)`? \|")
    routes = [("GET", "/metrics", "info")]
    for path in (ROOT / "functions").glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        [call] = [
            decorator
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name == path.stem
            for decorator in node.decorator_list
            if isinstance(decorator, ast.Call)
        ]
        method, route = (ast.literal_eval(argument) for argument in call.args[:2])
        scopes = [ast.literal_eval(k.value) for k in call.keywords if k.arg == "scope"]
        routes.append((method, route, str(scopes[0] if scopes else "predict").lower()))

    assert sorted(listed) == sorted(routes)


def test_every_error_is_listed() -> None:
    """docs/api.md lists the status and the code of each problem, and no other."""
    listed = rows("docs/api.md", r"^\| (\d{3}) \| `([\w-]+)` \|")
    problems = [
        (str(kind.status), kind.code)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.Problem) and "code" in vars(kind)
    ]

    assert sorted(listed) == sorted(problems)


def test_the_changelog_has_this_version() -> None:
    """The newest released version in CHANGELOG.md is the version of the package."""
    versions = rows("CHANGELOG.md", r"^## \[(.+?)\]")

    assert versions[:2] == ["Unreleased", package.__version__]


def test_modules_stay_small() -> None:
    """No product module needs scrolling to be understood."""
    for folder in ("functions", "layer/python", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text("utf-8").splitlines()) <= 330, path

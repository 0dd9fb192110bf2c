"""One version, in the package and in the changelog."""

from __future__ import annotations

import re

import serving

from tests.helpers.servers import ROOT


def test_the_changelog_names_the_version() -> None:
    """The newest version of CHANGELOG.md is the package's."""
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)\]?", changelog, re.MULTILINE)

    assert versions[0] == serving.__version__

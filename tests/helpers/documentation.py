"""The documentation's pages, and the code blocks in them."""

from __future__ import annotations

import re

from tests.helpers.servers import ROOT

__all__ = ["MARKDOWN", "README", "fences"]

#: Path → text: the pages at the root, and those of docs/.
MARKDOWN = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
}
README = MARKDOWN["README.md"]


def fences(text: str, language: str) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)

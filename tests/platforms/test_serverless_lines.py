"""serverless.yml has an entry for every function; if one is missing, the test prints it."""

from __future__ import annotations

import re

import pytest
from serving.routes import load_functions

from tests.helpers.servers import ROOT

FUNCTIONS = {function.__name__: function.route for function in load_functions(ROOT / "functions")}
ENTRY = """\
  {name}:
    handler: serving.adapters.aws.handler
    description: {method} {path}
    layers: [!Ref ServingLambdaLayer]
    environment:
      FUNCTION_TARGET: {name}
    events:
      - httpApi: ANY {path}
"""


def missing(name: str, serverless: str) -> str | None:
    """Return the entry of function *name* unless *serverless* has all of its lines."""
    route = FUNCTIONS[name]
    wanted = ENTRY.format(name=name, method=route.method, path=route.path)
    found = re.search(rf"^  {name}:\n(?:    .*\n)+", serverless, re.MULTILINE)
    lines = set(found[0].splitlines()) if found else set()
    return None if lines.issuperset(wanted.splitlines()) else wanted


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_an_entry(name: str) -> None:
    """Each file of functions/ has an entry; if not, the message is the text to paste."""
    lines = missing(name, (ROOT / "serverless.yml").read_text("utf-8"))

    if lines:
        where = "serverless.yml lacks these lines under `functions:`"
        pytest.fail(f"{where}\n\n{lines}", pytrace=False)


def test_the_printed_entry_is_enough() -> None:
    """A missing or wrong entry is printed; with the printed text, nothing is missing."""
    lines = missing("predict", "functions:\n  other:\n    handler: x\n")

    assert lines is not None
    assert missing("predict", f"functions:\n{lines}\n") is None
    assert missing("predict", f"functions:\n{lines.replace('/v0/predict', '/v0/p')}\n") == lines

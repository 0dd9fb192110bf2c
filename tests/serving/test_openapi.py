"""The OpenAPI document is valid, and the server does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests
from openapi_spec_validator import validate
from serving.bundle.reader import open_bundle
from serving.openapi import describe_folder
from serving.routes import load_functions
from serving.stores.folder import FolderStore

from tests.helpers.access.keys import API_KEYS, KEYS
from tests.helpers.servers import ROOT, serving


def test_the_document_is_valid_openapi(credit: Path) -> None:
    """openapi-spec-validator accepts the document, which contains the features and limits."""
    with serving(credit, MAX_INSTANCES="77") as server:
        document = requests.get(f"{server}/openapi.json", timeout=10).json()

    validate(document)
    schemas = document["components"]["schemas"]
    assert len(schemas["Instance"]["required"]) == 13
    batch = schemas["Instances"]
    assert batch["properties"]["instances"]["maxItems"] == 77
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    properties = schemas["Prediction"]["properties"]
    assert properties["probability"] == probability
    assert schemas["Probabilities"]["properties"] == {"bad": probability, "good": probability}


@pytest.mark.parametrize("keys", ["", API_KEYS], ids=["open", "with keys"])
def test_the_server_does_what_the_document_says(credit: Path, tmp_path: Path, keys: str) -> None:
    """Schemathesis with every check finds no error on the live server, open or with keys."""
    with serving(credit, MAX_INSTANCES="100", LOG_LEVEL="error", API_KEYS=keys) as server:
        # The check takes a list of the statuses that may reject; ours includes 413.
        config = tmp_path / "schemathesis.toml"
        config.write_text(
            "[checks.negative_data_rejection]\n"
            'expected-statuses = ["400", "405", "413", "415", "422"]\n'
        )
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"),
            f"{server}/openapi.json",
            *("--checks", "all", "--max-examples", "60", "--seed", "1", "--workers", "1"),
            *("--suppress-health-check", "all", "--generation-database", "none"),
            *("--header", f"Authorization: Bearer {KEYS['all']}"),
        ]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]


def test_the_document_describes_access(credit: Path) -> None:
    """With keys the document has security schemes, scopes, 401 and 403; without keys none of it."""
    routes = {f.route.path: f.route for f in load_functions(ROOT / "functions")}
    sent = {"Authorization": f"Bearer {KEYS['all']}"}
    with serving(credit, API_KEYS=API_KEYS, RATE_LIMIT="1000/second") as server:
        closed = requests.get(f"{server}/openapi.json", headers=sent, timeout=10).json()
    with serving(credit) as server:
        opened = requests.get(f"{server}/openapi.json", timeout=10).json()

    validate(closed)
    assert closed["components"]["securitySchemes"].keys() == {"bearer", "apiKey"}
    assert "securitySchemes" not in opened["components"]
    assert closed["paths"].keys() == routes.keys()
    for path, route in routes.items():
        [operation] = closed["paths"][path].values()
        [unsecured] = opened["paths"][path].values()
        assert "security" not in unsecured
        always = {"200", "400", "405", "408", "414", "431", "500", "503"}
        assert always <= unsecured["responses"].keys()
        assert not {"401", "403", "429"} & unsecured["responses"].keys()
        roles = [{"bearer": [route.scope or "info"]}, {"apiKey": [route.scope or "info"]}]
        assert operation["security"] == ([] if route.scope else [{}]) + roles
        refusals = {"401", "403", "429"} & operation["responses"].keys()
        assert refusals == ({"401", "403", "429"} if route.scope else set())


def test_a_broken_function_hides_no_other(
    credit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside a file that cannot be loaded, and one with a blank docstring, all are described."""
    (tmp_path / "broken.py").write_text("import gone_1")
    text = (
        "from serving.endpoint import endpoint\n"
        '@endpoint(\'GET\', \'/v0/blank\')\ndef blank(_):\n    """ """\n'
    )
    (tmp_path / "blank.py").write_text(text)
    document = describe_folder(str(tmp_path), open_bundle(FolderStore(credit)).manifest)

    assert document["paths"]["/v0/blank"]["get"]["summary"] == "blank"
    assert document["paths"].keys() == {"/v0/blank"}
    assert "broken.py, line 1: ModuleNotFoundError" in capsys.readouterr().out


def test_a_tuple_is_described(credit: Path, tmp_path: Path) -> None:
    """The items of a tuple have one type only if all its parts do."""
    (tmp_path / "pairs.py").write_text(
        "from serving.endpoint import endpoint\n"
        "import msgspec\n"
        "class Pairs(msgspec.Struct):\n"
        "    mixed: tuple[int, str]\n"
        "    same: tuple[int, int]\n"
        "@endpoint('POST', '/v0/pairs', body=Pairs)\ndef pairs(_): ...\n"
    )
    document = describe_folder(str(tmp_path), open_bundle(FolderStore(credit)).manifest)

    validate(document)
    properties = document["components"]["schemas"]["pairs_Pairs"]["properties"]
    pair = {"type": "array", "minItems": 2, "maxItems": 2}
    assert properties == {
        "mixed": {**pair, "items": {}},
        "same": {**pair, "items": {"type": "integer"}},
    }

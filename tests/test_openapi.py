"""The document is valid, and the server does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import requests
from openapi_spec_validator import validate

from tests.servers import serving


def test_the_document_is_valid_openapi(credit: Path) -> None:
    """openapi-spec-validator has no objection, and features and limits are in it."""
    with serving(credit, MAX_INSTANCES="77") as server:
        document = requests.get(f"{server}/openapi.json", timeout=10).json()

    validate(document)
    schemas = document["components"]["schemas"]
    assert len(schemas["Instance"]["required"]) == 13
    batch = schemas["Body"]["oneOf"][0]
    assert batch["properties"]["instances"]["maxItems"] == 77


def test_the_server_does_what_the_document_says(credit: Path, tmp_path: Path) -> None:
    """Schemathesis, every check on, finds nothing against the live server."""
    with serving(credit, MAX_INSTANCES="100", LOG_LEVEL="error") as server:
        # "Every check" takes a list of the statuses that refuse; ours has 413 in it.
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
        ]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]

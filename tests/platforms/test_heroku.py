"""Heroku: its own client runs the Procfile, and the files that it reads are right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import requests
from serving.settings import Settings

from tests.helpers.example import ROW
from tests.helpers.servers import ROOT, program, start


def test_heroku_local_serves(credit: Path, tmp_path: Path) -> None:
    """`heroku local web` starts the unchanged Procfile on the given port."""
    command = [program("heroku"), "local", "web", "--port", "{port}", "--env", "/dev/null"]
    # The Procfile's command is found by PATH, as on the dyno.
    path = f"{Path(sys.executable).parent}:{Path(command[0]).parent}:/usr/bin:/bin"
    # Otherwise the client sends telemetry, and starts an update that outlives the test.
    quiet = {"DISABLE_TELEMETRY": "true", "HEROKU_DISABLE_AUTOUPDATE": "true"}
    dyno = {"DYNO": "web.1", "AUTH": "none", "MODEL_URI": str(credit)}
    environment = {**dyno, "PATH": path, "HOME": str(tmp_path), **quiet}
    with start(command, environment) as server:
        answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=30)

        assert answer.status_code == 200
        assert answer.json()["model"]["name"] == "credit"
        assert "web.1 |  " in server.logged()


def test_app_json_names_existing_settings() -> None:
    """Each variable of app.json is a setting, and its value is the default in the code."""
    app = json.loads((ROOT / "app.json").read_text("utf-8"))

    assert app["env"]
    for name, variable in app["env"].items():
        default = getattr(Settings(), name.lower())
        assert variable.get("value", "") == str(default or "")
        assert ("value" in variable) is variable.get("required", True)
        assert variable["description"]

"""Heroku: its own client runs the Procfile, and the files that it reads say what is true."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import requests
from serving.settings import Settings

from tests.helpers.example import ROW
from tests.helpers.servers import ROOT, program, start


def test_heroku_local_serves(credit: Path, tmp_path: Path) -> None:
    """`heroku local web` starts the Procfile as it stands, on the port that it is given."""
    command = [program("heroku"), "local", "web", "--port", "{port}", "--env", "/dev/null"]
    # What the Procfile names is found as on the dyno, by PATH.
    path = f"{Path(sys.executable).parent}:{Path(command[0]).parent}:/usr/bin:/bin"
    # It would report on us, and start an update of itself that outlives it.
    quiet = {"DISABLE_TELEMETRY": "true", "HEROKU_DISABLE_AUTOUPDATE": "true"}
    dyno = {"DYNO": "web.1", "AUTH": "none", "MODEL_URI": str(credit)}
    environment = {**dyno, "PATH": path, "HOME": str(tmp_path), **quiet}
    with start(command, environment) as server:
        answer = requests.post(f"{server}/v0/predict", json=ROW, timeout=30)

        assert answer.status_code == 200
        assert answer.json()["model"]["name"] == "credit"
        assert "web.1 |  " in server.logged()


def test_app_json_names_settings_that_there_are() -> None:
    """Each variable of app.json is a setting; its value is the default that the code has."""
    app = json.loads((ROOT / "app.json").read_text("utf-8"))

    assert app["env"]
    for name, variable in app["env"].items():
        default = getattr(Settings(), name.lower())
        assert variable.get("value", "") == str(default or "")
        assert ("value" in variable) is variable.get("required", True)
        assert variable["description"]

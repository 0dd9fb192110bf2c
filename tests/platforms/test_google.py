"""Google Cloud: the uploaded source is built and started as the Python buildpack does it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pathspec
import pytest
import requests

from tests.helpers.example import ROW
from tests.helpers.servers import ROOT, start


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, credit: Path) -> Path:
    """Lay out what `gcloud … --source .` uploads, including a trained model."""
    folder = tmp_path_factory.mktemp("workspace")
    ignored = pathspec.GitIgnoreSpec.from_lines(
        (ROOT / ".gcloudignore").read_text("utf-8").splitlines()
    )
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in ignored.match_files(listed.stdout.splitlines(), negate=True):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    assert not ignored.match_file("models/credit/latest")
    shutil.copytree(credit, folder / "models" / "credit")
    return folder


def test_only_what_is_needed_is_uploaded(source: Path) -> None:
    """Only the functions, the package, the requirements and the models are uploaded."""
    assert {path.name for path in source.iterdir()} == {
        "functions",
        "layer",
        "models",
        "requirements.txt",
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_buildpack_builds_and_starts_a_function(source: Path, tmp_path: Path) -> None:
    """The buildpack's commands run in order; then functions-framework starts, set by variables."""
    # The buildpack installs for its own user; this uses a clean environment too.
    python = str(tmp_path / "bin" / "python3")
    install = [python, "-m", "pip", "install", "--quiet", "--requirement", "requirements.txt"]
    for command in (
        [sys.executable, "-m", "venv", str(tmp_path)],
        [python, "-m", "compileall", "-f", "-q", "."],
        [*install, "--upgrade", "--upgrade-strategy", "only-if-needed", "--no-compile"],
        [python, "-m", "compileall", "--invalidation-mode", "unchecked-hash", "-qq", str(tmp_path)],
        [python, "-m", "pip", "check"],
    ):
        run = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr

    environment = {
        "FUNCTION_TARGET": "predict",
        "FUNCTION_SOURCE": "functions/predict.py",  # GOOGLE_FUNCTION_SOURCE during the build
        "FUNCTION_SIGNATURE_TYPE": "http",
        "HOST": "127.0.0.1",
        "K_SERVICE": "predict",
        "AUTH": "none",
    }
    command = [str(tmp_path / "bin" / "functions-framework")]
    with start(command, environment, source) as server:
        answer = requests.post(server, json=ROW, timeout=60)

    assert answer.status_code == 200
    assert answer.json()["prediction"]["label"] in {"bad", "good"}

"""What several tests share: the example's bundle, trained once as a user trains it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT


@pytest.fixture(scope="session")
def credit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the example with the real command; the model's folder, with `latest` in it."""
    models = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-m", "training", "train", "--models", str(models)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return models / "credit"

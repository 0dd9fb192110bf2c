"""`card` writes the page to a file, and a project's `CARD.md` is its text."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving.bundle.manifest import BACKGROUND_FILE

from tests.helpers.bundles import manifest_of
from tests.helpers.projects import project
from training.__main__ import main


def test_card_writes_one_file(
    credit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is given by location or by name; the page has neither form nor script."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(credit.parent)

    assert main(["card", str(credit), "--out", "out.html"]) == 0
    assert main(["card", "credit"]) == 0

    text = (tmp_path / "out.html").read_text("utf-8")
    assert text == (tmp_path / "credit.html").read_text("utf-8")
    assert manifest_of(credit).version in text
    assert "<form" not in text
    assert "<script" not in text
    assert {path.name for path in tmp_path.iterdir()} == {"models", "out.html", "credit.html"}


def test_wrong_input_is_one_sentence(
    credit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing model or folder, or a folder as the file, gives one sentence and status 2."""
    (tmp_path / "folder").mkdir()
    for place, arguments in {
        "none": [str(tmp_path / "none")],
        "none/x.html": [str(credit), "--out", str(tmp_path / "none" / "x.html")],
        "folder": [str(credit), "--out", str(tmp_path / "folder")],
    }.items():
        assert main(["card", *arguments]) == 2
        assert str(tmp_path / place) in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"folder"}


def test_the_manifest_has_card_md_and_may_lack_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of CARD.md is in the manifest, and --no-background leaves the rows out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "CARD.md").write_text("# Purpose\n\nTo test.\n")
    source = project(tmp_path)

    main(["train", "--project", source, "--name", "mine", "--promote", "--no-background"])
    manifest = manifest_of(tmp_path / "models" / "mine")

    assert manifest.purpose == "# Purpose\n\nTo test."
    assert BACKGROUND_FILE not in manifest.files

"""`python -m training key` prints a key and its entry, and writes neither to a file."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import requests
from serving.access.api_keys import ApiKey, find_api_key, read_api_keys

from tests.helpers.command import assert_refused, run_in
from tests.helpers.servers import serving


def printed(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """Return the key, and the value of API_KEYS that a shell makes of the export."""
    assert done.returncode == 0, done.stderr
    key = done.stdout.splitlines()[0]
    [export] = re.findall(r"^ *(export API_KEYS=.*)$", done.stdout, re.MULTILINE)
    shell = ["bash", "-c", f'{export}; printf %s "$API_KEYS"']
    return key, subprocess.run(shell, capture_output=True, text=True, check=True).stdout


def test_a_server_accepts_the_key(credit: Path, tmp_path: Path) -> None:
    """A server with the entry accepts the key, and no file was written."""
    key, entry = printed(run_in(tmp_path, "key", "web", "--scope", "predict"))
    with serving(credit, API_KEYS=entry) as server:
        sent = {"Authorization": f"Bearer {key}"}
        refused = requests.get(f"{server}/v0/model_info", headers=sent, timeout=10)
        logged = server.logged()

    assert refused.status_code == 403
    assert '"caller":"web"' in logged
    assert key not in entry
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "scopes"),
    [
        ([], None),
        (["--scope", "info"], {"info"}),
        (["--scope", "info", "--scope", "predict"], {"predict", "info"}),
    ],
)
def test_the_scopes_are_in_the_entry(
    tmp_path: Path, options: list[str], scopes: set[str] | None
) -> None:
    """Without --scope the key grants every scope, and all keys differ."""
    key, entry = printed(run_in(tmp_path, "key", "web", *options))
    other, _ = printed(run_in(tmp_path, "key", "web", *options))
    found = find_api_key(read_api_keys(entry), key)

    assert isinstance(found, ApiKey)
    assert (found.name, found.scopes) == ("web", scopes)
    assert re.fullmatch(r"canoa_[A-Za-z0-9_-]{43}", key)
    assert key != other


@pytest.mark.parametrize("name", ["", "my web", "web=x", "-web", "w" * 41, "we\nb", "caf\xe9"])
def test_an_invalid_name_is_rejected(tmp_path: Path, name: str) -> None:
    """A name must be usable in API_KEYS and in logs."""
    assert_refused(run_in(tmp_path, "key", "--", name), "cannot be called")


def test_an_unknown_scope_is_rejected(tmp_path: Path) -> None:
    """A key with a mistyped scope would open nothing."""
    assert_refused(
        run_in(tmp_path, "key", "web", "--scope", "predcit"),
        "no function asks for the scope predcit; there are explain, info, predict",
    )

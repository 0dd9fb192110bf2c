"""A server that only this machine can reach opens its user's own pickles; no other does."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from serving.bundle.trust import Trust
from serving.process import Process
from serving.stores.folder import FolderStore
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tests.helpers.bundles import copied, trap, upload_folder
from tests.helpers.servers import Server, emulator, lines, serving, start, wait_for
from tests.helpers.stores import Bucket
from training.export.build import build_bundle

OPENING = "opening your own pickle"
#: The helper's server listens on 127.0.0.1; with these settings others may reach it.
AWAY: dict[str, dict[str, str]] = {
    "every IPv4 address": {"HOST": "0.0.0.0"},  # noqa: S104
    "another address": {"HOST": "192.0.2.1"},
    "a dyno": {"DYNO": "web.1"},
    "Google Cloud": {"K_SERVICE": "predict"},
    "Lambda": {"AWS_LAMBDA_FUNCTION_NAME": "predict"},
    "closed by its user": {"ALLOW_PICKLE": "0"},
}
#: Options of the helper's server beside `--bind 127.0.0.1:PORT`.
OPTIONS = {"another socket": ["--bind", "unix:{socket}"], "unknown sockets": ["--reuse-port"]}
SERVER = [
    *(sys.executable, "-m", "gunicorn", "--config", "python:serving.adapters.gunicorn"),
    "serving.adapters.flask:create_app()",
]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Return the file that exists once the pickle was opened."""
    return tmp_path / "opened"


@pytest.fixture
def model(credit: Path, tmp_path: Path, mark: Path) -> Path:
    """Make a model of the user's own that runs on scikit-learn, with a trap in its pickle."""
    copied(credit, tmp_path / "mine", version="v1", **trap(mark))
    return tmp_path / "mine"


def _rounded(values: Any) -> Any:
    return np.round(values, -1)


@pytest.mark.parametrize("host", [{}, {"HOST": "127.0.0.1"}])
def test_on_a_laptop_it_is_served(host: dict[str, str], tmp_path: Path) -> None:
    """On loopback the pickle is opened, and each worker logs that."""
    rows = [[1.0, 9.0], [21.0, 2.0], [33.0, 5.0]]
    pipeline = make_pipeline(FunctionTransformer(_rounded), LinearRegression()).fit(rows, [1, 2, 3])
    build_bundle(tmp_path / "mine", "mine", pipeline, rows)
    settings = {"MODEL_URI": str(tmp_path / "mine"), "WEB_CONCURRENCY": "2", **host}
    with start(SERVER, settings) as server:
        answer = requests.post(f"{server}/v0/predict", json={"instances": rows}, timeout=30)
        wait_for(lambda: len(lines(server, "model loaded")) == 2)
        opened = lines(server, OPENING)

    assert [p["value"] for p in answer.json()["predictions"]] == pytest.approx([1, 2, 3], abs=1)
    assert len(opened) == 2
    assert "loopback only" in opened[0]["reason"]


@pytest.mark.parametrize("settings", AWAY.values(), ids=AWAY.keys())
def test_a_reachable_server_rejects_it(settings: dict[str, str], model: Path, mark: Path) -> None:
    """The pickle stays closed if the address, the platform or the user exposes the server."""
    with serving(model, AUTH="none", **settings) as server:
        _check_closed(server, mark)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_the_bound_sockets_count_more_than_the_settings(
    options: list[str], model: Path, mark: Path, tmp_path: Path
) -> None:
    """HOST is unset, but the command line makes the server listen on more addresses."""
    more = [option.format(socket=tmp_path / "socket") for option in options]
    command = [*SERVER, "--bind", "127.0.0.1:{port}", *more]
    with start(command, {"MODEL_URI": str(model)}) as server:
        _check_closed(server, mark)


def _check_closed(server: Server, mark: Path) -> None:
    assert requests.get(f"{server}/health", timeout=20).status_code == 503
    assert "set ALLOW_PICKLE=1" in server.logged()
    assert not lines(server, OPENING)
    assert not mark.exists()


def test_functions_framework_opens_no_pickle(model: Path, mark: Path) -> None:
    """functions-framework listens on every address by default, so it opens no pickle."""
    with emulator("health", model, HOST="127.0.0.1") as server:
        _check_closed(server, mark)


def test_a_bucket_is_not_the_user_s_own(model: Path, mark: Path, bucket: Bucket) -> None:
    """A pickle in a bucket is not opened, because anyone with access could have written it."""
    uri = upload_folder(model, bucket)
    with serving(uri, **bucket.location.environment) as server:
        _check_closed(server, mark)


def test_a_new_version_of_the_user_s_own_is_swapped_in(
    credit: Path, tmp_path: Path, mark: Path
) -> None:
    """On a laptop the trap opens, which shows that the tests above can fail."""
    copied(credit, tmp_path / "mine", version="v1")
    with serving(tmp_path / "mine", MODEL_REFRESH_SECONDS="0.2", WEB_CONCURRENCY="1"):
        copied(credit, tmp_path / "mine", version="v2", **trap(mark))
        wait_for(mark.exists)


@pytest.mark.parametrize("part", ["", "manifest.json", "model.joblib"])
def test_a_pickle_of_another_user_is_rejected(
    part: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder, the manifest and the pickle must belong to the user."""
    trust, version = Trust(at_home=True), model / "v1"
    assert trust.opens_own(FolderStore(version))
    assert not Trust().opens_own(FolderStore(version))
    assert not trust.opens_own(FolderStore(tmp_path / "none"))
    (version / part).chmod(0o757)
    assert not trust.opens_own(FolderStore(version))
    (version / part).chmod(0o755)
    assert trust.opens_own(FolderStore(version))
    real = os.stat

    def of_another(path: Any, **options: Any) -> os.stat_result:
        found = list(real(path, **options))
        found[4] += Path(path) == version / part
        return os.stat_result(found)

    monkeypatch.setattr(os, "stat", of_another)
    assert not trust.opens_own(FolderStore(version))


@pytest.fixture
def sockets() -> Iterator[dict[str, socket.socket]]:
    """Yield bound sockets that accept no connections."""
    made = {}
    for host, family in (("127.0.0.1", socket.AF_INET), ("0.0.0.0", socket.AF_INET)):  # noqa: S104
        made[host] = socket.socket(family)
        made[host].bind((host, 0))
    yield made
    for one in made.values():
        one.close()


def test_every_socket_counts(sockets: dict[str, socket.socket], model: Path) -> None:
    """If one of several sockets is public, no pickle opens; a reload checks again."""
    home, away = (sockets[host].getsockname() for host in ("127.0.0.1", "0.0.0.0"))  # noqa: S104
    process = Process({"MODEL_URI": str(model)})
    found = [process.model.trust.at_home]
    for addresses in ([home], [home, away], [away, home], [], [home], ["/run/socket"]):
        process.listen(addresses)
        found.append(process.model.trust.at_home)

    assert found == [False, True, False, False, False, True, False]

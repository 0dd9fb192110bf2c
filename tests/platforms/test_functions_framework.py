"""functions-framework alone, as on Google Cloud: the function itself limits the body."""

from __future__ import annotations

import contextlib
import copy
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from functions_framework._cli import _cli
from serving.process import start

from tests.helpers.access.keys import API_KEYS
from tests.helpers.servers import clean_environment, emulator, free_port

MIB = 1024 * 1024
OPEN = "open: this address accepts every request"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("@endpoint('FETCH', '/x')\ndef mine(_): ...", "the method is 'FETCH', but must be "),
        (
            "@endpoint('POST', '/x', body=type('Loan', (), {}))\ndef mine(_): ...",
            "the body is <class 'mine.Loan'>, but must be a type that msgspec describes",
        ),
        (
            "@endpoint('GET', '/x')\ndef mine(_): ...\n@endpoint('GET', '/y')\ndef more(_): ...",
            "the functions 'mine' and 'more' are in one file: give each function a file of its own",
        ),
    ],
)
def test_a_wrong_function_ends_the_start_in_a_sentence(
    tmp_path: Path, source: str, said: str
) -> None:
    """No traceback, though functions-framework itself loads the file."""
    file = tmp_path / "mine.py"
    file.write_text(f"from serving.endpoint import endpoint\n{source}\n")
    command = [sys.executable, "-m", "functions_framework", "--source", str(file)]
    ended = subprocess.run(
        [*command, "--target", "mine", "--host", "127.0.0.1", "--port", str(free_port())],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"canoa: {said}")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("host", "settings", "warned"),
    [
        ("192.0.2.1", {}, True),
        ("127.0.0.1", {}, False),
        ("192.0.2.1", {"API_KEYS": API_KEYS}, False),
        ("192.0.2.1", {"K_SERVICE": "f"}, False),
    ],
)
def test_an_open_function_says_so(
    host: str, settings: dict[str, str], warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless it listens on loopback, or keys or a cloud close it."""
    command = copy.copy(_cli)
    command.callback = lambda **_: start(settings)
    command.main(["--target", "f", "--host", host], standalone_mode=False)
    logged = capsys.readouterr().out
    start({})

    assert (OPEN in logged) is warned


def test_a_body_without_a_length_is_read_up_to_the_limit(credit: Path) -> None:
    """A chunked body gets 413 after 4 MiB, and the memory stays bounded."""
    chunk = b"%x\r\n%s\r\n" % (MIB, b" " * MIB)
    with emulator("predict", credit, LOG_LEVEL="error") as server:
        processes = [psutil.Process(server.process.pid)]
        processes += processes[0].children(recursive=True)
        before = sum(process.memory_info().rss for process in processes)
        host, port = server.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            for _ in range(5):
                client.sendall(chunk)
            answer = client.recv(65536)
            while b"urn:canoa:" not in answer and (more := client.recv(65536)):
                answer += more
            most = sum(process.memory_info().rss for process in processes)
            for _ in range(100):  # the server discards the rest
                with contextlib.suppress(ConnectionError):
                    client.sendall(chunk)
                most = max(most, sum(process.memory_info().rss for process in processes))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"urn:canoa:problem:too-large" in answer
    assert most - before < 20 * MIB

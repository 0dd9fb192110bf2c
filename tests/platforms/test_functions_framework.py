"""functions-framework alone, as on Google Cloud: the function itself limits the body."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import psutil

from tests.helpers.servers import emulator

MIB = 1024 * 1024


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

"""Requests written by hand and sent over a plain socket."""

from __future__ import annotations

import json
import socket
import time

from tests.helpers.example import ROW
from tests.helpers.servers import Server

__all__ = ["BODY", "CHUNKED", "check", "connect", "instances", "post", "read", "talk"]

BODY = json.dumps(ROW).encode()


def connect(server: Server) -> socket.socket:
    """Open a connection."""
    host, _, port = server.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def talk(server: Server, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send the pieces, and read until the server closes or is silent for two seconds."""
    with connect(server) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass  # the server closed before all was sent; its answer can still be read
        return read(client, seconds=2)


def read(client: socket.socket, seconds: float = 30) -> bytes:
    """Read until the server closes, or is silent for this many seconds."""
    client.settimeout(seconds)
    answer = b""
    try:
        while piece := client.recv(65536):
            answer += piece
    except OSError:
        pass
    return answer


def post(*headers: bytes, body: bytes = BODY, version: bytes = b"HTTP/1.1") -> bytes:
    """Write a POST; add the length of the body unless *headers* holds one."""
    lines = [b"POST /v0/predict " + version, b"Host: x", b"Content-Type: application/json"]
    if not any(header.lower().startswith((b"content-length", b"transfer")) for header in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, *headers, b"", body])


def instances(text: str) -> bytes:
    """Write a POST of *text*."""
    return post(body=text.encode("utf-8", "surrogatepass"))


CHUNKED = b"Transfer-Encoding: chunked"


def check(answer: bytes, statuses: set[int]) -> None:
    """Check that the answer has one of *statuses*, and that an error is a problem document."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status in statuses
    if status != 200:
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == status

"""What gunicorn refuses before it is a request: answered in our form, and never quoted."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import NoReturn

from gunicorn.http import errors as http

from serving.endpoint import respond
from serving.errors import BadRequest, HeadersTooLarge, Problem, UriTooLong

__all__ = ["problem_of", "send_problem"]


def problem_of(error: Exception) -> Problem | None:
    """Say what gunicorn's parser found wrong; of any other error, nothing."""
    if isinstance(error, http.LimitRequestLine):
        return UriTooLong("The request line is too long.")
    if isinstance(error, http.LimitRequestHeaders):
        return HeadersTooLarge("The headers are too many, or too long.")
    if isinstance(error, http.ParseException):
        return BadRequest("The request is not valid HTTP/1.1.")
    return None


def send_problem(client: socket.socket, problem: Problem) -> None:
    """Write an answer, if the socket takes it at once; the connection ends with it."""

    def refuse(_: object) -> NoReturn:
        raise problem

    body, _, headers = respond(_Unread(), refuse, None)
    fields = {**headers, "Content-Length": len(body), "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"HTTP/1.1 {problem.status} {problem.title}\r\n{lines}\r\n"
    try:
        client.setblocking(False)
        client.send(head.encode("latin-1") + body)
    except OSError:
        return


class _Unread:
    """A request that was not read."""

    method = path = ""
    headers: Mapping[str, str] = {}
    args: Mapping[str, str] = {}

    def get_data(self) -> bytes:
        """Return nothing."""
        return b""

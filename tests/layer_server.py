"""Every function behind the standard library's server: a script that needs only the layer."""

from __future__ import annotations

import os
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from serving.routes import load_functions

FUNCTIONS = {function.route.path: function for function in load_functions(Path("functions"))}


class Request(NamedTuple):
    """What a function uses of a request."""

    method: str
    path: str
    headers: Message
    args: dict[str, str]
    body: bytes

    def get_data(self) -> bytes:
        """The body."""
        return self.body


class Handler(BaseHTTPRequestHandler):
    """Answers by the function of the path, whatever the method."""

    protocol_version = "HTTP/1.1"

    def __getattr__(self, name: str) -> Any:
        """Find do_GET and its like."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        """Call the function, and write what it returns."""
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request: Any = Request(
            self.command, url.path, self.headers, dict(parse_qsl(url.query)), body
        )
        content, status, headers = FUNCTIONS[url.path](request)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Leave the log to the functions."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()

"""A small HTTP proxy in front of a store, which records requests and imitates a failing store."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from tests.helpers.servers import free_port

__all__ = ["Answer", "Asked", "Proxy"]


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]


class Answer(NamedTuple):
    """What the proxy answers."""

    status: int
    headers: dict[str, str]
    body: bytes
    #: How many bytes of the body are sent before the connection is cut.
    cut: int | None = None


class Proxy:
    """
    A proxy with a fixed address, which can be stopped and started.

    Attributes:
        fault: Changes or delays an answer; None if the store works.
        asked: Every request so far.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream.removeprefix("http://")
        self._port = free_port()
        self._server: ThreadingHTTPServer | None = None
        # Real stores compare and write in one step, but some emulators do not.
        self._one_at_a_time = threading.Lock()
        self.gone = threading.Event()
        self.fault: Callable[[Asked, Answer], Answer] | None = None
        self.before: Callable[[Asked], None] = lambda _: None
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        """Return the proxy's address, whether or not it is running."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Accept connections."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and end the waiting requests."""
        self.gone.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server = None
        self.gone.clear()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else the body waits 40 ms for the client's next packet

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:  # the client has gone
                    self.close_connection = True

            def forward(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                asked = Asked(self.command, self.path, dict(self.headers.items()))
                proxy.asked.append(asked)
                proxy.before(asked)
                answer = proxy.ask(asked, body)
                if proxy.fault is not None:
                    answer = proxy.fault(asked, answer)
                self.send_response_only(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body[: answer.cut])
                if answer.cut is not None:
                    self.close_connection = True

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler

    def ask(self, asked: Asked, body: bytes) -> Answer:
        """Forward a request."""
        connection = http.client.HTTPConnection(self._upstream, timeout=30)
        with self._one_at_a_time:
            connection.request(asked.method, asked.path, body, dict(asked.headers))
            answer = connection.getresponse()
            content = answer.read()
        connection.close()
        headers = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("transfer-encoding", "connection")
        }
        if asked.method != "HEAD":
            headers["Content-Length"] = str(len(content))
        return Answer(answer.status, headers, content)

"""Runs a WSGI app on an ASGI server. A thread gets a request only once it has arrived whole.

The event loop collects the body, so that slow clients occupy no thread. Time and memory are
bounded: a body has `ARRIVAL_SECONDS`, and a worker holds at most `HELD_BODIES` full-size bodies.
"""

from __future__ import annotations

import asyncio
import io
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, cast
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from serving.endpoint import respond
from serving.errors import (
    BadRequest,
    HeadersTooLarge,
    Overloaded,
    Problem,
    RequestTimeout,
    UriTooLong,
)

__all__ = ["ARRIVAL_SECONDS", "HELD_BODIES", "Bridge"]

#: A body must arrive within this time.
ARRIVAL_SECONDS = 20
#: A rejected body is read and dropped for this long. If the connection were closed at once, the
#: client would lose the answer (RFC 9112, section 9.6).
LINGER_SECONDS = 2
#: After SIGTERM a worker goes on accepting connections for this long.
ACCEPT_SECONDS = 0.5
#: A worker holds as many bytes as this many bodies of the largest size, arriving or waiting for a
#: thread. Beyond that it answers 503.
HELD_BODIES = 16
#: Bytes that a request counts for beside its body.
REQUEST_BYTES = 16 * 1024
#: Bytes of the target, headers, and bytes of one header.
MAX_TARGET, MAX_HEADERS, MAX_HEADER = 4094, 100, 8190

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Status, headers and body.
Reply = tuple[int, list[tuple[str, str]], bytes]


class Bridge:
    """An ASGI app that answers from a WSGI app, in a few threads."""

    def __init__(self, app: WSGIApplication, *, threads: int, max_body_bytes: int) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(threads)
        self._limit = max_body_bytes
        self._room = HELD_BODIES * (max_body_bytes + REQUEST_BYTES)
        self._held = 0
        #: Bodies that are still arriving, oldest first.
        self._arriving: dict[asyncio.Timeout, bytearray] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the server's start and stop."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        environ = _environ(scope)
        body = bytearray()
        whole = False
        held = REQUEST_BYTES
        self._held += held
        try:
            _check_head(scope)
            # The app itself rejects a body that is too large, by its length and unread.
            if int(environ.get("CONTENT_LENGTH", 0)) <= self._limit:
                whole = await self._read(receive, body)
                environ["CONTENT_LENGTH"] = str(len(body))
            environ["wsgi.input"] = io.BytesIO(bytes(body) if whole else b"")
            held += len(body)
            body.clear()
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._pool, self._call, environ)
        except Problem as problem:
            reply = _reject(environ, problem)
        except ConnectionResetError:
            return
        finally:
            self._held -= held + len(body)
        await _send(reply, receive, send, close=not whole)

    async def _read(self, receive: Receive, body: bytearray) -> bool:
        """Read *body*, up to the limit, and report whether that is all of it."""
        try:
            async with asyncio.timeout(ARRIVAL_SECONDS) as wait:
                self._arriving[wait] = body
                more = True
                while more and len(body) <= self._limit:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionResetError
                    body += message["body"]
                    more = message["more_body"]
                    self._held += len(message["body"])
                    self._make_room()
                    if wait not in self._arriving:
                        raise TimeoutError
            return not more
        except TimeoutError:
            if wait in self._arriving:
                raise RequestTimeout("The request did not arrive in time.") from None
            raise Overloaded(
                "The server holds as many requests as it can.", headers={"Retry-After": "1"}
            ) from None
        finally:
            self._arriving.pop(wait, None)

    def _make_room(self) -> None:
        """While too many bytes are held, reject the requests that began to arrive first."""
        while self._held > self._room and self._arriving:
            wait, body = next(iter(self._arriving.items()))
            del self._arriving[wait]
            self._held -= len(body)
            body.clear()
            wait.reschedule(0)

    def _call(self, environ: WSGIEnvironment) -> Reply:
        started: list[Any] = []
        written: list[bytes] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _: object = None
        ) -> Callable[[bytes], object]:
            started[:] = int(status[:3]), headers
            return written.append

        pieces = self._app(environ, start_response)
        try:
            body = b"".join([*written, *pieces])
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        return started[0], started[1], body


def _environ(scope: Message) -> WSGIEnvironment:
    """Translate an ASGI scope into a WSGI environment (PEP 3333)."""
    host, port = scope["server"] or ("", 0)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope["client"] or ("",))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        # "X_A" would pass for "X-A"; and the body has no transfer coding any more.
        if b"_" in name or name == b"transfer-encoding":
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


def _check_head(scope: Message) -> None:
    """Raise the problem of an invalid head that the parser accepts."""
    if scope["http_version"] not in ("1.0", "1.1"):
        raise BadRequest("The request is not valid HTTP/1.1.")
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
        raise UriTooLong(f"The request target is longer than {MAX_TARGET} bytes.")
    headers = scope["headers"]
    if len(headers) > MAX_HEADERS or any(len(n) + len(v) > MAX_HEADER for n, v in headers):
        raise HeadersTooLarge(
            f"Send at most {MAX_HEADERS} headers, each of at most {MAX_HEADER} bytes."
        )


def _reject(environ: WSGIEnvironment, problem: Problem) -> Reply:
    from werkzeug import Request

    def handler(_: object) -> NoReturn:
        raise problem

    request = cast(Any, Request(environ))  # its headers are a mapping in all but their type
    body, status, headers = respond(request, handler, None)
    return status, [*headers.items(), ("Content-Length", str(len(body)))], body


async def _send(reply: Reply, receive: Receive, send: Send, *, close: bool) -> None:
    """Send the answer. With *close*, read what still comes for a while, then close."""
    status, headers, body = reply
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if close:
        fields.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": close})
    if close:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body"})


async def _live(receive: Receive, send: Send) -> None:
    """Set up the event loop at the worker's start (the ASGI lifespan)."""
    await receive()
    loop = asyncio.get_running_loop()
    # uvicorn's own handler stops accepting at once, and loses connections that wait to be accepted.
    stop = partial(cast(Callable[..., Any], signal.getsignal(signal.SIGTERM)), signal.SIGTERM, None)
    loop.add_signal_handler(signal.SIGTERM, loop.call_later, ACCEPT_SECONDS, stop)
    # uvicorn's worker ignores gunicorn's quick stop, and would be killed 25 s later.
    loop.add_signal_handler(signal.SIGQUIT, stop)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})

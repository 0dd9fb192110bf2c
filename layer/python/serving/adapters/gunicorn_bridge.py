"""Runs a WSGI app on an ASGI server. A thread gets a request only once it has arrived whole.

The event loop collects the body, so that slow clients occupy no thread. Time and memory are
bounded: a body has `ARRIVAL_SECONDS`, and a worker holds at most `HELD_BODIES` full-size bodies.
"""

from __future__ import annotations

import asyncio
import io
import signal
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, cast
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from werkzeug.test import run_wsgi_app

from serving.adapters.flask import PROBLEM
from serving.errors import Overloaded, RequestTimeout

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

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Body, status and headers.
Answer = tuple[Iterable[bytes], str, Iterable[tuple[str, str]]]


class Bridge:
    """An ASGI app that answers from a WSGI app, in a few threads."""

    def __init__(self, app: WSGIApplication, *, threads: int, max_body_bytes: int) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(threads)
        self._limit = max_body_bytes
        self._room = HELD_BODIES * (max_body_bytes + REQUEST_BYTES)
        self._held = 0
        #: Requests whose bodies are still arriving, oldest first.
        self._arriving: dict[asyncio.Timeout, None] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the server's start and stop."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        environ = _environ(scope)
        environ["wsgi.input"] = body = io.BytesIO()
        whole = False
        self._held += REQUEST_BYTES
        try:
            # The app rejects a body that is too large by its length, unread.
            if PROBLEM not in environ and int(environ.get("CONTENT_LENGTH", 0)) <= self._limit:
                whole = await self._read(receive, body, environ)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(
                self._pool, partial(run_wsgi_app, self._app, environ, buffered=True)
            )
        except ConnectionResetError:
            return
        finally:
            self._held -= REQUEST_BYTES + len(body.getbuffer())
        await _send(answer, receive, send, close=not whole)

    async def _read(self, receive: Receive, body: io.BytesIO, environ: WSGIEnvironment) -> bool:
        """Read *body*, up to the limit, and report whether that is all of it."""
        more = True
        try:
            async with asyncio.timeout(ARRIVAL_SECONDS) as wait:
                self._arriving[wait] = None
                while more and body.tell() <= self._limit:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionResetError
                    self._held += body.write(message["body"])
                    more = message["more_body"]
                    self._make_room()
        except TimeoutError:
            if wait in self._arriving:
                environ[PROBLEM] = RequestTimeout("The request did not arrive in time.")
            else:
                environ[PROBLEM] = Overloaded(
                    "The server holds as many requests as it can.", headers={"Retry-After": "1"}
                )
            return False
        finally:
            self._arriving.pop(wait, None)
        environ["CONTENT_LENGTH"] = str(body.tell())
        body.seek(0)
        return not more

    def _make_room(self) -> None:
        """While too many bytes are held, reject the request that began to arrive first."""
        if self._held > self._room and self._arriving:
            wait = next(iter(self._arriving))
            del self._arriving[wait]
            wait.reschedule(0)


def _environ(scope: Message) -> WSGIEnvironment:
    """Translate an ASGI scope into a WSGI environment (PEP 3333)."""
    host, port = scope["server"] or ("", 0)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "RAW_URI": scope["raw_path"].decode("latin-1"),
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
    if problem := scope["state"].get("problem"):
        environ[PROBLEM] = problem
    return environ


async def _send(answer: Answer, receive: Receive, send: Send, *, close: bool) -> None:
    """Send the answer. With *close*, read what still comes for a while, then close."""
    pieces, status, headers = answer
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if close:
        fields.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(status[:3]), "headers": fields})
    await send({"type": "http.response.body", "body": b"".join(pieces), "more_body": close})
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

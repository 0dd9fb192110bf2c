"""Words that must appear in no log and no trace, and requests that contain them everywhere."""

from __future__ import annotations

import json

import requests

from tests.helpers.example import ROW
from tests.helpers.http.wire import instances, post, talk
from tests.helpers.servers import Server

__all__ = ["CANARIES", "NUMBER", "WORD", "send_canaries"]

#: `send_canaries` puts these everywhere in a request.
WORD = "canaryword"

NUMBER = 314159265358.926

CANARIES = (WORD, "314159265358", WORD.upper())


def send_canaries(server: Server) -> None:
    """Send the words in bodies, queries, paths and headers of valid and invalid requests."""
    headers = {
        "Authorization": f"Bearer {WORD}",
        "X-API-Key": WORD,
        "Cookie": f"session={WORD}",
        "User-Agent": WORD,
        "X-Request-Id": f"{WORD} with a space",
        "traceparent": WORD,
    }
    url = f"{server}/v0/predict?home={WORD}"
    bodies = [
        json.dumps(ROW | {"home": WORD, "price": NUMBER}),
        json.dumps({"instances": [ROW | {"home": WORD}] * 3}),
        json.dumps(ROW | {"age": WORD}),
        json.dumps(ROW | {WORD: NUMBER}),
        json.dumps(ROW | {"price": f"{NUMBER}"}),
        '{"home": "' + WORD,
        WORD,
    ]
    for body in bodies:
        requests.post(url, data=body, headers=headers, timeout=10)
        requests.post(url, json=json.loads(bodies[0]), headers=headers, timeout=10)
    for path in (f"/{WORD}", f"/health/{WORD}?{WORD}={NUMBER}"):
        for method in (WORD.upper(), "GET"):
            requests.request(method, f"{server}{path}", headers=headers, timeout=10)
    word = WORD.encode()
    for sent in (
        post(word),
        post(b"Content-Encoding: " + word),
        post(b"Content-Length: " + word),
        post(word + b": " + word + b"\x00"),
        post(b"Transfer-Encoding: " + word),
        b"GET /" + word + b" HTTP/" + word + b"\r\n\r\n",
        b"<" + word + b"> / HTTP/1.1\r\n\r\n",
        b"GET /" + word * 2000 + b" HTTP/1.1\r\n\r\n",
        post(b"X-A: " + word * 4000),
        post()[:-5] + word[:4],
        instances(f'{{"home": "{WORD}\ud800"}}'),
    ):
        talk(server, sent)

"""The page's style and script, and the policy that lets a browser run these two and no other."""

from __future__ import annotations

import base64
import hashlib
import os

__all__ = ["POLICY", "SCRIPT", "STYLE"]


def _read(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


STYLE, SCRIPT = _read("page.css"), _read("page.js")

#: The Content-Security-Policy of the page.
POLICY = (
    "default-src 'none'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
    f"form-action 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}"
)

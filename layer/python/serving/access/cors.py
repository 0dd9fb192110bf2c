"""CORS headers (the Fetch standard): pages of the listed origins may read the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["cors_headers", "preflight_headers"]

#: The headers that a page may send and read. They are listed by name: `*` excludes Authorization.
ALLOWED = "Authorization, Content-Type, X-API-Key, X-Request-Id, traceparent"
EXPOSED = "Retry-After, WWW-Authenticate, X-Request-Id"


def cors_headers(headers: Mapping[str, str], origins: frozenset[str]) -> dict[str, str]:
    """Return the headers that let a listed origin read the response; none without *origins*."""
    if not origins:
        return {}
    granted = {"Access-Control-Expose-Headers": EXPOSED}
    if "*" in origins:
        return granted | {"Access-Control-Allow-Origin": "*"}
    # A cache must not give one origin's answer to another.
    vary = {"Vary": "Origin"}
    origin = headers.get("Origin")
    if origin not in origins or origin is None:
        return vary
    return granted | vary | {"Access-Control-Allow-Origin": origin}


def preflight_headers(
    headers: Mapping[str, str], methods: Iterable[str], granted: Mapping[str, str]
) -> dict[str, str]:
    """Return the headers of an answer to OPTIONS; a preflight of a granted origin gets them all."""
    allow = ", ".join(methods)
    answer = {"Allow": allow}
    if headers.get("Access-Control-Request-Method") and "Access-Control-Allow-Origin" in granted:
        answer["Access-Control-Allow-Methods"] = allow
        answer["Access-Control-Allow-Headers"] = ALLOWED
        answer["Access-Control-Max-Age"] = "3600"
    return answer

"""Invented API keys; each one's name describes what it may do."""

from __future__ import annotations

from serving.access.api_keys import digest

__all__ = ["API_KEYS", "KEYS"]

#: Name → key.
KEYS = {name: f"canoa_{name}-{'k' * 36}" for name in ("all", "predicts", "reads")}
API_KEYS = ", ".join(
    f"{name}{scopes}={digest(KEYS[name])}"
    for name, scopes in (("all", ""), ("predicts", ":predict"), ("reads", ":info"))
)

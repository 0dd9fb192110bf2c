"""`load_model()`: the cached model that every function of this process shares."""

from __future__ import annotations

from serving.model.model import Model
from serving.process import process

__all__ = ["is_outdated", "load_model"]


def load_model() -> Model:
    """
    Return this process's model; the first call loads it.

    Raises:
        ModelUnavailable: It cannot be loaded now. The log says why, and the client may retry.
    """
    return process().model.get()


def is_outdated() -> bool:
    """Whether another version than the one served is live, and was rejected."""
    return process().model.outdated

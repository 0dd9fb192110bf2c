"""Observers: metrics and traces, which are notified of requests and models."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from serving.telemetry.logs import describe, log

__all__ = ["Observer", "Served", "observers", "tell"]


class Served(NamedTuple):
    """A request that was answered."""

    #: One of HTTP's methods, or "other".
    method: str
    #: A function's path; None for any other path.
    route: str | None
    status: int
    seconds: float
    rows: int | None
    model_version: str | None = None
    #: What went wrong, as the log line names it.
    error: str | None = None


class Observer(Protocol):
    """Is called in the thread where something happens, so it must be quick."""

    def request_served(self, served: Served) -> None:
        """A request was answered."""

    def model_loaded(self, name: str, version: str, engine: str) -> None:
        """This process serves another model from now on; all three are labels for metrics."""

    def model_refused(self) -> None:
        """A model could not be loaded."""


#: The observers of this process.
observers: list[Observer] = []


def tell(what: Callable[[Observer], None]) -> None:
    """Call *what* with every observer. An observer that fails is logged, and harms nothing else."""
    for observer in observers:
        try:
            what(observer)
        except Exception as error:
            log("error", "an observer failed", **describe(error))

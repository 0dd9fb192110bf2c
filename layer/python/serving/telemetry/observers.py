"""Who is told of what happens: what counts requests and loads, where a platform does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from serving.telemetry.logs import describe, log

__all__ = ["Observer", "Served", "observers", "tell"]


class Served(NamedTuple):
    """A request that was answered."""

    #: One of those that there are, or "other".
    method: str
    #: A function's path; None for every path that is none.
    route: str | None
    status: int
    seconds: float
    rows: int | None
    model_version: str | None = None
    #: What went wrong, as the log line names it.
    error: str | None = None


class Observer(Protocol):
    """Is told, in the thread and at the time that it happens; so it must be quick."""

    def request_served(self, served: Served) -> None:
        """A request was answered."""

    def model_loaded(self, name: str, version: str, engine: str) -> None:
        """This process serves another model from now on."""

    def model_refused(self) -> None:
        """A model could not be loaded."""


#: Those of this process; who wants to be told adds itself.
observers: list[Observer] = []


def tell(what: Callable[[Observer], None]) -> None:
    """Tell every observer; what fails there is nobody else's failure."""
    for observer in observers:
        try:
            what(observer)
        except Exception as error:
            log("error", "an observer failed", **describe(error))

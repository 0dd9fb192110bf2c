"""The request of an event: as much of a Werkzeug request as functions may use."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

__all__ = ["EventRequest", "Headers"]


class Headers(Mapping[str, str]):
    """HTTP headers by name, in any letter case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = {name.lower(): value for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header. Mapping's own `get` would raise and catch for each missing one."""
        return self._headers.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


class _MissingParameterError(KeyError):
    """As Werkzeug's BadRequestKeyError."""

    code = 400


class Args(dict[str, str]):
    """The query string's parameters; of a repeated one the first value, as Werkzeug has it."""

    def __init__(self, parameters: Iterable[tuple[str, str]]) -> None:
        self._lists: dict[str, list[str]] = {}
        for name, value in parameters:
            self._lists.setdefault(name, []).append(value)
        super().__init__((name, found[0]) for name, found in self._lists.items())

    def __missing__(self, name: str) -> str:
        raise _MissingParameterError(name)

    def getlist(self, name: str) -> list[str]:
        """Return every value of a parameter."""
        return self._lists.get(name, [])


class EventRequest:
    """The part of a Werkzeug request that functions may use."""

    def __init__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        read_query: Callable[[], Iterable[tuple[str, str]]],
        read_body: Callable[[], bytes],
        *,
        max_answer_bytes: int | None = None,
    ) -> None:
        self.method = method.upper()
        self.path = path
        self.headers = Headers(headers)
        self._read_query = read_query  # called late, as most functions read no query
        self._read_body = read_body
        self._body: bytes | None = None
        #: The largest answer that the event's sender accepts, if that is less than Lambda's limit.
        self.max_answer_bytes = max_answer_bytes

    @functools.cached_property
    def args(self) -> Mapping[str, str]:
        """The query string's parameters."""
        return Args(self._read_query())

    def get_data(self) -> bytes:
        """
        Return the body.

        Raises:
            ValueError: The event says that the body is base64, and it is not.
        """
        if self._body is None:
            self._body = self._read_body()
        return self._body

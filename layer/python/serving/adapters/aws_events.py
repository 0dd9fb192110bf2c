"""AWS's events and answers: API Gateway (HTTP and REST), function URLs, load balancers.

Each kind of event is a struct that knows its request and the shape of its answer.
https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html
"""

from __future__ import annotations

import binascii
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from serving.endpoint import Response

__all__ = ["Event", "EventRequest", "Headers", "UnknownEventError", "read_event"]


class UnknownEventError(Exception):
    """The event is no request over HTTP; the text says what it is like, without its values."""


class Headers(Mapping[str, str]):
    """HTTP headers by name, in any case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = {name.lower(): value for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header; unlike Mapping's own, without an exception for each that is missing."""
        return self._headers.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


class EventRequest:
    """As much of a Werkzeug request as a function may use."""

    def __init__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        read_query: Callable[[], Mapping[str, str]],
        read_body: Callable[[], bytes],
    ) -> None:
        self.method = method.upper()
        self.path = path
        self.headers = Headers(headers)
        self._read_query = read_query  # when it is asked for: most functions never do
        self._read_body = read_body
        self._body: bytes | None = None

    @functools.cached_property
    def args(self) -> Mapping[str, str]:
        """The query string's parameters."""
        return self._read_query()

    def get_data(self) -> bytes:
        """
        Return the body.

        Raises:
            ValueError: It is not the base64, or the text, that the event says it is.
        """
        if self._body is None:
            self._body = self._read_body()
        return self._body


class _Event(msgspec.Struct, rename="camel", kw_only=True):
    """What all kinds share."""

    headers: dict[str, str] | None = None
    body: str | None = None
    is_base64_encoded: bool = False

    def answer(self, response: Response) -> dict[str, Any]:
        """Put *response* into the shape that this kind expects."""
        body, status, headers = response
        return {
            "statusCode": status,
            "headers": headers,
            # Every answer of ours is JSON, and so text.
            "body": body.decode(),
            "isBase64Encoded": False,
        }

    def _content(self) -> bytes:
        """Read the body late: a fault in it is the client's, and gets a client's answer."""
        body = self.body or ""
        if self.is_base64_encoded:
            return binascii.a2b_base64(body, strict_mode=True)
        return body.encode()


class _Http(msgspec.Struct):
    method: str


class _HttpContext(msgspec.Struct):
    http: _Http
    stage: str = "$default"


class HttpEvent(_Event, rename="camel", kw_only=True):
    """API Gateway's HTTP API with payload 2.0, and function URLs."""

    raw_path: str
    request_context: _HttpContext
    raw_query_string: str = ""
    cookies: list[str] | None = None

    def request(self) -> EventRequest:
        """Return the request; repeated headers come joined by commas, cookies apart."""
        headers = dict(self.headers or {})
        if self.cookies:
            headers["cookie"] = "; ".join(self.cookies)
        stage = self.request_context.stage
        path = self.raw_path if stage == "$default" else _without(stage, self.raw_path)
        method = self.request_context.http.method
        return EventRequest(method, path, headers, self._query, self._content)

    def _query(self) -> dict[str, str]:
        from urllib.parse import parse_qsl  # a prediction asks for no query

        return dict(reversed(parse_qsl(self.raw_query_string, keep_blank_values=True)))


class _MultiValueEvent(_Event, rename="camel", kw_only=True):
    """What may send every header, and every parameter, as a list of values."""

    http_method: str
    path: str
    multi_value_headers: dict[str, list[str]] | None = None
    query_string_parameters: dict[str, str] | None = None
    multi_value_query_string_parameters: dict[str, list[str]] | None = None

    def request(self) -> EventRequest:
        """Return the request, repeated headers joined."""
        headers = dict(self.headers or {})
        for name, values in (self.multi_value_headers or {}).items():
            headers[name] = ("; " if name.lower() == "cookie" else ", ").join(values)
        return EventRequest(self.http_method, self._path(), headers, self._query, self._content)

    def answer(self, response: Response) -> dict[str, Any]:
        """Answer with lists where the request had them."""
        answer = super().answer(response)
        if self.multi_value_headers is not None:
            headers = answer.pop("headers")
            answer["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
        return answer

    def _query(self) -> dict[str, str]:
        """Of a repeated parameter the first value, as Werkzeug does."""
        query = dict(self.query_string_parameters or {})
        for name, values in (self.multi_value_query_string_parameters or {}).items():
            query[name] = values[0] if values else ""
        return {self._text(name): self._text(value) for name, value in query.items()}

    def _path(self) -> str:
        return self.path

    def _text(self, parameter: str) -> str:
        return parameter


class _RestContext(msgspec.Struct):
    stage: str
    path: str = ""


class RestEvent(_MultiValueEvent, rename="camel", kw_only=True):
    """API Gateway's REST API, and its HTTP API with payload 1.0."""

    request_context: _RestContext

    def _path(self) -> str:
        """Leave out the stage, if it stands there: the context's path always begins with it."""
        context = self.request_context
        return _without(context.stage, self.path) if context.path == self.path else self.path


class _BalancerContext(msgspec.Struct):
    elb: dict[str, Any]


class BalancerEvent(_MultiValueEvent, rename="camel", kw_only=True):
    """An Application Load Balancer's event."""

    request_context: _BalancerContext

    def answer(self, response: Response) -> dict[str, Any]:
        """Add the status line that a load balancer wants."""
        from http import HTTPStatus  # no other kind of event needs it

        status = HTTPStatus(response[1])
        described = {"statusDescription": f"{status.value} {status.phrase}"}
        return super().answer(response) | described

    def _text(self, parameter: str) -> str:
        """Decode what a load balancer, unlike a gateway, leaves as it came."""
        from urllib.parse import unquote_plus

        return unquote_plus(parameter)


Event = HttpEvent | RestEvent | BalancerEvent


def read_event(event: Any) -> Event:
    """
    Tell which kind of event this is, and read it.

    Raises:
        UnknownEventError: It is none of them.
    """
    context = event.get("requestContext") if isinstance(event, dict) else None
    if not isinstance(context, dict):
        raise UnknownEventError(_describe(event))
    kind: type[Event] = RestEvent
    if "http" in context:
        kind = HttpEvent
    elif "elb" in context:
        kind = BalancerEvent
    try:
        return msgspec.convert(event, kind)
    except msgspec.ValidationError as error:
        raise UnknownEventError(f"{kind.__name__}: {error}") from error


def _describe(event: Any) -> str:
    if not isinstance(event, dict):
        return f"a {type(event).__name__}"
    keys = sorted(ascii(str(key)[:40]) for key in event)
    return f"an object of {', '.join(keys[:20]) or 'nothing'}"


def _without(stage: str, path: str) -> str:
    prefix = f"/{stage}"
    return path[len(prefix) :] or "/" if f"{path}/".startswith(f"{prefix}/") else path

"""Reads AWS's events and shapes their answers: API Gateway, function URLs, load balancers.

Each kind of event is a struct that makes its request and the shape of its answer.
https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec

from serving.adapters.aws_request import EventRequest
from serving.errors import UnknownEvent
from serving.routes import Response

__all__ = [
    "Event",
    "UnservedEventError",
    "is_warm_up",
    "read_event",
]

#: The form of a batch's sender: aws:sqs, aws:kinesis, aws:s3.
_SENDER = re.compile(r"aws:[a-z0-9-]{1,20}|SelfManagedKafka")


class UnservedEventError(Exception):
    """The event is of another kind. Its data would be lost if Lambda took it for done."""


class _Event(msgspec.Struct, rename="camel", kw_only=True):
    """The fields that all kinds of events share."""

    headers: dict[str, str] | None = None
    body: str | None = None
    is_base64_encoded: bool = False

    def answer(self, response: Response) -> dict[str, Any]:
        """Return *response* in the shape that this kind expects."""
        body, status, headers = response
        try:
            text, encoded = body.decode(), False
        except UnicodeDecodeError:
            text, encoded = binascii.b2a_base64(body, newline=False).decode(), True
        return {
            "statusCode": status,
            "headers": headers,
            "body": text,
            "isBase64Encoded": encoded,
        }

    def _content(self) -> bytes:
        """Decode the body. This runs within the request, so that a fault gets a client's answer."""
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
    """An event of API Gateway's HTTP API with payload 2.0, or of a function URL."""

    raw_path: str
    request_context: _HttpContext
    raw_query_string: str = ""
    cookies: list[str] | None = None

    def request(self) -> EventRequest:
        """Return the request. Repeated headers arrive joined by commas, cookies in a list."""
        headers = dict(self.headers or {})
        if self.cookies:
            headers["cookie"] = "; ".join(self.cookies)
        stage = self.request_context.stage
        path = self.raw_path if stage == "$default" else _without(stage, self.raw_path)
        method = self.request_context.http.method
        return EventRequest(method, path, headers, self._query, self._content)

    def _query(self) -> list[tuple[str, str]]:
        from urllib.parse import parse_qsl  # a prediction needs no query

        return parse_qsl(self.raw_query_string, keep_blank_values=True)


class _MultiValueEvent(_Event, rename="camel", kw_only=True):
    """An event that may list several values of a header or a parameter."""

    http_method: str
    path: str
    multi_value_headers: dict[str, list[str]] | None = None
    query_string_parameters: dict[str, str] | None = None
    _max_answer_bytes: ClassVar[int | None] = None
    multi_value_query_string_parameters: dict[str, list[str]] | None = None

    def request(self) -> EventRequest:
        """Return the request, with repeated headers joined."""
        headers = dict(self.headers or {})
        for name, values in (self.multi_value_headers or {}).items():
            headers[name] = ("; " if name.lower() == "cookie" else ", ").join(values)
        return EventRequest(
            self.http_method,
            self._path(),
            headers,
            self._query,
            self._content,
            max_answer_bytes=self._max_answer_bytes,
        )

    def answer(self, response: Response) -> dict[str, Any]:
        """Return *response* in this shape; with lists of header values if the request had them."""
        answer = super().answer(response)
        if self.multi_value_headers is not None:
            headers = answer.pop("headers")
            answer["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
        return answer

    def _query(self) -> Iterator[tuple[str, str]]:
        lists = {name: [value] for name, value in (self.query_string_parameters or {}).items()}
        for name, values in (lists | (self.multi_value_query_string_parameters or {})).items():
            for value in values:
                yield self._text(name), self._text(value)

    def _path(self) -> str:
        return self.path

    def _text(self, parameter: str) -> str:
        return parameter


class _RestContext(msgspec.Struct):
    stage: str
    path: str = ""


class RestEvent(_MultiValueEvent, rename="camel", kw_only=True):
    """An event of API Gateway's REST API, or of its HTTP API with payload 1.0."""

    request_context: _RestContext

    def _path(self) -> str:
        """Return the path without the stage, with which the context's path always begins."""
        context = self.request_context
        return _without(context.stage, self.path) if context.path == self.path else self.path


class BalancerEvent(_MultiValueEvent, rename="camel", kw_only=True):
    """An event of an Application Load Balancer."""

    #: It rejects an answer over 1 MB.
    _max_answer_bytes: ClassVar[int | None] = 1_000_000

    def answer(self, response: Response) -> dict[str, Any]:
        """Return *response* in this shape, with the status line that a load balancer requires."""
        from http import HTTPStatus  # only this kind of event needs it

        status = HTTPStatus(response[1])
        described = {"statusDescription": f"{status.value} {status.phrase}"}
        return super().answer(response) | described

    def _text(self, parameter: str) -> str:
        """Decode a parameter. A load balancer, unlike a gateway, leaves it percent-encoded."""
        from urllib.parse import unquote_plus

        return unquote_plus(parameter)


Event = HttpEvent | RestEvent | BalancerEvent


def read_event(event: Any) -> Event:
    """
    Recognise the kind of *event*, and read it.

    Raises:
        UnservedEventError: It is no HTTP request of any kind.
        UnknownEvent: It is one, but lacks a field or holds text that is not Unicode.
    """
    found = event if isinstance(event, dict) else {}
    context = found.get("requestContext")
    parts = context if isinstance(context, dict) else {}
    if not ({"httpMethod", "rawPath"} & found.keys() or {"http", "elb"} & parts.keys()):
        raise UnservedEventError(
            f"This function answers HTTP requests, and got {_describe(event)}. It failed so that "
            "the event is not lost: connect its source to another function."
        )
    kind: type[Event] = RestEvent
    if "http" in parts or "rawPath" in found:
        kind = HttpEvent
    elif "elb" in parts:
        kind = BalancerEvent
    try:
        request = msgspec.convert(event, kind)
        msgspec.json.encode(request)  # raises on a lone surrogate anywhere
    except msgspec.ValidationError as error:
        raise UnknownEvent(f"{kind.__name__}: {error}") from None
    except UnicodeEncodeError:
        raise UnknownEvent(f"{kind.__name__}: it holds text that is not Unicode") from None
    return request


def is_warm_up(event: Any) -> bool:
    """Whether *event* only keeps the function warm: a plugin's ping, or EventBridge's schedule."""
    return isinstance(event, dict) and (
        event.get("source") == "serverless-plugin-warmup"
        or event.get("detail-type") == "Scheduled Event"
        or event.get("warmup") is True
        or event.get("warmer") is True
    )


def _describe(event: Any) -> str:
    """Name the type, the keys and the sender of *event*, without its values."""
    keys: Any = event if isinstance(event, dict) else {}
    named = ", ".join(sorted(ascii(str(key)[:40])[1:-1] for key in keys)[:20]) or "nothing"
    what = f"an object of {named}" if isinstance(event, dict) else f"a {type(event).__name__}"
    records = keys.get("Records", event)
    first = records[0] if isinstance(records, list) and records else event
    fields = first if isinstance(first, dict) else {}
    sender = str(fields.get("eventSource") or fields.get("EventSource"))
    return f"{what} from {sender}" if _SENDER.fullmatch(sender) else what


def _without(stage: str, path: str) -> str:
    prefix = f"/{stage}"
    return path[len(prefix) :] or "/" if f"{path}/".startswith(f"{prefix}/") else path

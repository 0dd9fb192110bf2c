"""Every error that this package raises, as one tree. Only `endpoint` turns them into responses.

CanoaError
├── SettingsError            a value in the environment cannot be read
├── FunctionsError           functions/ cannot be loaded
├── BundleError              a bundle is missing, damaged or not allowed; for the operator only
│   ├── BundleRefused        a bundle is wrong, and stays so until someone changes it
│   │   └── SandboxFailed    a graph was tried in a child process, and failed there
│   ├── ObjectMissing        there is no such object in the store
│   ├── AccessDenied         the store denies access
│   └── Conflict             a conditional write came too late
└── Problem                  an RFC 9457 answer to a client
    ├── Malformed        400
    ├── BadRequest       400
    │   └── UnknownEvent
    ├── Unauthorized     401
    ├── Forbidden        403
    ├── NotFound         404
    ├── MethodNotAllowed 405
    ├── RequestTimeout   408
    ├── TooLarge         413
    ├── UriTooLong       414
    ├── UnsupportedMedia 415
    ├── InvalidBody      422
    ├── InvalidInstances 422
    ├── InvalidQuery     422
    ├── NotExplainable   422
    ├── TooManyRequests  429
    ├── HeadersTooLarge  431
    ├── InternalError    500
    ├── ModelUnavailable 503
    ├── KeysUnavailable  503
    └── Overloaded       503
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec


class CanoaError(Exception):
    """Base of all errors raised here."""


class SettingsError(CanoaError):
    """An environment variable holds what cannot be read."""


class FunctionsError(CanoaError):
    """A function cannot be loaded. The sentence says which, and what is missing."""


class BundleError(CanoaError):
    """A bundle cannot be used. The sentence is for the operator's log, never for a client."""


class BundleRefused(BundleError):  # noqa: N818  # as its siblings
    """A bundle or a `latest` file is wrong, and stays so until someone changes it."""


class SandboxFailed(BundleRefused):
    """A graph was tried in a child process, and was rejected there or ended the process."""


class ObjectMissing(BundleError):  # noqa: N818  # as it reads where it is caught
    """There is no such object in the store."""


class AccessDenied(BundleError):  # noqa: N818
    """The store denies access, or hides that there is no such object."""


class Conflict(BundleError):  # noqa: N818
    """A conditional write came too late: the object exists already, or has changed."""


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong at one place of the request body."""

    #: RFC 6901 JSON pointer into the body.
    pointer: str
    detail: str


class Problem(CanoaError):  # noqa: N818  # RFC 9457's own name
    """An answer in the form of RFC 9457; *detail* reaches the client, *reason* only the log."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    #: Of the line in the log, below status 500.
    level: ClassVar[str] = "info"
    #: The version that rejected the request; only for the log.
    model_version: str | None = None

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.reason = reason


class Malformed(Problem):
    """The body is not JSON, or not CSV if it should be."""

    status, code, title = 400, "malformed-body", "The body cannot be read"


class BadRequest(Problem):
    """The request is not valid HTTP."""

    status, code, title = 400, "bad-request", "The request is not valid HTTP"


class Unauthorized(Problem):
    """The credentials are missing or not valid. Only the log says why."""

    status, code, title = 401, "unauthorized", "A valid key or token is needed"

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        """*sent* says whether there was a key or a token at all: RFC 6750 distinguishes this."""
        super().__init__(
            "The key or token that was sent is not valid."
            if sent
            else "Send a key or a token: 'Authorization: Bearer …'; a key also as 'X-API-Key: …'.",
            headers={"WWW-Authenticate": _CHALLENGE + ', error="invalid_token"' * sent},
            reason=reason,
        )


class Forbidden(Problem):
    """The caller is known, but may not do this."""

    status, code, title = 403, "forbidden", "This key or token may not do this"

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"This request needs the scope {scope}.",
            headers={
                "WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
            },
            reason=f"lacks the scope {scope}",
        )


_CHALLENGE = 'Bearer realm="canoa"'


class UnknownEvent(BadRequest):
    """The event that invoked the function is a malformed HTTP request. Only the log says why."""

    level = "warning"

    def __init__(self, reason: str) -> None:
        super().__init__("The event is not an HTTP request.", reason=reason)


class NotFound(Problem):
    """No function answers at this path."""

    status, code, title = 404, "not-found", "Nothing is here"


class MethodNotAllowed(Problem):
    """The function does not answer this method."""

    status, code, title = 405, "method-not-allowed", "This method is not allowed here"


class RequestTimeout(Problem):
    """The client took too long to send its request."""

    status, code, title = 408, "request-timeout", "The request arrived too slowly"


class TooLarge(Problem):
    """More bytes, or more instances, than the settings allow."""

    status, code, title = 413, "too-large", "The request is too large"


class UriTooLong(Problem):
    """The request line is longer than the server reads."""

    status, code, title = 414, "uri-too-long", "The request line is too long"


class UnsupportedMedia(Problem):
    """The body is declared to be of a type that is not taken."""

    status, code, title = 415, "unsupported-media-type", "The content type is not accepted"


class InvalidBody(Problem):
    """The body is JSON, but not what the function takes."""

    status, code, title = 422, "invalid-body", "The body is not valid"


class InvalidInstances(Problem):
    """The body is JSON, but not what this model takes."""

    status, code, title = 422, "invalid-instances", "The instances do not fit the model"


class InvalidQuery(Problem):
    """A parameter of the query string is missing, or has no meaning for this model."""

    status, code, title = 422, "invalid-query", "The query string is not valid"


class NotExplainable(Problem):
    """The model's answers are no numbers, so nothing adds up to them."""

    status, code, title = 422, "not-explainable", "This model's answers cannot be explained"


class TooManyRequests(Problem):
    """The caller has used up what the rate limit allows."""

    status, code, title = 429, "too-many-requests", "Too many requests"

    def __init__(self, seconds: int) -> None:
        super().__init__(
            f"The next request is accepted in {seconds} s.", headers={"Retry-After": str(seconds)}
        )


class HeadersTooLarge(Problem):
    """More headers, or longer ones, than the server reads."""

    status, code, title = 431, "headers-too-large", "The headers are too large"


class InternalError(Problem):
    """A fault of the server. The text is constant; the log has the rest, under the request id."""

    status, code, title = 500, "internal-error", "Something went wrong on our side"


class ModelUnavailable(Problem):
    """No model can be served now."""

    status, code, title = 503, "model-unavailable", "No model is ready"


class KeysUnavailable(Problem):
    """A token cannot be verified now: its key is not known yet."""

    status, code, title = 503, "keys-unavailable", "Tokens cannot be verified now"

    def __init__(self, *, retry_seconds: int) -> None:
        super().__init__(
            "The token cannot be verified at the moment.",
            headers={"Retry-After": str(retry_seconds)},
            reason="the identity provider's keys were not fetched yet",
        )


class Overloaded(Problem):
    """This process has no room for another request."""

    status, code, title = 503, "overloaded", "The server is overloaded"

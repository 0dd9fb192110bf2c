"""What a function may use of a request, and the checks of its body."""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import msgspec

from serving.errors import FieldError, InvalidBody, Malformed, TooLarge, UnsupportedMedia

__all__ = [
    "JSON",
    "Request",
    "check_answer",
    "check_body",
    "decode",
    "max_answer_bytes",
    "media_type",
]

JSON = "application/json"

T = TypeVar("T")


class Request(Protocol):
    """What a function may use of a request: the parts that every platform offers."""

    @property
    def method(self) -> str:
        """The HTTP method, in upper case."""

    @property
    def path(self) -> str:
        """The path, without the query string."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by name; case does not matter."""

    @property
    def args(self) -> Mapping[str, str]:
        """The parameters of the query string."""

    def get_data(self) -> bytes:
        """Return the body."""


def decode(request: Request, kind: type[T]) -> T:
    """
    Decode the JSON body of *request* as a msgspec type.

    Raises:
        Malformed: It is not JSON.
        InvalidBody: It does not fit *kind*.
    """
    try:
        return msgspec.json.decode(request.get_data(), type=kind)
    except msgspec.ValidationError as error:
        detail, path = _PLACE.fullmatch(str(error)).groups()  # type: ignore[union-attr]
        raise InvalidBody("See errors.", errors=[FieldError(_pointer(path), detail)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body is not JSON in UTF-8.") from None


#: What msgspec says, and where: "… - at `$.lists[...][0]`", or "… - at `key` in `$.numbers`".
_PLACE = re.compile(r"(.*?)(?: - at (?:`key` in )?`\$([^`]*)`)?", re.DOTALL)


def _pointer(path: str | None) -> str:
    """Return a JSON pointer (RFC 6901) to msgspec's *path*, as far as it names keys."""
    known = (path or "").partition("[...]")[0].replace("~", "~0").replace("/", "~1")
    return known.replace("[", "/").replace("]", "").replace(".", "/")


def check_body(request: Request, limit: int, media: Sequence[str] = (JSON,)) -> int:
    """
    Reject a body of the wrong type or size, unread where possible.

    Args:
        request: The request.
        limit: The largest body, in bytes.
        media: The types that are taken.

    Returns:
        The body's size in bytes.

    Raises:
        UnsupportedMedia: It is declared to be of another type, or not in UTF-8.
        TooLarge: It is larger than *limit*.
        Malformed: It ended early, or is not in UTF-8.
    """
    headers = request.headers
    _check_type(headers.get("Content-Type"), headers.get("Content-Encoding"), media)
    length = headers.get("Content-Length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise _too_large(limit)
    if hasattr(request, "max_content_length"):
        # Werkzeug reads no more than this, of a body without a length too. One byte beyond the
        # limit is enough to see that there is more.
        cast(Any, request).max_content_length = limit + 1
    try:
        body = request.get_data()
    except Exception as error:  # Werkzeug's, which must not be imported here
        if getattr(error, "code", None) == 413:
            raise _too_large(limit) from None
        raise Malformed("The body ended before all of it had come.") from None
    if len(body) > limit:
        raise _too_large(limit)
    _check_encoding(body[:4], json=media_type(headers.get("Content-Type")) == JSON)
    return len(body)


def max_answer_bytes(request: Request) -> int | None:
    """Return the largest answer to *request* in bytes, if its platform has a limit."""
    return getattr(request, "max_answer_bytes", None)


def check_answer(request: Request, body: bytes, limit: int) -> None:
    """
    Reject an answer that is too large to be sent: over *limit*, or over what the platform takes.

    Raises:
        TooLarge: Its *body* has more bytes. Where an event carries it, it counts as it is there:
            as a JSON string, or in Base64.
    """
    size, most = len(body), max_answer_bytes(request)
    room = min(limit, most or limit)
    if most and room < 2 * size:  # only then it matters how an event writes it
        try:
            size = len(msgspec.json.encode(body.decode()))
        except UnicodeDecodeError:
            size = len(binascii.b2a_base64(body, newline=False))
    if size > room:
        raise TooLarge(
            f"The answer has {size} bytes, and at most {room} can be sent: ask for less."
        )


def media_type(header: str | None) -> str:
    """Return the media type of a Content-Type header, without its parameters: JSON without one."""
    return (header or JSON).partition(";")[0].strip().lower()


def _check_type(content_type: str | None, encoding: str | None, taken: Sequence[str]) -> None:
    if encoding and encoding.lower() != "identity":
        raise UnsupportedMedia("Send the body as it is, without a Content-Encoding.")
    if content_type is None or content_type == JSON:
        return
    if media_type(content_type) not in taken:
        raise UnsupportedMedia(f"Send {' or '.join(taken)}, and say so in Content-Type.")
    parameters = (part.strip().lower() for part in content_type.split(";")[1:])
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise UnsupportedMedia("Send UTF-8.")


def _check_encoding(first: bytes, *, json: bool) -> None:
    """Name another encoding by the body's *first* four bytes: JSON and CSV have no zero byte."""
    if json and first.startswith(codecs.BOM_UTF8):
        raise Malformed(
            "The body begins with a byte order mark (UTF-8 with BOM); send UTF-8 without it."
        )
    if 0 in first or first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        width = 32 if b"\0\0" in first else 16
        raise Malformed(f"The body is UTF-{width}; send UTF-8.")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"At most {limit} bytes are accepted.")

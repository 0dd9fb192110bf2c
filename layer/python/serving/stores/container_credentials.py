"""AWS credentials as a Lambda with SnapStart gets them: at an address, by a token in a variable.

https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
obstore knows such an address only with the token in a file.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from obstore.store import S3Credential

__all__ = ["container_credentials", "in_snapshot"]

_ADDRESS = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
_TOKEN = "AWS_CONTAINER_AUTHORIZATION_TOKEN"  # noqa: S105  # a name, and no token
_SECONDS = 2.0


class _Answer(msgspec.Struct, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    token: str
    expiration: datetime


def in_snapshot() -> bool:
    """Whether credentials come so, and are not in the environment themselves."""
    return {_ADDRESS, _TOKEN} <= os.environ.keys() and "AWS_ACCESS_KEY_ID" not in os.environ


def container_credentials() -> S3Credential:
    """
    Ask for credentials; obstore asks again when they expire.

    Raises:
        OSError: Nobody answers.
        ValueError: What is answered is no credentials.
    """
    from urllib.request import Request, urlopen

    request = Request(os.environ[_ADDRESS], headers={"Authorization": os.environ[_TOKEN]})  # noqa: S310  # AWS's own
    with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310  # AWS's own
        found = msgspec.json.decode(answer.read(65536), type=_Answer)
    return {
        "access_key_id": found.access_key_id,
        "secret_access_key": found.secret_access_key,
        "token": found.token,
        "expires_at": found.expiration,
    }

"""Turns errors of obstore into sentences for the operator."""

from __future__ import annotations

import os
import re

from obstore.exceptions import (
    AlreadyExistsError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from serving.errors import AccessDenied, BundleError, Conflict, ObjectMissing

__all__ = ["explain"]

_NO_BUCKET = "NoSuchBucket|ContainerNotFound"
_NO_CREDENTIALS = "no credentials were found"
#: Causes by a pattern in obstore's text; the first match counts. Most have no class of their own.
_CAUSES = {
    _NO_BUCKET: "there is no such bucket",
    # Besides the environment, credentials come from an address of the machine.
    "kind: Decode|token request|169[.]254[.]|/latest/api/token|/computeMetadata/": _NO_CREDENTIALS,
    "TimedOut|kind: Timeout": "the store did not answer in time",
    "kind: Connect": "the store cannot be reached",
    "IncompleteMessage|IncompleteBody|NoContentRange|kind: Body": "the connection broke off",
    "BareRedirect": "the bucket is in another region; set AWS_REGION",
    r"status: \d+": "the store answered with an error",
}
#: Details to show beside the cause: the store's host, the HTTP status and the store's error code.
_DETAILS = (r"https?://(?:[^/@\s]*@)?([^/\s?]+)", r"status: (\d+)", r"<Code>(\w+)</Code>")


def explain(error: Exception, where: str) -> BundleError:
    """
    Turn an error of obstore into a sentence for the operator.

    obstore's own text is left out: it is pages long, and quotes requests and answers.
    """
    text = str(error)
    found = [match[1] for pattern in _DETAILS if (match := re.search(pattern, text))]
    told = f" ({', '.join(found)})" if found else ""
    if isinstance(error, AlreadyExistsError):
        return Conflict(f"{where} is there already.")
    if isinstance(error, PreconditionError):
        return Conflict(f"{where} has changed.")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return AccessDenied(f"{where}: access was denied{told}.")
    if isinstance(error, FileNotFoundError) and not re.search(_NO_BUCKET, text):
        return ObjectMissing(f"{where} is not there.")
    credentials = re.escape(os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or "\0")
    for pattern, cause in {credentials: _NO_CREDENTIALS, **_CAUSES}.items():
        if re.search(pattern, text):
            return BundleError(f"{where}: {cause}{told}.")
    return BundleError(f"{where}: {type(error).__name__}{told}.")

"""A bucket as a store of bundles: S3 and its like, Google Cloud Storage, Azure, through obstore.

Credentials and addresses come from the environment, under the stores' own names for them.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from serving.errors import AccessDenied, BundleError, Conflict, ObjectMissing
from serving.stores.container_credentials import container_credentials, in_snapshot
from serving.stores.store import READ_LIMIT, Object, Tag, check_size

if TYPE_CHECKING:
    from obstore import GetOptions, PutMode, UpdateVersion
    from obstore.store import ClientConfig, RetryConfig

__all__ = ["BucketStore", "open_bucket"]

CONNECT_SECONDS = 2.0
RETRIES = 2

_STORES = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_Client = S3Store | GCSStore | AzureStore
_Result = TypeVar("_Result")


def open_bucket(scheme: str, bucket: str, prefix: str, *, timeout: float) -> BucketStore:
    """
    Open a bucket, which asks it nothing yet.

    Raises:
        BundleError: The environment lacks what such a store needs, or holds what it cannot use.
    """
    client_options: ClientConfig = {
        "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, timeout)),
        "timeout": timedelta(seconds=timeout),
        # The stores' own addresses are https; http is only what an endpoint asks for by name.
        "allow_http": True,
    }
    retry_config: RetryConfig = {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=timeout),
    }
    address = f"{scheme}://{bucket}"
    more = (
        {"credential_provider": container_credentials} if scheme == "s3" and in_snapshot() else {}
    )
    try:
        client = _STORES[scheme](
            bucket, client_options=client_options, retry_config=retry_config, **more
        )
    except (BaseError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise BundleError(f"{address} cannot be opened: {reason}.") from error
    return BucketStore(client, address, prefix, timeout)


class BucketStore:
    """A prefix in a bucket."""

    remote = True

    def __init__(self, client: _Client, bucket: str, prefix: str, timeout: float) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._timeout = timeout

    def __str__(self) -> str:
        return f"{self._bucket}/{self._prefix}".rstrip("/")

    def at(self, name: str) -> BucketStore:
        """Return the prefix *name* within this one."""
        return BucketStore(self._client, self._bucket, self._key(name), self._timeout)

    def begin(self, name: str, *, limit: int = READ_LIMIT) -> Callable[[], Object]:
        """Begin to read an object."""
        return self._begin(lambda: self._get(name, limit=limit), name)

    def read(self, name: str, *, size: int | None = None, limit: int = READ_LIMIT) -> Object:
        """Read an object."""
        return self._begin(lambda: self._get(name, size, limit), name)()

    def read_if_changed(self, name: str, tag: Tag) -> Object | None:
        """Read an object, unless it is still the one of this *tag*."""

        def get() -> Object | None:
            try:
                return self._get(name, options={"if_none_match": tag.e_tag})
            except NotModifiedError:
                return None

        return self._begin(get, name)()

    def create(self, name: str, content: bytes) -> None:
        """Write an object, if there is none."""
        for wait in (0.2, 0.5, None):
            try:
                self._put(name, content, "create")
                return
            except Conflict:
                # S3 says so too of two writes at once, of which neither may have come to pass.
                if wait is None or self._is_there(name):
                    raise
                time.sleep(wait)

    def replace(self, name: str, content: bytes, tag: Tag) -> None:
        """Write an object, if it is still the one of this *tag*."""
        known: UpdateVersion = {}
        if tag.e_tag is not None:
            known["e_tag"] = tag.e_tag
        if tag.version is not None:
            known["version"] = tag.version
        self._put(name, content, known)

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""

        def delete() -> None:
            with contextlib.suppress(FileNotFoundError):
                obstore.delete(self._client, self._key(name))

        self._begin(delete, name)()

    def names(self) -> list[str]:
        """List objects and prefixes."""

        def collect() -> list[str]:
            found = obstore.list_with_delimiter(self._client, self._prefix or None)
            paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
            return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

        return self._begin(collect, "")()

    def _is_there(self, name: str) -> bool:
        def ask() -> bool:
            try:
                obstore.head(self._client, self._key(name))
            except FileNotFoundError:
                return False
            return True

        return self._begin(ask, name)()

    def _get(
        self,
        name: str,
        size: int | None = None,
        limit: int = READ_LIMIT,
        options: GetOptions | None = None,
    ) -> Object:
        answer = obstore.get(self._client, self._key(name), options=options)
        meta = answer.meta
        check_size(self.at(name), meta["size"], size, limit)
        return Object(bytes(answer.bytes()), Tag(meta["e_tag"], meta["version"]))

    def _put(self, name: str, content: bytes, mode: PutMode) -> None:
        def put() -> None:
            obstore.put(self._client, self._key(name), content, mode=mode)

        self._begin(put, name)()

    def _begin(self, work: Callable[[], _Result], name: str) -> Callable[[], _Result]:
        """Start *work* on a thread; the call waits for it no longer than the deadline."""
        deadline = time.monotonic() + self._timeout
        future: Future[_Result] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # whoever waits for the result is given it
                future.set_exception(error)
            except BaseException:  # a panic of obstore's is no Exception; it has said so by itself
                message = (
                    f"{self.at(name)}: the address or the credentials cannot be used; "
                    "look for a blank, a line's end or a missing http:// in what is set for them."
                )
                future.set_exception(BundleError(message))

        # A process that is to end does not wait for it.
        threading.Thread(target=run, daemon=True).start()

        def result() -> _Result:
            try:
                return future.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                message = f"{self.at(name)}: no answer within {self._timeout:g} s."
                raise BundleError(message) from error
            except (BaseError, OSError, ValueError) as error:
                raise _explain(error, str(self.at(name))) from error

        return result

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".strip("/")


#: What obstore calls container_credentials() when that fails.
_PROVIDER = "External AWS credential provider"
_NO_BUCKET = "NoSuchBucket|ContainerNotFound"
#: How the causes read in obstore's text, the first that fits; it has no class for most of them.
_CAUSES = {
    _NO_BUCKET: "there is no such bucket",
    _PROVIDER: "no credentials were found",
    # What comes after the environment is a machine's own service, and here there is none.
    "token request|169[.]254[.]|/latest/api/token|/computeMetadata/": "no credentials were found",
    "TimedOut|kind: Timeout": "the store did not answer in time",
    "kind: Connect": "the store cannot be reached",
    "IncompleteMessage|IncompleteBody|NoContentRange|kind: Body": "the connection broke off",
    "BareRedirect": "the bucket is in another region; set AWS_REGION",
    r"status: \d+": "the store answered with an error",
}
#: What is worth telling beside: the store's address, the HTTP status and the store's own word.
_DETAILS = (r"https?://(?:[^/@\s]*@)?([^/\s?]+)", r"status: (\d+)", r"<Code>(\w+)</Code>")


def _explain(error: Exception, where: str) -> BundleError:
    """
    Say what failed, in a sentence for the operator.

    obstore's own text is not passed on: it runs over pages, and quotes requests and answers.
    """
    text = str(error)
    found = [match[1] for pattern in _DETAILS if (match := re.search(pattern, text))]
    told = f" ({', '.join(found)})" if found else ""
    if isinstance(error, AlreadyExistsError):
        return Conflict(f"{where} is there already.")
    if isinstance(error, PreconditionError):
        return Conflict(f"{where} is another by now.")
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if refused and _PROVIDER not in text:
        return AccessDenied(f"{where}: access was denied{told}.")
    if isinstance(error, FileNotFoundError) and not re.search(_NO_BUCKET, text):
        return ObjectMissing(f"{where} is not there.")
    for pattern, cause in _CAUSES.items():
        if re.search(pattern, text):
            return BundleError(f"{where}: {cause}{told}.")
    return BundleError(f"{where}: {type(error).__name__}{told}.")

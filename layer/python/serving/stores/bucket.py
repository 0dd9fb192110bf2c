"""A bucket as a store of bundles, through obstore: S3 and compatible, Google Cloud Storage, Azure.

obstore reads credentials and addresses from the environment, under the clouds' own names.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

import obstore
from obstore.exceptions import BaseError, NotModifiedError
from obstore.store import AzureStore, GCSStore, S3Store

from serving.errors import BundleError, Conflict, ObjectMissing
from serving.stores.bucket_errors import explain
from serving.stores.store import READ_LIMIT, Object, Tag, check_size

if TYPE_CHECKING:
    from obstore import GetOptions, PutMode, UpdateVersion
    from obstore.store import S3Config

__all__ = ["BucketStore", "open_bucket"]

CONNECT_SECONDS = 2.0
RETRIES = 2

_STORES = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_Client = S3Store | GCSStore | AzureStore
_Result = TypeVar("_Result")


def open_bucket(scheme: str, bucket: str, prefix: str, *, timeout: float) -> BucketStore:
    """
    Open a bucket. This sends no request yet.

    Raises:
        BundleError: The environment lacks a value that the store needs, or has an invalid one.
    """
    address = f"{scheme}://{bucket}"
    try:
        client = _STORES[scheme](
            bucket,
            client_options={
                "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, timeout)),
                "timeout": timedelta(seconds=timeout),
                # Plain http is used only if an endpoint's URL says so.
                "allow_http": True,
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=timeout)},
            **(_snapstart_token() if scheme == "s3" else {}),
        )
    except (BaseError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise BundleError(f"{address} cannot be opened: {reason}.") from error
    return BucketStore(client, address, prefix, timeout)


def _snapstart_token() -> S3Config:
    """
    Pass on the token that Lambda with SnapStart sets; obstore takes the name of a file.

    The file is in memory, and stays open, because obstore reads it again for new credentials.
    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
    """
    token = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    if token is None or "AWS_ACCESS_KEY_ID" in os.environ:
        return {}
    file = os.memfd_create("token")
    os.write(file, token.encode())
    return {"container_authorization_token_file": f"/proc/self/fd/{file}"}


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
        """Start to read an object."""
        return self._begin(lambda: self._get(name, limit=limit), name)

    def read(self, name: str, *, size: int | None = None, limit: int = READ_LIMIT) -> Object:
        """Read an object."""
        return self._begin(lambda: self._get(name, size, limit), name)()

    def read_if_changed(self, name: str, tag: Tag) -> Object | None:
        """Read an object, or return None if it still has this *tag*."""

        def get() -> Object | None:
            try:
                return self._get(name, options={"if_none_match": tag.e_tag})
            except NotModifiedError:
                return None

        return self._begin(get, name)()

    def create(self, name: str, content: bytes) -> None:
        """Write a new object."""
        for wait in (0.2, 0.5, None):
            try:
                self._put(name, content, "create")
                return
            except Conflict:
                # S3 also answers this to concurrent writes, of which none may have succeeded.
                if wait is None or self._is_there(name):
                    raise
                time.sleep(wait)

    def replace(self, name: str, content: bytes, tag: Tag) -> None:
        """Replace an object if it still has this *tag*."""
        known = {part: value for part, value in tag._asdict().items() if value is not None}
        self._put(name, content, cast("UpdateVersion", known))

    def delete(self, name: str) -> None:
        """Remove an object if it exists."""
        with contextlib.suppress(ObjectMissing):
            self._begin(lambda: obstore.delete(self._client, self._key(name)), name)()

    def names(self) -> list[str]:
        """Return the names of objects and prefixes, sorted."""

        def collect() -> list[str]:
            found = obstore.list_with_delimiter(self._client, self._prefix or None)
            paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
            return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

        return self._begin(collect, "")()

    def open_reader(self, name: str) -> tuple[obstore.ReadableFile, int, str]:
        """Open an object for reads anywhere in it; return its bytes and its tag as well."""

        def open_it() -> tuple[obstore.ReadableFile, int, str]:
            meta = obstore.head(self._client, self._key(name))
            reader = obstore.open_reader(self._client, self._key(name))
            return reader, meta["size"], meta["e_tag"] or ""

        return self._begin(open_it, name)()

    def walk(self) -> list[tuple[str, int, str]]:
        """Return the path within this location, the bytes and the tag of each object below it."""

        def collect() -> list[tuple[str, int, str]]:
            start = f"{self._prefix}/" if self._prefix else ""
            return [
                (entry["path"].removeprefix(start), entry["size"], entry["e_tag"] or "")
                for entries in obstore.list(self._client, self._prefix or None)
                for entry in entries
            ]

        return self._begin(collect, "")()

    def _is_there(self, name: str) -> bool:
        try:
            self._begin(lambda: obstore.head(self._client, self._key(name)), name)()
        except ObjectMissing:
            return False
        return True

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
        self._begin(lambda: obstore.put(self._client, self._key(name), content, mode=mode), name)()

    def _begin(self, work: Callable[[], _Result], name: str) -> Callable[[], _Result]:
        """Start *work* on a thread; the returned call waits for it until the deadline."""
        deadline = time.monotonic() + self._timeout
        future: Future[_Result] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # raised again where the result is awaited
                future.set_exception(error)
            except BaseException:  # a panic in obstore, which printed its own report
                message = (
                    f"{self.at(name)}: the address or the credentials cannot be used; "
                    "look for a blank, a line break or a missing http:// in their variables."
                )
                future.set_exception(BundleError(message))

        # A daemon, so that the process can end before it.
        threading.Thread(target=run, daemon=True).start()

        def result() -> _Result:
            try:
                return future.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                message = f"{self.at(name)}: no answer within {self._timeout:g} s."
                raise BundleError(message) from error
            except (BaseError, OSError, ValueError) as error:
                raise explain(error, str(self.at(name))) from error

        return result

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".strip("/")

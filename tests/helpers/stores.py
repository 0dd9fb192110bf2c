"""Real object stores for tests: moto for S3 and behind Google's API, and azurite for Azure."""

from __future__ import annotations

import contextlib
import json
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import requests
from azure.storage.blob import BlobServiceClient

from tests.helpers.http.google import GoogleProxy
from tests.helpers.http.proxy import Proxy
from tests.helpers.servers import Server, program, start

__all__ = ["SECRETS", "Bucket", "GoogleBucket", "Location", "azure", "s3", "s3_place"]

#: No log may contain these. All are invented, or azurite's public key.
SECRETS = {"AWS_ACCESS_KEY_ID": "AKIDUMMYDUMMY", "AWS_SECRET_ACCESS_KEY": "dummy-secret-key"}
_AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_BIN = Path(sys.executable).parent


class Location(NamedTuple):
    """An empty location in a store, and the environment to reach it."""

    uri: str
    environment: dict[str, str]


@contextlib.contextmanager
def s3() -> Iterator[Server]:
    """Run moto's server."""
    with start([str(_BIN / "moto_server"), "-H", "127.0.0.1", "-p", "{port}"], {}) as server:
        yield server


def s3_place(server: str, endpoint: str) -> Location:
    """Make a bucket on *server* that is reached at *endpoint*."""
    bucket = f"models-{uuid.uuid4().hex[:12]}"
    requests.put(f"{server}/{bucket}", timeout=10).raise_for_status()
    environment = {**SECRETS, "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint}
    return Location(f"s3://{bucket}/models", environment)


class Bucket:
    """A bucket of moto's behind a proxy, which `get`, `put` and `delete` bypass."""

    #: moto does not check the signature, but requires one.
    _signed: ClassVar = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/x"}

    def __init__(self, moto: Server) -> None:
        self.proxy = Proxy(moto)
        self.location = s3_place(moto, self.proxy.url)
        self._address = f"{moto}/{self.location.uri.removeprefix('s3://')}"

    def get(self, key: str) -> bytes | None:
        """Read an object, or None."""
        answer = requests.get(f"{self._address}/{key}", headers=self._signed, timeout=10)
        return answer.content if answer.ok else None

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        answer = requests.put(f"{self._address}/{key}", content, headers=self._signed, timeout=10)
        answer.raise_for_status()

    def delete(self, key: str) -> None:
        """Remove an object."""
        requests.delete(f"{self._address}/{key}", headers=self._signed, timeout=10)

    def asked(self, method: str) -> list[str]:
        """List the last part of each key that was requested by *method*, in order."""
        return [a.path.rpartition("/")[2] for a in self.proxy.asked if a.method == method]


class GoogleBucket(Bucket):
    """A bucket in Google Cloud Storage: moto behind a proxy, which nothing bypasses."""

    def __init__(self, moto: Server, folder: Path) -> None:
        super().__init__(moto)
        self.proxy = GoogleProxy(moto)
        bucket = self.location.uri.removeprefix("s3://")
        self._address = f"{self.proxy.url}/{bucket}"
        key = folder / "service-account.json"
        account = {"gcs_base_url": self.proxy.url, "disable_oauth": True}
        account |= {"client_email": "", "private_key": "", "private_key_id": ""}
        key.write_text(json.dumps(account))
        self.location = Location(f"gs://{bucket}", {"GOOGLE_SERVICE_ACCOUNT": str(key)})


@contextlib.contextmanager
def azure() -> Iterator[Location]:
    """Run azurite, and make a container."""
    options = ["--inMemoryPersistence", "--disableTelemetry", "--silent"]
    command = [program("azurite-blob"), *options, "--blobHost", "127.0.0.1", "--blobPort", "{port}"]
    with start(command, {}) as server:
        account = f"{server}/devstoreaccount1"
        key = {"account_name": "devstoreaccount1", "account_key": _AZURITE_KEY}
        # azurite does not support later versions of the API.
        with BlobServiceClient(account, credential=key, api_version="2025-11-05") as service:
            service.create_container("models")
        environment = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": server}
        yield Location("az://models/models", environment)

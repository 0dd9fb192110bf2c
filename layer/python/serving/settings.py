"""Reads every setting from the environment."""

from __future__ import annotations

import binascii
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from serving.errors import SettingsError

__all__ = ["LEVELS", "Settings", "deployed_folder", "is_https", "platform", "read_settings"]

LEVELS = ("debug", "info", "warning", "error")

#: The variable that each cloud sets for the processes that it runs.
_PLATFORMS = {
    "AWS_LAMBDA_FUNCTION_NAME": "AWS Lambda",
    "K_SERVICE": "Google Cloud",
    "DYNO": "Heroku",
}


#: AWS Lambda returns at most 6 MB; a larger answer is lost.
_LAMBDA_ANSWER_BYTES = 6_000_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings, with their defaults. Field x is the environment variable X."""

    model_uri: str = "models/credit"
    base_path: str = ""
    store_timeout_seconds: int = 5
    model_refresh_seconds: float | None = None
    max_body_bytes: int = 4 * 1024 * 1024
    max_instances: int = 10_000
    max_explained: int = 10
    max_answer_bytes: int = 32 * 1024 * 1024
    cors_origins: frozenset[str] = frozenset()
    #: As written; `serving.access` parses it.
    api_keys: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_jwks_url: str | None = None
    #: "none": the API is open. "required": a key or token is needed; so it is wherever keys or
    #: tokens are configured, and on every cloud. None: not configured, and not on a cloud.
    auth: str | None = None
    rate_limit: str | None = None
    rate_limit_storage: str | None = None
    log_level: str = "info"
    model_public_keys: tuple[bytes, ...] = ()
    max_model_bytes: int = 256 * 1024 * 1024
    #: None: only the user's own, on a laptop. False: not even those.
    allow_pickle: bool | None = None
    function_target: str | None = None
    #: None: every address on a cloud, loopback elsewhere.
    host: str | None = None
    port: int = 8080
    web_concurrency: int = 2
    otel_exporter_otlp_endpoint: str | None = None


def platform(environment: Mapping[str, str]) -> str | None:
    """Name the cloud that runs this process; None on a laptop."""
    return next((name for mark, name in _PLATFORMS.items() if environment.get(mark)), None)


def deployed_folder(environment: Mapping[str, str]) -> str | None:
    """Return the deployed package's folder, which only a deployment changes; None on a laptop."""
    if root := environment.get("LAMBDA_TASK_ROOT"):
        return root
    # A dyno and Google's services start in it; but a container may start in "/", where all is.
    if "DYNO" in environment or "K_SERVICE" in environment:
        return os.getcwd() if os.getcwd() != "/" else None
    return None


def read_settings(environment: Mapping[str, str]) -> Settings:
    """
    Read settings from *environment*. An empty variable counts as unset.

    Raises:
        SettingsError: A value cannot be read, or contradicts another. The sentence names the
            variable, and the value where it is not a secret.
    """
    values: dict[str, Any] = {}
    for field in Settings.__struct_fields__:
        name = field.upper()
        text = environment.get(name, "").strip()
        if not text:
            continue
        try:
            values[field] = _READERS.get(field, str)(text)
        except ValueError as error:
            raise SettingsError(f"{name} is {text!r}, but must be {error}.") from None
    _check_together(values)
    cloud = platform(environment)
    if cloud or "api_keys" in values or "jwt_issuer" in values:
        values.setdefault("auth", "required")
    if cloud == "AWS Lambda":
        values.setdefault("max_answer_bytes", _LAMBDA_ANSWER_BYTES)
    return Settings(**values)


def is_https(url: str) -> bool:
    """Whether the answers of *url* are safe: it uses TLS, or is on this machine."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    except ValueError:
        return False
    schemes = ("https", "http") if loopback else ("https",)
    return bool(parts.hostname) and parts.scheme in schemes


def _check_together(values: Mapping[str, Any]) -> None:
    for name in ("api_keys", "jwt_issuer"):
        if name in values and "auth" in values:
            raise SettingsError(
                f"AUTH=none opens the API, and {name.upper()} restricts it: unset one of them."
            )
    for name, other in (
        ("jwt_issuer", "jwt_audience"),
        ("jwt_audience", "jwt_issuer"),
        ("jwt_jwks_url", "jwt_issuer"),
        ("rate_limit_storage", "rate_limit"),
    ):
        if name in values and other not in values:
            raise SettingsError(f"{name.upper()} is set, so {other.upper()} must be set too.")


def _base_path(text: str) -> str:
    path = text.rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", path):
        raise ValueError("a path such as /ml, of letters, digits and -._~")
    if path == "/health":
        raise ValueError("another path, since health checks ask for /health")
    return path


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:20]) < 2**63:
        raise ValueError("an integer from 1 to 2^63 - 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 1e6:
        raise ValueError("seconds, from 0.1")
    return seconds


def _address(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("an address such as 127.0.0.1, 0.0.0.0 or ::") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text[:20]) > 65535:
        raise ValueError("a port number from 0 to 65535")
    return int(text)


def _public_keys(text: str) -> tuple[bytes, ...]:
    keys = []
    for number, part in enumerate(text.split(","), 1):
        try:
            key = binascii.a2b_base64(part.strip(), strict_mode=True)
        except ValueError:
            key = b""
        if len(key) != 32:
            # Do not show it: it may be a private key.
            raise SettingsError(
                f"MODEL_PUBLIC_KEYS must be public keys as `python -m training keygen` prints "
                f"them, separated by commas; number {number} is none."
            )
        keys.append(key)
    return tuple(keys)


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def _level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise ValueError("one of " + ", ".join(LEVELS))
    return text.lower()


def _origins(text: str) -> frozenset[str]:
    origins = frozenset(origin.strip().rstrip("/") for origin in text.split(","))
    for origin in origins:
        scheme, separator, host = origin.partition("://")
        if origin != "*" and not (separator and scheme and host and "/" not in host):
            raise ValueError("* or origins such as https://example.com, separated by commas")
    return origins


def _https(text: str) -> str:
    if not is_https(text):
        raise ValueError("a URL such as https://login.example.com (http only on this machine)")
    return text


def _auth(text: str) -> str:
    if text.lower() != "none":
        raise ValueError("none, or unset")
    return "none"


def _redis(text: str) -> str:
    if not text.startswith(("redis://", "rediss://")):
        # Do not show it: it may hold a password.
        raise SettingsError("RATE_LIMIT_STORAGE must be a URL such as redis://localhost:6379.")
    return text


#: What reads the text of a field, unless that is the value. It raises ValueError with what the text
#: must be.
_READERS: dict[str, Callable[[str], Any]] = {
    "base_path": _base_path,
    "store_timeout_seconds": _positive,
    "model_refresh_seconds": _seconds,
    "max_body_bytes": _positive,
    "max_instances": _positive,
    "max_explained": _positive,
    "max_answer_bytes": _positive,
    "cors_origins": _origins,
    "jwt_issuer": _https,
    "jwt_jwks_url": _https,
    "auth": _auth,
    "rate_limit_storage": _redis,
    "log_level": _level,
    "model_public_keys": _public_keys,
    "max_model_bytes": _positive,
    "allow_pickle": _switch,
    "host": _address,
    "port": _port,
    "web_concurrency": _positive,
}

"""How often a caller may come, where no platform sees to it: on the dyno, and the laptop."""

from __future__ import annotations

import ipaddress
import math
import time

from limits import RateLimitItem, parse_many
from limits.storage import storage_from_string

from serving.access.token_bucket import MemoryBuckets, RedisBuckets
from serving.errors import SettingsError, TooManyRequests
from serving.telemetry.logs import log

__all__ = ["RateLimit", "network", "open_rate_limit"]

#: What a request may wait for Redis, and how long Redis is left alone when it was away.
REDIS_SECONDS = 0.2
PAUSE_SECONDS = 5.0


def open_rate_limit(rate: str, storage: str | None) -> RateLimit:
    """
    Make the limit that RATE_LIMIT and RATE_LIMIT_STORAGE describe. It connects to nothing yet.

    Raises:
        SettingsError: They cannot be read.
    """
    item = _read(rate)
    if storage is None:
        return RateLimit(item)
    try:
        redis = storage_from_string(
            storage, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        )
    except (ValueError, TypeError):  # their text may hold the password
        raise SettingsError("RATE_LIMIT_STORAGE cannot be read as the URL of a Redis.") from None
    return RateLimit(item, RedisBuckets(item, redis))


class RateLimit:
    """Buckets in Redis, if it is named and there; else in this process."""

    def __init__(self, rate: RateLimitItem, shared: RedisBuckets | None = None) -> None:
        self._own = MemoryBuckets(rate)
        self._shared = shared
        self._away_until: float | None = None

    def take(self, who: str) -> None:
        """
        Count one request of *who*.

        Raises:
            TooManyRequests: It is one too many for now.
        """
        wait = self._ask(who)
        if wait > 0:
            raise TooManyRequests(math.ceil(wait))

    def _ask(self, who: str) -> float:
        """Without Redis each process counts for itself: no request fails, nor goes uncounted."""
        if self._shared is None:
            return self._own.take(who)
        away = self._away_until
        if away is not None and time.monotonic() < away:
            return self._own.take(who)
        try:
            wait = self._shared.take(who)
        except Exception as error:  # whatever the client raises: requests go on
            self._away_until = time.monotonic() + PAUSE_SECONDS
            if away is None:
                reason = f"{type(error).__name__}: {error}"[:200]
                log("error", "the rate limit's Redis is away: each process counts", reason=reason)
            return self._own.take(who)
        if away is not None:
            self._away_until = None
            log("info", "the rate limit's Redis is back")
        return wait


def network(address: str) -> str:
    """Return who stands for *address*: itself, or of IPv6 the /64, which is one household's."""
    try:
        ip = ipaddress.ip_address(address.strip())
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ipaddress.IPv6Network((ip, 64), strict=False).network_address
    return str(ip)


def _read(rate: str) -> RateLimitItem:
    try:
        items = parse_many(rate)
    except ValueError:
        items = []
    if len(items) != 1 or not items[0].amount:
        raise SettingsError(
            f"RATE_LIMIT is {rate!r}, but must be one rate such as 100/minute or 20 per 5 seconds."
        )
    return items[0]

"""Limits how often a caller may send requests, where the platform does not: dynos and laptops.

The limit is the moving window of the library `limits`: in any stretch of the rate's length a caller
gets at most the rate's amount, and each request gives its slot back when that length has passed.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from typing import cast

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from serving.errors import SettingsError, TooManyRequests
from serving.telemetry.logs import log

__all__ = ["RateLimit", "network", "open_rate_limit"]

#: The longest that a request waits for Redis.
REDIS_SECONDS = 0.2
#: How long Redis is left alone after it failed.
PAUSE_SECONDS = 5.0


def open_rate_limit(rate: str, storage: str | None) -> RateLimit:
    """
    Make the limit that RATE_LIMIT and RATE_LIMIT_STORAGE describe. It connects to nothing yet.

    Raises:
        SettingsError: One of them cannot be read.
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
    return RateLimit(item, cast(Storage, redis))


class RateLimit:
    """Counts requests in Redis if one is set and answers, otherwise in this process."""

    def __init__(self, rate: RateLimitItem, redis: Storage | None = None) -> None:
        self._rate = rate
        self._own = _Memory(rate)
        self._shared = None if redis is None else MovingWindowRateLimiter(redis)
        #: By time.monotonic(): when Redis is asked again. None while it answers.
        self._away_until: float | None = None

    def take(self, caller: str) -> None:
        """
        Count one request of *caller*.

        Raises:
            TooManyRequests: The caller has used up the rate. Says when the next slot is free.
        """
        wait = self._ask(caller)
        if wait > 0:
            raise TooManyRequests(math.ceil(wait))

    def _ask(self, caller: str) -> float:
        """Return the seconds until the caller's next slot; 0 if this request has one."""
        away = self._away_until
        if self._shared is None or (away is not None and time.monotonic() < away):
            return self._own.take(caller)
        try:
            wait = _take(self._shared, self._rate, caller)
        except Exception as error:  # no exception of Redis fails a request
            self._away_until = time.monotonic() + PAUSE_SECONDS
            if away is None:
                reason = f"{type(error).__name__}: {error}"[:200]
                log("error", "the rate limit's Redis is down: each process counts", reason=reason)
            return self._own.take(caller)
        if away is not None:
            self._away_until = None
            log("info", "the rate limit's Redis is up again")
        return wait


class _Memory:
    """The windows of this process."""

    def __init__(self, rate: RateLimitItem) -> None:
        self._rate = rate
        self._storage = MemoryStorage()
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._lock = threading.Lock()
        self._sweep_at = 1000

    def take(self, caller: str) -> float:
        with self._lock:
            self._forget()
            return _take(self._limiter, self._rate, caller)

    def _forget(self) -> None:
        """Remove callers with an empty window: `limits` 5.8 keeps, and visits, them for ever."""
        windows = self._storage.events
        if len(windows) >= self._sweep_at:
            for key in [key for key, window in windows.items() if not window]:
                self._storage.clear(key)
            self._sweep_at = max(1000, 2 * len(windows))


def _take(limiter: MovingWindowRateLimiter, rate: RateLimitItem, caller: str) -> float:
    if limiter.hit(rate, caller):
        return 0.0
    window = limiter.get_window_stats(rate, caller)
    # A slot may have become free since the hit.
    return 1.0 if window.remaining else max(window.reset_time - time.time(), 1.0)


def network(address: str) -> str:
    """Return the caller that *address* stands for: itself, or an IPv6 address's /64 network."""
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

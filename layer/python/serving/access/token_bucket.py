"""
A token bucket: it holds as many requests as may come at once, and fills again evenly.

`limits` has windows only: at the edge of a fixed one two bursts pass, and in a moving one who used
all waits for the whole window. So the bucket is ours; the rate's notation, the names of keys and
the way to Redis are of `limits`.

Of a bucket only the moment is kept when it will be full again (the generic cell rate algorithm):
one number a caller, and none once it is full.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from limits import RateLimitItem

__all__ = ["MemoryBuckets", "RedisBuckets"]


class MemoryBuckets:
    """The buckets of this process."""

    def __init__(self, rate: RateLimitItem) -> None:
        self._period = rate.get_expiry()
        self._interval = self._period / rate.amount
        self._full_at: dict[str, float] = {}
        self._sweep_at = 1000
        self._lock = threading.Lock()

    def take(self, who: str) -> float:
        """Take one from *who*'s bucket and return 0, or the seconds until there is one."""
        now = time.monotonic()
        with self._lock:
            full_at = max(self._full_at.get(who, now), now) + self._interval
            # A hair's breadth, for what floats lose on the way.
            if full_at - now > self._period + 1e-6:
                return full_at - now - self._period
            self._full_at[who] = full_at
            if len(self._full_at) >= self._sweep_at:
                self._full_at = {who: at for who, at in self._full_at.items() if at > now}
                self._sweep_at = max(1000, 2 * len(self._full_at))
        return 0.0


class RedisBuckets:
    """Buckets that all processes share. Redis's clock counts, so theirs need not agree."""

    def __init__(self, rate: RateLimitItem, storage: Any) -> None:
        """*storage* is the RedisStorage of `limits`."""
        self._rate = rate
        self._storage = storage
        self._take = storage.get_connection().register_script(_TAKE)
        period = rate.get_expiry() * 1_000_000
        self._numbers = [period, max(1, period // rate.amount)]

    def take(self, who: str) -> float:
        """
        Take one from *who*'s bucket and return 0, or the seconds until there is one.

        Raises:
            redis.RedisError: It does not answer.
        """
        key = self._storage.prefixed_key(self._rate.key_for(who))
        return int(self._take(keys=[key], args=self._numbers)) / 1_000_000


#: Times are in microseconds, which a double holds exactly.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local period, interval = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + interval
if full_at - now > period then
  return full_at - now - period
end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return 0
"""

"""Where the levels of rate limits are kept: in this process, or in Redis for all relays together."""

import time
from collections import OrderedDict
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from messaging.relay.limits import Bucket, BucketsAway, Level

MAX_BUCKETS = 100_000  # the least recently used is forgotten: a bound on memory, not a promise to an attacker
REDIS_TIMEOUT_SECONDS = 0.5  # a limiter that is slow is treated like one that is away
REDIS_PAUSE_SECONDS = 1

# One call, one key: safe on a cluster. The time is the server's, so that relays need not agree on it.
_TAKE = """
local size, refill, amount = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local known = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(known[1]) or size, tonumber(known[2]) or now
tokens = math.min(size, tokens + math.max(0, now - at) / refill)
local taken = 0
if tokens >= amount then tokens = tokens - amount; taken = 1 end
if amount > 0 then
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens), 'at', string.format('%.6f', now))
  redis.call('EXPIRE', KEYS[1], math.ceil((size - tokens) * refill) + 1)
end
return {taken, string.format('%.9f', tokens)}
"""


class LocalBuckets:
    """Levels in this process; several relays behind a balancer then allow several times as much.

    ``clock`` gives seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float], capacity: int = MAX_BUCKETS) -> None:
        self._clock = clock
        self._capacity = capacity
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def take(self, name: str, bucket: Bucket, amount: float) -> Level:
        """Take tokens; never away."""
        now = self._clock()
        tokens, since = self._levels.pop(name, (bucket.size, now))
        tokens = min(bucket.size, tokens + (now - since) / bucket.refill)
        taken = tokens >= amount
        tokens -= amount if taken else 0
        self._levels[name] = (tokens, now)
        if len(self._levels) > self._capacity:
            self._levels.popitem(last=False)
        return Level(tokens, taken)

    async def close(self) -> None:
        """Nothing is open."""


class RedisBuckets:
    """Levels in Redis or Valkey, shared by all relays. A bucket that is full again is forgotten."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=REDIS_TIMEOUT_SECONDS, socket_connect_timeout=REDIS_TIMEOUT_SECONDS
        )
        self._take = self._redis.register_script(_TAKE)
        self._away_until = 0.0

    async def take(self, name: str, bucket: Bucket, amount: float) -> Level:
        """Take tokens in one call.

        Raises:
            BucketsAway: Redis does not answer, or did not a moment ago: then nobody waits for it again so soon.
        """
        if time.monotonic() < self._away_until:
            raise BucketsAway
        key = f"subrosa:limit:{{{name}}}"
        try:
            taken, tokens = await self._take(keys=[key], args=[bucket.size, bucket.refill, amount])
        except (RedisError, OSError):
            self._away_until = time.monotonic() + REDIS_PAUSE_SECONDS
            raise BucketsAway from None
        return Level(float(tokens), bool(taken))

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

"""Where the levels of rate limits are kept: in this process, or in Redis for all relays together.

What guards a secret (a code, a PIN) is counted in Redis before the call goes on. What guards against load is counted here at once,
and settled with Redis a few times a second: a send never waits for Redis, and all relays together let through little more
than one would.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

from redis.asyncio.cluster import RedisCluster

from messaging.relay.limits import Bucket, BucketKey, BucketNames, BucketsAway, Level
from messaging.relay.redis import FAILURES, connect
from messaging.serving.logs import get_logger

MAX_BUCKETS = 100_000  # the least recently used is forgotten: a bound on memory, not a promise to an attacker
MAX_KEPT_SECONDS = 10**14  # for so long Redis keeps a bucket at most; it takes no more than 9 * 10**15
REDIS_TIMEOUT_SECONDS = 0.5  # a limiter that is slow is treated like one that is away
REDIS_PAUSE_SECONDS = 1
SETTLE_SECONDS = 0.2
SETTLED_AT_ONCE = 500
MOST_DEBT = 32  # sizes of a bucket: so many relays may each let through all of it, and what they did is paid back

# One call, one key: safe on a cluster. The time is the server's, so that relays need not agree on it. With a debt allowed, the
# tokens are gone already and there may be fewer than none left; with 0 they are taken if they are there.
_TAKE = f"""
local size, refill, amount, debt = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local known = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(known[1]) or size, tonumber(known[2]) or now
tokens = math.min(size, tokens + math.max(0, now - at) / refill)
local taken = 0
if debt > 0 then tokens = math.max(-debt, tokens - amount); taken = 1
elseif tokens >= amount then tokens = tokens - amount; taken = 1 end
if amount > 0 then
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens), 'at', string.format('%.6f', now))
  redis.call('EXPIRE', KEYS[1], math.min(math.ceil((size - tokens) * refill) + 1, {MAX_KEPT_SECONDS}))
end
return {{taken, string.format('%.9f', tokens)}}
"""


class LocalBuckets:
    """Levels in this process; several relays behind a balancer then allow several times as much.

    ``clock`` gives seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float], capacity: int = MAX_BUCKETS) -> None:
        self._clock = clock
        self._capacity = capacity
        self._levels: OrderedDict[BucketKey, tuple[float, float]] = OrderedDict()

    async def take(self, key: BucketKey, bucket: Bucket, amount: float) -> Level:
        """Take tokens; never away."""
        return self.take_now(key, bucket, amount)

    def take_now(self, key: BucketKey, bucket: Bucket, amount: float) -> Level:
        """The same."""
        now = self._clock()
        size, refill, _ = bucket
        known = self._levels.get(key)
        if known is None:
            tokens = size
        else:
            self._levels.move_to_end(key)
            tokens, since = known
            tokens += (now - since) / refill
            if tokens > size:
                tokens = size
        taken = tokens >= amount
        if taken:
            tokens -= amount
        self._levels[key] = (tokens, now)
        if len(self._levels) > self._capacity:
            self._levels.popitem(last=False)
        return Level(tokens, taken)

    def put(self, key: BucketKey, tokens: float) -> None:
        """Set a level, perhaps below nothing: what others have taken counts here too."""
        if key in self._levels:
            self._levels[key] = (tokens, self._clock())

    async def close(self) -> None:
        """Nothing is open."""


class RedisBuckets:
    """Levels in Redis or Valkey, shared by all relays. A bucket that is full again is forgotten.

    One that does not answer for ``timeout`` seconds counts as away.
    """

    def __init__(self, url: str, names: BucketNames, *, timeout: float = REDIS_TIMEOUT_SECONDS) -> None:
        self._names = names
        self._redis = connect(url, timeout=timeout, connect_timeout=timeout)
        self._take = self._redis.register_script(_TAKE)
        self._away_until = 0.0

    def take_now(self, _key: BucketKey, _bucket: Bucket, _amount: float) -> None:
        """It always takes waiting."""

    async def take(self, key: BucketKey, bucket: Bucket, amount: float) -> Level:
        """Take tokens in one call.

        Raises:
            BucketsAway: Redis does not answer, or did not a moment ago: then nobody waits for it again so soon.
        """
        if time.monotonic() < self._away_until:
            raise BucketsAway
        try:
            taken, tokens = await self._take(keys=[self._place_of(key)], args=[bucket.size, bucket.refill, amount, 0])
        except FAILURES:
            self._away_until = time.monotonic() + REDIS_PAUSE_SECONDS
            raise BucketsAway from None
        return Level(float(tokens), bool(taken))

    async def spend(self, spent: Sequence[tuple[BucketKey, Bucket, float]]) -> list[float]:
        """Take what has been let through already, even if there is less; returns the levels, in one round trip.

        Raises:
            BucketsAway: Redis does not answer.
        """
        calls = [
            ([self._place_of(key)], [bucket.size, bucket.refill, amount, MOST_DEBT * bucket.size])
            for key, bucket, amount in spent
        ]
        try:
            if isinstance(self._redis, RedisCluster):
                found = [await self._take(keys, arguments) for keys, arguments in calls]
            else:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for keys, arguments in calls:
                        await self._take(keys, arguments, client=pipeline)
                    found = await pipeline.execute()
        except FAILURES:
            raise BucketsAway from None
        return [float(tokens) for _, tokens in found]

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    def _place_of(self, key: BucketKey) -> str:
        return f"subrosa:limit:{{{self._names.of(key)}}}"  # in braces: what a cluster hashes


class SettledBuckets:
    """Levels for all relays together. A bucket that fails open is counted in this process and settled with Redis by ``run``."""

    def __init__(self, together: RedisBuckets, here: LocalBuckets, capacity: int = MAX_BUCKETS) -> None:
        self._together = together
        self._here = here
        self._capacity = capacity
        self._spent: OrderedDict[BucketKey, tuple[Bucket, float]] = OrderedDict()

    async def take(self, key: BucketKey, bucket: Bucket, amount: float) -> Level:
        """Take tokens.

        Raises:
            BucketsAway: Redis does not answer, for a bucket that does not fail open.
        """
        return self.take_now(key, bucket, amount) or await self._together.take(key, bucket, amount)

    def take_now(self, key: BucketKey, bucket: Bucket, amount: float) -> Level | None:
        """Take tokens of a bucket that fails open."""
        if not bucket.fail_open:
            return None
        level = self._here.take_now(key, bucket, amount)
        if level.taken and amount > 0:
            before = self._spent.get(key)
            self._spent[key] = (bucket, amount if before is None else before[1] + amount)
            if len(self._spent) > self._capacity:
                self._spent.popitem(last=False)  # the oldest is never told: a bound on memory while Redis is slow
        return level

    async def settle(self) -> None:
        """Tell Redis what was taken here, and learn what all relays together have left.

        Each take is told once at most. After a failure nobody knows which of them Redis has counted, so none is told again.

        Raises:
            BucketsAway: Redis does not answer; each process goes on with what it knows.
        """
        spent, self._spent = self._spent, OrderedDict()
        each = ((key, bucket, amount) for key, (bucket, amount) in spent.items())
        while some := list(islice(each, SETTLED_AT_ONCE)):
            levels = await self._together.spend(some)
            for (key, _, _), tokens in zip(some, levels, strict=True):
                _, since = self._spent.get(key, (None, 0.0))
                self._here.put(key, tokens - since)

    async def run(self) -> None:
        """Settle a few times a second, until cancelled."""
        while True:
            await asyncio.sleep(SETTLE_SECONDS)
            try:
                await self.settle()
            except Exception as error:  # noqa: BLE001 - each process goes on alone, and tries again
                get_logger().warning("limits_away", error=type(error).__name__)
                await asyncio.sleep(REDIS_PAUSE_SECONDS)

    async def close(self) -> None:
        """Close all connections."""
        await self._together.close()

"""Rate limits: token buckets in this process, named as Signal-Server names its limiters.

A bucket holds ``size`` tokens and gets one back every ``refill`` seconds. What exceeds it is refused with the time to
wait. Buckets are per process: several relays behind a balancer allow several times as much.
"""

import math
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from messaging.relay.errors import RateLimited, StartupError

MAX_BUCKETS = 100_000  # the least recently used is forgotten: a bound on memory, not a promise to an attacker


class Limit(StrEnum):
    """Each bucket, with what it is counted by."""

    VERIFICATION_SESSION = "verificationSession"  # number
    VERIFICATION_SESSION_PER_ADDRESS = "verificationSessionPerAddress"  # network address
    VERIFICATION_CODE = "verificationCode"  # number: codes submitted, right or wrong
    REGISTRATION = "registration"  # number
    PREKEYS = "prekeys"  # fetching device, target device and its registration id
    MESSAGES = "messages"  # sending account, receiving account
    INBOUND_MESSAGE_BYTES = "inboundMessageBytes"  # receiving account


@dataclass(frozen=True, slots=True)
class Bucket:
    """``size`` at once, then one every ``refill`` seconds."""

    size: float
    refill: float


DEFAULTS: Mapping[Limit, Bucket] = {
    Limit.VERIFICATION_SESSION: Bucket(5, 600),
    Limit.VERIFICATION_SESSION_PER_ADDRESS: Bucket(50, 30),
    Limit.VERIFICATION_CODE: Bucket(15, 120),
    Limit.REGISTRATION: Bucket(6, 30),
    Limit.PREKEYS: Bucket(6, 600),
    Limit.MESSAGES: Bucket(60, 1),
    Limit.INBOUND_MESSAGE_BYTES: Bucket(128 * 1024 * 1024, 0.0005),
}


def read_limits(path: Path | None) -> dict[Limit, Bucket]:
    """The defaults, with what ``path`` (TOML, one table per bucket with ``size`` and ``refill``) sets instead.

    Raises:
        StartupError: no such file, not TOML, an unknown bucket, or a number that is not positive.
    """
    buckets = dict(DEFAULTS)
    if path is None:
        return buckets
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"cannot read the limits file: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise StartupError("the limits file is not TOML") from None
    for name, table in tables.items():
        if name not in frozenset(Limit) or not isinstance(table, dict) or table.keys() != {"size", "refill"}:
            known = ", ".join(Limit)
            raise StartupError(f"the limits file takes tables with size and refill, named: {known}")
        size, refill = table["size"], table["refill"]
        if not all(isinstance(value, int | float) and value > 0 for value in (size, refill)):
            raise StartupError(f"in the limits file, size and refill of {name} must be positive numbers")
        buckets[Limit(name)] = Bucket(float(size), float(refill))
    return buckets


class RateLimits:
    """All buckets of this process. ``clock`` gives seconds and never goes back."""

    def __init__(self, buckets: Mapping[Limit, Bucket], clock: Callable[[], float]) -> None:
        self._buckets = buckets
        self._clock = clock
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, limit: Limit, *key: Hashable, amount: float = 1) -> None:
        """Take ``amount`` tokens of the bucket for ``key``.

        Raises:
            RateLimited: there are not as many; nothing is taken.
        """
        bucket, now, name = self._buckets[limit], self._clock(), (limit, key)
        level, since = self._levels.pop(name, (bucket.size, now))
        level = min(bucket.size, level + (now - since) / bucket.refill)
        wanted = min(amount, bucket.size)  # what is larger than the bucket passes when it is full
        self._levels[name] = (level - wanted if level >= wanted else level, now)
        if len(self._levels) > MAX_BUCKETS:
            self._levels.popitem(last=False)
        if level < wanted:
            raise RateLimited(math.ceil((wanted - level) * bucket.refill))

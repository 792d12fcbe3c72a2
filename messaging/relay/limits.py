"""Rate limits: token buckets, named as Signal-Server names its limiters, with what each is counted by.

A bucket holds ``size`` tokens and gets one back every ``refill`` seconds. What exceeds it is refused with the time to wait.
Some are of another size for bots, and an operator may grant others to single accounts (``relay.grants``).
This module names the buckets and decides; where their levels are kept is for ``relay.buckets``.
"""

import math
import tomllib
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from messaging.relay.errors import RateLimited, StartupError, Unavailable
from messaging.serving.logs import get_logger


class Limit(StrEnum):
    """Each bucket, with what it is counted by."""

    REQUESTS = "requests"  # calling device, or network address
    VERIFICATION_SESSION = "verificationSession"  # number
    VERIFICATION_SESSION_PER_ADDRESS = "verificationSessionPerAddress"  # network address
    VERIFICATION_CODE = "verificationCode"  # number: codes submitted, right or wrong
    REGISTRATION = "registration"  # number
    PIN = "pin"  # number: registration locks and recovery passwords tried
    ALLOCATE_DEVICE = "allocateDevice"  # account: linking tokens asked for
    VERIFY_DEVICE = "verifyDevice"  # account: devices linked
    WAIT_FOR_LINKED_DEVICE = "waitForLinkedDevice"  # account
    PROVISIONING = "provisioning"  # network address: provisioning sockets
    PREKEYS = "prekeys"  # fetching device, target device and its registration id
    PREKEYS_PER_CALLER = "prekeysPerCaller"  # fetching account, of whomever it fetches: new sessions
    PREKEYS_PER_TARGET = "prekeysPerTarget"  # target account: fetches by callers who do not say who they are
    REPAIR_BUNDLES = "repairBundles"  # sending account, receiving account: bundles inside a 409
    MESSAGES = "messages"  # sending account, receiving account
    INBOUND_MESSAGE_BYTES = "inboundMessageBytes"  # receiving account, of a person
    ASSISTANT_MESSAGE_BYTES = (
        "assistantMessageBytes"  # network address: anybody may send to assistants, and none may silence one
    )
    STORIES = "stories"  # receiving account
    SPAM_REPORT = "spamReport"  # reporting account
    PROFILE = "profile"  # fetching account, or network address
    PROFILE_AVATAR_BYTES = "profileAvatarBytes"  # account
    BATCH_IDENTITY_CHECK = "batchIdentityCheck"  # network address
    USERNAME_LOOKUP = "usernameLookup"  # network address
    USERNAME_SET = "usernameSet"  # account
    USERNAME_RESERVE = "usernameReserve"  # account
    USERNAME_LINK_OPERATION = "usernameLinkOperation"  # account
    USERNAME_LINK_LOOKUP = "usernameLinkLookupPerIp"  # network address
    CHECK_ACCOUNT_EXISTENCE = "checkAccountExistence"  # network address
    ATTACHMENT = "attachmentCreate"  # uploading account
    ATTACHMENT_BYTES = "attachmentCreateBytes"  # uploading account
    ASSISTANT_REPORT = "assistantReport"  # reporting assistant: nonces asked for, and reports


EVERYBODY, BOTS = "everybody", "bots"  # no buckets' names

MAX_SIZE = 10**12  # tokens
MIN_REFILL = 1e-9  # seconds
MAX_REFILL = 31 * 24 * 60 * 60
# Seconds in which an empty bucket is full: exact in a header, and Redis can keep a bucket for so long.
MAX_FILLING = 10**12
# What operators set while relays run may shut out nobody who would set it back, and no probe of what keeps relays running.
LEAST_REQUESTS = 50  # at once
SLOWEST_REQUESTS = 10  # seconds until one more


class Bucket(NamedTuple):
    """``size`` at once, then one every ``refill`` seconds. ``fail_open``: what happens while levels cannot be read."""

    size: float
    refill: float
    fail_open: bool = False


DEFAULTS: Mapping[Limit, Bucket] = {
    Limit.REQUESTS: Bucket(3000, 0.02, fail_open=True),
    Limit.VERIFICATION_SESSION: Bucket(5, 600),
    Limit.VERIFICATION_SESSION_PER_ADDRESS: Bucket(50, 30),
    Limit.VERIFICATION_CODE: Bucket(15, 120),
    Limit.REGISTRATION: Bucket(6, 30),
    Limit.PIN: Bucket(10, 86_400),
    Limit.ALLOCATE_DEVICE: Bucket(6, 120),
    Limit.VERIFY_DEVICE: Bucket(6, 120),
    Limit.WAIT_FOR_LINKED_DEVICE: Bucket(10, 30),
    Limit.PROVISIONING: Bucket(30, 10),
    Limit.PREKEYS: Bucket(6, 600),
    Limit.PREKEYS_PER_CALLER: Bucket(5000, 2, fail_open=True),
    Limit.PREKEYS_PER_TARGET: Bucket(100, 60),
    Limit.REPAIR_BUNDLES: Bucket(6, 600),
    Limit.MESSAGES: Bucket(60, 1, fail_open=True),
    Limit.INBOUND_MESSAGE_BYTES: Bucket(128 * 1024 * 1024, 0.0005, fail_open=True),
    Limit.ASSISTANT_MESSAGE_BYTES: Bucket(128 * 1024 * 1024, 0.000_01, fail_open=True),
    Limit.STORIES: Bucket(5000, 8, fail_open=True),
    Limit.SPAM_REPORT: Bucket(100, 60, fail_open=True),
    Limit.PROFILE: Bucket(4320, 20, fail_open=True),
    Limit.PROFILE_AVATAR_BYTES: Bucket(100 * 1024 * 1024, 0.000_01, fail_open=True),
    Limit.BATCH_IDENTITY_CHECK: Bucket(100, 60, fail_open=True),
    Limit.USERNAME_LOOKUP: Bucket(100, 900, fail_open=True),
    Limit.USERNAME_SET: Bucket(100, 900),
    Limit.USERNAME_RESERVE: Bucket(100, 900),
    Limit.USERNAME_LINK_OPERATION: Bucket(10, 60),
    Limit.USERNAME_LINK_LOOKUP: Bucket(100, 15, fail_open=True),
    Limit.CHECK_ACCOUNT_EXISTENCE: Bucket(1000, 4, fail_open=True),
    Limit.ATTACHMENT: Bucket(50, 1.2, fail_open=True),
    Limit.ATTACHMENT_BYTES: Bucket(1_000_000_000, 0.000_001, fail_open=True),
    Limit.ASSISTANT_REPORT: Bucket(10, 60, fail_open=True),
}

# A bot says much where it is a member, and comes near to few who do not know it: one conversation of the largest size begins at
# once, and then a stranger a minute.
BOT_DEFAULTS: Mapping[Limit, Bucket] = {
    Limit.MESSAGES: Bucket(600, 0.1, fail_open=True),
    Limit.PREKEYS_PER_CALLER: Bucket(1000, 60, fail_open=True),
}

# Counted by the caller's own account alone: what GET /v1/limits can tell it.
OF_ACCOUNT = (
    Limit.ALLOCATE_DEVICE,
    Limit.VERIFY_DEVICE,
    Limit.WAIT_FOR_LINKED_DEVICE,
    Limit.PREKEYS_PER_CALLER,
    Limit.SPAM_REPORT,
    Limit.ATTACHMENT,
    Limit.ATTACHMENT_BYTES,
    Limit.PROFILE_AVATAR_BYTES,
    Limit.USERNAME_SET,
    Limit.USERNAME_RESERVE,
    Limit.USERNAME_LINK_OPERATION,
)


class Sizes(NamedTuple):
    """The buckets of a relay. ``bots`` holds those that are of another size for bots, and no others."""

    everybody: Mapping[Limit, Bucket]
    bots: Mapping[Limit, Bucket]


def read_limits(path: Path | None) -> Sizes:
    """The defaults, with what ``path`` sets instead: TOML, one table per bucket with ``size`` and ``refill``.

    A table ``bots`` holds such tables for bots alone. What the file says of a bucket goes for bots too, unless it says
    something else for them: a default of theirs stands only where the file says nothing of the bucket.

    Raises:
        StartupError: no such file, not TOML, an unknown bucket, or one that :func:`bucket_of` refuses.
    """
    if path is None:
        return Sizes(DEFAULTS, BOT_DEFAULTS)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"cannot read the limits file: {error.strerror}") from None
    except ValueError:  # not TOML, not UTF-8, or a number with more digits than are read
        raise StartupError("the limits file is not TOML") from None
    of_bots = tables.pop(BOTS, {})
    everybody = _buckets_of(tables)
    usual = {limit: bucket for limit, bucket in BOT_DEFAULTS.items() if limit not in everybody}
    return Sizes({**DEFAULTS, **everybody}, {**usual, **_buckets_of(of_bots)})


class LiveSizes:
    """The buckets of a relay as they are now: ``base``, which was read at its start, with what operators have set since.

    ``everybody`` and ``bots`` are always the same two mappings, whose content changes: whoever holds them need not ask again.
    """

    def __init__(self, base: Sizes) -> None:
        self._base = base
        self.everybody: dict[Limit, Bucket] = dict(base.everybody)
        self.bots: dict[Limit, Bucket] = dict(base.bots)

    def apply(self, document: Mapping[str, Any]) -> None:
        """Let the setting ``limits`` stand above the base; see :func:`layered`.

        Raises:
            ValueError: not such a document; nothing changes.
        """
        found = layered(self._base, document)
        for live, sizes in ((self.everybody, found.everybody), (self.bots, found.bots)):
            live |= sizes
            for limit in live.keys() - sizes.keys():
                del live[limit]


def layered(base: Sizes, document: Mapping[str, Any]) -> Sizes:
    """``base`` with the buckets of a document: ``everybody`` and ``bots``, each a table by name with ``size`` and ``refill``.

    What it says of a bucket goes for bots too, unless it says something else for them, as in the file. A bucket of another
    version's is left out.

    Raises:
        ValueError: not such a document, or a bucket that :func:`live_bucket_of` refuses.
    """
    everybody, bots = (_buckets_in(document, whose) for whose in (EVERYBODY, BOTS))
    usual = {limit: bucket for limit, bucket in base.bots.items() if limit not in everybody}
    return Sizes({**base.everybody, **everybody}, {**usual, **bots})


def _buckets_in(document: Mapping[str, Any], whose: str) -> dict[Limit, Bucket]:
    try:
        return {
            Limit(name): live_bucket_of(Limit(name), float(table["size"]), float(table["refill"]))
            for name, table in document.get(whose, {}).items()
            if name in frozenset(Limit)
        }
    except (AttributeError, KeyError, TypeError, OverflowError):
        raise ValueError("not a document of limits") from None


def bucket_of(limit: Limit, size: float, refill: float) -> Bucket:
    """A bucket of this size, which behaves as that limit's do while levels cannot be read.

    Raises:
        ValueError: a number beyond its bounds, or both together beyond ``MAX_FILLING``.
    """
    if not (1 <= size <= MAX_SIZE and MIN_REFILL <= refill <= MAX_REFILL and size * refill <= MAX_FILLING):
        raise ValueError("a bucket has a size of 1 or more, and is refilled in time")
    return Bucket(size, refill, DEFAULTS[limit].fail_open)


def live_bucket_of(limit: Limit, size: float, refill: float) -> Bucket:
    """The same for what operators set while relays run.

    Raises:
        ValueError: as :func:`bucket_of`, or of requests fewer than ``LEAST_REQUESTS``, or one more later than ``SLOWEST_REQUESTS``.
    """
    if limit is Limit.REQUESTS and not (size >= LEAST_REQUESTS and refill <= SLOWEST_REQUESTS):
        raise ValueError("a bucket of requests may shut nobody out")
    return bucket_of(limit, size, refill)


def nearest_bucket(limit: Limit, size: float, refill: float) -> Bucket:
    """The bucket within the bounds that comes next to these positive numbers, which were kept before there were bounds."""
    size = min(max(size, 1.0), float(MAX_SIZE))
    refill = min(max(refill, MIN_REFILL), MAX_REFILL, MAX_FILLING / size)
    return Bucket(size, refill, DEFAULTS[limit].fail_open)


def _buckets_of(tables: object) -> dict[Limit, Bucket]:
    problem = f"the limits file takes tables with size and refill, also below [{BOTS}], named: {', '.join(Limit)}"
    if not isinstance(tables, dict):
        raise StartupError(problem)
    buckets = {}
    for name, table in tables.items():
        if name not in frozenset(Limit) or not isinstance(table, dict) or table.keys() != {"size", "refill"}:
            raise StartupError(problem)
        size, refill = table["size"], table["refill"]
        try:
            bucket = bucket_of(Limit(name), size, refill)
        except (ValueError, TypeError):
            raise StartupError(
                f"in the limits file, size of {name} must be from 1 to {MAX_SIZE:.0e}, refill from {MIN_REFILL} to "
                f"{MAX_REFILL} seconds, and both multiplied at most {MAX_FILLING:.0e}"
            ) from None
        buckets[Limit(name)] = bucket
    return buckets


class Level(NamedTuple):
    """How full a bucket is after a call took from it, or could not (``taken``)."""

    tokens: float
    taken: bool


class BucketsAway(Exception):
    """The levels cannot be read or written now."""


BucketKey = tuple[Hashable, ...]  # the limit, and who is counted


@dataclass(frozen=True, slots=True)
class BucketNames:
    """Names of buckets outside this process, which do not tell who is counted."""

    key: bytes = field(repr=False)

    def of(self, bucket: BucketKey) -> str:
        """The limit, and a keyed hash of the rest."""
        limit, *who = bucket
        parts = "\x1f".join(part.hex() if isinstance(part, bytes) else str(part) for part in who)
        return f"{limit}:{blake2b(parts.encode(), key=self.key, digest_size=16).hexdigest()}"


class Buckets(Protocol):
    """Keeps the levels of all buckets; the clock is its own."""

    def take_now(self, key: "BucketKey", bucket: Bucket, amount: float) -> Level | None:
        """Like :meth:`take`, where that takes no waiting; else ``None``, and nothing is taken."""

    async def take(self, key: "BucketKey", bucket: Bucket, amount: float) -> Level:
        """Take ``amount`` tokens, or none if there are not as many; 0 only looks. One step, however many ask at once.

        Raises:
            BucketsAway: the levels cannot be had.
        """

    async def close(self) -> None:
        """Close what is open."""


class Usage(NamedTuple):
    """What one call knows of a bucket: for headers and for quotas."""

    limit: Limit
    bucket: Bucket
    tokens: float

    @property
    def remaining(self) -> int:
        """Whole tokens that are left."""
        return max(0, int(self.tokens))

    @property
    def reset(self) -> int:
        """Seconds until the bucket is full."""
        return math.ceil((self.bucket.size - self.tokens) * self.bucket.refill)


Grants = Callable[[int, Limit], Bucket | None]  # account, bucket -> what an operator has granted instead

_used: ContextVar[list[Usage] | None] = ContextVar("used", default=None)


class usage_noted:  # noqa: N801 - a context manager, used like a function; a generator would cost more than what it does
    """Collect what is taken while the block lasts, in this task."""

    __slots__ = ("_token",)

    def __enter__(self) -> list[Usage]:
        noted: list[Usage] = []
        self._token = _used.set(noted)
        return noted

    def __exit__(self, *_error: object) -> None:
        _used.reset(self._token)


def headers_of(usage: list[Usage]) -> dict[str, str]:
    """``RateLimit-Policy`` and ``RateLimit`` for the buckets used (draft-ietf-httpapi-ratelimit-headers-10)."""
    if not usage:
        return {}
    policies = ", ".join([_policy_of(limit, bucket) for limit, bucket, _ in usage])
    levels = ", ".join([f'"{each.limit}";r={each.remaining};t={each.reset}' for each in usage])
    return {"RateLimit-Policy": policies, "RateLimit": levels}


@lru_cache(maxsize=1024)
def _policy_of(limit: Limit, bucket: Bucket) -> str:
    return f'"{limit}";q={math.floor(bucket.size)};w={math.ceil(bucket.size * bucket.refill)}'


@dataclass(frozen=True, slots=True)
class RateLimits:
    """All limits of a relay. ``bots`` holds those that are of another size for bots."""

    buckets: Mapping[Limit, Bucket]
    store: Buckets
    grants: Grants = lambda _account, _limit: None
    bots: Mapping[Limit, Bucket] = field(default_factory=dict)

    async def take(
        self, limit: Limit, *key: Hashable, amount: float = 1, account: int | None = None, bot: bool = False
    ) -> None:
        """Take ``amount`` tokens of the bucket for ``key``.

        ``account`` is the one that is counted, ``bot`` whether it is a bot. A grant for it stands instead of what all others
        of its kind have.

        Raises:
            RateLimited: there are not as many; nothing is taken.
            Unavailable: the levels cannot be had, and this limit does not fail open.
        """
        bucket = self._bucket(limit, account, bot=bot)
        wanted = min(bucket.size, amount)  # what is larger passes when the bucket is full
        level = self.store.take_now((limit, *key), bucket, wanted)
        if level is None:
            try:
                level = await self.store.take((limit, *key), bucket, wanted)
            except BucketsAway:
                get_logger().warning("limits_away")
                if bucket.fail_open:
                    return
                raise Unavailable from None
        noted = _used.get()
        if noted is not None:
            noted.append(Usage(limit, bucket, level.tokens))
        if not level.taken:
            raise RateLimited(math.ceil((wanted - level.tokens) * bucket.refill))

    async def quotas(self, account: int, *, bot: bool = False) -> list[Usage]:
        """What is left to an account, perhaps a bot's, in the buckets that are counted by it alone.

        Raises:
            Unavailable: the levels cannot be had.
        """
        usages = []
        for limit in OF_ACCOUNT:
            bucket = self._bucket(limit, account, bot=bot)
            try:
                level = await self.store.take((limit, account), bucket, 0)
            except BucketsAway:
                raise Unavailable from None
            usages.append(Usage(limit, bucket, level.tokens))
        return usages

    def _bucket(self, limit: Limit, account: int | None, *, bot: bool) -> Bucket:
        granted = None if account is None else self.grants(account, limit)
        return granted or (bot and self.bots.get(limit)) or self.buckets[limit]

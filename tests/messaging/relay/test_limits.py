"""Token buckets, wherever their levels are kept, and the file that sets them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import floats, lists
from redis.asyncio import Redis
from structlog.testing import capture_logs

from messaging.relay.buckets import MOST_DEBT, LocalBuckets, RedisBuckets, SettledBuckets
from messaging.relay.errors import RateLimited, StartupError, Unavailable
from messaging.relay.limits import (
    BOT_DEFAULTS,
    DEFAULTS,
    LEAST_REQUESTS,
    MAX_FILLING,
    MAX_REFILL,
    MAX_SIZE,
    MIN_REFILL,
    OF_ACCOUNT,
    SLOWEST_REQUESTS,
    Bucket,
    BucketKey,
    BucketNames,
    BucketsAway,
    Limit,
    LiveSizes,
    RateLimits,
    Sizes,
    Usage,
    bucket_of,
    headers_of,
    layered,
    live_bucket_of,
    nearest_bucket,
    read_limits,
    usage_noted,
)
from messaging.relay.tasks import running
from messaging.wire.limits import MAX_CONVERSATION_MEMBERS

NAMES = BucketNames(bytes(32))
NOBODY_THERE = ["redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1"]
PATIENCE = 10.0  # seconds: what is tried is sharing, and a machine under load may stand still for half a second


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def limits_of(size: float, refill: float) -> tuple[RateLimits, Clock]:
    clock = Clock()
    return RateLimits({limit: Bucket(size, refill) for limit in Limit}, LocalBuckets(clock)), clock


async def test_a_bucket_gives_its_size_and_then_says_how_long_to_wait() -> None:
    limits, clock = limits_of(2, 10)
    await limits.take(Limit.MESSAGES, "a")
    await limits.take(Limit.MESSAGES, "a")
    with pytest.raises(RateLimited) as caught:
        await limits.take(Limit.MESSAGES, "a")
    assert caught.value.retry_after == 10
    clock.now = 10
    await limits.take(Limit.MESSAGES, "a")


async def test_buckets_do_not_share() -> None:
    limits, _ = limits_of(1, 10)
    await limits.take(Limit.MESSAGES, "a")
    await limits.take(Limit.MESSAGES, "b")
    await limits.take(Limit.PREKEYS, "a")
    with pytest.raises(RateLimited):
        await limits.take(Limit.MESSAGES, "a")


async def test_what_is_larger_than_the_bucket_passes_when_it_is_full() -> None:
    limits, _ = limits_of(10, 1)
    await limits.take(Limit.INBOUND_MESSAGE_BYTES, "a", amount=100)
    with pytest.raises(RateLimited):
        await limits.take(Limit.INBOUND_MESSAGE_BYTES, "a", amount=1)


@given(pauses=lists(floats(0, 30), max_size=40))
async def test_no_more_passes_than_the_size_and_what_came_back(pauses: list[float]) -> None:
    limits, clock = limits_of(3, 10)
    passed = 0
    for pause in pauses:
        clock.now += pause
        try:
            await limits.take(Limit.REGISTRATION, "a")
        except RateLimited:
            continue
        passed += 1
    assert passed <= 3 + clock.now / 10 + 1e-6


async def test_the_number_of_buckets_is_bounded() -> None:
    store, bucket = LocalBuckets(Clock(), capacity=3), Bucket(1, 10)
    for name in ("first", "b", "c", "d"):
        assert (await store.take((name,), bucket, 1)).taken
    assert not (await store.take(("d",), bucket, 1)).taken
    assert (await store.take(("first",), bucket, 1)).taken  # forgotten: the bound on memory comes first


async def test_a_grant_stands_instead_of_the_default_for_its_account_only() -> None:
    def granted(account: int, limit: Limit) -> Bucket | None:
        return Bucket(2, 10) if (account, limit) == (7, Limit.MESSAGES) else None

    limits = RateLimits({limit: Bucket(1, 10) for limit in Limit}, LocalBuckets(Clock()), granted)
    for account, allowed in ((7, 2), (8, 1)):
        for _ in range(allowed):
            await limits.take(Limit.MESSAGES, account, account=account)
        with pytest.raises(RateLimited):
            await limits.take(Limit.MESSAGES, account, account=account)


async def test_a_bot_has_what_is_said_for_bots_else_what_all_have_and_a_grant_before_both() -> None:
    def granted(account: int, limit: Limit) -> Bucket | None:
        return Bucket(3, 10) if (account, limit) == (7, Limit.MESSAGES) else None

    usual, of_bots = {limit: Bucket(1, 10) for limit in Limit}, {Limit.MESSAGES: Bucket(2, 10)}
    limits = RateLimits(usual, LocalBuckets(Clock()), granted, of_bots)
    for limit, account, bot, allowed in (
        (Limit.MESSAGES, 7, True, 3),
        (Limit.MESSAGES, 8, True, 2),
        (Limit.MESSAGES, 9, False, 1),
        (Limit.PREKEYS, 8, True, 1),
    ):
        for _ in range(allowed):
            await limits.take(limit, account, account=account, bot=bot)
        with pytest.raises(RateLimited):
            await limits.take(limit, account, account=account, bot=bot)


async def test_a_bot_is_told_its_own_sizes() -> None:
    usual, of_bots = {limit: Bucket(1, 10) for limit in Limit}, {Limit.ATTACHMENT: Bucket(5, 10)}
    limits = RateLimits(usual, LocalBuckets(Clock()), bots=of_bots)
    with usage_noted() as usage:
        await limits.take(Limit.ATTACHMENT, 7, account=7, bot=True)
    assert headers_of(usage)["RateLimit-Policy"] == '"attachmentCreate";q=5;w=50'
    quotas = {usage.limit: usage.remaining for usage in await limits.quotas(7, bot=True)}
    assert quotas == {limit: 4 if limit is Limit.ATTACHMENT else 1 for limit in OF_ACCOUNT}


def test_a_bot_says_more_to_whom_it_speaks_with_and_comes_near_to_fewer() -> None:
    def a_day(bucket: Bucket) -> float:
        return bucket.size + 86_400 / bucket.refill

    assert a_day(BOT_DEFAULTS[Limit.MESSAGES]) >= 5 * a_day(DEFAULTS[Limit.MESSAGES])
    assert 10 * a_day(BOT_DEFAULTS[Limit.PREKEYS_PER_CALLER]) <= a_day(DEFAULTS[Limit.PREKEYS_PER_CALLER])
    assert (
        BOT_DEFAULTS[Limit.PREKEYS_PER_CALLER].size >= MAX_CONVERSATION_MEMBERS
    )  # one conversation begins at once, however large
    assert all(bucket.fail_open is DEFAULTS[limit].fail_open for limit, bucket in BOT_DEFAULTS.items())


async def test_what_was_taken_is_told_in_headers() -> None:
    limits, _ = limits_of(5, 2)
    with usage_noted() as usage:
        await limits.take(Limit.MESSAGES, "a")
        await limits.take(Limit.STORIES, "a", amount=5)
    assert headers_of(usage) == {
        "RateLimit-Policy": '"messages";q=5;w=10, "stories";q=5;w=10',
        "RateLimit": '"messages";r=4;t=2, "stories";r=0;t=10',
    }
    assert headers_of([]) == {}


async def test_quotas_tell_what_is_left_and_take_nothing() -> None:
    limits, _ = limits_of(3, 60)
    await limits.take(Limit.SPAM_REPORT, 7)
    for _ in range(2):
        found = {usage.limit: (usage.remaining, usage.reset) for usage in await limits.quotas(7)}
        assert found == {limit: (2, 60) if limit is Limit.SPAM_REPORT else (3, 0) for limit in OF_ACCOUNT}


def test_a_name_outside_this_process_does_not_tell_who_is_counted() -> None:
    names = [BucketNames(key).of((Limit.REQUESTS, "203.0.113.7")) for key in (bytes(32), b"x" * 32)]
    assert names[0] != names[1]
    assert not any("203" in name for name in names)


@pytest.fixture
async def redis_buckets(valkey_url: str) -> AsyncIterator[RedisBuckets]:
    buckets = RedisBuckets(valkey_url, NAMES, timeout=PATIENCE)
    yield buckets
    await buckets.close()


async def test_relays_share_their_buckets_in_redis(valkey_url: str, redis_buckets: RedisBuckets) -> None:
    another = RedisBuckets(valkey_url, NAMES, timeout=PATIENCE)
    bucket = Bucket(10, 1000)
    taken = await asyncio.gather(
        *(store.take(("shared",), bucket, 1) for store in (redis_buckets, another) for _ in range(10))
    )
    assert sum(level.taken for level in taken) == 10
    assert (await another.take(("shared",), bucket, 0)).tokens == pytest.approx(0, abs=0.01)
    await another.close()


async def test_a_bucket_in_redis_fills_again(redis_buckets: RedisBuckets) -> None:
    bucket = Bucket(2, 0.05)
    assert [(await redis_buckets.take(("fills",), bucket, 1)).taken for _ in range(2)] == [True, True]
    await asyncio.sleep(0.06)
    assert (await redis_buckets.take(("fills",), bucket, 1)).taken


@pytest.fixture
async def two_relays(valkey_url: str) -> AsyncIterator[list[SettledBuckets]]:
    relays = [
        SettledBuckets(RedisBuckets(valkey_url, NAMES, timeout=PATIENCE), LocalBuckets(Clock())) for _ in range(2)
    ]
    yield relays
    for each in relays:
        await each.close()


async def test_what_guards_against_load_is_counted_here_and_settled_with_the_others(
    two_relays: list[SettledBuckets],
) -> None:
    bucket, key, (one, two) = Bucket(10, 1000, fail_open=True), ("settled",), two_relays
    assert all([(await one.take(key, bucket, 3)).taken for _ in range(3)])
    assert (await two.take(key, bucket, 1)).tokens == 9  # it has not heard of the others yet
    await one.settle()
    await two.settle()
    assert not (await two.take(key, bucket, 1)).taken
    await one.settle()
    assert (await one.take(key, bucket, 0)).tokens == pytest.approx(
        1, abs=0.01
    )  # it had nothing to tell, and asks no more


async def test_what_is_taken_while_a_settlement_is_under_way_is_not_forgotten(two_relays: list[SettledBuckets]) -> None:
    bucket, key, one = Bucket(10, 1000, fail_open=True), ("meanwhile",), two_relays[0]
    await one.take(key, bucket, 4)
    settling = asyncio.create_task(one.settle())
    await asyncio.sleep(0)
    await one.take(key, bucket, 2)
    await settling
    assert (await one.take(key, bucket, 0)).tokens == pytest.approx(4, abs=0.01)


async def test_too_much_that_went_through_is_paid_back(two_relays: list[SettledBuckets]) -> None:
    bucket, key, (one, two) = Bucket(10, 1000, fail_open=True), ("debt",), two_relays
    for each in (one, two):
        await each.take(key, bucket, 8)
        await each.settle()
    assert (await two.take(key, bucket, 0)).tokens == pytest.approx(-6, abs=0.01)


async def test_what_many_relays_let_through_at_once_is_paid_back(valkey_url: str, redis_buckets: RedisBuckets) -> None:
    bucket, key = Bucket(10, 100, fail_open=True), ("many relays",)
    relays = [SettledBuckets(redis_buckets, LocalBuckets(Clock())) for _ in range(6)]
    for each in relays:
        assert (await each.take(key, bucket, 10)).taken  # all of the bucket at each of them
    for each in relays:
        await each.settle()
    assert (await redis_buckets.take(key, bucket, 0)).tokens == pytest.approx(-50, abs=0.1)
    async with Redis.from_url(valkey_url) as redis:  # not forgotten before it is full again
        assert await redis.ttl(redis_buckets._place_of(key)) >= (10 + 50) * 100


async def test_a_debt_has_an_end(redis_buckets: RedisBuckets) -> None:
    assert await redis_buckets.spend([(("end",), Bucket(10, 1000, fail_open=True), 1e9)]) == [-MOST_DEBT * 10]


async def test_what_waits_to_be_told_is_bounded_and_the_oldest_is_dropped(redis_buckets: RedisBuckets) -> None:
    bucket, keys = Bucket(10, 1000, fail_open=True), [("told", number) for number in range(5)]
    one = SettledBuckets(redis_buckets, LocalBuckets(Clock()), capacity=3)
    for key in keys:
        await one.take(key, bucket, 4)
    await one.settle()
    assert [round((await redis_buckets.take(key, bucket, 0)).tokens) for key in keys] == [10, 10, 6, 6, 6]


@dataclass
class Stumbling(RedisBuckets):
    """Counts what was spent; then, the first time, an error comes instead of the answer."""

    url: str
    error: Exception
    stumbled: bool = False

    def __post_init__(self) -> None:
        super().__init__(self.url, NAMES)

    async def spend(self, spent: Sequence[tuple[BucketKey, Bucket, float]]) -> list[float]:
        levels = await super().spend(spent)
        if not self.stumbled:
            self.stumbled = True
            raise self.error
        return levels


async def test_what_redis_may_have_counted_is_not_told_twice(valkey_url: str) -> None:
    bucket, key = Bucket(10, 1000, fail_open=True), ("twice",)
    one = SettledBuckets(Stumbling(valkey_url, BucketsAway()), LocalBuckets(Clock()))
    await one.take(key, bucket, 4)
    with pytest.raises(BucketsAway):
        await one.settle()
    await one.take(key, bucket, 1)
    await one.settle()
    assert (await one.take(key, bucket, 0)).tokens == pytest.approx(5, abs=0.01)
    await one.close()


async def test_whatever_goes_wrong_is_one_line_in_the_log_and_levels_are_settled_later(valkey_url: str) -> None:
    bucket, key = Bucket(10, 1000, fail_open=True), ("later",)
    one = SettledBuckets(Stumbling(valkey_url, RuntimeError()), LocalBuckets(Clock()))
    two = SettledBuckets(RedisBuckets(valkey_url, NAMES, timeout=PATIENCE), LocalBuckets(Clock()))
    await two.take(key, bucket, 4)
    await two.settle()
    with capture_logs() as lines:
        async with running(one.run()), asyncio.timeout(10):
            while (await one.take(key, bucket, 0.001)).tokens > 6:
                await asyncio.sleep(0.05)
    assert [(line["event"], line["error"]) for line in lines] == [("limits_away", "RuntimeError")]
    for each in (one, two):
        await each.close()


async def test_what_guards_a_secret_is_counted_in_redis_at_once(two_relays: list[SettledBuckets]) -> None:
    bucket, key = Bucket(1, 1000), ("secret",)
    assert [(await each.take(key, bucket, 1)).taken for each in two_relays] == [True, False]


@pytest.mark.parametrize("url", NOBODY_THERE)
async def test_without_redis_each_process_counts_for_itself(url: str) -> None:
    alone = SettledBuckets(RedisBuckets(url, NAMES), LocalBuckets(Clock()))
    bucket = Bucket(1, 1000, fail_open=True)
    assert [(await alone.take(("away",), bucket, 1)).taken for _ in range(2)] == [True, False]
    with pytest.raises(BucketsAway):
        await alone.settle()
    await alone.close()


@pytest.mark.parametrize("url", NOBODY_THERE)
async def test_a_limiter_that_is_away_fails_open_or_closed_as_its_bucket_says(url: str) -> None:
    away = RateLimits(DEFAULTS, RedisBuckets(url, NAMES))
    await away.take(Limit.MESSAGES, "a")
    with pytest.raises(Unavailable):
        await away.take(Limit.REGISTRATION, "a")
    with pytest.raises(Unavailable):
        await away.quotas(1)


def test_a_file_overrides_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text("[messages]\nsize = 5\nrefill = 0.5\n")
    found = read_limits(tmp_path / "limits.toml")
    assert found.everybody == {**DEFAULTS, Limit.MESSAGES: Bucket(5, 0.5, fail_open=True)}
    assert read_limits(None) == Sizes(DEFAULTS, BOT_DEFAULTS)


def test_what_a_file_says_for_all_goes_for_bots_unless_it_says_something_else_for_them(tmp_path: Path) -> None:
    def bots(text: str) -> Mapping[Limit, Bucket]:
        (tmp_path / "limits.toml").write_text(text)
        return read_limits(tmp_path / "limits.toml").bots

    for_all, for_bots = "[messages]\nsize = 5\nrefill = 0.5\n", "[bots.messages]\nsize = 7\nrefill = 0.5\n"
    strangers = {Limit.PREKEYS_PER_CALLER: BOT_DEFAULTS[Limit.PREKEYS_PER_CALLER]}
    assert bots("") == BOT_DEFAULTS
    assert bots(for_all) == strangers
    assert bots(for_bots) == bots(for_all + for_bots) == {**strangers, Limit.MESSAGES: Bucket(7, 0.5, fail_open=True)}
    assert bots("[bots.requests]\nsize = 1\nrefill = 1\n") == {
        **BOT_DEFAULTS,
        Limit.REQUESTS: Bucket(1, 1, fail_open=True),
    }


@pytest.mark.parametrize(
    "text",
    [
        "messages",
        "[unknown]\nsize=1\nrefill=1",
        "[messages]\nsize=1",
        "[messages]\nsize=0\nrefill=1",
        "messages=1",
        "bots=1",
        "[bots]\nsize=1\nrefill=1",
        "[bots.unknown]\nsize=1\nrefill=1",
        "[bots.messages]\nsize=1",
        "[bots.messages]\nsize=-1\nrefill=1",
        "[bots.bots.messages]\nsize=1\nrefill=1",
        "[messages]\nsize=1e200\nrefill=1",
        "[messages]\nsize=1\nrefill=inf",
        f"[messages]\nsize=1{'0' * 5000}\nrefill=1",
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "limits.toml").write_text(text)
    with pytest.raises(StartupError):
        read_limits(tmp_path / "limits.toml")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="limits file"):
        read_limits(tmp_path / "limits.toml")


SET = {"everybody": {"messages": {"size": 5, "refill": 2}}, "bots": {"pin": {"size": 3.0, "refill": 1.0}}}


async def test_limits_change_while_a_relay_runs_and_who_holds_them_need_not_ask_again() -> None:
    live = LiveSizes(Sizes(DEFAULTS, BOT_DEFAULTS))
    limits = RateLimits(live.everybody, LocalBuckets(lambda: 0.0), bots=live.bots)
    live.apply({"everybody": {"messages": {"size": 1, "refill": 60}}})
    await limits.take(Limit.MESSAGES, 1, bot=True)  # said of everybody, and so of bots
    with pytest.raises(RateLimited):
        await limits.take(Limit.MESSAGES, 1, bot=True)
    live.apply({})
    assert (live.everybody, live.bots) == (DEFAULTS, BOT_DEFAULTS)


def test_what_operators_set_stands_above_the_file() -> None:
    base = Sizes({**DEFAULTS, Limit.PIN: Bucket(9, 9)}, BOT_DEFAULTS)
    sizes = layered(base, SET)
    assert sizes.everybody[Limit.MESSAGES] == Bucket(5, 2, fail_open=True)
    assert sizes.everybody[Limit.PIN] == Bucket(9, 9)
    assert sizes.bots == {Limit.PIN: Bucket(3, 1), Limit.PREKEYS_PER_CALLER: BOT_DEFAULTS[Limit.PREKEYS_PER_CALLER]}


def test_a_bucket_of_another_version_is_left_out() -> None:
    base = Sizes(DEFAULTS, BOT_DEFAULTS)
    assert layered(base, {"everybody": {"ofAnotherVersion": {"size": 1, "refill": 1}}}) == base


@pytest.mark.parametrize(
    "document",
    [
        {"everybody": {"pin": {"size": 0, "refill": 1}}},
        {"everybody": {"pin": {"size": 1}}},
        {"everybody": {"pin": {"size": 1, "refill": "x"}}},
        {"bots": {"pin": 1}},
        {"bots": 1},
        {"everybody": None},
        [],
        {"everybody": {"pin": {"size": 1e200, "refill": 1e200}}},
        {"everybody": {"pin": {"size": 10**400, "refill": 1}}},
        {"everybody": {"pin": {"size": float("nan"), "refill": 1}}},
        {"everybody": {"requests": {"size": LEAST_REQUESTS - 1, "refill": 1}}},
        {"bots": {"requests": {"size": LEAST_REQUESTS, "refill": SLOWEST_REQUESTS + 1}}},
    ],
)
def test_a_document_that_makes_no_sense_changes_nothing(document: Mapping[str, Any]) -> None:
    live = LiveSizes(Sizes(DEFAULTS, BOT_DEFAULTS))
    live.apply(SET)
    before = (dict(live.everybody), dict(live.bots))
    with pytest.raises(ValueError, match=r"document|bucket|float"):
        live.apply(document)
    assert (live.everybody, live.bots) == before


@pytest.mark.parametrize(
    ("size", "refill"),
    [(1, MIN_REFILL), (1, MAX_REFILL), (MAX_SIZE, 1), (MAX_SIZE, MIN_REFILL), (MAX_FILLING / MAX_REFILL, MAX_REFILL)],
)
def test_a_bucket_has_bounds_and_within_them_it_can_be_told(size: float, refill: float) -> None:
    bucket = bucket_of(Limit.PIN, size, refill)
    assert headers_of([Usage(Limit.PIN, bucket, -MOST_DEBT * size)])
    beyond = [(size * 1.001, refill), (size, refill * 1.001), (size * 0.999, refill), (size, refill * 0.999)]
    assert any(_is_refused(*numbers) for numbers in beyond)


def _is_refused(size: float, refill: float) -> bool:
    try:
        bucket_of(Limit.PIN, size, refill)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("size", "refill"),
    [(0.999, 1), (MAX_SIZE + 1, 1e-3), (1, MIN_REFILL / 2), (1, MAX_REFILL + 1), (MAX_FILLING, 1.001), (1e200, 1e200)],
)
def test_beyond_its_bounds_there_is_no_bucket_but_one_that_comes_next(size: float, refill: float) -> None:
    assert _is_refused(size, refill)
    near = nearest_bucket(Limit.PIN, size, refill)
    assert bucket_of(Limit.PIN, near.size, near.refill) == near


def test_operators_cannot_shut_everybody_out_while_relays_run() -> None:
    least = live_bucket_of(Limit.REQUESTS, LEAST_REQUESTS, SLOWEST_REQUESTS)
    assert least == Bucket(LEAST_REQUESTS, SLOWEST_REQUESTS, fail_open=True)
    for size, refill in ((LEAST_REQUESTS - 1, SLOWEST_REQUESTS), (LEAST_REQUESTS, SLOWEST_REQUESTS + 0.1)):
        with pytest.raises(ValueError, match="nobody"):
            live_bucket_of(Limit.REQUESTS, size, refill)
        assert live_bucket_of(Limit.PIN, size, refill).size == size


async def test_redis_keeps_even_a_bucket_that_is_never_full(valkey_url: str, redis_buckets: RedisBuckets) -> None:
    key = ("never full",)
    assert (await redis_buckets.take(key, Bucket(10, 1e18), 1)).taken
    async with Redis.from_url(valkey_url) as redis:
        assert await redis.ttl(redis_buckets._place_of(key)) > MOST_DEBT * MAX_FILLING

"""Notices between processes, and what becomes of them when Redis goes away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import binary, builds, integers, just
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.crc import key_slot
from structlog.testing import capture_logs

from messaging.relay.buckets import LocalBuckets, RedisBuckets, SettledBuckets
from messaging.relay.delivery.redis import Channels, RedisWakeups, Subscriptions, decode_notice, encode_notice
from messaging.relay.delivery.wakeups import (
    ConnectedElsewhere,
    CredentialsReplaced,
    LocalWakeups,
    MailArrived,
    Notice,
    Suspended,
    listening,
)
from messaging.relay.limits import Bucket, BucketNames, BucketsAway
from tests.servers import Valkey, own_valkey, valkey_cluster

CHANNELS = Channels.under(bytes(32))
PATIENCE = 10.0  # seconds: what is tried is sharing, and a machine under load may stand still for half a second

notices = (
    builds(MailArrived, integers(0, 2**63))
    | builds(ConnectedElsewhere, integers(0, 2**63))
    | just(CredentialsReplaced())
    | just(Suspended())
)


@given(notice=notices)
def test_a_notice_comes_back_from_its_bytes(notice: Notice) -> None:
    assert decode_notice(encode_notice(notice)) == notice


@given(data=binary(max_size=5))
def test_bytes_of_a_newer_version_mean_nothing(data: bytes) -> None:
    notice = decode_notice(data)
    assert notice is None or data[:1] in b"mcrsk"


@given(mailbox_id=integers(1, 2**63))
def test_a_mailbox_comes_back_from_its_channel(mailbox_id: int) -> None:
    assert CHANNELS.mailbox_of(CHANNELS.of(mailbox_id)) == mailbox_id


@pytest.mark.parametrize(
    "channel", ["subrosa:relays", "subrosa:a:mailbox:7", "subrosa:a:mailbox:{x}", "subrosa:b:mailbox:{7}", "{7}"]
)
def test_another_channel_is_no_mailboxs(channel: str) -> None:
    assert Channels("a").mailbox_of(channel) is None


def test_a_channel_is_named_by_the_key_which_it_does_not_tell_and_in_braces_by_its_mailbox_alone() -> None:
    key = b"k" * 32
    assert Channels.under(key) == Channels.under(key) != CHANNELS
    assert key.hex()[:8] not in Channels.under(key).of(7)
    assert key_slot(CHANNELS.of(7).encode()) == key_slot(b"7")


@asynccontextmanager
async def running(
    url: str, channels: Channels = CHANNELS, local: LocalWakeups | None = None
) -> AsyncIterator[RedisWakeups]:
    wakeups = RedisWakeups(url, channels, local or LocalWakeups())
    task = asyncio.create_task(wakeups.run())
    try:
        yield wakeups
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_heard(heard: list[object], speaker: RedisWakeups, mailbox_id: int, notice: Notice) -> None:
    """Announce a notice until it is heard: it is a hint, and may be lost while a subscription is made."""
    async with asyncio.timeout(20):
        while notice not in heard:
            speaker.announce(mailbox_id, notice)
            await asyncio.sleep(0.02)


async def test_a_notice_reaches_the_listener_in_another_process(valkey_url: str) -> None:
    heard: list[object] = []
    async with running(valkey_url) as here, running(valkey_url) as there, listening(there, 71, heard.append):
        await until_heard(heard, here, 71, MailArrived(1))
        here.announce(72, MailArrived(2))
        await until_heard(heard, here, 71, CredentialsReplaced())
    assert MailArrived(2) not in heard


async def test_another_deployment_on_the_same_redis_is_not_heard(valkey_url: str) -> None:
    async with AsyncExitStack() as stack:
        deployments: list[tuple[RedisWakeups, list[object]]] = []
        for channels in (CHANNELS, Channels.under(b"another secret")):
            here, there = [await stack.enter_async_context(running(valkey_url, channels)) for _ in range(2)]
            heard: list[object] = []
            await stack.enter_async_context(listening(there, 5, heard.append))
            await until_heard(heard, here, 5, MailArrived(1))
            deployments.append((here, heard))
        (ours, heard_by_us), (theirs, heard_by_them) = deployments
        await until_heard(heard_by_them, theirs, 5, CredentialsReplaced())
        await until_heard(heard_by_us, ours, 5, MailArrived(2))
    assert CredentialsReplaced() not in heard_by_us


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A Valkey of this test alone, which it may stop."""
    with own_valkey() as server:
        yield server


async def until_connected(wakeups: RedisWakeups, mailboxes: range, wanted: set[int]) -> None:
    """Ask until just these are connected: a subscription takes a moment."""
    async with asyncio.timeout(20):
        while await wakeups.connected(mailboxes) != wanted:
            await asyncio.sleep(0.02)


async def test_connected_is_a_mailbox_with_a_listener_in_any_process(valkey_url: str) -> None:
    some, heard = range(81, 86), list[object]()
    async with running(valkey_url) as here, running(valkey_url) as there, listening(here, 81, heard.append):
        async with listening(there, 82, heard.append), listening(there, 83, heard.append):
            await until_connected(here, some, {81, 82, 83})
            await until_connected(there, some, {81, 82, 83})
        await until_connected(here, some, {81})


async def test_a_process_that_has_ended_leaves_nobody_connected(valkey_url: str) -> None:
    heard = list[object]()
    async with running(valkey_url) as here:
        async with running(valkey_url) as there:
            there.add(91, heard.append)
            await until_connected(here, range(91, 92), {91})
        await until_connected(here, range(91, 92), set())


async def test_while_redis_is_away_each_mailbox_counts_as_connected(valkey: Valkey) -> None:
    async with running(valkey.url) as here:
        assert await here.connected([1, 2]) == set()
        valkey.stop()
        with capture_logs() as lines:
            async with asyncio.timeout(3):
                for _ in range(100):
                    assert await here.connected([1, 2]) == {1, 2}
        assert 1 <= [line["event"] for line in lines].count("presence_unknown") <= 2
        valkey.start()
        await until_connected(here, range(1, 3), set())


@dataclass
class Subscribed:
    """A subscription, with the channels on which something came, and somebody who publishes."""

    redis: Redis
    subscriptions: Subscriptions
    came: set[str]

    async def hear(self, channel: str) -> None:
        """Publish there until it comes. If this channel was added last, all that was asked before is confirmed too."""
        async with asyncio.timeout(10):
            while channel not in self.came:
                await self.redis.spublish(channel, b"")
                await asyncio.sleep(0.01)


@asynccontextmanager
async def subscribed(url: str, kind: type[Redis] = Redis) -> AsyncIterator[Subscribed]:
    came: set[str] = set()
    async with (
        Redis.from_url(url) as redis,
        kind.from_url(url) as client,
        Subscriptions(url, client, lambda channel, _: came.add(channel)) as subscriptions,
    ):
        yield Subscribed(redis, subscriptions, came)


async def test_who_leaves_and_is_back_at_once_is_heard_and_breaks_nothing(valkey_url: str) -> None:
    async with subscribed(valkey_url) as here:
        await here.subscriptions.add("{1}")
        for _ in range(3):
            await here.subscriptions.remove("{1}")
            await here.subscriptions.add("{1}")
        await here.subscriptions.add("{2}")
        await here.hear("{2}")
        await here.hear("{1}")
        assert not here.subscriptions.broken


class LateRedis(Redis):
    """Hears each answer of its subscriptions a little late, as on a busy machine."""

    def pubsub(self, **options: Any) -> PubSub:
        subscription = super().pubsub(**options)
        parse_response = subscription.parse_response

        async def parse_late(*arguments: object, **options: object) -> object:
            await asyncio.sleep(0.05)
            return await parse_response(*arguments, **options)  # type: ignore[arg-type]

        subscription.parse_response = parse_late  # type: ignore[method-assign]
        return subscription


async def test_late_answers_break_nothing(valkey_url: str) -> None:
    async with subscribed(valkey_url, LateRedis) as here:
        await here.subscriptions.add("{1}")
        await here.subscriptions.remove("{1}")
        await here.subscriptions.add("{1}", "{2}")
        await here.hear("{2}")
        assert not here.subscriptions.broken


async def test_who_left_is_not_heard(valkey_url: str) -> None:
    async with subscribed(valkey_url) as here:
        await here.subscriptions.add("{1}")
        await here.subscriptions.remove("{1}")
        await here.subscriptions.add("{2}")
        await here.hear("{2}")
        assert await here.redis.spublish("{1}", b"") == 0
        assert not here.subscriptions.broken


async def test_many_mailboxes_are_listened_to_in_a_few_commands(valkey: Valkey) -> None:
    async with subscribed(valkey.url) as here:
        await here.subscriptions.add(*(f"{{{number}}}" for number in range(1201)))
        await here.hear("{1200}")
        await here.hear("{0}")
        statistics = await here.redis.info("commandstats")
        assert statistics["cmdstat_ssubscribe"]["calls"] == 3


async def test_without_redis_this_process_still_hears_itself_and_the_others_again_later(valkey: Valkey) -> None:
    heard: list[object] = []
    async with running(valkey.url) as here, running(valkey.url) as there, listening(there, 1, heard.append):
        valkey.stop()
        there.announce(1, MailArrived(1))
        assert heard == [MailArrived(1)]
        here.announce(1, MailArrived(2))  # lost
        valkey.start()
        await until_heard(heard, here, 1, MailArrived(3))


class StumblingWakeups(LocalWakeups):
    """Fails once, in a way that nobody thought of."""

    stumbled = False

    def mailboxes(self) -> list[int]:
        if not self.stumbled:
            self.stumbled = True
            raise RuntimeError
        return super().mailboxes()


async def test_whatever_goes_wrong_is_one_line_in_the_log_and_the_next_notice_is_heard(valkey_url: str) -> None:
    heard: list[object] = []
    with capture_logs() as lines:
        async with running(valkey_url) as here, running(valkey_url, local=StumblingWakeups()) as there:
            here.announce(9, MailArrived("no number"))  # type: ignore[arg-type]  # cannot be encoded
            async with listening(there, 9, heard.append):
                await until_heard(heard, here, 9, MailArrived(1))
    assert sorted((line["event"], line["error"]) for line in lines) == [
        ("notices_interrupted", "RuntimeError"),
        ("notices_lost", "TypeError"),
    ]


async def test_a_cluster_that_never_answers_is_asked_again() -> None:
    with capture_logs() as lines:
        async with running("redis+cluster://127.0.0.1:1") as here, asyncio.timeout(20):
            for name in ("notices_lost", "notices_interrupted"):
                while [line["event"] for line in lines].count(name) < 2:
                    here.announce_elsewhere(1, MailArrived(1))
                    await asyncio.sleep(0.05)
    assert "background_failed" not in {line["event"] for line in lines}


@pytest.fixture(scope="module")
def cluster_url() -> Iterator[str]:
    """A cluster of three nodes."""
    with valkey_cluster() as url:
        yield url


async def test_in_a_cluster_each_mailbox_has_its_node_and_notices_reach_it(cluster_url: str) -> None:
    heard: dict[int, list[object]] = {mailbox: [] for mailbox in range(1, 31)}  # with three nodes, some on each
    async with running(cluster_url) as here, running(cluster_url) as there, AsyncExitStack() as stack:
        for mailbox, notices_of_it in heard.items():
            await stack.enter_async_context(listening(there, mailbox, notices_of_it.append))
        async with asyncio.timeout(20):
            while not all(heard.values()):
                for mailbox in heard:
                    here.announce(mailbox, MailArrived(mailbox))
                await asyncio.sleep(0.05)
    assert all(set(found) == {MailArrived(mailbox)} for mailbox, found in heard.items())


async def test_in_a_cluster_each_node_is_asked_who_is_connected(cluster_url: str) -> None:
    heard, some = list[object](), range(1, 31)
    async with running(cluster_url) as here, running(cluster_url) as there, AsyncExitStack() as stack:
        for mailbox in range(1, 21):
            await stack.enter_async_context(listening(there, mailbox, heard.append))
        await until_connected(here, some, set(range(1, 21)))


@asynccontextmanager
async def nodes_of(cluster_url: str, slot: int) -> AsyncIterator[list[Any]]:
    """The nodes of a cluster, to be spoken to directly; the one that has the slot comes first."""
    async with AsyncExitStack() as stack:
        node: Any = await stack.enter_async_context(Redis.from_url(cluster_url.replace("+cluster", "")))
        shares = await node.execute_command("CLUSTER SLOTS")
        owner = next(port for first, last, (_, port, *_) in shares if first <= slot <= last)
        others = {port for _, _, (_, port, *_) in shares} - {owner}
        yield [await stack.enter_async_context(Redis(port=port)) for port in (owner, *others)]


async def test_in_a_cluster_a_mailbox_is_heard_again_when_its_slot_has_moved(cluster_url: str) -> None:
    heard: list[object] = []
    slot = key_slot(CHANNELS.of(5).encode())
    async with running(cluster_url) as here, running(cluster_url) as there, listening(there, 5, heard.append):
        await until_heard(heard, here, 5, MailArrived(1))
        async with nodes_of(cluster_url, slot) as (owner, other, third):
            new_owner = await other.execute_command("CLUSTER MYID")
            for node in (other, owner, third):
                await node.execute_command("CLUSTER SETSLOT", slot, "NODE", new_owner)
        await until_heard(heard, here, 5, MailArrived(2))


@asynccontextmanager
async def cluster_down(cluster_url: str, slot: int) -> AsyncIterator[None]:
    """While the block lasts no node has the slot, and none of them serves anything."""
    async with nodes_of(cluster_url, slot) as nodes:
        for node in nodes:
            await node.execute_command("CLUSTER DELSLOTS", slot)
        try:
            yield
        finally:
            await nodes[0].execute_command("CLUSTER ADDSLOTS", slot)
            for node in nodes:
                while (await node.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":
                    await asyncio.sleep(0.02)


async def test_a_cluster_that_was_down_carries_notices_again(cluster_url: str) -> None:
    heard: list[object] = []
    with capture_logs() as lines:
        async with running(cluster_url) as here, running(cluster_url) as there, listening(there, 6, heard.append):
            await until_heard(heard, here, 6, MailArrived(1))
            async with cluster_down(cluster_url, key_slot(CHANNELS.of(6).encode())), asyncio.timeout(20):
                while not {"notices_lost", "notices_interrupted"} <= {line["event"] for line in lines}:
                    here.announce(6, MailArrived(2))
                    await asyncio.sleep(0.05)
            await until_heard(heard, here, 6, MailArrived(3))
    assert "background_failed" not in {line["event"] for line in lines}


async def test_while_a_cluster_is_down_what_guards_a_secret_is_refused(cluster_url: str) -> None:
    buckets, key = RedisBuckets(cluster_url, BucketNames(bytes(32)), timeout=PATIENCE), ("pin", 1)
    async with cluster_down(cluster_url, key_slot(buckets._place_of(key).encode())):
        with pytest.raises(BucketsAway):
            await buckets.take(key, Bucket(1, 1000), 1)
    await buckets.close()


async def test_in_a_cluster_levels_of_limits_are_shared(cluster_url: str) -> None:
    names, bucket = BucketNames(bytes(32)), Bucket(10, 1000, fail_open=True)
    one, two = (
        SettledBuckets(RedisBuckets(cluster_url, names, timeout=PATIENCE), LocalBuckets(lambda: 0.0)) for _ in range(2)
    )
    keys = [("messages", number) for number in range(12)]
    for key in keys:
        await one.take(key, bucket, 7)
        await two.take(key, bucket, 1)
    await one.settle()
    await two.settle()
    assert [round((await two.take(key, bucket, 0)).tokens) for key in keys] == [2] * 12
    assert not (await two.take(("pin", 1), Bucket(0.5, 1000), 1)).taken  # asked of the cluster at once
    for each in (one, two):
        await each.close()

"""Notices between processes, and what becomes of them when Redis goes away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis.strategies import binary, builds, integers, just

from messaging.relay.buckets import LocalBuckets, RedisBuckets, SettledBuckets
from messaging.relay.delivery.redis import RedisWakeups, channel_of, decode_notice, encode_notice, mailbox_of
from messaging.relay.delivery.wakeups import ConnectedElsewhere, CredentialsReplaced, LocalWakeups, MailArrived, Notice
from messaging.relay.limits import Bucket, BucketNames
from tests.servers import Valkey, own_valkey, valkey_cluster

notices = (
    builds(MailArrived, integers(0, 2**63))
    | builds(ConnectedElsewhere, integers(0, 2**63))
    | just(CredentialsReplaced())
)


@given(notice=notices)
def test_a_notice_comes_back_from_its_bytes(notice: Notice) -> None:
    assert decode_notice(encode_notice(notice)) == notice


@given(data=binary(max_size=5))
def test_bytes_of_a_newer_version_mean_nothing(data: bytes) -> None:
    notice = decode_notice(data)
    assert notice is None or data[:1] in b"mcrk"


@given(mailbox_id=integers(1, 2**63))
def test_a_mailbox_comes_back_from_its_channel(mailbox_id: int) -> None:
    assert mailbox_of(channel_of(mailbox_id)) == mailbox_id


@pytest.mark.parametrize("channel", ["subrosa:relays", "subrosa:mailbox:7", "subrosa:mailbox:{x}", "{7}"])
def test_another_channel_is_no_mailboxs(channel: str) -> None:
    assert mailbox_of(channel) is None


@asynccontextmanager
async def running(url: str) -> AsyncIterator[RedisWakeups]:
    wakeups = RedisWakeups(url, LocalWakeups())
    task = asyncio.create_task(wakeups.run())
    try:
        yield wakeups
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_notice_reaches_the_listener_in_another_process(valkey_url: str) -> None:
    heard: list[Notice] = []
    async with running(valkey_url) as here, running(valkey_url) as there, there.listen(71, heard.append):
        while not heard:  # the subscription takes a moment; a notice is a hint and may be lost meanwhile
            here.announce(71, MailArrived(1))
            await asyncio.sleep(0.02)
        here.announce(72, MailArrived(2))
        async with asyncio.timeout(10):
            while CredentialsReplaced() not in heard:
                here.announce(71, CredentialsReplaced())
                await asyncio.sleep(0.02)
    assert MailArrived(2) not in heard


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A Valkey that this test may stop."""
    with own_valkey() as server:
        yield server


async def test_without_redis_this_process_still_hears_itself_and_the_others_again_later(valkey: Valkey) -> None:
    heard: list[Notice] = []
    async with running(valkey.url) as here, running(valkey.url) as there, there.listen(1, heard.append):
        valkey.stop()
        there.announce(1, MailArrived(1))
        assert heard == [MailArrived(1)]
        here.announce(1, MailArrived(2))  # lost
        valkey.start()
        async with asyncio.timeout(10):
            while MailArrived(3) not in heard:
                here.announce(1, MailArrived(3))
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def cluster_url() -> Iterator[str]:
    """A cluster of three nodes."""
    with valkey_cluster() as url:
        yield url


async def test_in_a_cluster_each_mailbox_has_its_node_and_notices_reach_it(cluster_url: str) -> None:
    heard: dict[int, list[Notice]] = {mailbox: [] for mailbox in range(1, 31)}  # with three nodes, some on each
    async with running(cluster_url) as here, running(cluster_url) as there, AsyncExitStack() as listening:
        for mailbox, notices_of_it in heard.items():
            await listening.enter_async_context(there.listen(mailbox, notices_of_it.append))
        async with asyncio.timeout(20):
            while not all(heard.values()):
                for mailbox in heard:
                    here.announce(mailbox, MailArrived(mailbox))
                await asyncio.sleep(0.05)
    assert all(set(found) == {MailArrived(mailbox)} for mailbox, found in heard.items())


async def test_in_a_cluster_levels_of_limits_are_shared(cluster_url: str) -> None:
    names, bucket = BucketNames(bytes(32)), Bucket(10, 1000, fail_open=True)
    one, two = (SettledBuckets(RedisBuckets(cluster_url, names), LocalBuckets(lambda: 0.0)) for _ in range(2))
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

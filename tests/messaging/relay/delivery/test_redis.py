"""Notices between processes, and what becomes of them when Redis goes away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis.strategies import binary, builds, integers, just

from messaging.relay.delivery.redis import RedisWakeups, channel_of, decode_notice, encode_notice, mailbox_of
from messaging.relay.delivery.wakeups import ConnectedElsewhere, CredentialsReplaced, LocalWakeups, MailArrived, Notice
from tests.servers import Valkey, own_valkey

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

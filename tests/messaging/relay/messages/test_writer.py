"""The one writer: what somebody else keeps locked holds up its own sends only."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.errors import Unavailable
from messaging.relay.lanes import LOCK_SECONDS
from messaging.relay.messages.append import Append, Place
from messaging.relay.messages.held import HELD_SECONDS
from messaging.relay.messages.tables import NewEnvelope, create_mailbox, lock_mailboxes
from messaging.relay.messages.writer import EnvelopeWriter
from messaging.relay.tasks import running
from tests.relays import Relays


@pytest.fixture
async def on_postgresql(relays: Relays) -> AsyncIterator[Database]:
    opened = open_database(normalise_url((await relays.settings("postgresql")).database_url))
    yield opened
    await opened.close()


def to(box: int) -> Append:
    return Append([(Place(box, None), NewEnvelope(b"x"))], expires_at=99)


async def test_a_mailbox_that_is_locked_for_long_holds_up_no_other(on_postgresql: Database) -> None:
    """As after the machine of a relay was lost in the middle of a transaction."""
    now, wakeups = [0.0], LocalWakeups()
    writer = EnvelopeWriter(on_postgresql, wakeups, wakeups, clock=lambda: now[0])
    async with on_postgresql.begin() as db:
        held, free, other = [await create_mailbox(db) for _ in range(3)]
    async with running(writer.run()):
        async with on_postgresql.begin(seconds=None) as db:
            await lock_mailboxes(db, [held])
            async with asyncio.timeout(LOCK_SECONDS + 5):
                found = await asyncio.gather(
                    *map(writer.append, map(to, (held, free, held, other))), return_exceptions=True
                )
            assert [found[1], found[3]] == [{free: 1}, {other: 1}]
            assert [type(found[0]), type(found[2])] == [Unavailable] * 2
            async with asyncio.timeout(1):  # it is remembered for a while: nobody waits for it again
                with pytest.raises(Unavailable):
                    await writer.append(to(held))
                assert await writer.append(to(free)) == {free: 2}
        now[0] = HELD_SECONDS + 1
        assert await writer.append(to(held)) == {held: 1}

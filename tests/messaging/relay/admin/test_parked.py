"""Parked envelopes for operators: counts by device, and the two things that can be done."""

from typing import Any

import pytest

from messaging.relay.admin.desk import Done, act, look
from messaging.relay.admin.errors import NothingThere
from messaging.relay.admin.parked import DeviceNamed, ParkedEnvelopes, ParkedPage
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.database import Database
from messaging.relay.delivery.wakeups import Heard, MailArrived
from messaging.relay.messages.tables import parked_envelopes, read_envelopes
from tests.messaging.relay.admin.town import Town, a_town


@pytest.fixture
async def town(database: Database) -> Town:
    return await a_town(database)


async def listed(town: Town, **page: Any) -> ParkedEnvelopes:
    found: ParkedEnvelopes = await look(town.desk, VIEWS["parked.list"], town.operator(), ParkedPage(**page))
    return found


async def do(town: Town, name: str, device: DeviceNamed) -> Done:
    return await act(town.desk, ACTIONS[name], town.operator(), device, reason="asked")


async def sequences(town: Town, mailbox: int) -> tuple[list[int], list[int]]:
    """What is parked, and what is to be delivered."""
    async with town.desk.database.read() as db:
        parked = await parked_envelopes(db, mailbox, now=town.now, limit=10)
        queued = await read_envelopes(db, mailbox, after=0, limit=10, now=town.now)
    return [each.sequence for each in parked], [each.sequence for each in queued]


async def test_devices_are_listed_with_counts_and_pages_leave_none_out(town: Town) -> None:
    everything = await listed(town)
    person = town.people[0]
    mine = [each for each in everything.devices if each.aci == person.aci]
    assert [(each.device_id, each.parked) for each in mine] == [(1, 1), (2, 1), (3, 1)]
    assert {(each.expires_within_day, each.expires_within_week, each.expires_later) for each in mine} == {(1, 0, 0)}
    seen, page = [], await listed(town, limit=4)
    while True:
        seen += page.devices
        if page.after is None:
            break
        page = await listed(town, limit=4, after=page.after)
    assert seen == everything.devices


async def test_what_is_tried_again_goes_to_the_end_and_its_device_is_woken(town: Town) -> None:
    person, heard = town.people[0], list[Heard]()
    mailbox = person.devices[2]
    town.desk.wakeups.add(mailbox, heard.append)
    assert await sequences(town, mailbox) == ([1], [2, 3])
    done = await do(town, "parked.retry", DeviceNamed(aci=person.aci, device_id=2))
    assert (done.effects[0].what, done.effects[0].count) == ("envelopes", 1)
    assert await sequences(town, mailbox) == ([], [2, 3, 4])
    assert heard == [MailArrived(4)]
    assert await sequences(town, person.devices[1]) == ([1], [2, 3])  # another device's


async def test_what_is_dropped_is_gone(town: Town) -> None:
    bot = town.bots[0]
    await do(town, "parked.drop", DeviceNamed(aci=bot.aci, device_id=1))
    assert await sequences(town, bot.devices[1]) == ([], [2, 3])
    for name in ("parked.drop", "parked.retry"):
        with pytest.raises(NothingThere):
            await do(town, name, DeviceNamed(aci=bot.aci, device_id=1))
        with pytest.raises(NothingThere):
            await do(town, name, DeviceNamed(aci=bot.aci, device_id=9))

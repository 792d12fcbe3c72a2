"""Accounts for operators: found by what the server has of them, stopped, and rid of devices."""

from typing import Any
from uuid import uuid4

import pytest

from messaging.relay.accounts.tables import devices_of, find_account
from messaging.relay.admin.accounts import (
    AccountNamed,
    AccountSearch,
    AccountsFound,
    DevicesNamed,
    LimitGranted,
    LimitNamed,
)
from messaging.relay.admin.audit_tables import all_entries
from messaging.relay.admin.desk import Done, act, look
from messaging.relay.admin.errors import Conflict, InvalidInput, NothingThere
from messaging.relay.admin.limits import MAX_COUNTED
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.database import Database
from messaging.relay.delivery.wakeups import CredentialsReplaced, Heard, Listener, Suspended
from messaging.relay.grants import grants_of
from messaging.relay.limits import DEFAULTS, Bucket, Limit
from messaging.relay.messages.tables import NewEnvelope, append_envelopes, count_envelopes
from messaging.wire.identifiers import ServiceId
from messaging.wire.json import Entity
from tests.messaging.relay.admin.town import DAY, NUMBER, Town, a_town


@pytest.fixture
async def town(database: Database) -> Town:
    return await a_town(database)


async def found(town: Town, **wanted: Any) -> AccountsFound:
    result: AccountsFound = await look(town.desk, VIEWS["accounts.search"], town.operator(), AccountSearch(**wanted))
    return result


async def do(town: Town, name: str, parameters: Entity, **more: Any) -> Done:
    return await act(town.desk, ACTIONS[name], town.operator(), parameters, reason="asked", **more)


async def test_an_account_is_found_by_its_id_its_number_or_the_hash_of_its_username(town: Town) -> None:
    person = town.people[0]
    known: list[dict[str, Any]] = [{"aci": person.aci}, {"number": person.number}, {"username_hash": b"u" * 32}]
    unknown: list[dict[str, Any]] = [{"aci": uuid4()}, {"number": "+4915550009999"}, {"username_hash": b"x" * 32}]
    for wanted in known:
        result = await found(town, **wanted)
        assert [each.aci for each in result.accounts] == [person.aci]
        assert result.before is None
    for wanted in unknown:
        assert (await found(town, **wanted)).accounts == []
    assert "username" in (await found(town)).not_searchable[0]


@pytest.mark.parametrize("number", ["4915550000101", "+49 1555 0000101", "", "CANARY"])
async def test_what_is_no_number_is_refused(town: Town, number: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await found(town, number=number)
    assert caught.value.fields == ("number",)


async def test_one_thing_is_searched_by_at_a_time(town: Town) -> None:
    with pytest.raises(InvalidInput):
        await found(town, number=NUMBER, aci=town.people[0].aci)


async def test_what_was_searched_by_is_written_down_and_never_the_number(town: Town) -> None:
    number = town.people[0].number or ""
    await found(town, number=number)
    await found(town, aci=town.people[0].aci)
    await found(town, username_hash=b"u" * 32)
    await found(town)
    await found(town, number="+4915550009999")
    await found(town, username_hash=b"x" * 32)
    entries = [entry async for entry in all_entries(town.desk.database)]
    theirs = f"account {town.people[0].aci}"
    about = [theirs, theirs, theirs, "accounts", "accounts, by number", "accounts, by username"]
    assert [entry.said.subject for entry in entries] == about
    assert not any(number[1:] in entry.as_json() for entry in entries)
    assert number not in repr(AccountSearch(number=number))


async def test_the_newest_come_first_and_pages_leave_nobody_out(town: Town) -> None:
    everybody = [*town.people, *town.bots, *town.suspended, *town.assistants]
    seen, before = [], None
    for _ in everybody:
        page = await found(town, limit=2, before=before)
        seen += [each.aci for each in page.accounts]
        before = page.before
        if before is None:
            break
    assert seen == [each.aci for each in reversed(everybody)]


async def test_only_bots_or_only_suspended_accounts_are_listed(town: Town) -> None:
    assert {each.aci for each in (await found(town, bots=True)).accounts} == {each.aci for each in town.bots}
    suspended = (await found(town, suspended=True)).accounts
    assert {each.aci for each in suspended} == {each.aci for each in town.suspended}
    assert all(each.suspended_at == town.now - DAY for each in suspended)
    assert (await found(town, bots=True, suspended=True)).accounts == []
    assert {each.kind for each in (await found(town)).accounts} == {"person", "bot", "assistant"}


async def test_an_account_is_shown_with_devices_sizes_and_grants(town: Town) -> None:
    person = town.people[0]
    shown = await look(town.desk, VIEWS["accounts.show"], town.operator(), AccountNamed(aci=person.aci))
    assert (shown.state, shown.kind, shown.username, shown.avatar) == ("active", "person", True, True)
    assert (shown.profile_versions, shown.profile_bytes) == (1, 90)
    assert [(each.device_id, each.waiting, each.parked) for each in shown.devices] == [(1, 3, 1), (2, 3, 1), (3, 3, 1)]
    (grant,) = shown.grants
    assert (grant.limit, grant.at_once, grant.refill_seconds) == ("messages", 300, 0.5)
    assert (grant.usual_at_once, grant.usual_refill_seconds) == (100, 2)  # as operators have set it for everybody
    bot = await look(town.desk, VIEWS["accounts.show"], town.operator(), AccountNamed(aci=town.bots[0].aci))
    assert (bot.kind, bot.username, bot.profile_bytes, bot.avatar) == ("bot", False, 0, False)
    with pytest.raises(NothingThere):
        await look(town.desk, VIEWS["accounts.show"], town.operator(), AccountNamed(aci=uuid4()))


async def test_what_waits_is_counted_up_to_a_bound(town: Town) -> None:
    person = town.people[1]
    async with town.desk.database.begin() as db:
        for _ in range(MAX_COUNTED - 3):
            await append_envelopes(db, {person.devices[1]: NewEnvelope(b"")}, expires_at=town.now + DAY)
    for waiting, more in ((MAX_COUNTED, False), (MAX_COUNTED, True)):
        shown = await look(town.desk, VIEWS["accounts.show"], town.operator(), AccountNamed(aci=person.aci))
        assert (shown.devices[0].waiting, shown.devices[0].waiting_is_more) == (waiting, more)
        async with town.desk.database.begin() as db:
            await append_envelopes(db, {person.devices[1]: NewEnvelope(b"")}, expires_at=town.now + DAY)


async def test_a_suspended_account_keeps_what_it_has_and_its_sockets_close(town: Town) -> None:
    person, heard = town.people[0], Heards(town)
    named = AccountNamed(aci=person.aci)
    await do(town, "accounts.suspend", named, dry_run=True)
    assert heard.closed == []
    await do(town, "accounts.suspend", named)
    assert heard.closed == sorted(person.devices.values())
    with pytest.raises(Conflict):
        await do(town, "accounts.suspend", named)
    async with town.desk.database.read() as db:
        account = await find_account(db, ServiceId(person.aci))
        assert account is not None
        assert account.suspended_at == town.now
        assert set((await count_envelopes(db, list(person.devices.values()))).values()) == {3}
    await do(town, "accounts.unsuspend", named)
    with pytest.raises(Conflict):
        await do(town, "accounts.unsuspend", named)
    assert heard.closed == sorted(person.devices.values())  # nobody is disconnected for good news


async def test_a_linked_device_is_revoked_or_all_of_them_and_never_the_primary_one(town: Town) -> None:
    person, heard = town.people[0], Heards(town)
    done = await do(town, "devices.revoke", DevicesNamed(aci=person.aci, device_id=2))
    assert {each.what: each.count for each in done.effects} == {"devices": 1, "envelopes": 3}
    assert heard.closed == [person.devices[2]]
    with pytest.raises(NothingThere):
        await do(town, "devices.revoke", DevicesNamed(aci=person.aci, device_id=2))
    other = town.people[1]
    await do(town, "devices.revoke", DevicesNamed(aci=other.aci))
    async with town.desk.database.read() as db:
        assert [each.device_id for each in await devices_of(db, person.id)] == [1, 3]
        assert [each.device_id for each in await devices_of(db, other.id)] == [1]
    with pytest.raises(ValueError, match="device_id"):
        DevicesNamed(aci=person.aci, device_id=1)


async def test_a_deleted_account_is_gone_with_its_mail_and_its_sockets(town: Town) -> None:
    person, heard = town.people[2], Heards(town)
    done = await do(town, "accounts.delete", AccountNamed(aci=person.aci))
    assert {each.what: each.count for each in done.effects} == {"accounts": 1, "devices": 3, "envelopes": 9}
    assert heard.closed == sorted(person.devices.values())
    async with town.desk.database.read() as db:
        assert await find_account(db, ServiceId(person.aci)) is None
        assert await count_envelopes(db, list(person.devices.values())) == {}
    with pytest.raises(NothingThere):
        await do(town, "accounts.delete", AccountNamed(aci=person.aci))


async def test_a_limit_is_granted_and_taken_back(town: Town) -> None:
    person = town.people[1]
    named: dict[str, Any] = {"aci": person.aci, "limit": Limit.MESSAGES}
    await do(town, "limits.grant", LimitGranted(**named, at_once=500, refill_seconds=0.1))
    async with town.desk.database.read() as db:
        assert await grants_of(db, person.id) == [("messages", Bucket(500, 0.1))]
    assert DEFAULTS[Limit.MESSAGES].size != 500
    await do(town, "limits.ungrant", LimitNamed(**named))
    async with town.desk.database.read() as db:
        assert await grants_of(db, person.id) == []
    with pytest.raises(NothingThere):
        await do(town, "limits.ungrant", LimitNamed(**named))


@pytest.mark.parametrize(
    ("at_once", "refill"), [(0.5, 1), (0, 1), (-1, 1), (1, 0), (1, -1), (float("inf"), 1), (1, float("nan"))]
)
async def test_a_bucket_that_is_none_is_not_granted(town: Town, at_once: float, refill: float) -> None:
    granted = LimitGranted(aci=town.people[0].aci, limit=Limit.PIN, at_once=at_once, refill_seconds=refill)
    with pytest.raises(InvalidInput):
        await do(town, "limits.grant", granted)


class Heards:
    """Which mailboxes were told that their devices are not registered any more, or may not connect."""

    def __init__(self, town: Town) -> None:
        self._closed: list[int] = []
        for resident in [*town.people, *town.bots]:
            for mailbox in resident.devices.values():
                town.desk.wakeups.add(mailbox, self._listener(mailbox))

    def _listener(self, mailbox: int) -> Listener:
        def hear(notice: Heard) -> None:
            assert isinstance(notice, CredentialsReplaced | Suspended)
            self._closed.append(mailbox)

        return hear

    @property
    def closed(self) -> list[int]:
        return sorted(self._closed)

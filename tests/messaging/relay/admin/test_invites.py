"""Invites for operators: a code is shown once, and kept nowhere in its own form."""

from typing import Any

import pytest
from sqlalchemy import select

from messaging.relay.accounts.invite_service import InviteService
from messaging.relay.accounts.invite_tables import InviteRow
from messaging.relay.accounts.invites import MAX_USES, Role
from messaging.relay.admin.audit_tables import all_entries
from messaging.relay.admin.desk import Done, act, look
from messaging.relay.admin.errors import InvalidInput, NothingThere
from messaging.relay.admin.invites import InviteNamed, InvitePage, Invites, InviteWanted
from messaging.relay.admin.proposals import SETTING
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.database import Database
from messaging.relay.operator_settings import write_setting
from tests.messaging.relay.admin.town import Town, a_town, dump

MAKE, REVOKE = ACTIONS["invites.make"], ACTIONS["invites.revoke"]
STRANGER = "+4915550009999"


@pytest.fixture
async def town(database: Database) -> Town:
    return await a_town(database)


async def make(town: Town, **wanted: Any) -> Done:
    return await act(town.desk, MAKE, town.operator(), InviteWanted(**wanted))


async def listed(town: Town, **page: Any) -> Invites:
    found: Invites = await look(town.desk, VIEWS["invites.list"], town.operator(), InvitePage(**page))
    return found


async def test_a_code_is_good_and_shown_once(town: Town) -> None:
    done = await make(town, uses=2)
    code = done.shown["code"]
    assert code not in repr(done)
    service = InviteService(town.desk.database, town.desk.secret, town.desk.now)
    async with town.desk.database.begin() as db:
        assert await service.redeem(db, code, STRANGER, bots_only=False) is not None
    entries = [entry.as_json() async for entry in all_entries(town.desk.database)]
    plain = code.replace("-", "")
    for text in (*entries, repr(await dump(town.desk.database)), (await listed(town)).to_json().decode()):
        assert code not in text
        assert plain not in text
    assert (await listed(town)).invites[0].uses_left == 1


async def test_a_trial_shows_no_code_and_makes_none(town: Town) -> None:
    before = await dump(town.desk.database)
    done = await act(town.desk, MAKE, town.operator(), InviteWanted(), dry_run=True)
    assert (done.shown, done.effects[0].count) == ({}, 1)
    assert await dump(town.desk.database) == before


async def test_an_invite_for_one_number_is_made_and_the_number_is_in_no_log_nor_table(town: Town) -> None:
    done = await make(town, number=STRANGER)
    (entry,) = [entry async for entry in all_entries(town.desk.database)]
    assert STRANGER[1:] not in entry.as_json()
    assert entry.said.detail["given"] == {"role": "member", "uses": 1, "lifetime": "7d"}
    assert entry.said.detail["forOneNumber"] is True
    assert STRANGER[1:] not in repr(await dump(town.desk.database))
    assert STRANGER not in repr(InviteWanted(number=STRANGER))
    async with town.desk.database.read() as db:
        query = select(InviteRow.number_hash).where(InviteRow.id == int(done.subject.split()[-1]))
        assert (await db.execute(query)).scalar_one() == town.desk.secret.number_hash(STRANGER)


async def test_one_for_a_number_cannot_wait_for_another_operator(town: Town) -> None:
    async with town.desk.database.begin() as db:
        await write_setting(db, SETTING, {"actions": ["invites.make"]}, after=0, at=1, by="olga")
    before = await dump(town.desk.database)
    with pytest.raises(InvalidInput) as caught:
        await make(town, number=STRANGER)
    assert caught.value.fields == ("number",)
    assert await dump(town.desk.database) == before


@pytest.mark.parametrize(
    "wanted", [{"lifetime": "59"}, {"lifetime": "366d"}, {"number": "0155"}, {"role": Role.BOT, "number": STRANGER}]
)
async def test_terms_that_no_invite_has_are_refused(town: Town, wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await make(town, **wanted)


@pytest.mark.parametrize("uses", [0, MAX_USES + 1])
def test_uses_have_bounds(uses: int) -> None:
    with pytest.raises(ValueError, match="uses"):
        InviteWanted(uses=uses)


async def test_the_newest_come_first_and_pages_leave_none_out(town: Town) -> None:
    first = await listed(town, limit=2)
    rest = await listed(town, limit=2, before=first.before)
    assert [each.id for each in (*first.invites, *rest.invites)] == sorted(town.invites, reverse=True)
    assert rest.before is None
    assert first.invites[0].for_one_number


async def test_a_revoked_invite_is_worth_nothing(town: Town) -> None:
    await act(town.desk, REVOKE, town.operator(), InviteNamed(id=town.invites[0]))
    states = {each.id: each.state for each in (await listed(town)).invites}
    assert states[town.invites[0]] == "revoked"
    assert states[town.invites[1]] == "good"
    with pytest.raises(NothingThere):
        await act(town.desk, REVOKE, town.operator(), InviteNamed(id=10**9))

"""The desk: what is refused, fails or is done leaves an entry, and who acts may what they may at that moment."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert, update
from sqlalchemy.exc import DBAPIError

from messaging.relay.admin.accounts import AccountNamed, AccountSearch
from messaging.relay.admin.audit import Said
from messaging.relay.admin.audit_tables import all_entries
from messaging.relay.admin.desk import account_subject, act, look, reject, require_permitted
from messaging.relay.admin.errors import Conflict, InvalidInput, NothingThere, NotPermitted, ReasonNeeded
from messaging.relay.admin.limits import MAX_REASON
from messaging.relay.admin.operator_tables import OperatorRow
from messaging.relay.admin.operators_domain import NewToken, OfToken
from messaging.relay.admin.permissions import GRANTED, Role
from messaging.relay.admin.proposals import ProposalRow, waiting_proposals
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.database import Database
from tests.messaging.relay.admin.town import Town, a_town, refuse_entries


@pytest.fixture
async def town(database: Database) -> Town:
    return await a_town(database)


async def told(town: Town) -> list[Said]:
    return [entry.said async for entry in all_entries(town.desk.database)]


async def test_what_a_page_is_refused_before_it_asks_for_anything_stands_in_the_log(town: Town) -> None:
    """As pages do for a form: nothing is looked at yet, and nothing done."""
    viewer = town.operator(Role.VIEWER)
    for what in (VIEWS["accounts.show"], ACTIONS["accounts.delete"]):
        with pytest.raises(NotPermitted):
            await require_permitted(town.desk, viewer, what)
        await require_permitted(town.desk, town.operator(), what)
    assert [(said.operator, said.action, said.outcome.value) for said in await told(town)] == [
        ("olga", "accounts.show", "refused"),
        ("olga", "accounts.delete", "refused"),
    ]


@pytest.mark.parametrize("by", ["aci", "number", "username_hash", None])
async def test_a_search_that_cannot_be_written_down_shows_nothing(town: Town, by: str | None) -> None:
    person = town.people[0]
    known: dict[str, Any] = {"aci": person.aci, "number": person.number, "username_hash": b"u" * 32}
    wanted = AccountSearch(**({} if by is None else {by: known[by]}))
    view = VIEWS["accounts.search"]
    assert (await look(town.desk, view, town.operator(), wanted)).accounts
    await refuse_entries(town.desk.database)
    with pytest.raises(DBAPIError):
        await look(town.desk, view, town.operator(), wanted)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_what_could_not_be_done_stands_in_the_log_with_the_account(town: Town, *, dry_run: bool) -> None:
    """That there is nothing like that, or that it is so already, is something that was learnt of an account."""
    nobody, suspended = uuid4(), town.suspended[0].aci
    action, failures = ACTIONS["accounts.suspend"], {nobody: NothingThere, suspended: Conflict}
    for aci, kind in failures.items():
        with pytest.raises(kind):
            await act(town.desk, action, town.operator(), AccountNamed(aci=aci), reason="asked", dry_run=dry_run)
    assert [(said.subject, said.outcome.value, said.reason, said.detail) for said in await told(town)] == [
        (account_subject(aci), "failed", "asked", {"given": {"aci": str(aci)}, "why": kind.code})
        for aci, kind in failures.items()
    ]


async def test_what_could_not_be_done_and_cannot_be_written_down_is_not_told(town: Town) -> None:
    await refuse_entries(town.desk.database)
    with pytest.raises(DBAPIError):
        await act(
            town.desk, ACTIONS["accounts.suspend"], town.operator(), AccountNamed(aci=uuid4()), reason="r", dry_run=True
        )


async def test_a_number_that_could_not_be_used_is_in_no_entry(town: Town) -> None:
    taken = {"lifetime": "1d", "number": "4915550000101"}
    with pytest.raises(InvalidInput):
        await act(town.desk, ACTIONS["invites.make"], town.operator(), ACTIONS["invites.make"].takes(**taken))
    assert await told(town) == []


@pytest.mark.parametrize("name", ["tokens.make", "tokens.revoke"])
async def test_who_was_an_owner_when_they_were_let_in_does_what_they_may_now(town: Town, name: str) -> None:
    owner = town.operator()
    async with town.desk.database.begin() as db:
        demoted = update(OperatorRow).where(OperatorRow.id == owner.id).values(role=Role.VIEWER.value)
        await db.execute(demoted)
    parameters = {
        "tokens.make": NewToken(name="t", permissions=("operators.manage",)),
        "tokens.revoke": OfToken(token_id=town.tokens[1]),
    }
    for dry_run in (True, False):
        with pytest.raises((NotPermitted, NothingThere)):
            await act(town.desk, ACTIONS[name], owner, parameters[name], dry_run=dry_run)
    assert GRANTED[Role.VIEWER] >= {ACTIONS[name].permission}, "a viewer may do it, within what is theirs"


async def test_the_reason_of_a_rejection_is_kept_whole_or_not_taken(town: Town) -> None:
    async with town.desk.database.begin() as db:
        values = {"action": "accounts.delete", "parameters": {"aci": str(uuid4())}, "reason": "", "subject": "x"}
        await db.execute(
            insert(ProposalRow).values(**values, operator_id=town.operators[1], operator="otto", at=town.now)
        )
        *_, proposal = await waiting_proposals(db, now=town.now)
    action, operator = ACTIONS["accounts.delete"], replace(town.operator())
    with pytest.raises(ReasonNeeded):
        await reject(town.desk, action, operator, proposal, reason="r" * (MAX_REASON + 1))
    await reject(town.desk, action, operator, proposal, reason=f" {'r' * MAX_REASON} ")
    assert [(said.outcome.value, said.reason) for said in await told(town)] == [("rejected", "r" * MAX_REASON)]

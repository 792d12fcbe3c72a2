"""All that is in the registry, whatever it is: nothing changes without an audit entry, and nobody does what the table does not say.

What is added to the registry is tested here by itself; it fails without an example (``examples.py``).
"""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import String
from sqlalchemy.exc import DBAPIError

from messaging.relay.admin.audit import Entry, Outcome, verify
from messaging.relay.admin.audit_tables import all_entries
from messaging.relay.admin.desk import Action, View, account_subject, act, look
from messaging.relay.admin.errors import AdminError, InvalidInput, NotPermitted, ReasonNeeded
from messaging.relay.admin.permissions import GRANTED, Permission, Role
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.database import Base, Database
from tests.messaging.relay.admin.examples import ACTION_EXAMPLES, VIEW_EXAMPLES, example_of
from tests.messaging.relay.admin.town import AUDIT, NUMBER, Town, a_town, dump, refuse_entries

DRAWS = 3  # of parameters, of each action


async def entries(town: Town) -> list[Entry]:
    return [entry async for entry in all_entries(town.desk.database)]


def test_everything_has_an_example() -> None:
    assert ACTIONS.keys() <= ACTION_EXAMPLES.keys()
    assert ACTION_EXAMPLES.keys() <= ACTIONS.keys(), "an example of what is gone"
    assert VIEW_EXAMPLES.keys() <= VIEWS.keys(), "an example of what is gone"


async def test_the_town_has_rows_in_every_table(database: Database) -> None:
    await a_town(database)
    found = await dump(database)
    assert found.keys() == Base.metadata.tables.keys() - AUDIT
    assert [name for name, rows in found.items() if not rows] == []


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
async def test_an_action_changes_data_with_one_entry_and_a_trial_changes_none(
    database: Database, action: Action[Any]
) -> None:
    town = await a_town(database)
    for seed in range(DRAWS):
        parameters = example_of(action.name, action.takes, town, seed=seed)
        before, told = await dump(database), len(await entries(town))
        try:
            tried = await act(town.desk, action, town.operator(), parameters, reason="asked", dry_run=True)
        except AdminError as problem:
            assert seed > 0, "the first example has to be one that can be done"
            with pytest.raises(type(problem)):
                await act(town.desk, action, town.operator(), parameters, reason="asked")
            assert await dump(database) == before
            failed = [] if isinstance(problem, InvalidInput) else [Outcome.FAILED] * 2
            assert [each.said.outcome for each in (await entries(town))[told:]] == failed
            continue
        assert await dump(database) == before
        assert [each.said.outcome for each in (await entries(town))[told:]] == [Outcome.TRIED]
        done = await act(town.desk, action, town.operator(), parameters, reason="asked")
        assert seed > 0 or await dump(database) != before  # later it may stand so already
        (entry,) = (await entries(town))[told + 1 :]
        assert (entry.said.outcome, entry.said.action, entry.said.reason) == (Outcome.DONE, action.name, "asked")
        assert [(each.what, each.count) for each in tried.effects] == [(each.what, each.count) for each in done.effects]
    assert verify(await entries(town), key=town.desk.secret.audit_key) is not None


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
async def test_what_cannot_be_written_down_does_not_happen(database: Database, action: Action[Any]) -> None:
    town = await a_town(database)
    await refuse_entries(database)
    before = await dump(database)
    parameters = example_of(action.name, action.takes, town, seed=0)
    with pytest.raises(DBAPIError):
        await act(town.desk, action, town.operator(), parameters, reason="asked")
    assert await dump(database) == before
    assert await entries(town) == []


@pytest.mark.parametrize("view", [each for each in VIEWS.values() if each.of_account], ids=lambda each: each.name)
async def test_what_cannot_be_written_down_is_not_shown(database: Database, view: View[Any, Any]) -> None:
    town = await a_town(database)
    await refuse_entries(database)
    with pytest.raises(DBAPIError):
        await look(town.desk, view, town.operator(), example_of(view.name, view.takes, town, seed=0))
    assert await entries(town) == []


@pytest.mark.parametrize("action", [each for each in ACTIONS.values() if each.dangerous], ids=lambda each: each.name)
async def test_what_is_dangerous_needs_a_reason(database: Database, action: Action[Any]) -> None:
    town = await a_town(database)
    before = await dump(database)
    parameters = example_of(action.name, action.takes, town, seed=0)
    for reason in ("", "  "):
        with pytest.raises(ReasonNeeded):
            await act(town.desk, action, town.operator(), parameters, reason=reason)
    assert await dump(database) == before


async def test_each_role_may_do_what_the_table_says_and_nothing_else(database: Database) -> None:
    town = await a_town(database)
    before = await dump(database)
    for role in Role:
        for name, view in VIEWS.items():
            assert await _may_look(town, view, role) == (view.permission in GRANTED[role]), (role, name)
        for name, action in ACTIONS.items():
            assert await _may_act(town, action, role) == (action.permission in GRANTED[role]), (role, name)
    assert await dump(database) == before


async def _may_look(town: Town, view: View[Any, Any], role: Role) -> bool:
    told, parameters = len(await entries(town)), example_of(view.name, view.takes, town, seed=1)
    try:
        shown = await look(town.desk, view, town.operator(role), parameters)
    except NotPermitted:
        refused = (await entries(town))[told:]
        assert [(each.said.outcome, each.said.action) for each in refused] == [(Outcome.REFUSED, view.name)]
        return False
    noted = (await entries(town))[told:]
    is_noted = view.of_account if view.subject_found is None else view.subject_found(parameters, shown) is not None
    assert [each.said.outcome for each in noted] == ([Outcome.READ] if is_noted else [])
    return True


async def _may_act(town: Town, action: Action[Any], role: Role) -> bool:
    told, parameters = len(await entries(town)), example_of(action.name, action.takes, town, seed=0)
    try:
        await act(town.desk, action, town.operator(role), parameters, reason="asked", dry_run=True)
    except NotPermitted:
        refused = (await entries(town))[told:]
        if action.permission in GRANTED[role]:  # a token of more than the operator has, say
            return True
        assert [(each.said.outcome, each.said.action) for each in refused] == [(Outcome.REFUSED, action.name)]
        return False
    except AdminError:
        return True
    return True


async def test_a_permission_that_is_taken_away_is_gone_for_each_view_and_action(database: Database) -> None:
    """A token with all permissions but one: what needs it is refused."""
    town = await a_town(database)
    everything: dict[str, View[Any, Any] | Action[Any]] = {**VIEWS, **ACTIONS}
    for name, what in everything.items():
        less = replace(town.operator(), permissions=frozenset(Permission) - {what.permission}, token_id=1)
        parameters = example_of(name, what.takes, town, seed=0)
        with pytest.raises(NotPermitted):
            await (
                look(town.desk, what, less, parameters)
                if isinstance(what, View)
                else act(town.desk, what, less, parameters)
            )


async def test_no_view_and_no_entry_holds_content_or_a_number(database: Database) -> None:
    town = await a_town(database)
    secrets = [b"CANARY", NUMBER[:-1].encode(), *(secret.hex().encode() for secret in (b"k" * 8, b"u" * 32))]
    for name, view in VIEWS.items():
        for seed in range(DRAWS):
            found = await look(town.desk, view, town.operator(), example_of(name, view.takes, town, seed=seed))
            assert not any(secret in found.to_json() for secret in secrets), name
    log = "\n".join(entry.as_json() for entry in await entries(town))
    assert not any(secret in log.encode() for secret in secrets)


def test_an_entry_names_what_it_was_done_to_in_bounds() -> None:
    """The column's size: an entry that does not fit would stop what it tells of."""
    columns = Base.metadata.tables["audit_entries"].c
    for column, longest in (
        (columns.action, max([*VIEWS, *ACTIONS], key=len)),
        (columns.subject, account_subject(UUID(int=0))),
    ):
        assert isinstance(column.type, String)
        assert len(longest) <= (column.type.length or 0)

"""Relay processes for operators: what is shown of each, and who may have one drain, when."""

import dataclasses
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select

from messaging.relay.admin.audit_tables import all_entries
from messaging.relay.admin.desk import Desk, Nothing, Operator, act, look
from messaging.relay.admin.errors import Conflict, InvalidInput, NothingThere, NotPermitted, ReasonNeeded
from messaging.relay.admin.nodes import Drain, WhichNodes
from messaging.relay.admin.operators import add_operator
from messaging.relay.admin.permissions import GRANTED, Role
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.database import Database, normalise_url
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.metrics import Figures
from messaging.relay.node_tables import NodeRow
from messaging.relay.nodes import LATELY_MILLISECONDS, State, database_time, may_drain, read_nodes
from messaging.relay.server_secret import ServerSecret

SECURITY = Operator(1, "sam", GRANTED[Role.SECURITY], "api")
VIEWER = dataclasses.replace(SECURITY, name="vera", permissions=GRANTED[Role.VIEWER])
LIST, DRAIN, STOP = VIEWS["nodes.list"], ACTIONS["nodes.drain"], ACTIONS["nodes.stop_drain"]


@pytest.fixture
async def desk(database: Database) -> Desk:
    url = normalise_url("sqlite:///nowhere")
    async with database.begin() as db:
        await add_operator(db, handle=bytes(32), name="sam", role=Role.SECURITY, now=0)
    return Desk(database, url, LocalWakeups(), ServerSecret.derive(bytes(32)), None, lambda: 5)


async def add(database: Database, name: str, *, state: State = State.READY, silent: int = 0, **more: object) -> UUID:
    node = uuid4()
    document = Figures(redis_failures=2, commit_failures=1).snapshot({"sockets": 7}).as_document()
    async with database.begin() as db:
        seen = await database_time(db) - silent
        values = {"id": node, "name": name, "version": "1", "started_at": 1, "seen_at": seen, "state": state.value}
        await db.execute(insert(NodeRow).values({**values, "figures": document, **more}))
    return node


async def asked(database: Database) -> dict[UUID, tuple[int | None, bool]]:
    row = NodeRow
    async with database.read() as db:
        found = await db.execute(select(row.id, row.drain_asked_at, row.drain_alone))
        return {node: (at, alone) for node, at, alone in found}


async def test_each_process_is_shown_as_it_is(desk: Desk) -> None:
    ready = await add(desk.database, "north")
    gone = await add(desk.database, "south", silent=LATELY_MILLISECONDS + 5000)
    ended = await add(desk.database, "west", state=State.ENDED, silent=LATELY_MILLISECONDS + 6000)
    found = await look(desk, LIST, VIEWER, Nothing())
    assert [(node.id, node.name, node.state) for node in found.nodes] == [
        (ready, "north", "ready"),
        (gone, "south", "gone"),
        (ended, "west", "ended"),
    ]
    assert (found.nodes[0].sockets, found.nodes[0].failures) == (7, 3)
    assert found.at >= found.nodes[0].seen_at


async def test_a_process_is_asked_to_drain_and_it_is_written_down_by_name(desk: Desk) -> None:
    north, _south = await add(desk.database, "north"), await add(desk.database, "south")
    done = await act(desk, DRAIN, SECURITY, Drain(node=north), reason="new kernel")
    assert {effect.what: effect.count for effect in done.effects} == {"relay processes": 1, "open sockets": 7}
    assert {node for node, (at, _) in (await asked(desk.database)).items() if at} == {north}
    async with desk.database.read() as db:
        assert may_drain(north, await read_nodes(db), await database_time(db))
    entries = [entry async for entry in all_entries(desk.database)]
    assert (entries[-1].said.subject, entries[-1].said.reason) == ("node north", "new kernel")


async def test_a_dry_run_asks_nobody(desk: Desk) -> None:
    north, _south = await add(desk.database, "north"), await add(desk.database, "south")
    await act(desk, DRAIN, SECURITY, Drain(node=north), dry_run=True)
    assert {at for at, _ in (await asked(desk.database)).values()} == {None}


async def test_all_are_asked_at_once_and_go_one_after_the_other(desk: Desk) -> None:
    for name in ("north", "south", "west"):
        await add(desk.database, name)
    await add(desk.database, "gone", silent=LATELY_MILLISECONDS + 5000)
    done = await act(desk, DRAIN, SECURITY, Drain(all=True), reason="new kernel")
    assert (done.subject, done.effects[0].count) == ("all nodes", 3)
    async with desk.database.read() as db:
        nodes, now = await read_nodes(db), await database_time(db)
    assert sum(may_drain(node.id, nodes, now) for node in nodes) == 1


async def test_the_only_one_that_serves_drains_only_if_that_is_said(desk: Desk) -> None:
    north = await add(desk.database, "north")
    await add(desk.database, "ended", state=State.ENDED)
    for wanted in (Drain(node=north), Drain(all=True)):
        with pytest.raises(Conflict, match="No other process"):
            await act(desk, DRAIN, SECURITY, wanted, reason="new kernel")
    await act(desk, DRAIN, SECURITY, Drain(node=north, even_if_alone=True), reason="new kernel")
    assert (await asked(desk.database))[north][1]
    async with desk.database.read() as db:
        assert may_drain(north, await read_nodes(db), await database_time(db))


async def test_who_cannot_or_was_asked_already_is_not_asked(desk: Desk) -> None:
    north, _south = await add(desk.database, "north"), await add(desk.database, "south")
    gone = await add(desk.database, "gone", silent=LATELY_MILLISECONDS + 5000)
    await act(desk, DRAIN, SECURITY, Drain(node=north), reason="once")
    for node in (north, gone):
        with pytest.raises(Conflict):
            await act(desk, DRAIN, SECURITY, Drain(node=node), reason="twice")


async def test_what_was_asked_is_taken_back_before_it_begins(desk: Desk) -> None:
    north, south = await add(desk.database, "north"), await add(desk.database, "south")
    await act(desk, DRAIN, SECURITY, Drain(all=True), reason="new kernel")
    assert (await act(desk, STOP, SECURITY, WhichNodes(node=south))).effects[0].count == 1
    assert {node for node, (at, _) in (await asked(desk.database)).items() if at} == {north}
    with pytest.raises(Conflict):
        await act(desk, STOP, SECURITY, WhichNodes(node=south))
    draining = await add(desk.database, "west", state=State.DRAINING, drain_asked_at=1)
    with pytest.raises(Conflict):
        await act(desk, STOP, SECURITY, WhichNodes(node=draining))


@pytest.mark.parametrize("action", [DRAIN, STOP], ids=lambda action: action.name)
async def test_one_process_is_named_or_all(desk: Desk, action: object) -> None:
    assert action in (DRAIN, STOP)
    chosen, takes = (DRAIN, Drain) if action is DRAIN else (STOP, WhichNodes)
    for wanted in (takes(), takes(node=uuid4(), all=True)):
        with pytest.raises(InvalidInput):
            await act(desk, chosen, SECURITY, wanted, reason="why")
    with pytest.raises(NothingThere):
        await act(desk, chosen, SECURITY, takes(node=uuid4()), reason="why")


async def test_draining_needs_the_permission_and_a_reason(desk: Desk) -> None:
    north, _south = await add(desk.database, "north"), await add(desk.database, "south")
    with pytest.raises(NotPermitted):
        await act(desk, DRAIN, VIEWER, Drain(node=north), reason="why")
    with pytest.raises(ReasonNeeded):
        await act(desk, DRAIN, SECURITY, Drain(node=north))

"""Relay processes: whose turn it is to drain, and what each says of itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, builds, integers, lists, none, one_of, sampled_from
from sqlalchemy import delete, text, update

from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.metrics import Figures, Snapshot
from messaging.relay.migrate import migrate
from messaging.relay.node_tables import NodeRow
from messaging.relay.nodes import (
    KEPT_MILLISECONDS,
    LATELY_MILLISECONDS,
    MAX_NODE_NAME,
    RETURN_MILLISECONDS,
    Heartbeat,
    Node,
    State,
    ask_to_drain,
    database_time,
    may_drain,
    node_name,
    read_figures,
    read_nodes,
    stop_draining,
)
from tests.relays import Relays, StartedRelay

NOW = 1_000_000
A, B, C = (UUID(int=number) for number in (1, 2, 3))


def a_node(node: UUID = A, **more: object) -> Node:
    ready = Node(node, f"relay-{node.int}", "1", started_at=0, seen_at=NOW, state=State.READY)
    return replace(ready, **more)  # type: ignore[arg-type]


def turns(*nodes: Node) -> list[UUID]:
    return [node.id for node in nodes if may_drain(node.id, nodes, NOW)]


def test_who_is_not_asked_does_not_drain() -> None:
    assert turns(a_node(A), a_node(B)) == []


def test_who_is_asked_drains_while_another_one_serves() -> None:
    assert turns(a_node(A, drain_asked_at=5), a_node(B)) == [A]


def test_of_several_that_are_asked_the_first_goes_first() -> None:
    assert turns(a_node(A, drain_asked_at=6), a_node(B, drain_asked_at=5), a_node(C)) == [B]
    assert turns(a_node(A, drain_asked_at=5), a_node(B, drain_asked_at=5)) == [A]


def test_nobody_drains_while_another_one_does() -> None:
    draining = a_node(A, drain_asked_at=5, state=State.DRAINING)
    assert turns(draining, a_node(B, drain_asked_at=6), a_node(C)) == []
    silent = replace(draining, seen_at=NOW - LATELY_MILLISECONDS - 1)
    assert turns(silent, a_node(B, drain_asked_at=6), a_node(C)) == [B]


@pytest.mark.parametrize(
    "other",
    [
        a_node(B, state=State.BROKEN),
        a_node(B, state=State.ENDED, seen_at=NOW - RETURN_MILLISECONDS),
        a_node(B, seen_at=NOW - LATELY_MILLISECONDS - 1),
    ],
    ids=["broken", "ended", "silent"],
)
def test_the_only_one_that_serves_does_not_drain_unless_it_was_asked_to_in_any_case(other: Node) -> None:
    assert turns(a_node(A, drain_asked_at=5), other) == []
    assert turns(a_node(A, drain_asked_at=5, drain_alone=True), other) == [A]


def test_lately_has_an_edge() -> None:
    assert turns(a_node(A, drain_asked_at=5), a_node(B, seen_at=NOW - LATELY_MILLISECONDS)) == [A]


def test_the_next_one_waits_for_the_return_of_the_one_before_but_not_for_ever() -> None:
    before = a_node(A, drain_asked_at=5, state=State.ENDED, seen_at=NOW - RETURN_MILLISECONDS, started_at=1)
    asked, third = a_node(B, drain_asked_at=6), a_node(C)
    assert turns(before, asked, third) == []
    assert turns(replace(before, seen_at=before.seen_at - 1), asked, third) == [B]
    back = a_node(UUID(int=4), name=before.name, started_at=2)
    assert turns(before, asked, third, back) == [B]


def test_also_those_that_go_in_any_case_wait_for_the_return_of_the_one_before() -> None:
    before = a_node(A, drain_asked_at=5, drain_alone=True, state=State.ENDED, seen_at=NOW - RETURN_MILLISECONDS)
    asked = a_node(B, drain_asked_at=5, drain_alone=True)
    assert turns(before, asked) == []
    assert turns(replace(before, seen_at=before.seen_at - 1), asked) == [B]


def test_who_does_not_serve_does_not_drain() -> None:
    for state in (State.DRAINING, State.BROKEN, State.ENDED):
        assert turns(a_node(A, drain_asked_at=5, drain_alone=True, state=state), a_node(B)) == []
    assert not may_drain(C, [a_node(A), a_node(B)], NOW)


NODES = lists(
    builds(
        Node,
        id=builds(UUID, int=integers(1, 6)),
        name=sampled_from("ab"),
        version=sampled_from("1"),
        started_at=integers(0, 9),
        seen_at=integers(NOW - 2 * RETURN_MILLISECONDS, NOW),
        state=sampled_from(State),
        drain_asked_at=one_of(none(), integers(0, 3)),
        drain_alone=booleans(),
    ),
    max_size=6,
    unique_by=lambda node: node.id,
)


@given(NODES)
def test_never_do_two_that_are_seen_drain_together_and_never_does_the_last_one_unasked(nodes: list[Node]) -> None:
    going = [node for node in nodes if node.seen_lately(NOW) and may_drain(node.id, nodes, NOW)]
    assert len(going) <= 1
    for node in going:
        assert node.drain_asked_at is not None
        assert node.drain_alone or any(each.serves(NOW) for each in nodes if each.id != node.id)
        assert not any(each.state is State.DRAINING and each.seen_lately(NOW) for each in nodes)


def test_a_name_is_the_operators_or_the_machines_with_the_workers_number() -> None:
    assert node_name(None, "relay-7.example.org", None) == "relay-7"
    assert node_name(None, "relay-7.example.org", 2) == "relay-7-2"
    assert node_name("north", "relay-7", 2) == "north-2"
    assert node_name("n" * 100, "relay-7", 12) == "n" * (MAX_NODE_NAME - 3) + "-12"
    assert node_name(None, "", None) == "relay"


@dataclass
class Process:
    """A heartbeat, with what it says and hears."""

    heartbeat: Heartbeat
    figures: Figures
    stopping: asyncio.Event
    broken: asyncio.Event
    drains: asyncio.Event


def a_process(database: Database, name: str = "north") -> Process:
    figures, stopping, broken, drains = Figures(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    heartbeat = Heartbeat(database, name, "1.2", figures.snapshot, stopping, broken, drains.set)
    heartbeat.begin()
    return Process(heartbeat, figures, stopping, broken, drains)


async def nodes_of(database: Database) -> dict[UUID, Node]:
    async with database.read() as db:
        return {node.id: node for node in await read_nodes(db)}


async def test_a_beat_says_who_is_there_and_what_it_has_done(database: Database) -> None:
    process = a_process(database)
    process.figures.envelopes_stored = 3
    await process.heartbeat.beat()
    found = (await nodes_of(database))[process.heartbeat.id]
    assert (found.name, found.version, found.state, found.drain_asked_at) == ("north", "1.2", State.READY, None)
    async with database.read() as db:
        now = await database_time(db)
        assert (await read_figures(db))[process.heartbeat.id].counters["envelopes_stored"] == 3
    assert now - 10_000 < found.started_at <= found.seen_at <= now


async def test_each_beat_is_later_than_the_one_before_and_the_start_stays(database: Database) -> None:
    process = a_process(database)
    await process.heartbeat.beat()
    async with database.begin() as db:
        await db.execute(update(NodeRow).values(seen_at=5, started_at=4))
    await process.heartbeat.beat()
    found = (await nodes_of(database))[process.heartbeat.id]
    assert found.started_at == 4
    assert found.seen_at > 5


async def test_a_process_says_what_it_is_up_to(database: Database) -> None:
    process = a_process(database)
    for happens, state in ((None, State.READY), (process.broken, State.BROKEN), (process.stopping, State.DRAINING)):
        if happens is not None:
            happens.set()
        await process.heartbeat.beat()
        assert (await nodes_of(database))[process.heartbeat.id].state is state
    await process.heartbeat.leave()
    await process.heartbeat.beat()  # one that comes late says nothing more
    assert (await nodes_of(database))[process.heartbeat.id].state is State.ENDED


async def test_who_has_never_begun_leaves_no_trace(database: Database) -> None:
    process = a_process(database)
    process.heartbeat._begun.clear()
    await process.heartbeat.leave()
    assert await nodes_of(database) == {}


async def test_a_row_that_was_forgotten_is_written_again(database: Database) -> None:
    process = a_process(database)
    await process.heartbeat.beat()
    async with database.begin() as db:
        await db.execute(delete(NodeRow))
    await process.heartbeat.beat()
    assert list(await nodes_of(database)) == [process.heartbeat.id]


async def test_who_has_not_been_seen_for_an_hour_is_forgotten(database: Database) -> None:
    old, older = a_process(database), a_process(database)
    await old.heartbeat.beat()
    await older.heartbeat.beat()
    async with database.begin() as db:
        for each, age in ((old, KEPT_MILLISECONDS - 60_000), (older, KEPT_MILLISECONDS + 1)):
            seen = await database_time(db) - age
            await db.execute(update(NodeRow).where(NodeRow.id == each.heartbeat.id).values(seen_at=seen))
    new = a_process(database)
    await new.heartbeat.beat()
    assert set(await nodes_of(database)) == {old.heartbeat.id, new.heartbeat.id}


async def test_those_that_are_asked_drain_one_after_the_other(database: Database) -> None:
    first, second, third = (a_process(database, name) for name in "abc")
    all_of_them = [first, second, third]

    async def beat() -> list[bool]:
        for each in all_of_them:
            await each.heartbeat.beat()
        return [each.drains.is_set() for each in all_of_them]

    await beat()
    async with database.begin() as db:
        assert await ask_to_drain(db, [second.heartbeat.id], alone=False) == 1
    async with database.begin() as db:
        assert await ask_to_drain(db, [first.heartbeat.id, second.heartbeat.id], alone=False) == 1
    assert await beat() == [False, True, False]
    second.stopping.set()
    assert await beat() == [False, True, False]  # it still drains
    await second.heartbeat.leave()
    assert await beat() == [False, True, False]  # and is not back yet
    all_of_them.append(a_process(database, "b"))
    assert await beat() == [False, True, False, False]
    assert await beat() == [True, True, False, False]


async def test_what_was_asked_can_be_taken_back_until_it_begins(database: Database) -> None:
    alone = a_process(database)
    await alone.heartbeat.beat()
    ids = [alone.heartbeat.id]
    async with database.begin() as db:
        await ask_to_drain(db, ids, alone=False)
    await alone.heartbeat.beat()
    assert not alone.drains.is_set()
    async with database.begin() as db:
        assert await stop_draining(db, ids) == 1
        assert await stop_draining(db, ids) == 0
        await ask_to_drain(db, ids, alone=True)
    await alone.heartbeat.beat()
    assert alone.drains.is_set()
    alone.stopping.set()
    await alone.heartbeat.beat()
    async with database.begin() as db:
        assert await stop_draining(db, ids) == 0


async def test_who_has_decided_to_drain_says_so_at_once(database: Database) -> None:
    first, second = a_process(database, "a"), a_process(database, "b")
    for each in (first, second):
        await each.heartbeat.beat()
    async with database.begin() as db:
        await ask_to_drain(db, [first.heartbeat.id], alone=False)
    await first.heartbeat.beat()
    assert first.drains.is_set()
    async with database.begin() as db:
        assert await stop_draining(db, [first.heartbeat.id]) == 0
        await ask_to_drain(db, [second.heartbeat.id], alone=False)
        earlier = update(NodeRow).where(NodeRow.id == second.heartbeat.id).values(drain_asked_at=1)
        await db.execute(earlier)  # it was asked before the first one was, and that is seen late
    for each in (second, first, second):
        await each.heartbeat.beat()
    assert not second.drains.is_set()
    assert (await nodes_of(database))[first.heartbeat.id].state is State.DRAINING


async def test_of_two_that_decide_at_the_same_time_one_waits_for_the_other(relays: Relays) -> None:
    settings = await relays.settings("postgresql")
    url = normalise_url(settings.database_url)
    await migrate(url)
    database = open_database(url)
    first, second = a_process(database, "a"), a_process(database, "b")
    for each in (first, second):
        await each.heartbeat.beat()
    async with database.begin() as db:
        await ask_to_drain(db, [each.heartbeat.id for each in (first, second)], alone=False)
        await db.execute(update(NodeRow).where(NodeRow.id == first.heartbeat.id).values(drain_asked_at=1))
    async with database.begin() as db:
        assert await first.heartbeat._takes_its_turn(db)
        async with database.begin() as late:  # as the second one sees it, it comes first
            await late.execute(update(NodeRow).where(NodeRow.id == second.heartbeat.id).values(drain_asked_at=0))
        beat = asyncio.create_task(second.heartbeat.beat())
        waits = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        async with asyncio.timeout(10):
            while not (await db.execute(waits)).scalar_one():
                assert not beat.done()
                await asyncio.sleep(0.01)
    await beat
    assert not second.drains.is_set()
    await database.close()


async def test_beats_go_on_after_one_that_failed(database: Database) -> None:
    process, failed = a_process(database), asyncio.Event()

    def fail_once() -> Snapshot:
        process.heartbeat._figures = process.figures.snapshot
        process.stopping.set()  # the next beat does not wait its time: that a process drains is said at once
        failed.set()
        raise OSError

    process.heartbeat._figures = fail_once
    running = asyncio.create_task(process.heartbeat.run())
    try:
        async with asyncio.timeout(10):
            while process.heartbeat.id not in await nodes_of(database):
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert failed.is_set()


@asynccontextmanager
async def database_of(relay: StartedRelay) -> AsyncIterator[Database]:
    opened = open_database(normalise_url(relay.settings.database_url))
    try:
        yield opened
    finally:
        await opened.close()


async def test_a_relay_registers_counts_and_says_that_it_ends(relays: Relays, backend: str) -> None:
    relay = await relays.start(backend, node_name="north")
    async with database_of(relay) as database:
        async with asyncio.timeout(20):
            while not (found := await nodes_of(database)):
                await asyncio.sleep(0.02)
        ((node, row),) = found.items()
        assert (row.name, row.state) == ("north", State.READY)
        async with database.begin() as db:
            await ask_to_drain(db, [node], alone=True)
        await asyncio.wait_for(relay.running.drains.wait(), 20)
        await relays.stop()
        ended = (await nodes_of(database))[node]
        assert ended.state is State.ENDED

"""Nodes that drain one after another while people talk, and one of them is killed meanwhile: nothing is lost, and the turn goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.nodes import Node, State, ask_to_drain, read_nodes
from tests.system.faults.harness import Deployment, deployment

# A relay whose times are ten times as short, so that the test waits for none of them long.
QUICK = """
from messaging.relay import nodes
nodes.BEAT_SECONDS, nodes.JITTER_SECONDS = 0.5, 0.1
nodes.LATELY_MILLISECONDS, nodes.RETURN_MILLISECONDS = 2_000, 6_000
from messaging.relay.__main__ import main
raise SystemExit(main())
"""
DRAIN_DELAY = "1"  # seconds in which one is seen to drain
WAIT_SECONDS = 20


@asynccontextmanager
async def database_of(on: Deployment) -> AsyncIterator[Database]:
    assert on.postgres is not None
    opened = open_database(normalise_url(on.postgres.url))
    try:
        yield opened
    finally:
        await opened.close()


async def seen(database: Database, count: int, is_so: Callable[[Node], bool]) -> list[Node]:
    """So many nodes of which it is so, as soon as there are."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            async with database.read() as db:
                found = [node for node in await read_nodes(db) if is_so(node)]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_a_node_that_is_killed_while_it_drains_holds_up_neither_people_nor_the_next_one() -> None:
    options = ("--drain-delay", DRAIN_DELAY)
    async with deployment(relays=3, pairs=4, options=options, program=("-c", QUICK)) as on, database_of(on) as database:
        async with on.talking():
            nodes = await seen(database, 3, lambda node: node.state is State.READY)
            asked = [node.id for node in nodes if node.name != "r2"]
            async with database.begin() as db:
                await ask_to_drain(db, asked, alone=False)
            (killed,) = await seen(database, 1, lambda node: node.state is State.DRAINING)
            await on.relays[int(killed.name[1:])].kill()  # and nobody starts it anew

            (ended,) = await seen(database, 1, lambda node: node.state is State.ENDED)
            assert {killed.id, ended.id} == set(asked)
            drained = on.relays[int(ended.name[1:])]
            assert await drained.ended() == 0
            before = on.accepted
            await drained.start()
            await seen(database, 1, lambda node: node.name == ended.name and node.state is State.READY)
            async with asyncio.timeout(WAIT_SECONDS):
                while on.accepted == before:
                    await asyncio.sleep(0.02)
        assert on.accepted > 0
        assert [(pair.missing, pair.reordered, pair.stored_twice) for pair in on.pairs] == [(0, 0, 0)] * 4

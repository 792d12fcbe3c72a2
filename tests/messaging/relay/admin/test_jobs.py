"""Sweeps for operators: what waits to be forgotten, and since when."""

from sqlalchemy import insert, inspect
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.desk import Nothing, look
from messaging.relay.admin.jobs import SWEPT, Jobs, Waiting
from messaging.relay.admin.limits import MAX_COUNTED
from messaging.relay.admin.registry import VIEWS
from messaging.relay.database import Database
from messaging.relay.delivery.sweep import EVERYTHING, SWEEP_SECONDS, Sweep
from messaging.relay.messages.idempotency import RememberedSendRow
from tests.messaging.relay.admin.town import Town, a_town


async def waiting(town: Town) -> dict[str, Waiting]:
    found: Jobs = await look(town.desk, VIEWS["jobs.list"], town.operator(), Nothing())
    return {each.what: each for each in found.waiting}


async def test_what_has_expired_waits_until_it_is_swept(database: Database) -> None:
    town = await a_town(database)
    before = await waiting(town)
    assert {what for what, each in before.items() if each.expired} == {"provisioning", "rememberedSends"}
    assert before["provisioning"].state == "ok"
    assert await Sweep(database, town.desk.now).sweep() > 0
    assert {what for what, each in (await waiting(town)).items() if each.expired} == set()


async def test_it_is_late_when_a_sweep_was_left_out_and_counts_have_a_bound(database: Database) -> None:
    town = await a_town(database)
    long_ago = town.now - 2 * SWEEP_SECONDS * 1000
    rows = [
        {"key_hash": place.to_bytes(4), "request_hash": b"", "answer": b"", "expires_at": long_ago}
        for place in range(MAX_COUNTED + 5)
    ]
    async with database.begin() as db:
        await db.execute(insert(RememberedSendRow), rows)
    sends = (await waiting(town))["rememberedSends"]
    assert (sends.state, sends.expired, sends.oldest_expired_at) == ("late", MAX_COUNTED, long_ago)


async def test_what_each_relay_has_swept_is_shown(database: Database) -> None:
    town = await a_town(database)
    found: Jobs = await look(town.desk, VIEWS["jobs.list"], town.operator(), Nothing())
    assert sorted(each.node for each in found.nodes) == ["north", "south", "west"]
    assert {(each.sweeps, each.failures, each.rows) for each in found.nodes} == {(4, 0, 9)}


async def test_each_table_that_is_counted_has_an_index_of_its_expiry(database: Database) -> None:
    def indexed(db: AsyncConnection) -> set[str]:
        found = inspect(db)
        names = [row.__tablename__ for row in SWEPT.values()]
        return {name for name in names for index in found.get_indexes(name) if index["column_names"] == ["expires_at"]}

    async with database.read() as db:
        assert await db.run_sync(indexed) == {row.__tablename__ for row in SWEPT.values()}  # type: ignore[arg-type]


def test_every_sweep_has_a_line() -> None:
    links_have_two_tables, avatars_have_none, attachments_have_their_own = 1, -1, 1
    more = links_have_two_tables + avatars_have_none + attachments_have_their_own
    assert len(SWEPT) == len(EVERYTHING) + more

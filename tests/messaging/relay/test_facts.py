"""What can be seen of a deployment: no large table is counted, and what cannot be had is said to be so."""

from pathlib import Path

import pytest
from sqlalchemy import insert, text

from messaging.relay import facts
from messaging.relay.attachments.tables import AttachmentRow
from messaging.relay.database import Database, normalise_url, open_database, sqlite_path
from messaging.relay.facts import (
    RedisFacts,
    count_parked,
    database_facts,
    disk_facts,
    estimate_rows,
    redis_facts,
)
from messaging.relay.messages.tables import EnvelopeRow
from messaging.wire.limits import MAX_DELIVERIES
from tests.relays import Relays
from tests.servers import valkey_cluster


async def add_attachments(database: Database, count: int) -> None:
    values = [
        {"key_hash": number.to_bytes(4, "big"), "length": 1, "received": 1, "expires_at": 1, "lasting": False}
        for number in range(count)
    ]
    async with database.begin() as db:
        await db.execute(insert(AttachmentRow), values)


async def test_a_few_rows_are_counted_and_of_many_at_least_so_many(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_attachments(database, 10)
    for most, count, exact in ((11, 10, True), (10, 10, False), (4, 4, False)):
        monkeypatch.setattr(facts, "COUNTED_AT_MOST", most)
        async with database.read() as db:
            found = await estimate_rows(db, AttachmentRow)
        assert (found.count, found.exact) == (count, exact)


async def test_of_many_rows_postgresql_gives_its_own_estimate(relays: Relays, monkeypatch: pytest.MonkeyPatch) -> None:
    database = open_database(normalise_url((await relays.settings("postgresql")).database_url))
    await add_attachments(database, 50)
    async with database.begin() as db:
        await db.execute(text("ANALYZE attachments"))
    monkeypatch.setattr(facts, "COUNTED_AT_MOST", 10)
    async with database.read() as db:
        found = await estimate_rows(db, AttachmentRow)
    assert (found.count, found.exact) == (50, False)
    await database.close()


async def test_what_is_parked_is_counted_by_an_index_that_holds_nothing_else(database: Database) -> None:
    row = {"mailbox_id": 1, "expires_at": 1, "data": b"x"}
    async with database.begin() as db:
        for sequence, deliveries in enumerate((0, MAX_DELIVERIES - 1, MAX_DELIVERIES, MAX_DELIVERIES)):
            await db.execute(insert(EnvelopeRow).values(**row, sequence=sequence, deliveries=deliveries))
        assert (await count_parked(db)).count == 2
        explain = "EXPLAIN QUERY PLAN" if database.turn else "EXPLAIN"
        if database.turn is None:
            await db.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await db.execute(text(f"{explain} SELECT 1 FROM envelopes WHERE deliveries >= {MAX_DELIVERIES} LIMIT 9"))  # noqa: S608
        assert "ix_envelopes_parked" in str(plan.all())


async def test_a_database_says_what_it_is(relays: Relays, backend: str) -> None:
    url = normalise_url((await relays.settings(backend)).database_url)
    database = open_database(url)
    async with database.read() as db:
        found = await database_facts(db, sqlite_path(url))
    await database.close()
    assert found.bytes > 0
    assert found.wal_bytes >= 0
    assert found.version[0].isdigit()
    if backend == "postgresql":
        assert found.connections is not None
        assert found.max_connections is not None
        assert 1 <= found.connections <= found.max_connections
        assert (found.replicas, found.lag_seconds) == (0, None)


def test_a_disk_is_seen_where_it_is(tmp_path: Path) -> None:
    found = disk_facts(tmp_path)
    assert found is not None
    assert 0 < found.free <= found.size
    assert disk_facts(tmp_path / "elsewhere") is None


async def test_redis_says_what_it_is(valkey_url: str) -> None:
    found = await redis_facts(valkey_url)
    assert found.reachable
    assert (found.version or "").startswith("Valkey ")
    assert (found.memory_bytes or 0) > 0
    assert (found.clients or 0) >= 1
    assert found.eviction == "noeviction"


async def test_a_redis_that_is_away_is_not_reachable() -> None:
    assert await redis_facts("redis://127.0.0.1:1") == RedisFacts(reachable=False)


async def test_of_a_cluster_it_is_known_that_it_answers() -> None:
    with valkey_cluster() as url:
        assert await redis_facts(url) == RedisFacts(reachable=True)

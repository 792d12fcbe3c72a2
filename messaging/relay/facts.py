"""What can be seen of a deployment from outside its relays: its database, its Redis, its disks. For operators and for alerts.

Nothing here counts the rows of a large table: counts are PostgreSQL's own estimates, or end at ``COUNTED_AT_MOST``.
"""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from sqlalchemy import Select, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.database import Base
from messaging.relay.messages.tables import EnvelopeRow, is_parked
from messaging.relay.redis import FAILURES, connect

COUNTED_AT_MOST: Final = 100_000
REDIS_SECONDS: Final = 2


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """A database. ``bytes`` are its size, ``wal_bytes`` all that its log has grown by (PostgreSQL) or the size of the log (SQLite).

    ``lag_seconds`` is that of the replica that is furthest behind; ``None`` without one, or where the role may not see it.
    """

    kind: str
    version: str
    bytes: int
    wal_bytes: int
    connections: int | None = None
    max_connections: int | None = None
    replicas: int | None = None
    lag_seconds: float | None = None


_POSTGRESQL = """
SELECT current_setting('server_version'), pg_database_size(current_database()),
    pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, '0/0')::bigint,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), current_setting('max_connections')::int,
    (SELECT count(*) FROM pg_stat_replication), (SELECT extract(epoch FROM max(replay_lag))::float8 FROM pg_stat_replication)
"""


async def database_facts(db: AsyncConnection, path: Path | None) -> DatabaseFacts:
    """A database as it is now. ``path`` is the file of one of SQLite."""
    if path is None:
        return DatabaseFacts("PostgreSQL", *(await db.execute(text(_POSTGRESQL))).one())
    version: str = (await db.execute(text("SELECT sqlite_version()"))).scalar_one()
    return DatabaseFacts("SQLite", version, _size(path), _size(path.with_name(f"{path.name}-wal")))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """A Redis or Valkey. All but ``reachable`` is ``None`` if it is not, or for a cluster."""

    reachable: bool
    version: str | None = None
    memory_bytes: int | None = None
    clients: int | None = None
    eviction: str | None = None


async def redis_facts(url: str) -> RedisFacts:
    """A Redis as it is now.

    Raises:
        ValueError: not a URL of Redis.
    """
    client = connect(url, timeout=REDIS_SECONDS, connect_timeout=REDIS_SECONDS)
    try:
        async with asyncio.timeout(2 * REDIS_SECONDS):
            if not isinstance(client, Redis):
                await client.initialize()
                return RedisFacts(reachable=True)
            found: dict[str, Any] = await client.info()
    except FAILURES:
        return RedisFacts(reachable=False)
    finally:
        await client.aclose()
    version = found.get("valkey_version") or found.get("redis_version")
    name = "Valkey" if "valkey_version" in found else "Redis"
    return RedisFacts(
        reachable=True,
        version=f"{name} {version}",
        memory_bytes=found.get("used_memory"),
        clients=found.get("connected_clients"),
        eviction=found.get("maxmemory_policy"),
    )


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system of a folder, in bytes."""

    free: int
    size: int


def disk_facts(folder: Path) -> DiskFacts | None:
    """The file system that a folder is on; ``None`` if it is not on this machine."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return DiskFacts(usage.free, usage.total)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number of rows. ``exact``: they were counted; else it is an estimate, or there are at least so many."""

    count: int
    exact: bool


async def estimate_rows(db: AsyncConnection, table: type[Base]) -> Estimate:
    """How many rows a table has, without reading all of a large one."""
    if db.dialect.name == "postgresql":
        known = text("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(:name)")
        estimated: int | None = (await db.execute(known, {"name": table.__tablename__})).scalar_one_or_none()
        if estimated is not None and estimated > COUNTED_AT_MOST:
            return Estimate(estimated, exact=False)
    return await _count(db, select(literal(1)).select_from(table))


async def count_parked(db: AsyncConnection) -> Estimate:
    """How many envelopes are parked, up to a bound; an index holds no others."""
    return await _count(db, select(literal(1)).select_from(EnvelopeRow).where(is_parked()))


async def _count(db: AsyncConnection, rows: Select[int]) -> Estimate:
    some = rows.limit(COUNTED_AT_MOST).subquery()
    count: int = (await db.execute(select(func.count()).select_from(some))).scalar_one()
    return Estimate(count, exact=count < COUNTED_AT_MOST)

"""The whole server at a glance, as a domain of the console: figures of all relays together, the database, Redis and disks.

Counters only grow while the same processes run; what they were a moment ago is for whoever asks to remember. Estimates are marked.
"""

from collections import Counter
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import AccountRow, DeviceRow
from messaging.relay.admin.desk import Action, Desk, Nothing, View
from messaging.relay.admin.nodes import failures_of, state_of
from messaging.relay.admin.parameters import DAY, day_text
from messaging.relay.admin.permissions import Permission
from messaging.relay.attachments.tables import AttachmentRow
from messaging.relay.database import Base, sqlite_path
from messaging.relay.facts import (
    COUNTED_AT_MOST,
    Estimate,
    count_parked,
    database_facts,
    disk_facts,
    estimate_rows,
    redis_facts,
)
from messaging.relay.keys.tables import OneTimeKyberPreKeyRow, OneTimePreKeyRow
from messaging.relay.messages.tables import EnvelopeRow, PayloadRow
from messaging.relay.metrics import together
from messaging.relay.nodes import database_time, read_figures, read_nodes
from messaging.wire.json import Entity

WEEKS: Final = 12  # that are told apart; what was last seen before is together
NOTHING_IS_PUSHED: Final = "This server sends nothing through Apple or Google: a device fetches what waits for it over a connection of its own."
_WEEK: Final = 7 * DAY
_MONDAY: Final = 4 * DAY  # 1970 began on a Thursday
_SAMPLED: Final = 1000


class Rows(Entity):
    """A number of rows. ``estimated``: it was not counted to the end."""

    count: int
    estimated: bool

    @classmethod
    def of(cls, estimate: Estimate) -> "Rows":
        """The same."""
        return cls(count=estimate.count, estimated=not estimate.exact)


class ShownDatabase(Entity):
    """The database. ``wal_bytes``: all that its log has grown by (PostgreSQL), or the size of the log (SQLite)."""

    kind: str
    version: str
    bytes: int
    wal_bytes: int
    connections: int | None = None
    max_connections: int | None = None
    replicas: int | None = None
    lag_seconds: float | None = None


class ShownRedis(Entity):
    """Redis or Valkey. ``state`` is ok, down, or unknown if the console was not told where it is."""

    state: str
    version: str | None = None
    memory_bytes: int | None = None
    clients: int | None = None


class ShownDisk(Entity):
    """The file system on which something is kept."""

    what: str
    free_bytes: int
    size_bytes: int


class Overview(Entity):
    """The whole server. ``counters`` are those of all processes of the last hour; their names are those of ``relay.metrics``."""

    at: int
    nodes: dict[str, int]
    sockets: int
    failures: int
    redis_away: int
    parked: Rows
    requests: dict[str, int]
    counters: dict[str, int]
    database: ShownDatabase
    redis: ShownRedis
    disks: list[ShownDisk]
    push: str = NOTHING_IS_PUSHED


class ShownStorage(Entity):
    """What is stored, in numbers of rows and bytes. ``kept_in`` is a folder or a bucket, or unknown to the console."""

    database: ShownDatabase
    rows: dict[str, Rows]
    attachments: Rows
    attachment_bytes: int
    attachments_kept_in: str
    disks: list[ShownDisk]


class Week(Entity):
    """Devices that were last seen in the week that begins on this day; ``before`` for all earlier ones, ``never``."""

    week: str
    devices: int


class ShownPush(Entity):
    """How devices get what waits for them, and when they last did."""

    pushes: bool
    how: str
    devices: Rows
    last_seen: list[Week]


async def _overview(desk: Desk, db: AsyncConnection, _parameters: Nothing) -> Overview:
    now, nodes, figures = await database_time(db), await read_nodes(db), await read_figures(db)
    states = Counter(state_of(node, now) for node in nodes)
    running = {node.id for node in nodes if node.seen_lately(now)}
    everybody = together(figures.values())
    gauges = together(each for node, each in figures.items() if node in running).gauges
    requests: Counter[str] = Counter()
    for asked, answered in everybody.requests.items():
        requests[asked.status] += answered.answers
    return Overview(
        at=now,
        nodes=dict(states),
        sockets=gauges.get("sockets", 0),
        failures=failures_of(everybody.counters),
        redis_away=gauges.get("redis_away", 0),
        parked=Rows.of(await count_parked(db)),
        requests=dict(sorted(requests.items())),
        counters=dict(everybody.counters),
        database=await _database(desk, db),
        redis=await _redis(desk),
        disks=_disks(desk),
    )


async def _database(desk: Desk, db: AsyncConnection) -> ShownDatabase:
    return ShownDatabase(**asdict(await database_facts(db, sqlite_path(desk.url))))


async def _redis(desk: Desk) -> ShownRedis:
    if desk.redis_url is None:
        return ShownRedis(state="unknown")
    facts = await redis_facts(desk.redis_url)
    if not facts.reachable:
        return ShownRedis(state="down")
    return ShownRedis(state="ok", version=facts.version, memory_bytes=facts.memory_bytes, clients=facts.clients)


def _disks(desk: Desk) -> list[ShownDisk]:
    path, folder = sqlite_path(desk.url), desk.storage.folder if desk.storage else None
    kept = {"database": None if path is None else path.parent, "attachments": folder}
    found = {what: None if place is None else disk_facts(place) for what, place in kept.items()}
    return [
        ShownDisk(what=what, free_bytes=disk.free, size_bytes=disk.size)
        for what, disk in found.items()
        if disk is not None
    ]


_TABLES: Final[dict[str, type[Base]]] = {
    "accounts": AccountRow,
    "devices": DeviceRow,
    "envelopes": EnvelopeRow,
    "shared_payloads": PayloadRow,
    "one_time_prekeys": OneTimePreKeyRow,
    "one_time_kyber_prekeys": OneTimeKyberPreKeyRow,
}


async def _storage(desk: Desk, db: AsyncConnection, _parameters: Nothing) -> ShownStorage:
    attachments = await estimate_rows(db, AttachmentRow)
    some = select(AttachmentRow.received).limit(_SAMPLED).subquery()
    mean = (await db.execute(select(func.avg(some.c.received)))).scalar_one() or 0
    return ShownStorage(
        database=await _database(desk, db),
        rows={name: Rows.of(await estimate_rows(db, table)) for name, table in _TABLES.items()},
        attachments=Rows.of(attachments),
        attachment_bytes=round(attachments.count * float(mean)),
        attachments_kept_in="unknown" if desk.storage is None else "folder" if desk.storage.folder else "bucket",
        disks=_disks(desk),
    )


async def _push(_desk: Desk, db: AsyncConnection, _parameters: Nothing) -> ShownPush:
    devices, now = await estimate_rows(db, DeviceRow), await database_time(db)
    counted: dict[int, int] = dict((await db.execute(_weeks(db, devices))).all())
    scale = devices.count / max(1, sum(counted.values()))
    return ShownPush(
        pushes=False,
        how=NOTHING_IS_PUSHED,
        devices=Rows.of(devices),
        last_seen=_named_weeks({week: round(count * scale) for week, count in counted.items()}, now),
    )


def _weeks(db: AsyncConnection, devices: Estimate) -> Select[Any]:
    """Devices by the number of the week in which they were last seen; of many, a part that is drawn by pages."""
    table = DeviceRow.__table__
    source: Any = table
    if db.dialect.name == "postgresql" and devices.count > COUNTED_AT_MOST:
        source = table.tablesample(func.system(100 * COUNTED_AT_MOST / devices.count))
    some = select(source.c.seen_on).limit(2 * COUNTED_AT_MOST).subquery()
    week = (some.c.seen_on + (_WEEK - _MONDAY)) // _WEEK
    return select(week, func.count()).group_by(week)


def _named_weeks(counted: dict[int, int], now: int) -> list[Week]:
    this = week_of(now)
    weeks = [Week(week=_monday(week), devices=counted.get(week, 0)) for week in range(this, this - WEEKS, -1)]
    never = counted.get(week_of(0), 0)
    earlier = sum(count for week, count in counted.items() if week <= this - WEEKS and week != week_of(0))
    return [*weeks, Week(week="before", devices=earlier), Week(week="never", devices=never)]


def week_of(milliseconds: int) -> int:
    """The number of the week, from Monday on, of a time since 1970."""
    return (milliseconds + _WEEK - _MONDAY) // _WEEK


def _monday(week: int) -> str:
    return day_text((week - 1) * _WEEK + _MONDAY)


_SEE = Permission.HEALTH_SEE
VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View("overview.show", "The whole server at a glance", _SEE, Nothing, Overview, _overview),
    View("storage.show", "What is stored, and where", _SEE, Nothing, ShownStorage, _storage),
    View("push.show", "How devices get what waits for them", _SEE, Nothing, ShownPush, _push),
)
ACTIONS: Final[tuple[Action[Any], ...]] = ()

"""The whole server at a glance: sums of figures, the database, Redis, disks, and when devices were last there."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update

from messaging.relay.accounts.tables import DeviceRow
from messaging.relay.admin.desk import Desk, Nothing, Operator, look
from messaging.relay.admin.overview import NOTHING_IS_PUSHED, WEEKS, Overview, ShownPush, ShownStorage, week_of
from messaging.relay.admin.permissions import GRANTED, Role
from messaging.relay.admin.registry import VIEWS
from messaging.relay.attachments.storage import open_storage
from messaging.relay.attachments.tables import AttachmentRow
from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.metrics import Answered, Asked, Figures
from messaging.relay.node_tables import NodeRow
from messaging.relay.nodes import LATELY_MILLISECONDS, State, database_time
from messaging.relay.server_secret import ServerSecret
from tests.devices import MakePeer
from tests.relays import StartedRelay

VIEWER = Operator(1, "vera", GRANTED[Role.VIEWER], "api")
DAY = 24 * 60 * 60 * 1000
ROUTE = "/v1/messages/{service_id}"


@pytest.fixture
async def desk(relay: StartedRelay) -> AsyncIterator[Desk]:
    """A desk beside a relay that runs."""
    settings = relay.settings
    url = normalise_url(settings.database_url)
    database, storage = open_database(url), open_storage(settings.attachments_url or "")
    secret = ServerSecret.derive(bytes(32))
    yield Desk(database, url, LocalWakeups(), secret, storage, lambda: 5, redis_url=settings.redis_url)
    await database.close()


async def overview(desk: Desk) -> Overview:
    shown = await look(desk, VIEWS["overview.show"], VIEWER, Nothing())
    assert isinstance(shown, Overview)
    return shown


async def add_node(desk: Desk, figures: Figures, sockets: int, *, state: State = State.READY, silent: int = 0) -> None:
    asked = {Asked(ROUTE, "PUT", "2xx"): Answered(5, 10.0)}
    document = figures.snapshot({"sockets": sockets, "redis_away": 1}, asked).as_document()
    async with desk.database.begin() as db:
        seen = await database_time(db) - silent
        values = {"name": "n", "version": "1", "started_at": 1, "seen_at": seen, "state": state.value}
        await db.execute(insert(NodeRow).values(**values, id=uuid4(), figures=document))


async def test_figures_of_all_processes_are_summed_and_gauges_of_those_that_are_there(
    database: Database, tmp_path: Path
) -> None:
    url = normalise_url(f"sqlite:///{tmp_path / 'relay.db'}") if database.turn else normalise_url("postgresql://x/y")
    desk = Desk(database, url, LocalWakeups(), ServerSecret.derive(bytes(32)), None, lambda: 5)
    await add_node(desk, Figures(envelopes_stored=3, commit_failures=1), 10)
    await add_node(desk, Figures(envelopes_stored=4), 100, silent=LATELY_MILLISECONDS + 5000)
    await add_node(desk, Figures(envelopes_stored=5), 1000, state=State.ENDED, silent=LATELY_MILLISECONDS + 5000)
    shown = await overview(desk)
    assert shown.counters["envelopes_stored"] == 12
    assert shown.requests == {"2xx": 15}
    assert (shown.sockets, shown.redis_away, shown.failures) == (10, 1, 1)
    assert shown.nodes == {"ready": 1, "gone": 1, "ended": 1}


async def test_database_redis_and_disks_are_described(desk: Desk, backend: str) -> None:
    shown = await overview(desk)
    assert shown.database.kind == ("SQLite" if backend == "sqlite" else "PostgreSQL")
    assert shown.database.bytes > 0
    assert shown.parked.count == 0
    assert (shown.database.connections is not None) is (backend == "postgresql")
    assert shown.redis.state == ("unknown" if backend == "sqlite" else "ok")
    assert {disk.what for disk in shown.disks} == (
        {"database", "attachments"} if backend == "sqlite" else {"attachments"}
    )
    assert all(0 < disk.free_bytes <= disk.size_bytes for disk in shown.disks)


async def test_a_redis_that_is_away_is_said_to_be(desk: Desk) -> None:
    away = Desk(desk.database, desk.url, desk.wakeups, desk.secret, None, desk.now, redis_url="redis://127.0.0.1:1")
    shown = await overview(away)
    assert shown.redis.state == "down"
    assert "attachments" not in {disk.what for disk in shown.disks}


async def test_what_is_stored_is_counted_as_long_as_it_is_not_much(desk: Desk) -> None:
    async with desk.database.begin() as db:
        for number in (1, 2):
            values = {
                "key_hash": bytes([number]),
                "length": 100,
                "received": 50 * number,
                "expires_at": 5,
                "lasting": False,
            }
            await db.execute(insert(AttachmentRow).values(values))
    shown = await look(desk, VIEWS["storage.show"], VIEWER, Nothing())
    assert isinstance(shown, ShownStorage)
    assert (shown.attachments.count, shown.attachments.estimated, shown.attachment_bytes) == (2, False, 150)
    assert shown.attachments_kept_in == "folder"
    assert shown.rows["accounts"].count == 0


async def test_devices_are_counted_by_the_week_they_were_last_seen(
    desk: Desk, relay: StartedRelay, peer_of: MakePeer
) -> None:
    for _ in range(4):
        await peer_of(relay).register()
    async with desk.database.begin() as db:
        now = await database_time(db)
        today = now // DAY * DAY
        ages = (0, 7 * DAY, (WEEKS + 3) * 7 * DAY, today)  # the last one was never seen
        row = DeviceRow
        for account, age in zip(list(await db.scalars(select(row.account_id))), ages, strict=True):
            await db.execute(update(row).where(row.account_id == account).values(seen_on=today - age))
    shown = await look(desk, VIEWS["push.show"], VIEWER, Nothing())
    assert isinstance(shown, ShownPush)
    counted = [each.devices for each in shown.last_seen]
    assert counted == [1, 1, *[0] * (WEEKS - 2), 1, 1]
    assert [each.week for each in shown.last_seen[-2:]] == ["before", "never"]
    assert (shown.pushes, shown.how, shown.devices.count) == (False, NOTHING_IS_PUSHED, 4)


def test_a_week_begins_on_monday() -> None:
    monday = 4 * DAY  # the fifth of January 1970
    assert week_of(monday - 1) == week_of(0) == week_of(monday) - 1
    assert week_of(monday + 7 * DAY - 1) == week_of(monday)


async def test_nothing_that_is_shown_names_anybody(desk: Desk, relay: StartedRelay, peer_of: MakePeer) -> None:
    alice = await peer_of(relay).register()
    for view in ("overview.show", "storage.show", "push.show", "nodes.list"):
        shown = json.loads((await look(desk, VIEWS[view], VIEWER, Nothing())).to_json())
        for canary in (str(alice.aci), alice.known.number, alice.known.password, str(relay.settings.secret_file)):
            assert canary not in json.dumps(shown)

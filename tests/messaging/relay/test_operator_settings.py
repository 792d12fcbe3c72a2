"""What operators change while relays run: versions of documents, and how soon they stand."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import delete, update
from structlog.testing import capture_logs

from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.limits import DEFAULTS, Limit, LiveSizes, Sizes
from messaging.relay.logs import LOGGABLE
from messaging.relay.operator_settings import (
    LIMITS,
    REMOTE_CONFIG,
    SettingRow,
    SettingsBook,
    VersionTaken,
    read_setting,
    read_version,
    read_versions,
    write_setting,
)
from messaging.relay.remote_config import ConfigValue
from tests.devices import MakePeer
from tests.relays import Relays


async def write(database: Database, name: str, document: Mapping[str, Any], *, after: int) -> None:
    async with database.begin() as db:
        assert await write_setting(db, name, document, after=after, at=1, by="olga") == after + 1


async def test_versions_follow_each_other_and_none_is_lost(database: Database) -> None:
    for version in range(3):
        await write(database, "x", {"is": version}, after=version)
    async with database.read() as db:
        assert await read_setting(db, "y") is None
        assert await read_version(db, "x", 4) is None
        latest, oldest = await read_setting(db, "x"), await read_version(db, "x", 1)
        assert [each.version for each in await read_versions(db, "x", limit=2)] == [3, 2]
    assert latest is not None
    assert oldest is not None
    assert (latest.version, latest.document, oldest.document) == (3, {"is": 2}, {"is": 0})


async def test_of_two_writers_who_saw_the_same_one_is_refused(database: Database) -> None:
    await write(database, "x", {}, after=0)
    for after in (0, 2):
        with pytest.raises(VersionTaken):
            await write(database, "x", {}, after=after)


async def test_a_document_is_applied_once_and_a_bad_one_stops_nothing(database: Database) -> None:
    seen: list[Mapping[str, Any]] = []

    def refuse(document: Mapping[str, Any]) -> None:
        if document:
            raise ValueError

    book = SettingsBook(database, {"good": seen.append, "bad": refuse})
    await write(database, "bad", {"CANARY": 1}, after=0)
    await write(database, "good", {"a": 1}, after=0)
    with capture_logs() as logs:
        for _ in range(2):
            await book.read()
    assert seen == [{"a": 1}]
    assert [(each["event"], each["setting"]) for each in logs] == [("setting_not_applied", "bad")]
    await write(database, "good", {"a": 2}, after=1)
    await book.read()
    assert seen == [{"a": 1}, {"a": 2}]


async def test_the_latest_that_can_be_applied_stands_at_a_relays_start_too(database: Database) -> None:
    """One that was undone to a version from before there were bounds, say."""
    good, late = LiveSizes(Sizes(DEFAULTS, {})), LiveSizes(Sizes(DEFAULTS, {}))
    book = SettingsBook(database, {LIMITS: good.apply})
    for version, size in enumerate((7, 8, -1)):
        await write(database, LIMITS, {"everybody": {"messages": {"size": size, "refill": 1}}}, after=version)
        await book.read()
    with capture_logs() as logs:
        await SettingsBook(database, {LIMITS: late.apply}).read()
    assert good.everybody[Limit.MESSAGES].size == late.everybody[Limit.MESSAGES].size == 8
    assert [(each["event"], each["setting"], each["version"]) for each in logs] == [("setting_not_applied", LIMITS, 3)]
    assert logs[0].keys() - {"log_level"} <= LOGGABLE  # whoever reads the log sees which one


async def test_where_none_can_be_applied_a_relay_has_what_it_had_at_its_start(database: Database) -> None:
    seen: list[Mapping[str, Any]] = []

    def apply(document: Mapping[str, Any]) -> None:
        if document:
            raise ValueError
        seen.append(document)

    await write(database, "x", {"a": 1}, after=0)
    await SettingsBook(database, {"x": apply}).read()
    assert seen == [{}]


async def test_what_a_restored_database_says_stands(database: Database) -> None:
    seen: list[Mapping[str, Any]] = []
    book = SettingsBook(database, {"x": seen.append})
    await book.read()
    assert seen == []
    await write(database, "x", {"a": 1}, after=0)
    await book.read()
    async with database.begin() as db:  # the same version, written at another time
        await db.execute(update(SettingRow).values(document={"a": 2}, changed_at=2))
    await book.read()
    async with database.begin() as db:
        await db.execute(delete(SettingRow))
    for _ in range(2):
        await book.read()
    assert seen == [{"a": 1}, {"a": 2}, {}]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relays look more often, so that nobody waits."""
    monkeypatch.setattr("messaging.relay.operator_settings.READ_SECONDS", 0.05)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("soon")
async def test_a_relay_applies_limits_and_values_while_it_runs(relays: Relays, peer_of: MakePeer, backend: str) -> None:
    settings = await relays.settings(backend, remote_config={"file": ConfigValue("1"), "other": ConfigValue("2")})
    peer = peer_of(await relays.serve(settings))
    alice, bob = await peer.register(), await peer.register()
    database = open_database(normalise_url(settings.database_url))
    assert (await alice.call("GET", "/v2/config")).json() == {"config": {"file": "1", "other": "2"}}
    await write(
        database,
        REMOTE_CONFIG,
        {"file": None, "chosen": {"value": "x", "percentage": 0, "accounts": [str(alice.aci)]}},
        after=0,
    )
    await write(database, LIMITS, {"everybody": {"messages": {"size": 2, "refill": 600}}}, after=0)

    async def config_is(expected: dict[str, str]) -> bool:
        return bool((await alice.call("GET", "/v2/config")).json() == {"config": expected})

    async def policy_is(expected: str) -> bool:
        return expected in (await alice.send(bob, b"x")).headers.get("ratelimit-policy", "")

    await until(lambda: config_is({"chosen": "x", "other": "2"}))
    assert (await bob.call("GET", "/v2/config")).json() == {"config": {"other": "2"}}
    await until(lambda: policy_is('"messages";q=2'))
    await until(lambda: _refused(alice.send(bob, b"x")))
    await write(database, LIMITS, {}, after=1)  # undone
    await until(lambda: policy_is('"messages";q=1000000000'))
    await database.close()


async def _refused(sending: Any) -> bool:  # noqa: ANN401 - a coroutine
    return bool((await sending).status == 429)


async def test_what_is_set_stands_from_a_relays_first_request_on(
    relays: Relays, peer_of: MakePeer, backend: str
) -> None:
    settings = await relays.settings(backend)
    database = open_database(normalise_url(settings.database_url))
    await write(database, REMOTE_CONFIG, {"set": {"value": "before"}}, after=0)
    await database.close()
    alice = await peer_of(await relays.serve(settings)).register()
    assert (await alice.call("GET", "/v2/config")).json() == {"config": {"set": "before"}}

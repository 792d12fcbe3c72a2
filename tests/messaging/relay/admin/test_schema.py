"""What is said of the database is said of the real one, whole; and no example is of use to anybody."""

import re
import secrets
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from sqlalchemy import text

from messaging.relay.admin.desk import Desk, Nothing, look
from messaging.relay.admin.meanings import CANNOT, ELSEWHERE, MEANINGS, TABLES, Kind, Meaning
from messaging.relay.admin.permissions import Role
from messaging.relay.admin.registry import VIEWS
from messaging.relay.admin.schema import Schema, bucket_of, day_of, real_columns
from messaging.relay.database import Database
from tests.desks import a_desk, an_operator
from tests.devices import Peer
from tests.relays import Relays, StartedRelay
from tests.secrecy import holds_canary
from tests.system.test_canaries import CONTENT, Canaries, run_everything


@pytest.fixture
async def desk(relay: StartedRelay) -> AsyncIterator[Desk]:
    async with a_desk(relay) as made:
        yield made


async def shown(desk: Desk) -> Schema:
    found: Schema = await look(desk, VIEWS["schema.show"], an_operator(Role.VIEWER), Nothing())
    return found


async def test_no_column_is_without_a_meaning_and_no_meaning_without_a_column(database: Database) -> None:
    async with database.read() as db:
        real = {f"{table}.{each.name}" for table, columns in (await real_columns(db)).items() for each in columns}
    assert real - MEANINGS.keys() == set(), "columns that nobody has a sentence for"
    assert MEANINGS.keys() - real == set(), "sentences about columns that there are none of"


@pytest.mark.parametrize("meaning", MEANINGS.values(), ids=MEANINGS)
def test_each_meaning_is_said_in_sentences(meaning: Meaning) -> None:
    for sentence in (meaning.contains, meaning.learns, meaning.cannot or CANNOT[meaning.kind]):
        assert re.fullmatch(r"[A-Z0-9].+\.", sentence), sentence
    assert meaning.kind is not Kind.UNKNOWN


def test_each_table_and_place_is_said_in_sentences() -> None:
    for table in TABLES.values():
        assert all(sentence.endswith(".") for sentence in (table.row, table.stays))
    for place in ELSEWHERE:
        assert all(sentence.endswith(".") for sentence in (place.contains, place.learns, place.cannot))


async def test_it_counts_what_it_shows(desk: Desk) -> None:
    found = await shown(desk)
    assert found.columns == len(MEANINGS) == sum(len(table.columns) for table in found.tables)
    assert sum(each.columns for each in found.kinds) == found.columns
    assert "unknown" not in {each.kind for each in found.kinds}
    assert found.database == {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[desk.url.get_backend_name()]
    assert any("message text" in each for each in found.no_column_for)


async def test_a_column_of_a_stranger_is_shown_as_unknown_and_never_with_an_example(desk: Desk) -> None:
    async with desk.database.begin() as db:
        await db.execute(text("CREATE TABLE diary (page INTEGER PRIMARY KEY, entry VARCHAR(64))"))
        await db.execute(text("INSERT INTO diary VALUES (1, 'CANARY-OF-A-STRANGER')"))
    found = await shown(desk)
    diary = next(table for table in found.tables if table.name == "diary")
    assert {(each.kind, each.example) for each in diary.columns} == {("unknown", "")}
    assert b"CANARY" not in found.to_json()


async def test_examples_are_cut_short(desk: Desk, peer: Peer) -> None:
    alice = await peer.register()
    found = await shown(desk)
    examples = {f"{table.name}.{each.name}": each.example for table in found.tables for each in table.columns}
    key = alice.known.identity.public
    assert examples["accounts.aci_identity_key"] == f"{key[:4].hex()}… (33 bytes)"
    assert examples["accounts.aci"] == f"{alice.aci.uuid.hex[:8]}… (16 bytes)"
    assert examples["accounts.created_on"] == time.strftime("%Y-%m-%d", time.gmtime())
    assert examples["accounts.discoverable"] in {"yes", "no"}
    assert examples["devices.device_id"] == ""
    for quiet in ("devices.password_hash", "devices.password_salt", "accounts.access_key", "accounts.id"):
        assert examples[quiet] == "", quiet
    assert not any(re.search(r"[0-9a-f]{9}|[0-9]{11}", example) for example in examples.values())


@pytest.mark.parametrize(
    ("number", "bucket"),
    [(-1, "0"), (0, "0"), (1, "at most 1"), (2, "at most 2"), (3, "at most 4"), (1025, "at most 2048")],
)
def test_a_number_is_shown_as_a_power_of_two(number: int, bucket: str) -> None:
    assert bucket_of(number) == bucket


@pytest.mark.parametrize(("time", "day"), [(0, ""), (1, "1970-01-01"), (1_772_323_199_999, "2026-02-28"), (2**62, "")])
def test_a_time_is_shown_as_its_day(time: int, day: str) -> None:
    assert day_of(time) == day


async def test_after_real_traffic_nothing_secret_is_on_the_page(relays: Relays, backend: str) -> None:
    canaries, sealed = Canaries(), secrets.token_bytes(24)
    async with aiohttp.ClientSession() as http:
        relay = await relays.start(backend)
        peer = Peer(relay, http)
        await run_everything(peer, canaries)
        ann, ben = await peer.register(), await peer.register()
        canaries.add_device(ann)
        canaries.add_device(ben)
        await ann.send(ben, sealed)  # and nobody fetches it
        async with a_desk(relay) as desk:
            page = (await shown(desk)).to_json()
    keys = [each for device in (ann, ben) for each in (device.known.identity.public, device.known.access_key)]
    private = [device.known.identity.private for device in (ann, ben)]
    looked_for = [sealed, *keys, *private, *(each.encode() for each in canaries.secrets if len(each) >= 8)]
    assert not holds_canary(looked_for, page)
    assert CONTENT.decode() not in page.decode()
    examples = re.findall(rb'"name":"data"[^}]*"example":"([^"]+)"', page)
    assert examples, "an envelope waits, so that there was something to find"

"""A store opens with its key alone, notices every altered record, and writes all of a transaction or nothing."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.client import CorruptStore, Store, StoreInUse, WrongKey, derive_key
from messaging.client.stores.sealing import Sealer
from signal_protocol.types import Address, KyberUse

KEY = b"\x22" * 32
PEER = Address(str(uuid4()), 2)


async def test_opens_again_with_the_same_key_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with Store.open(path, KEY) as store, store.transaction() as transaction:
        transaction.put("kind", "name", record=b"value")
    with pytest.raises(WrongKey):
        async with Store.open(path, bytes(32)):
            pass
    async with Store.open(path, KEY) as store, store.transaction() as transaction:
        assert transaction.get("kind", "name") == b"value"
        assert transaction.get("kind", "other") is None
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_is_no_store_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(WrongKey):
        async with Store.open(path, KEY):
            pass


async def test_two_processes_cannot_have_it_open(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "store.db", KEY):
        with pytest.raises(StoreInUse):
            async with Store.open(tmp_path / "store.db", KEY):
                pass


async def test_a_transaction_that_fails_writes_nothing(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "store.db", KEY) as store:

        async def fail() -> None:
            async with store.transaction() as transaction:
                transaction.put("kind", "name", record=b"value")
                transaction.append("queue", b"entry")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        async with store.transaction() as transaction:
            assert transaction.get("kind", "name") is None
            assert transaction.entries("queue") == []


async def test_a_cancelled_transaction_leaves_the_store_usable(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "store.db", KEY) as store:

        async def write(number: int) -> None:
            async with store.transaction() as transaction:
                transaction.put("kind", str(number), record=b"value")
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(write(number)) for number in range(20)]
        await asyncio.sleep(0.001)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with store.transaction() as transaction:
            assert all(transaction.get("kind", str(number)) == b"value" for number in range(1, 20, 2))


async def test_a_session_is_written_only_over_the_version_that_was_read(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "store.db", KEY) as store:
        async with store.transaction() as transaction:
            assert await transaction.save_session(PEER, b"one", expected=None)
            assert not await transaction.save_session(PEER, b"two", expected=None)
            stored = await transaction.load_session(PEER)
            assert stored is not None
            assert (stored.record, stored.version) == (b"one", 1)
            assert await transaction.save_session(PEER, b"two", expected=1)
            assert not await transaction.save_session(PEER, b"three", expected=1)
            assert await transaction.session_devices(PEER.service_id) == [PEER]
        async with store.transaction() as transaction:
            stored = await transaction.load_session(PEER)
            assert stored is not None
            assert (stored.record, stored.version) == (b"two", 2)


async def test_a_last_resort_key_is_marked_once_for_each_use(tmp_path: Path) -> None:
    use, other = KyberUse(1, 2, b"base"), KyberUse(1, 2, b"other")
    async with Store.open(tmp_path / "store.db", KEY) as store, store.transaction() as transaction:
        assert await transaction.mark_kyber_prekey_used(use)
        assert not await transaction.mark_kyber_prekey_used(use)
        assert await transaction.mark_kyber_prekey_used(other)


async def test_prekeys_are_kept_and_deleted(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "store.db", KEY) as store, store.transaction() as transaction:
        await transaction.save_one_time_prekey(7, b"record")
        assert await transaction.load_one_time_prekey(7) == b"record"
        assert await transaction.delete_one_time_prekey(7)
        assert not await transaction.delete_one_time_prekey(7)
        await transaction.save_kyber_prekey(1, b"kyber", last_resort=True)
        stored = await transaction.load_kyber_prekey(1)
        assert stored is not None
        assert (stored.record, stored.last_resort) == (b"kyber", True)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE records SET sealed = (SELECT sealed FROM records WHERE version = 2) WHERE version = 1 AND kind = 'kind'",
        "UPDATE records SET version = 9 WHERE kind = 'kind'",
        "UPDATE records SET sealed = zeroblob(40) WHERE kind = 'kind'",
        "UPDATE records SET sealed = substr(sealed, 1, 10) WHERE kind = 'kind'",
        "UPDATE records SET sealed = x'' WHERE kind = 'kind'",
    ],
)
async def test_a_moved_or_altered_record_is_noticed(tmp_path: Path, attack: str) -> None:
    path = tmp_path / "store.db"
    async with Store.open(path, KEY) as store, store.transaction() as transaction:
        transaction.put("kind", "a", record=b"first")
        transaction.put("kind", "b", record=b"second")
        transaction.put("kind", "b", record=b"second again")
    with sqlite3.connect(path) as db:
        db.execute(attack)
    db.close()
    async with Store.open(path, KEY) as store, store.transaction() as transaction:
        with pytest.raises(CorruptStore):
            transaction.get("kind", "a"), transaction.get("kind", "b")


async def test_queues_keep_their_order_and_their_numbers(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "store.db", KEY) as store:
        async with store.transaction() as transaction:
            first, second = transaction.append("queue", b"one"), transaction.append("queue", b"two")
            transaction.append("another", b"x")
        async with store.transaction() as transaction:
            transaction.replace("queue", second, b"two!")
            assert transaction.entries("queue") == [(first, b"one"), (second, b"two!")]
            transaction.remove("queue", second)
            assert transaction.append("queue", b"three") > second
            assert [entry for _, entry in transaction.entries("queue", after=first)] == [b"three"]


async def test_in_memory_nothing_is_on_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with Store.open(":memory:", KEY) as store, store.transaction() as transaction:
        transaction.put("kind", "name", record=b"value")
        assert os.listdir(tmp_path) == []  # noqa: PTH208


@given(st.binary(max_size=100), st.text(max_size=10), st.integers(0, 2**31), st.data())
def test_a_record_opens_in_its_place_and_nowhere_else(
    record: bytes, kind: str, version: int, data: st.DataObject
) -> None:
    sealer = Sealer.from_key(KEY)
    name = sealer.name(kind, "x")
    sealed = sealer.seal(record, kind, name, version)
    assert sealer.open(sealed, kind, name, version) == record
    at = data.draw(st.integers(0, len(sealed) - 1))
    for other in (
        (sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], kind, name, version),
        (sealed, kind + "!", name, version),
        (sealed, kind, sealer.name(kind, "y"), version),
        (sealed, kind, name, version + 1),
        (sealed[:at], kind, name, version),
    ):
        with pytest.raises(CorruptStore):
            sealer.open(*other)


def test_a_passphrase_gives_a_key_that_its_salt_decides() -> None:
    key = derive_key("correct horse", bytes(16))
    assert len(key) == 32
    assert key == derive_key("correct horse", bytes(16))
    assert key != derive_key("correct horse", b"\x01" * 16)
    with pytest.raises(ValueError, match="16 bytes"):
        derive_key("x", b"short")


async def test_families_are_read_and_deleted_as_one(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "store.db", KEY) as store, store.transaction() as transaction:
        transaction.put("kind", "a", record=b"one", family=("x",))
        transaction.put("kind", "b", record=b"two", family=("x",))
        transaction.put("kind", "b", record=b"two again", family=("x",))
        transaction.put("kind", "c", record=b"three", family=("y",))
        transaction.put("other kind", "d", record=b"four", family=("x",))
        assert sorted(transaction.family("kind", "x")) == [b"one", b"two again"]
        transaction.delete_family("kind", "x")
        assert transaction.family("kind", "x") == []
        assert transaction.get("kind", "a") is None
        assert transaction.family("kind", "y") == [b"three"]
        assert transaction.family("other kind", "x") == [b"four"]


async def test_a_queue_is_read_whole_or_by_family(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "store.db", KEY) as store, store.transaction() as transaction:
        first = transaction.append("queue", b"one", family=("x",))
        transaction.append("queue", b"two", family=("y",))
        transaction.append("queue", b"three")
        transaction.append("queue", b"four", family=("x",))
        transaction.replace("queue", first, b"one again")
        assert [entry for _, entry in transaction.entries("queue")] == [b"one again", b"two", b"three", b"four"]
        assert [entry for _, entry in transaction.entries("queue", family=("x",))] == [b"one again", b"four"]
        assert [entry for _, entry in transaction.entries("queue", family=("x",), after=first)] == [b"four"]
        assert transaction.remove("queue", first)
        assert not transaction.remove("queue", first)


async def test_all_sender_keys_of_an_account_are_deleted_and_no_others(tmp_path: Path) -> None:
    group, laptop, other = uuid4(), Address(PEER.service_id, 3), Address(str(uuid4()), 2)
    async with Store.open(tmp_path / "store.db", KEY) as store, store.transaction() as transaction:
        for sender in (PEER, laptop, other):
            assert await transaction.save_sender_key(sender, group, b"key", expected=None)
        assert await transaction.save_sender_key(PEER, group, b"key again", expected=1)
        transaction.delete_sender_keys(PEER.service_id)
        assert await transaction.load_sender_key(PEER, group) is None
        assert await transaction.load_sender_key(laptop, group) is None
        assert await transaction.load_sender_key(other, group) is not None


def as_version_1(path: Path) -> None:
    """What an earlier version of the SDK left: no families of queues, and sender keys of nobody."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in (
            "DROP INDEX queues_by_family",
            "DROP INDEX queues_by_kind",
            "ALTER TABLE queues DROP COLUMN family",
            "UPDATE records SET family = NULL WHERE kind = 'sender key'",
            "PRAGMA user_version = 1",
        ):
            db.execute(statement)


async def test_a_store_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path, group = tmp_path / "store.db", uuid4()
    async with Store.open(path, KEY) as store, store.transaction() as transaction:
        transaction.put("kind", "name", record=b"value")
        transaction.append("queue", b"entry")
        await transaction.save_session(PEER, b"session", expected=None)
        await transaction.save_sender_key(PEER, group, b"key", expected=None)
    as_version_1(path)
    with pytest.raises(WrongKey):
        async with Store.open(path, bytes(32)):
            pass
    for _ in range(2):
        async with Store.open(path, KEY) as store, store.transaction() as transaction:
            assert transaction.get("kind", "name") == b"value"
            assert [entry for _, entry in transaction.entries("queue")] == [b"entry"]
            assert await transaction.session_devices(PEER.service_id) == [PEER]
            assert await transaction.load_sender_key(PEER, group) is None
            assert transaction.entries("queue", family=("x",)) == []


async def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with Store.open(path, KEY):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(CorruptStore):
        async with Store.open(path, KEY):
            pass

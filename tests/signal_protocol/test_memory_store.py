"""All of a transaction or nothing of it."""

import asyncio
from uuid import uuid4

import pytest

from signal_protocol.memory_store import MemoryStore
from signal_protocol.storage import ProtocolStore, ProtocolTransaction, StoredKyberPrekey, StoredRecord
from signal_protocol.types import Address, KyberUse

REMOTE = Address(str(uuid4()), 1)
GROUP = uuid4()
USE = KyberUse(1, 2, b"base key")


class Rollback(Exception):
    """Raised inside a transaction."""


async def write_everything(transaction: ProtocolTransaction) -> None:
    assert await transaction.save_session(REMOTE, b"session", expected=None)
    assert await transaction.save_sender_key(REMOTE, GROUP, b"sender key", expected=None)
    assert await transaction.mark_kyber_prekey_used(USE)
    await transaction.save_identity(REMOTE.service_id, b"identity")
    await transaction.save_one_time_prekey(1, b"one-time")
    await transaction.save_signed_prekey(1, b"signed")
    await transaction.save_kyber_prekey(1, b"kyber", last_resort=True)


async def read_everything(transaction: ProtocolTransaction) -> list[object]:
    return [
        await transaction.load_session(REMOTE),
        await transaction.session_devices(REMOTE.service_id),
        await transaction.load_sender_key(REMOTE, GROUP),
        await transaction.load_identity(REMOTE.service_id),
        await transaction.load_one_time_prekey(1),
        await transaction.load_signed_prekey(1),
        await transaction.load_kyber_prekey(1),
    ]


EVERYTHING = [
    StoredRecord(b"session", 1),
    [REMOTE],
    StoredRecord(b"sender key", 1),
    b"identity",
    b"one-time",
    b"signed",
    StoredKyberPrekey(b"kyber", last_resort=True),
]
NOTHING: list[object] = [None, [], None, None, None, None, None]


async def test_a_transaction_sees_what_it_wrote_and_so_do_later_ones() -> None:
    store: ProtocolStore[ProtocolTransaction] = MemoryStore()
    async with store.transaction() as transaction:
        await write_everything(transaction)
        assert await read_everything(transaction) == EVERYTHING
    async with store.transaction() as transaction:
        assert await read_everything(transaction) == EVERYTHING
        assert await transaction.mark_kyber_prekey_used(USE) is False


async def test_an_exception_rolls_everything_back() -> None:
    store = MemoryStore()
    done: list[str] = []

    async def write_and_fail() -> None:
        async with store.transaction() as transaction:
            await write_everything(transaction)
            transaction.on_commit(lambda: done.append("never"))
            raise Rollback

    with pytest.raises(Rollback):
        await write_and_fail()
    async with store.transaction() as transaction:
        assert await read_everything(transaction) == NOTHING
        assert await transaction.mark_kyber_prekey_used(USE)
    assert done == []


async def test_actions_run_at_commit() -> None:
    store, done = MemoryStore(), []
    async with store.transaction() as transaction:
        transaction.on_commit(lambda: done.append("now"))
        assert done == []
    assert done == ["now"]


async def test_a_record_is_written_only_over_the_version_that_was_read() -> None:
    store = MemoryStore()
    async with store.transaction() as transaction:
        assert not await transaction.save_session(REMOTE, b"x", expected=1)
        assert await transaction.save_session(REMOTE, b"first", expected=None)
        assert not await transaction.save_session(REMOTE, b"x", expected=None)
        assert await transaction.save_session(REMOTE, b"second", expected=1)
        assert not await transaction.save_session(REMOTE, b"x", expected=1)
        assert await transaction.load_session(REMOTE) == StoredRecord(b"second", 2)


async def test_a_prekey_is_deleted_once() -> None:
    store = MemoryStore()
    async with store.transaction() as transaction:
        await write_everything(transaction)
    async with store.transaction() as transaction:
        for delete in (transaction.delete_one_time_prekey, transaction.delete_kyber_prekey):
            assert await delete(1)
            assert not await delete(1)
            assert not await delete(2)


async def test_transactions_wait_for_each_other() -> None:
    store, steps = MemoryStore(), []

    async def work(name: str) -> None:
        async with store.transaction():
            steps.append(name)
            await asyncio.sleep(0)
            steps.append(name)

    await asyncio.gather(work("first"), work("second"))
    assert steps == ["first", "first", "second", "second"]


async def test_a_transaction_inside_another_is_an_error_and_not_a_wait_forever() -> None:
    store = MemoryStore()
    async with store.transaction():
        with pytest.raises(RuntimeError):
            async with store.transaction():
                pass

"""A disk that is full loses nothing: what arrives waits at the relay or in the inbox, and all goes on once there is room."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import uuid4

import pytest

from messaging.client import Failed, Received, Relay, Store, StoreFailed
from messaging.client import chats as chats_module
from messaging.client import device as device_module
from messaging.client.chat_records import Chat, ChatRecords
from messaging.client.chats import Chats
from messaging.client.conversation import Conversation
from messaging.client.history import ChatMessage
from messaging.wire.identifiers import DeviceAddress, MessageId, ServiceId
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.world import World, soon
from tests.relays import StartedRelay

LONG = "x" * 3000
NO_LIMIT = 2**31 - 2  # pages, SQLite's greatest


@pytest.fixture
async def world(sqlite_relay: StartedRelay, client_relay: Relay, crypto: SignalCrypto) -> AsyncIterator[World]:
    made = World(sqlite_relay, client_relay, crypto)
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (device_module, chats_module):
        monkeypatch.setattr(module, "STORE_PAUSE", 0.05)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with Store.open(":memory:", bytes(32)) as opened:
        yield opened


def fill(store: Store) -> None:
    """From now on the file may not grow."""
    [pages] = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")


def make_room(store: Store) -> None:
    store._db.execute(f"PRAGMA max_page_count = {NO_LIMIT}")


async def write(store: Store, size: int = 100_000) -> None:
    async with store.transaction() as transaction:
        transaction.put("note", record=b"first")
        transaction.append("queue", bytes(size))


async def test_a_transaction_that_does_not_fit_leaves_nothing_and_the_next_one_works(store: Store) -> None:
    fill(store)
    with pytest.raises(StoreFailed, match="make room"):
        await write(store)
    async with store.transaction() as transaction:
        assert transaction.get("note") is None
    make_room(store)
    await write(store)
    async with store.transaction() as transaction:
        assert transaction.get("note") == b"first"


async def test_a_commit_that_fails_is_rolled_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Db:
        """As the store's, on a disk that fails when all has been written."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self._db = db

        def __getattr__(self, name: str) -> object:
            return getattr(self._db, name)

        def execute(self, statement: str, *values: tuple[object, ...]) -> object:
            if statement == "COMMIT" and self._db.total_changes > before:
                raise sqlite3.OperationalError("disk I/O error")
            return self._db.execute(statement, *values)

    before = store._db.total_changes
    with monkeypatch.context() as broken:
        broken.setattr(store, "_db", Db(store._db))
        with pytest.raises(StoreFailed):
            await write(store)
    async with store.transaction() as transaction:
        assert transaction.get("note") is None


async def test_what_could_not_be_written_is_written_with_the_next_thing(store: Store) -> None:
    me = ServiceId(uuid4())
    records = await ChatRecords.load(store, me)
    await records.save(Chat(Conversation.create("trip", [me])))
    [chat] = records.chats.values()
    fill(store)
    chat.conversation = Conversation(chat.conversation.key, "y" * 200_000, (me,))
    with pytest.raises(StoreFailed):
        await records.save(chat)
    message = ChatMessage(MessageId(me, 1), LONG * 30)
    with pytest.raises(StoreFailed):
        await records.add_message(chat, message)
    assert chat.messages == {}  # it is not known, so that it is taken again
    make_room(store)
    await records.flush()
    await records.add_message(chat, message)
    [again] = (await ChatRecords.load(store, me)).chats.values()
    assert (again.conversation, list(again.messages.values())) == (chat.conversation, [message])


async def use_up(store: Store) -> None:
    """No record of any size fits any more."""
    fill(store)
    for size in (4000, 1000, 100, 1):
        with suppress(StoreFailed):
            while True:
                await write(store, size)


async def test_what_was_taken_but_not_written_is_not_acknowledged_before_it_is(world: World, store: Store) -> None:
    ann, bob = await world.person(), await world.person()
    await ann.device.fetch_identity(bob.service_id)
    chats = await Chats.open(ann.device, store)
    conversation = Conversation.create("trip", [ann.service_id, bob.service_id])
    news = conversation.with_members([ann.service_id, bob.service_id, *(ServiceId(uuid4()) for _ in range(500))])
    sender = DeviceAddress(bob.service_id, 1)
    await chats.take(Received(1, sender, conversation.as_update(), 1, True))
    await use_up(store)
    for _ in range(2):
        with pytest.raises(StoreFailed):
            await chats.take(Received(2, sender, news.as_update(), 1, True))
    make_room(store)
    assert await chats.take(Received(2, sender, news.as_update(), 1, True))
    [again] = (await ChatRecords.load(store, ann.service_id)).chats.values()
    assert again.conversation == news


async def test_what_arrives_meanwhile_is_there_once_there_is_room_and_after_a_restart(world: World) -> None:
    ann, bob = await world.people(2)
    await use_up(bob.device._store)
    texts = [f"{number} {LONG}" for number in range(20)]
    for text in texts:
        await ann.write(text)
    await soon(lambda: Failed("StoreFailed") in bob.chats.problems())
    with pytest.raises(StoreFailed):
        await bob.chats.write(bob.key, LONG)
    assert LONG not in bob.texts()
    make_room(bob.device._store)
    await soon(lambda: bob.texts() == texts)
    await bob.close()
    await bob.open()
    assert bob.texts() == texts
    await bob.write("here I am")
    await soon(lambda: ann.texts()[-1] == "here I am")


async def test_a_change_of_the_conversation_that_arrives_meanwhile_survives_a_restart(world: World) -> None:
    ann, bob, cem = await world.people(3)
    await use_up(bob.device._store)
    await ann.chats.set_members(ann.key, [bob.service_id])
    await asyncio.sleep(0.2)
    make_room(bob.device._store)
    await soon(lambda: cem.service_id not in bob.chats.conversation(bob.key).members)
    await bob.close()
    await bob.open()
    assert cem.service_id not in bob.chats.conversation(bob.key).members

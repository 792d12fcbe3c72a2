"""What a device keeps of its conversations is all there when it is opened again, in order and once."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.client import Store, chat_records
from messaging.client.chat_records import (
    MAX_IN_MEMORY,
    MAX_INTRODUCED,
    MAX_UNSHARED,
    ONCE_LIFETIME,
    Chat,
    ChatRecords,
    Introduced,
    Known,
    _added,
)
from messaging.client.conversation import Conversation
from messaging.client.events import ConversationChanged, Event, Journal, MessageReceived
from messaging.client.history import ChatMessage, write_message
from messaging.client.stores import StoreTransaction
from messaging.wire.content import ListedBot
from messaging.wire.data import DataMessage, Deletion, Edit, Mention, Quote, Reaction, Said
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.json import encode_base64
from tests.messaging.client.people import Person

ME, BOB = Person.new(), Person.new()
ASSISTANT = ServiceId(uuid4())


@asynccontextmanager
async def records_at(path: Path, journal: Journal | None = None) -> AsyncIterator[ChatRecords]:
    async with Store.open(path, bytes(32)) as store:
        yield await ChatRecords.load(store, ME.service_id, journal)


def a_chat(title: str = "trip") -> Chat:
    return Chat(Conversation.create(title, [ME.service_id, BOB.service_id]))


def a_message(at: int, text: str = "hello", author: ServiceId = BOB.service_id) -> ChatMessage:
    return ChatMessage(MessageId(author, at), text)


def the_chat(records: ChatRecords) -> Chat:
    [chat] = records.chats.values()
    return chat


async def test_a_new_store_holds_nothing(tmp_path: Path) -> None:
    async with records_at(tmp_path / "db") as records:
        assert (records.chats, records.unsent) == ({}, [])
        assert records.latest_timestamp(ME.service_id, until=10**15) == 0
        assert not records.is_member(BOB.service_id)


async def test_everything_about_a_conversation_survives_close_and_open(tmp_path: Path) -> None:
    chat = a_chat("Ausflug 🚲")
    key = chat.conversation.key
    for person, at in ((ME, 100), (BOB, 200), (BOB, 150)):
        chat.note_statement(person.service_id, person.states(key, at, until=at + 50), ME.service_id)
    chat.conversation = chat.conversation.with_members([ME.service_id, BOB.service_id, ASSISTANT])
    chat.announced_by_us = True
    chat.told = {
        BOB.service_id: Known(True, chat.digest_of(ME.service_id), 2),
        ME.service_id: Known(),
        ASSISTANT: Known(False, None, 0, lost=True),
    }
    chat.introduced = {ASSISTANT: Introduced(b"\x05" * 33, b"\x01" * 32, b"r"), BOB.service_id: Introduced(b"k", None)}
    chat.unshared.extend([3, 1, 2])
    chat.read = 1
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
    async with records_at(tmp_path / "db") as records:
        assert list(records.chats) == [key]
        found = the_chat(records)
        for name in (
            "conversation",
            "announced_by_us",
            "told",
            "introduced",
            "unshared",
            "messages",
            "read",
            "dropped",
        ):
            assert getattr(found, name) == getattr(chat, name), name
        assert list(found.introduced) == [ASSISTANT, BOB.service_id]
        assert records.is_member(ASSISTANT)


async def test_how_a_conversation_came_to_be_survives_too(tmp_path: Path) -> None:
    """Or who restarts would judge the next change otherwise than the others."""
    me, bob = ME.service_id, BOB.service_id
    begun = Conversation.create("trip", [me, bob, ASSISTANT], bots=[ListedBot(ASSISTANT, reads_all=True)])
    closed = begun.changed(admins=[bob, me], expires_in=60, by=bob)
    chat = Chat(closed.without(ASSISTANT))
    async with records_at(tmp_path / "db") as records:
        await records.save(chat, Chat(closed))
        await records.save(other := Chat(Conversation.create("other", [me, bob], admins=[me])))
        await records.save(chat)
    async with records_at(tmp_path / "db") as records:
        for before in (chat.conversation, other.conversation):
            found = records.chats[before.key].conversation
            for name in ("admins", "bots", "expires_in", "admins_before", "members_before", "left", "standing"):
                assert getattr(found, name) == getattr(before, name), name


async def test_a_conversation_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    chat = a_chat()
    chat.told = {BOB.service_id: Known(True, b"digest", 2)}
    later = ("admins", "admins_before", "members_before", "left", "standing", "bots", "expires_in")
    async with records_at(tmp_path / "db") as records, records._store.transaction() as transaction:
        record = json.loads(chat_records._write(chat, 0))
        for name in later:
            del record[name]
        record["told"] = {member: parts[:4] for member, parts in record["told"].items()}
        transaction.put(
            "conversation", chat.conversation.key.hex(), record=json.dumps(record).encode(), family=("all",)
        )
    async with records_at(tmp_path / "db") as records:
        found = the_chat(records)
        assert (found.conversation, found.told) == (chat.conversation, chat.told)
        assert found.conversation.standing == chat.conversation.standing


async def test_the_roster_names_whom_we_trust_now_and_is_made_anew_when_that_or_the_members_change(
    tmp_path: Path,
) -> None:
    chat, me, key = a_chat(), ME.service_id, ME.keys.public
    async with records_at(tmp_path / "db") as records:

        def seen() -> bytes | None:
            return chat.roster

        async def trust(identity_key: bytes) -> None:
            async with records._store.transaction() as transaction:
                await transaction.save_identity(str(BOB.service_id), identity_key)

        assert seen() is None
        alone = await records.roster(chat, me, key)
        assert alone == chat.conversation.roster({me: key})
        assert seen() == alone.digest()
        assert await records.roster(chat, me, key) is alone
        for identity_key in (b"\x05" * 33, b"\x06" * 33):
            await trust(identity_key)
            roster = await records.roster(chat, me, key)
            assert roster == chat.conversation.roster({me: key, BOB.service_id: identity_key})
            assert seen() == roster.digest()
        chat.conversation = chat.conversation.with_members([me])
        assert seen() is None
        assert await records.roster(chat, me, key) == chat.conversation.roster({me: key})


async def test_what_was_not_saved_is_as_it_was_before(tmp_path: Path) -> None:
    chat = a_chat()
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        chat.announced_by_us = True
    async with records_at(tmp_path / "db") as records:
        assert not the_chat(records).announced_by_us


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(said=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 5), st.text(max_size=4)), max_size=12))
async def test_messages_come_back_in_their_order_each_once(tmp_path: Path, said: list[tuple[int, int, str]]) -> None:
    path = tmp_path / uuid4().hex
    expected: list[dict[MessageId, str]] = [{}, {}]
    chats = [a_chat("one"), a_chat("two")]
    async with records_at(path) as records:
        await records.save(*chats)
        for place, at, text in said:
            expected[place].setdefault(MessageId(BOB.service_id, at), text)
            await records.add_message(chats[place], a_message(at, text))
    async with records_at(path) as records:
        for chat, messages in zip(chats, expected, strict=True):
            for held in (chat, records.chats[chat.conversation.key]):
                assert [(each.id, each.text) for each in held.messages.values()] == list(messages.items())


async def test_unread_is_what_was_said_since_it_was_read(tmp_path: Path) -> None:
    chat = a_chat()
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        for at in (1, 2):
            await records.add_message(chat, a_message(at))
        chat.read = len(chat.messages)
        await records.save(chat)
        await records.add_message(chat, a_message(3))
        assert chat.unread == (a_message(3),)
    async with records_at(tmp_path / "db") as records:
        assert the_chat(records).unread == (a_message(3),)


async def test_of_very_many_messages_the_latest_are_in_memory_and_unread_ones_stay_right(tmp_path: Path) -> None:
    chat, more = a_chat(), 2
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        async with records._store.transaction() as transaction:
            for at in range(MAX_IN_MEMORY + more):
                place = transaction.append("history", write_message(chat.conversation.key, a_message(at)))
                _added(chat, a_message(at), place)
        chat.read = MAX_IN_MEMORY + more - 1
        await records.save(chat)
    async with records_at(tmp_path / "db") as records:
        for held in (chat, the_chat(records)):
            assert [each.id.timestamp for each in held.messages.values()] == list(range(more, MAX_IN_MEMORY + more))
            assert held.unread == (a_message(MAX_IN_MEMORY + more - 1),)


async def test_an_own_message_is_unsent_until_it_was_handed_over(tmp_path: Path) -> None:
    chat = a_chat()
    first, second = (a_message(at, author=ME.service_id) for at in (1, 2))
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        me, key = ME.service_id, chat.conversation.key
        await records.note_sent(await records.add_unsent(chat, me, first.as_data(key)))
        await records.add_unsent(chat, me, second.as_data(key))
    async with records_at(tmp_path / "db") as records:
        [unsent] = records.unsent
        assert (unsent.conversation, unsent.said) == (chat.conversation.key, second.as_data(chat.conversation.key))
        assert list(the_chat(records).messages.values()) == [first, second]
        assert records.latest_timestamp(ME.service_id, until=10**15) == 2
        await records.note_sent(records.unsent[0])
    async with records_at(tmp_path / "db") as records:
        assert records.unsent == []


def everything_said(key: bytes) -> list[Said]:
    bob = MessageId(BOB.service_id, 5)
    message = DataMessage("hello", 10, key, bytes(32), Quote(bob, "hi"), (), (Mention(0, 1, BOB.service_id),), 60)
    return [
        message,
        Edit(10, replace(message, body="bye", timestamp=11)),
        Reaction("+", bob, 12, key),
        Reaction("+", bob, 13, key, remove=True),
        Deletion(10, 14, key),
    ]


async def test_what_we_said_of_whatever_kind_is_unsent_after_a_restart(tmp_path: Path) -> None:
    chat = a_chat()
    said = everything_said(chat.conversation.key)
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        await records.add_message(chat, a_message(5))
        for each in said:
            await records.add_unsent(chat, ME.service_id, each)
    async with records_at(tmp_path / "db") as records:
        assert [each.said for each in records.unsent] == said
        assert [each.number for each in records.unsent] == sorted({each.number for each in records.unsent})
        for held in (chat, the_chat(records)):
            assert held.messages[MessageId(ME.service_id, 10)].deleted
            assert held.messages[MessageId(BOB.service_id, 5)].reactions[ME.service_id].emoji == ""


@pytest.mark.parametrize("first", [b"[", b"{", b"\x00"])
@pytest.mark.parametrize("rest", [[], [None], [encode_base64(b"\x01" * 32)]])
async def test_what_an_earlier_version_left_unsent_is_read(
    tmp_path: Path, rest: list[str | None], first: bytes
) -> None:
    key = first + bytes(31)
    conversation = replace(a_chat().conversation, key=key)
    entry = json.dumps([encode_base64(key), str(ME.service_id), 10, "hello", *rest]).encode()
    now = DataMessage("[hello", 11, key)
    async with records_at(tmp_path / "db") as records:
        await records.save(Chat(conversation))
        async with records._store.transaction() as transaction:
            transaction.append("unsent", entry)
        await records.add_unsent(the_chat(records), ME.service_id, now)
    async with records_at(tmp_path / "db") as records:
        roster = b"\x01" * 32 if rest and rest[0] else None
        assert [(each.conversation, each.said) for each in records.unsent] == [
            (key, DataMessage("hello", 10, key, roster)),
            (key, now),
        ]


async def test_own_messages_that_expire_do_so_from_when_they_were_written(tmp_path: Path) -> None:
    chat = a_chat()
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        await records.add_unsent(chat, ME.service_id, everything_said(chat.conversation.key)[0])
        assert chat.messages[MessageId(ME.service_id, 10)].expires_at == 10 + 60_000
        assert chat.expiring == {MessageId(ME.service_id, 10)}


# --- once ---


async def test_under_a_name_one_thing_was_said(tmp_path: Path) -> None:
    chat = a_chat()
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        assert await records.said_once("a name") is None
        await records.add_unsent(chat, ME.service_id, DataMessage("x", 10, chat.conversation.key), once="a name")
        assert await records.said_once("a name") == 10
        assert await records.said_once("another name") is None
    async with records_at(tmp_path / "db") as records:
        assert await records.said_once("a name") == 10


@pytest.mark.parametrize("wrong", [0, 2**50])
async def test_names_make_room_for_others_once_they_are_old(tmp_path: Path, wrong: int) -> None:
    """Also if a clock was far ahead once."""
    chat = a_chat()
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)

        async def say(at: int) -> None:
            message = DataMessage("x", at, chat.conversation.key)
            await records.add_unsent(chat, ME.service_id, message, once=str(at))

        now = 2 * ONCE_LIFETIME
        for at in (wrong, wrong + 1, now, now + ONCE_LIFETIME, now + ONCE_LIFETIME + 1):
            await say(at)
        known = [at for at in (wrong, wrong + 1, now, now + ONCE_LIFETIME) if await records.said_once(str(at))]
        assert known == [now + ONCE_LIFETIME]
        await say(now + ONCE_LIFETIME + 2)
        async with records._store.transaction() as transaction:
            assert len(transaction.entries("said once")) == 3


# --- changing and forgetting ---


async def test_what_was_said_of_a_message_is_so_after_a_restart(tmp_path: Path) -> None:
    chat, bob = a_chat(), BOB.service_id
    key = chat.conversation.key
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        await records.add_message(chat, a_message(1))
        assert await records.take_said(chat, bob, Edit(1, DataMessage("bye", 2, key)))
        assert await records.take_said(chat, ME.service_id, Reaction("+", MessageId(bob, 1), 3, key))
        assert not await records.take_said(chat, bob, Deletion(7, 8, key))
    async with records_at(tmp_path / "db") as records:
        for held in (chat, the_chat(records)):
            [message] = held.messages.values()
            assert (message.text, message.edited) == ("bye", 2)
            assert message.reactions[ME.service_id].emoji == "+"


async def test_what_happens_to_one_message_at_the_same_time_is_all_there(tmp_path: Path) -> None:
    """Each is made of what the one before has made, however long writing takes: or a deleted text would come back."""
    chat, bob = a_chat(), BOB.service_id
    key, named = chat.conversation.key, MessageId(bob, 1)
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        await records.add_message(chat, a_message(1))
        reactions = [Reaction("+", named, at, key) for at in (2, 3)]
        await asyncio.gather(
            records.take_said(chat, bob, reactions[0]),
            records.add_unsent(chat, ME.service_id, reactions[1]),
            records.change_messages(chat, [named], lambda message: replace(message, expires_at=9)),
        )
        assert set(chat.messages[named].reactions) == {bob, ME.service_id}
        assert chat.messages[named].expires_at == 9
        await asyncio.gather(
            records.take_said(chat, bob, Deletion(1, 4, key)),
            records.add_unsent(chat, ME.service_id, Reaction("-", named, 5, key)),
            records.change_messages(chat, [named], lambda message: replace(message, expires_in=1)),
        )
        assert chat.messages[named].text == ""
    async with records_at(tmp_path / "db") as records:
        assert the_chat(records).messages == chat.messages


async def test_who_does_not_wait_until_it_is_written_finds_it_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat, bob = a_chat(), BOB.service_id
    key = chat.conversation.key
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        await records.add_message(chat, a_message(1, "secret"))
        to_thread = asyncio.to_thread

        async def slowly(work: Callable[[], object]) -> object:
            task.cancel()
            return await to_thread(work)

        monkeypatch.setattr(asyncio, "to_thread", slowly)
        changes: list[Coroutine[object, object, object]] = [
            records.take_said(chat, bob, Deletion(1, 2, key)),
            records.add_message(chat, a_message(3)),
            records.add_unsent(chat, ME.service_id, DataMessage("mine", 4, key)),
        ]
        for change in changes:
            task = asyncio.ensure_future(change)
            await asyncio.wait([task])
            assert task.cancelled()
        monkeypatch.undo()
        assert [each.said.timestamp for each in records.unsent] == [4]
    async with records_at(tmp_path / "db") as records:
        assert the_chat(records).messages == chat.messages
        assert [message.text for message in chat.messages.values()] == ["", "hello", "mine"]


def sealed(store: Store) -> set[bytes]:
    """The records that the file holds, as they lie there."""
    rows = store._db.execute("SELECT sealed FROM queues UNION SELECT sealed FROM records")
    return {sealed for (sealed,) in rows}


async def test_nothing_of_a_deleted_or_edited_text_is_left_in_the_file(tmp_path: Path) -> None:
    chat, bob, path = a_chat(), BOB.service_id, tmp_path / "db"
    key = chat.conversation.key
    async with records_at(path) as records:
        await records.save(chat)
        before = sealed(records._store)
        await records.add_message(chat, a_message(1, "secret one" * 1000))
        await records.add_message(chat, a_message(2, "secret two"))
        await records.add_message(chat, replace(a_message(3), quote=Quote(MessageId(bob, 1), "secret one")))
        await records.note_sent(
            await records.add_unsent(chat, ME.service_id, DataMessage("secret three" * 1000, 4, key))
        )
        written = sealed(records._store) - before
        assert len(written) == 4
        await records.take_said(chat, bob, Deletion(1, 5, key))
        await records.take_said(chat, bob, Edit(2, DataMessage("other", 6, key)))
        await records.note_sent(await records.add_unsent(chat, ME.service_id, Deletion(4, 7, key)))
        async with records._store.transaction() as transaction:
            entries = [entry for _, entry in transaction.entries("history")]
        assert not any(b"secret" in entry for entry in entries)
        assert not written & sealed(records._store)
    file = path.read_bytes()  # closed, and so without what was to be written to it
    parts = {each[at : at + 32] for each in written for at in range(0, len(each) - 31, 32)}
    assert not any(part in file for part in parts)


async def test_what_is_forgotten_is_gone_and_what_was_read_stays_read(tmp_path: Path) -> None:
    chat, bob = a_chat(), BOB.service_id
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        for at in range(6):
            await records.add_message(chat, a_message(at))
        chat.read = 4
        await records.save(chat)
        await records.remove_messages(chat, [MessageId(bob, at) for at in (1, 3, 5)])
        assert list(chat.messages) == [MessageId(bob, at) for at in (0, 2, 4)]
        assert [message.id.timestamp for message in chat.unread] == [4]
        await records.remove_messages(chat, [MessageId(bob, 99)])
    async with records_at(tmp_path / "db") as records:
        found = the_chat(records)
        assert (list(found.messages), found.unread) == (list(chat.messages), chat.unread)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["add", "expiring", "read", "forget"]), st.integers(0, 5)), max_size=14)
)
async def test_unread_is_right_whatever_goes_out_of_memory_or_is_forgotten(
    tmp_path: Path, steps: list[tuple[str, int]]
) -> None:
    path, chat, bob = tmp_path / uuid4().hex, a_chat(), BOB.service_id
    unread: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_records, "MAX_IN_MEMORY", 4)
        async with records_at(path) as records:
            await records.save(chat)
            for at, (step, which) in enumerate(steps):
                held = [each.timestamp for each in chat.messages]
                if step in ("add", "expiring"):
                    await records.add_message(chat, replace(a_message(at), expires_in=step == "expiring"))
                    unread.append(at)
                elif step == "read":
                    chat.read = chat.dropped + len(chat.messages)
                    await records.save(chat)
                    unread = []
                elif held:
                    gone = held[which % len(held)]
                    await records.remove_messages(chat, [MessageId(bob, gone)])
                    unread = [each for each in unread if each != gone]
                expected = [each for each in unread if MessageId(bob, each) in chat.messages]
                assert [message.id.timestamp for message in chat.unread] == expected
                assert len(chat.messages) <= 4
        async with records_at(path) as records:
            found = the_chat(records)
            assert list(found.messages)[-len(chat.messages) or 4 :] == list(chat.messages)
            expected = [each for each in unread if MessageId(bob, each) in found.messages]  # there may be room for more
            assert [message.id.timestamp for message in found.unread] == expected


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_records, "MAX_IN_MEMORY", 3)


@pytest.mark.usefixtures("small_memory")
async def test_what_is_out_of_memory_is_changed_and_deleted_in_the_store(tmp_path: Path) -> None:
    chat, bob = a_chat(), BOB.service_id
    key, oldest = chat.conversation.key, MessageId(bob, 0)
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        for at in range(5):
            await records.add_message(chat, a_message(at, f"text {at}"))
        assert oldest not in chat.messages
        assert await records.find(chat, oldest) == a_message(0, "text 0")
        assert await records.find(chat, MessageId(bob, 99)) is None
        assert await records.take_said(chat, ME.service_id, Reaction("+", oldest, 9, key))
        assert await records.take_said(chat, bob, Deletion(0, 10, key))
        await records.add_message(chat, a_message(0, "again"))
        assert await records.find(chat, oldest) == ChatMessage(oldest, "", deleted=True)
    async with records_at(tmp_path / "db") as records:
        assert list(the_chat(records).messages) == [MessageId(bob, at) for at in (2, 3, 4)]
        assert await records.find(the_chat(records), oldest) == ChatMessage(oldest, "", deleted=True)


@pytest.mark.usefixtures("small_memory")
async def test_what_expires_is_not_kept_where_nobody_sees_that_its_time_is_over(tmp_path: Path) -> None:
    chat, bob = a_chat(), BOB.service_id
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        for at in range(6):
            begun = 100 if at == 1 else None
            await records.add_message(chat, replace(a_message(at), expires_in=60 * (at in (0, 1)), expires_at=begun))
        assert len(chat.messages) == 3
        assert chat.expiring == set()
        async with records._store.transaction() as transaction:
            assert len(transaction.entries("history")) == 4  # without the two
        assert await records.find(chat, MessageId(bob, 2)) == a_message(2)


async def test_a_message_whose_time_has_begun_is_among_those_that_expire(tmp_path: Path) -> None:
    chat, bob = a_chat(), BOB.service_id
    named = [MessageId(bob, at) for at in range(3)]
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        for at in range(3):
            await records.add_message(chat, replace(a_message(at), expires_in=60))
        await records.change_messages(chat, named[:2], lambda message: replace(message, expires_at=5))
        assert chat.expiring == set(named[:2])
        await records.take_said(chat, bob, Deletion(0, 9, chat.conversation.key))
        assert chat.expiring == {named[1]}
    async with records_at(tmp_path / "db") as records:
        assert the_chat(records).expiring == {named[1]}


# --- events ---


class Broken(Exception):
    pass


def breaks(transaction: StoreTransaction, event: Event) -> None:
    transaction.append("events", b"half")
    raise Broken


def keeps(transaction: StoreTransaction, event: Event) -> None:
    transaction.append("events", event.id.encode())


async def events_in(records: ChatRecords) -> list[str]:
    async with records._store.transaction() as transaction:
        return [entry.decode() for _, entry in transaction.entries("events")]


async def test_an_event_is_written_with_what_it_tells_of_or_neither_is(tmp_path: Path) -> None:
    chat, bob = a_chat(), BOB.service_id
    key = chat.conversation.key
    received = MessageReceived(key, bob, 1, "hello")
    async with records_at(tmp_path / "db", breaks) as records:
        with pytest.raises(Broken):
            await records.save(chat, event=ConversationChanged(key, bob, 0, settings=True))
        with pytest.raises(Broken):
            await records.add_message(chat, a_message(1), received)
        assert chat.messages == {}
    async with records_at(tmp_path / "db") as records:
        assert (records.chats, await events_in(records)) == ({}, [])
        await records.save(chat)
        await records.add_message(chat, a_message(1))
    async with records_at(tmp_path / "db", breaks) as records:
        found = the_chat(records)
        with pytest.raises(Broken):
            await records.take_said(found, bob, Deletion(1, 2, key), received)
        with pytest.raises(Broken):
            await records.note_event(received)
        assert list(found.messages.values()) == [a_message(1)]
    async with records_at(tmp_path / "db") as records:
        assert list(the_chat(records).messages.values()) == [a_message(1)]
        assert await events_in(records) == []


async def test_an_event_is_told_once_and_only_of_what_is_news(tmp_path: Path) -> None:
    chat, bob = a_chat(), BOB.service_id
    key = chat.conversation.key
    received, deleted = MessageReceived(key, bob, 1, "hello"), MessageReceived(key, bob, 2, "")
    async with records_at(tmp_path / "db", keeps) as records:
        await records.save(chat)
        for _ in range(2):
            await records.add_message(chat, a_message(1), received)
        for _ in range(2):
            await records.take_said(chat, bob, Deletion(1, 2, key), deleted)
        await records.take_said(chat, bob, Deletion(99, 2, key), deleted)
        assert await events_in(records) == [received.id, deleted.id]


async def test_an_event_that_could_not_be_written_is_written_with_the_next_thing(tmp_path: Path) -> None:
    chat, event = a_chat(), ConversationChanged(bytes(32), BOB.service_id, 0, settings=True)
    async with records_at(tmp_path / "db", breaks) as records:
        with pytest.raises(Broken):
            await records.save(chat, event=event)
        records._journal = keeps
        await records.flush()
        await records.flush()
        assert await events_in(records) == [event.id]
    async with records_at(tmp_path / "db") as records:
        assert the_chat(records).conversation == chat.conversation


# --- linking ---


async def test_after_a_link_own_devices_know_nothing(tmp_path: Path) -> None:
    chat = a_chat()
    chat.told = {ME.service_id: Known(True, None, 1), BOB.service_id: Known(True, None, 1)}
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        await records.note_linking()
        await records.note_linked(ME.service_id)
    async with records_at(tmp_path / "db") as records:
        assert set(the_chat(records).told) == {BOB.service_id}
        the_chat(records).told[ME.service_id] = Known(True, None, 1)
        await records.save(the_chat(records))
    async with records_at(tmp_path / "db") as records:
        assert set(the_chat(records).told) == {BOB.service_id, ME.service_id}


async def test_a_crash_while_a_device_is_linked_does_not_leave_it_in_the_dark(tmp_path: Path) -> None:
    chat = a_chat()
    chat.told = {ME.service_id: Known(True, None, 1)}
    async with records_at(tmp_path / "db") as records:
        await records.save(chat)
        await records.note_linking()
    async with records_at(tmp_path / "db") as records:
        assert the_chat(records).told == {}


# --- one chat ---


def test_what_waits_for_the_assistant_is_bounded_and_goes_when_consent_is_withdrawn() -> None:
    chat = a_chat()
    chat.unshared.extend(range(MAX_UNSHARED + 1))
    assert list(chat.unshared) == list(range(1, MAX_UNSHARED + 1))
    key = chat.conversation.key
    chat.note_statement(BOB.service_id, BOB.states(key, 10, opted_in=False), ME.service_id)
    chat.note_statement(ME.service_id, ME.states(key, 10), ME.service_id)
    assert len(chat.unshared) == MAX_UNSHARED
    chat.note_statement(ME.service_id, ME.states(key, 20, opted_in=False), ME.service_id)
    assert not chat.unshared


def test_of_too_many_assistants_the_one_told_longest_ago_is_forgotten() -> None:
    chat = a_chat()
    known = Introduced(b"k", None)
    assistants = [ServiceId(uuid4()) for _ in range(MAX_INTRODUCED)]
    for assistant in (*assistants, assistants[0], ASSISTANT):
        chat.note_introduced(assistant, known)
    assert list(chat.introduced) == [*assistants[2:], assistants[0], ASSISTANT]


def test_a_change_by_another_member_is_not_ours_to_tell() -> None:
    chat = Chat(a_chat().conversation, announced_by_us=True)
    chat.told = {ME.service_id: Known(), BOB.service_id: Known()}
    chat.note_change(chat.conversation.with_members([ME.service_id]), ME.service_id)
    assert not chat.announced_by_us
    assert set(chat.told) == {ME.service_id}


def test_no_text_and_no_key_shows() -> None:
    chat = a_chat("a title")
    chat.messages[MessageId(BOB.service_id, 1)] = a_message(1, "a text")
    assert not any(word in repr(chat) for word in ("a title", "a text", repr(chat.conversation.key)))

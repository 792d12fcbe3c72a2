"""What a device keeps of its conversations is all there when it is opened again, in order and once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.client import Store
from messaging.client.chat_records import (
    MAX_IN_MEMORY,
    MAX_INTRODUCED,
    MAX_UNSHARED,
    Chat,
    ChatRecords,
    Introduced,
    Known,
)
from messaging.client.conversation import Conversation
from messaging.client.history import ChatMessage, write_message
from messaging.wire.identifiers import MessageId, ServiceId
from tests.messaging.client.people import Person

ME, BOB = Person.new(), Person.new()
ASSISTANT = ServiceId(uuid4())


@asynccontextmanager
async def records_at(path: Path) -> AsyncIterator[ChatRecords]:
    async with Store.open(path, bytes(32)) as store:
        yield await ChatRecords.load(store, ME.service_id)


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
                chat._add(a_message(at), place)
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
        await records.note_sent(await records.add_unsent(chat, first.as_data(chat.conversation.key), first))
        await records.add_unsent(chat, second.as_data(chat.conversation.key), second)
    async with records_at(tmp_path / "db") as records:
        [unsent] = records.unsent
        assert (unsent.conversation, unsent.said) == (chat.conversation.key, second.as_data(chat.conversation.key))
        assert list(the_chat(records).messages.values()) == [first, second]
        assert records.latest_timestamp(ME.service_id, until=10**15) == 2
        await records.note_sent(records.unsent[0])
    async with records_at(tmp_path / "db") as records:
        assert records.unsent == []


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

"""Conversations as people have them, on real devices and a real relay: everybody learns everything, once, whatever crashes."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from messaging.client import (
    ContentTooLarge,
    CredentialsRevoked,
    Displaced,
    IdentityChanged,
    RelayUnreachable,
)
from messaging.client.assistants import NoAssistant
from messaging.client.chats import NotAllowed, UnknownConversation, UnknownMessage
from messaging.client.events import Event, MessagesRead, TypingChanged
from messaging.client.history import ChatMessage
from messaging.client.problems import Failed
from messaging.client.sending import OUTBOX, Outgoing, queue
from messaging.wire.assistants import ListedAssistant
from messaging.wire.content import DataMessage, Typing, encode_content
from messaging.wire.data import AttachmentPointer, Mention, Quote
from messaging.wire.frames import Response
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import (
    MAX_ATTACHMENTS,
    MAX_CONTENT,
    MAX_CONVERSATION_MEMBERS,
    MAX_EMOJI,
    MAX_FILE_NAME,
    MAX_MENTIONS,
    MAX_PROFILE_ABOUT,
    MAX_PROFILE_NAME,
)
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.test_groups import can_read
from tests.messaging.client.watched import MANY, Ask, Crash, Sent, WatchedRelay, away, crash_before
from tests.messaging.client.world import Person, World, a_relay, soon
from tests.relays import StartedRelay, TlsFiles
from tests.servers import Postgres


@pytest.fixture(scope="module")
async def sqlite_relay(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, postgres: Postgres, tls_files: TlsFiles
) -> AsyncIterator[StartedRelay]:
    """Stands for the relay of the same name, and serves all tests here."""
    async with a_relay(tmp_path_factory.mktemp("relay"), sqlite_template, postgres, tls_files) as started:
        yield started


@pytest.fixture
async def client_relay(sqlite_relay: StartedRelay) -> AsyncIterator[WatchedRelay]:
    """Stands for the relay of the same name: what devices ask over HTTP is watched."""
    async with WatchedRelay(sqlite_relay.url) as relay:
        yield relay


@pytest.fixture
async def world(sqlite_relay: StartedRelay, client_relay: WatchedRelay, crypto: SignalCrypto) -> AsyncIterator[World]:
    made = World(sqlite_relay, client_relay, crypto)
    yield made
    await made.close()


def ids(*people: Person) -> tuple[ServiceId, ...]:
    return tuple(person.service_id for person in people)


def is_many(sent: Sent) -> bool:
    return sent.path.startswith(MANY)


async def reads(person: Person, *texts: str) -> None:
    """Wait until somebody has read exactly these, in any order."""
    await soon(lambda: sorted(person.texts()) == sorted(texts))


async def all_are_told(*people: Person) -> None:
    for person in people:
        await soon(lambda person=person: not person.chats.untold(person.key))  # type: ignore[misc]


# --- everybody learns everything ---


async def test_members_learn_of_each_other_and_what_is_said(world: World) -> None:
    people = await world.people(3)
    ann, bob, cem = people
    for person in people:
        conversation = person.chats.conversation(person.key)
        assert (conversation.title, conversation.members) == ("trip", ids(*people))
        assert person.chats.untold(person.key) == frozenset()
    await ann.write("one")
    await reads(bob, "one")
    await bob.write("two")
    for person in people:
        await reads(person, "one", "two")
    assert ann.named() == bob.named()
    assert ann.chats.unread(ann.key) == ann.chats.messages(ann.key)
    assert cem.chats.conversations == (cem.chats.conversation(cem.key),)


async def test_a_group_message_goes_out_once_and_shows_no_sender(world: World, client_relay: WatchedRelay) -> None:
    ann, bob, cem = await world.people(3)
    await ann.write("one")
    client_relay.sent.clear()
    await ann.write("two")
    assert [is_many(sent) for sent in client_relay.sends] == [True]
    for person in (bob, cem):
        await reads(person, "one", "two")


async def test_between_two_people_a_message_goes_pairwise(world: World, client_relay: WatchedRelay) -> None:
    ann, bob = await world.people(2)
    client_relay.sent.clear()
    await ann.write("hello")
    await reads(bob, "hello")
    assert not any(is_many(sent) for sent in client_relay.sent)


async def test_alone_one_can_write_too(world: World) -> None:
    ann = await world.person()
    await ann.chats.create("notes", [])
    await ann.write("to myself")
    assert ann.texts() == ["to myself"]


async def test_every_message_has_a_time_of_its_own_later_than_the_one_before(world: World) -> None:
    ann, bob = await world.people(2)
    await asyncio.gather(*(ann.chats.write(ann.key, str(number)) for number in range(5)))
    ann.clock.ahead -= 60_000  # the clock is set back
    await ann.write("last")
    await ann.close()
    await ann.open()
    await ann.write("after a restart")
    times = [message.timestamp for message in ann.named()]
    assert times == sorted(set(times))
    await soon(lambda: bob.named() == ann.named())


# --- members come and go ---


async def test_who_comes_reads_from_then_on_and_who_goes_no_longer(world: World) -> None:
    ann, bob, cem = await world.people(3)
    dan = await world.person()
    await ann.write("before dan")
    await ann.chats.set_members(ann.key, ids(bob, cem, dan))
    await world.all_know([ann, bob, cem, dan])
    await bob.write("with dan")
    await reads(dan, "with dan")
    await ann.chats.set_members(ann.key, ids(bob, dan))
    await soon(lambda: cem.service_id not in cem.chats.conversation(cem.key).members)
    await soon(lambda: cem.service_id not in bob.chats.conversation(bob.key).members)
    with pytest.raises(UnknownConversation):
        await cem.chats.write(cem.key, "still here?")
    with pytest.raises(UnknownConversation):
        await cem.chats.opt_in(cem.key)
    await ann.write("without cem")
    await reads(dan, "with dan", "without cem")
    await reads(cem, "before dan", "with dan")
    await all_are_told(ann, bob, dan)


async def test_who_was_a_member_cannot_read_what_follows(world: World, client_relay: WatchedRelay) -> None:
    ann, bob, cem = await world.people(3)
    await ann.write("for all")
    await reads(cem, "for all")
    await ann.chats.set_members(ann.key, ids(bob, cem)[:1] + ids(await world.person()))
    client_relay.sent.clear()
    await ann.write("without cem")
    [sent] = [each for each in client_relay.sends if each.to_many]
    assert not await can_read(cem.device, sent, bob.device, ann.device)
    await reads(bob, "for all", "without cem")


async def test_everybody_may_change_the_conversation(world: World) -> None:
    ann, bob, cem = await world.people(3)
    dan = await world.person()
    await cem.chats.set_members(cem.key, ids(ann, bob, dan))
    await world.all_know([ann, bob, cem, dan])
    assert dan.chats.conversation(dan.key) == ann.chats.conversation(ann.key)


async def test_too_many_members_are_refused_before_anything_happens(world: World) -> None:
    ann, _ = await world.people(2)
    crowd = [ServiceId(uuid4()) for _ in range(MAX_CONVERSATION_MEMBERS)]
    before = ann.chats.conversation(ann.key)
    with pytest.raises(ValueError, match="too many members"):
        await ann.chats.set_members(ann.key, crowd)
    with pytest.raises(ValueError, match="too many members"):
        await ann.chats.create("all", crowd)
    assert ann.chats.conversations == (before,)


# --- errors ---


async def test_what_is_unknown_or_too_large_is_refused_and_leaves_no_trace(world: World) -> None:
    ann, bob = await world.people(2)
    for attempt in (ann.chats.write(bytes(32), "x"), ann.chats.opt_out(bytes(32)), ann.chats.status(bytes(32))):
        with pytest.raises(UnknownConversation):
            await attempt
    with pytest.raises(UnknownConversation):
        ann.chats.messages(bytes(32))
    with pytest.raises(ContentTooLarge):
        await ann.chats.write(ann.key, "x" * MAX_CONTENT)
    assert ann.texts() == []
    await ann.write("hello")
    await reads(bob, "hello")


async def test_a_member_with_other_keys_stops_nobody_and_is_told_of(world: World) -> None:
    ann, bob, cem = await world.people(3)
    await ann.write("one")
    await reads(bob, "one")
    again = await world.registered_again(bob)
    written = await ann.chats.write(ann.key, "two")
    assert {member: type(error) for member, error in written.failed.items()} == {bob.service_id: IdentityChanged}
    await reads(cem, "one", "two")
    await ann.chats.opt_out(ann.key)  # is told to all others
    await soon(lambda: ann.service_id in cem.chats.conversation(cem.key).statements)
    assert ann.chats.untold(ann.key) == {bob.service_id}
    assert again.chats.conversations == ()


async def test_who_is_trusted_again_is_told_all_that_they_have_lost(world: World) -> None:
    ann, bob, cem = await world.people(3)
    again = await world.registered_again(bob)
    await cem.chats.trust(again.service_id, again.device.identity_key)  # who did not begin the conversation
    await soon(lambda: again.chats.conversations)
    assert again.chats.conversation(again.key).members == ids(ann, bob, cem)
    await cem.write("welcome back")
    await reads(again, "welcome back")


async def test_problems_are_kept_until_somebody_looks(world: World) -> None:
    ann, bob = await world.people(2)
    again = await world.registered_again(bob)
    await again.device.send(ann.service_id, DataMessage("it is me", 1))
    [problem] = await soon(ann.chats.problems)
    assert isinstance(problem, IdentityChanged)
    assert problem.service_id == bob.service_id
    assert ann.chats.problems() == []


async def test_while_the_relay_is_away_messages_wait_and_it_says_so(world: World, client_relay: WatchedRelay) -> None:
    ann, bob, cem = await world.people(3)
    ann.device._groups._requests = replace(ann.device._groups._requests, deadline=0.1)
    client_relay.fault = away(is_many)
    written = await ann.chats.write(ann.key, "late")
    assert {type(error) for error in written.failed.values()} == {RelayUnreachable}
    client_relay.fault = None
    await ann.chats.write(ann.key, "next")
    for person in (bob, cem):
        await soon(lambda person=person: person.texts() == ["late", "next"])  # type: ignore[misc]


async def test_who_is_displaced_hears_of_it_and_the_message_is_not_lost(world: World) -> None:
    ann, bob = await world.people(2)
    again = await world.registered_again(ann)
    await soon(lambda: ann.device._failure)
    with pytest.raises((Displaced, CredentialsRevoked)):
        await ann.chats.write(ann.key, "hello?")
    assert ann.texts() == ["hello?"]
    assert again.chats.conversations == ()
    assert bob.texts() == []


# --- crashes ---


async def test_what_is_known_is_there_after_a_restart(world: World) -> None:
    ann, bob, cem = await world.people(3)
    await ann.write("one")
    await reads(bob, "one")
    before = bob.chats.conversation(bob.key), bob.chats.messages(bob.key)
    await bob.chats.mark_read(bob.key)
    await bob.close()
    await cem.write("two")
    await bob.open()
    assert (bob.chats.conversation(bob.key), bob.chats.messages(bob.key)[:1]) == before
    await reads(bob, "one", "two")
    assert [message.text for message in bob.chats.unread(bob.key)] == ["two"]
    assert bob.chats.untold(bob.key) == frozenset()


async def test_a_message_that_was_written_down_before_a_crash_is_sent_after_it(world: World) -> None:
    ann, bob, cem = await world.people(3)
    [chat] = ann.chats._records.chats.values()
    await ann.chats._writing.note(chat, DataMessage("written", ann.clock(), ann.key))
    await ann.close()
    await ann.open()
    for person in (bob, cem):
        await reads(person, "written")
    assert ann.texts() == ["written"]
    await soon(lambda: not ann.chats._records.unsent)
    await ann.close()
    await ann.open()
    assert ann.chats._records.unsent == []


async def test_what_was_not_sent_before_one_was_out_is_not_sent_after(world: World) -> None:
    ann, bob, cem = await world.people(3)
    await ann.close()
    await bob.chats.set_members(bob.key, ids(cem))
    await ann.open()
    await soon(lambda: ann.service_id not in ann.chats.conversation(ann.key).members)
    [chat] = ann.chats._records.chats.values()
    unsent = await ann.chats._writing.note(chat, DataMessage("too late", ann.clock(), ann.key))
    assert await ann.chats._writing.send(unsent) == {}
    await bob.write("without ann")
    await reads(cem, "without ann")


async def test_a_message_that_was_on_its_way_in_a_crash_arrives_once(world: World, client_relay: WatchedRelay) -> None:
    ann, bob, cem = await world.people(3)
    client_relay.fault = crash_before(is_many)
    with pytest.raises(Crash):
        await ann.chats.write(ann.key, "on its way")
    client_relay.fault = None
    await ann.close()
    await ann.open()
    await soon(lambda: not ann.chats._records.unsent)
    await ann.write("next")
    for person in (bob, cem):
        await soon(lambda person=person: person.texts() == ["on its way", "next"])  # type: ignore[misc]


async def test_a_message_that_its_writer_did_not_wait_for_arrives_all_the_same(
    world: World, client_relay: WatchedRelay
) -> None:
    ann, bob = await world.people(2)
    never = asyncio.Event()

    async def hang(sent: Sent, ask: Ask) -> Response:
        await never.wait()
        return await ask()

    client_relay.fault = hang
    writing = asyncio.ensure_future(ann.chats.write(ann.key, "later"))
    await soon(ann.texts)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    [unsent] = ann.chats._records.unsent
    assert isinstance(unsent.said, DataMessage)
    assert unsent.said.body == "later"
    client_relay.fault = None
    ann.wake()
    await reads(bob, "later")
    await soon(lambda: not ann.chats._records.unsent)


async def test_what_was_decided_before_a_crash_is_told_after_it(world: World) -> None:
    ann, bob, cem = await world.people(3)
    dan = await world.person()
    [chat] = ann.chats._records.chats.values()
    await ann.chats._decide(chat, opted_in=False, scopes=(), expires_at=None)
    chat.conversation = chat.conversation.with_members(ids(ann, bob, dan))
    chat.announced_by_us = True
    await ann.chats._records.save(chat)
    await ann.close()
    await ann.open()
    await world.all_know([ann, bob, dan])
    for person in (bob, dan):
        await soon(lambda person=person: ann.service_id in person.chats.conversation(person.key).statements)  # type: ignore[misc]
    await soon(lambda: cem.service_id not in cem.chats.conversation(cem.key).members)
    await all_are_told(ann)


async def test_a_failure_in_the_background_is_told_as_a_problem_and_ends_nothing(world: World) -> None:
    ann, bob = await world.people(2)
    work = ann.chats._people._work

    async def fails() -> None:
        raise ZeroDivisionError

    ann.chats._people._work = fails
    ann.wake()
    assert await soon(ann.chats.problems) == [Failed("ZeroDivisionError")]
    ann.chats._people._work = work
    ann.chats._records.chats[ann.key].told.pop(bob.service_id)
    ann.wake()
    await all_are_told(ann)


# --- own devices ---


async def test_own_devices_know_what_one_of_them_does(world: World) -> None:
    ann, bob = await world.people(2)
    laptop = await world.laptop(ann)
    await soon(lambda: laptop.chats.conversations)
    assert laptop.chats.conversation(laptop.key) == ann.chats.conversation(ann.key)
    assert laptop.chats.untold(laptop.key) == frozenset()
    await ann.write("from the phone")
    await reads(laptop, "from the phone")
    await laptop.write("from the laptop")
    await bob.write("from bob")
    for person in (ann, laptop, bob):
        await reads(person, "from the phone", "from the laptop", "from bob")
    cem = await world.person()
    await laptop.chats.set_members(laptop.key, ids(bob, cem))
    for person in (ann, bob, cem):
        await soon(lambda person=person: person.chats.conversations and len(person.chats.conversations[0].members) == 3)  # type: ignore[misc]
    await all_are_told(ann, laptop)


async def test_a_device_that_joins_later_knows_what_everybody_said_before(world: World) -> None:
    ann, bob = await world.people(2)
    await bob.chats.opt_out(bob.key)
    await ann.chats.opt_out(ann.key)
    await soon(lambda: len(ann.chats.conversation(ann.key).statements) == 2)
    laptop = await world.laptop(ann)
    await soon(lambda: laptop.chats.conversations)
    await soon(lambda: laptop.chats.conversation(laptop.key) == ann.chats.conversation(ann.key))
    assert laptop.chats.untold(laptop.key) == frozenset()


async def test_a_device_that_was_linked_in_a_crash_is_told_when_the_client_is_back(world: World) -> None:
    ann, _ = await world.people(2)
    ann_told = ann.chats._telling
    ann.chats._telling = _Nobody()  # type: ignore[assignment]
    laptop = await world.laptop(ann)
    ann.chats._telling = ann_told
    await ann.close()
    await ann.open()
    await soon(lambda: laptop.chats.conversations)
    assert laptop.chats.conversation(laptop.key) == ann.chats.conversation(ann.key)


class _Nobody:
    """Tells nobody: as if the process had ended before."""

    async def tell_all(self) -> None:
        return None


# --- who is an assistant ---


async def test_a_person_whom_the_relay_lists_as_an_assistant_stays_a_person(world: World) -> None:
    ann, bob = await world.people(2)
    trusted = await ann.device.trusted_identity(bob.service_id)
    await world.registered_again(bob)  # or the relay pretends so
    lies = [ListedAssistant(name="assistant", service_id=str(bob.service_id), online=True, accepting=True)]
    ann.assistants.directory = _always(lies)
    with pytest.raises(NoAssistant, match=r"\(account\)"):
        await ann.chats.opt_in(ann.key)
    assert await ann.device.trusted_identity(bob.service_id) == trusted
    written = await ann.chats.write(ann.key, "for bob alone")
    assert isinstance(written.failed[bob.service_id], IdentityChanged)


def _always(listed: list[ListedAssistant]) -> Callable[[], Awaitable[tuple[ListedAssistant, ...]]]:
    async def directory() -> tuple[ListedAssistant, ...]:
        return tuple(listed)

    return directory


async def test_an_enclave_that_somebody_calls_a_member_gets_no_messages_for_it(world: World) -> None:
    enclave = await world.enclave()
    ann, bob = await world.people(2)
    await ann.chats.opt_in(ann.key)
    await ann.chats.opt_out(ann.key)
    await bob.chats.set_members(bob.key, [ann.service_id, enclave.service_id])
    await soon(lambda: enclave.service_id in ann.chats.conversation(ann.key).members)
    await ann.chats.write(ann.key, "for bob alone")
    await reads(bob, "for bob alone")
    assert enclave.texts() == []


# --- what is said of messages ---

POINTER = AttachmentPointer(3, "k", secrets.token_bytes(64), bytes(32), 5, "text/plain", "note.txt")


def newest(person: Person) -> ChatMessage:
    """What was said last in the only conversation, as it stands."""
    return person.chats.messages(person.key)[-1]


async def test_everybody_sees_what_is_edited_reacted_to_and_deleted(world: World) -> None:
    people = ann, bob, cem = await world.people(3)
    named = await ann.write("helo")
    await reads(bob, "helo")
    await reads(cem, "helo")
    assert (await ann.chats.edit(ann.key, named, "hello")).failed == {}
    await soon(lambda: bob.texts() == ["hello"])
    assert (await bob.chats.react(bob.key, named, "👍")).failed == {}
    for person in people:
        await soon(lambda person=person: person.texts() == ["hello"])  # type: ignore[misc]
        reactions = await soon(lambda person=person: newest(person).reactions)  # type: ignore[misc]
        assert {who: given.emoji for who, given in reactions.items()} == {bob.service_id: "👍"}
    await bob.chats.react(bob.key, named, "👍", remove=True)
    await soon(lambda: newest(cem).reactions[bob.service_id].emoji == "")
    assert (await ann.chats.delete(ann.key, named)).failed == {}
    for person in people:
        await soon(lambda person=person: newest(person) == ChatMessage(named, "", deleted=True))  # type: ignore[misc]
    assert [person.named() for person in people] == [[named]] * 3


async def test_a_message_carries_what_it_answers_whom_it_names_and_where_its_files_are(world: World) -> None:
    ann, bob = await world.people(2)
    asked = await bob.write("Which roses?")
    await reads(ann, "Which roses?")
    mention = Mention(0, 4, bob.service_id)
    await ann.chats.write(ann.key, "@Bob these", quote=asked, attachments=[POINTER], mentions=[mention])
    await soon(lambda: newest(bob).text == "@Bob these")
    for person in (ann, bob):
        found = newest(person)
        assert (found.quote, found.attachments, found.mentions) == (
            Quote(asked, "Which roses?"),
            (POINTER,),
            (mention,),
        )
    edited = await ann.chats.edit(ann.key, newest(ann).id, "those", mentions=[])
    assert edited.failed == {}
    await soon(lambda: newest(bob).text == "those")
    assert (newest(bob).quote, newest(bob).attachments, newest(bob).mentions) == (
        Quote(asked, "Which roses?"),
        (POINTER,),
        (),
    )


async def test_of_others_messages_and_of_what_is_not_there_nothing_is_edited_or_deleted(world: World) -> None:
    ann, bob = await world.people(2)
    theirs, mine = await bob.write("bob's"), await ann.write("ann's")
    await reads(ann, "bob's", "ann's")
    nothing = MessageId(ann.service_id, 1)
    for attempt, error in (
        (ann.chats.edit(ann.key, theirs, "x"), NotAllowed),
        (ann.chats.delete(ann.key, theirs), NotAllowed),
        (ann.chats.edit(ann.key, nothing, "x"), UnknownMessage),
        (ann.chats.delete(ann.key, nothing), UnknownMessage),
        (ann.chats.react(ann.key, nothing, "+"), UnknownMessage),
        (ann.chats.write(ann.key, "x", quote=nothing), UnknownMessage),
        (ann.chats.edit(bytes(32), mine, "x"), UnknownConversation),
        (ann.chats.react(ann.key, theirs, ""), ValueError),
        (ann.chats.react(ann.key, theirs, "x" * (MAX_EMOJI + 1)), ValueError),
    ):
        with pytest.raises(error):
            await attempt
    await ann.chats.delete(ann.key, mine)
    for attempt in (
        ann.chats.edit(ann.key, mine, "x"),
        ann.chats.delete(ann.key, mine),
        ann.chats.react(ann.key, mine, "+"),
    ):
        with pytest.raises(UnknownMessage):
            await attempt
    assert sorted(ann.texts()) == ["", "bob's"]


@pytest.mark.parametrize(
    "beyond",
    [
        {"attachments": [POINTER] * (MAX_ATTACHMENTS + 1)},
        {"attachments": [replace(POINTER, file_name="x" * (MAX_FILE_NAME + 1))]},
        {"attachments": [replace(POINTER, secret=b"short")]},
        {"mentions": [Mention(0, 1, ServiceId(UUID(int=1)))] * (MAX_MENTIONS + 1)},
    ],
    ids=["files", "name of a file", "key of a file", "mentions"],
)
async def test_what_nobody_could_read_is_not_sent_and_leaves_no_trace(world: World, beyond: dict[str, object]) -> None:
    ann, bob = await world.people(2)
    with pytest.raises(ValueError, match="beyond its limit"):
        await ann.chats.write(ann.key, "x", **beyond)  # type: ignore[arg-type]
    await ann.close()
    await ann.open()
    assert ann.texts() == []
    await ann.write("hello")
    await reads(bob, "hello")


async def test_under_one_name_one_message_is_written(world: World) -> None:
    ann, bob = await world.people(2)
    several = await asyncio.gather(*(ann.chats.write(ann.key, f"{at}", once="a name") for at in range(4)))
    assert len({written.id for written in several}) == 1
    await ann.close()
    await ann.open()
    again = await ann.chats.write(ann.key, "again", once="a name")
    assert again.id == several[0].id
    await ann.chats.write(ann.key, "other", once="other name")
    await soon(lambda: len(bob.texts()) == 2)
    assert bob.texts() == ann.texts()
    assert ann.texts()[1] == "other"


# --- what expires ---


async def test_what_expires_goes_after_it_was_read_and_its_time_is_over(world: World) -> None:
    ann, bob = await world.people(2)
    await ann.chats.set_expiry(ann.key, 60)
    await soon(lambda: bob.chats.conversation(bob.key).expires_in == 60)
    await ann.write("for a minute")
    await reads(bob, "for a minute")
    ann.clock.ahead += 61_000
    ann.wake()
    await reads(ann)  # its writer has read it
    bob.clock.ahead += 61_000
    bob.wake()
    await bob.chats.write(bob.key, "still unread")
    assert bob.texts() == ["for a minute", "still unread"]
    await bob.chats.mark_read(bob.key)
    bob.clock.ahead += 59_000
    bob.wake()
    await ann.write("later")
    await reads(bob, "for a minute", "still unread", "later")
    await bob.close()
    bob.clock.ahead += 2_000
    await bob.open()
    await reads(bob, "later")
    assert [message.text for message in bob.chats.unread(bob.key)] == ["later"]
    with pytest.raises(ValueError, match="such a time"):
        await ann.chats.set_expiry(ann.key, -1)


async def test_what_expires_is_forgotten_also_while_nothing_can_be_sent(world: World) -> None:
    ann, _ = await world.people(2)
    [chat] = ann.chats._records.chats.values()
    chat.conversation = replace(chat.conversation, expires_in=60)
    await world.registered_again(ann)
    await soon(lambda: ann.device._failure)
    with pytest.raises((Displaced, CredentialsRevoked)):
        await ann.chats.write(ann.key, "for a minute")
    assert ann.texts() == ["for a minute"]
    ann.clock.ahead += 61_000
    await ann.chats._look_after_people()
    assert ann.texts() == []


# --- who may change it ---


async def test_with_admins_only_they_change_the_conversation(world: World) -> None:
    ann, bob, cem = [await world.person() for _ in range(3)]
    await ann.chats.create("trip", ids(bob, cem), admins=[ann.service_id])
    await world.all_know([ann, bob, cem])
    assert bob.chats.conversation(bob.key).admins == ids(ann)
    for attempt in (
        bob.chats.set_title(bob.key, "x"),
        bob.chats.set_members(bob.key, ids(ann)),
        bob.chats.set_admins(bob.key, ids(bob)),
        bob.chats.set_bots(bob.key, []),
        bob.chats.set_expiry(bob.key, 1),
    ):
        with pytest.raises(NotAllowed):
            await attempt
    await ann.chats.set_title(ann.key, "journey")
    await ann.chats.set_admins(ann.key, ids(ann, bob))
    await soon(lambda: bob.chats.conversation(bob.key).may_change(bob.service_id))
    await bob.chats.set_title(bob.key, "voyage")
    for person in (ann, cem):
        await soon(lambda person=person: person.chats.conversation(person.key).title == "voyage")  # type: ignore[misc]
    [chat] = cem.chats._records.chats.values()
    await cem.chats._change(chat, chat.conversation.changed(admins=ids(cem), by=cem.service_id))  # as a liar's client
    await cem.write("after")
    for person in (ann, bob):
        await reads(person, "after")
        assert person.chats.conversation(person.key).admins == ids(ann, bob)


async def test_two_admins_who_change_it_at_once_end_alike(world: World) -> None:
    ann, bob, cem = [await world.person() for _ in range(3)]
    await ann.chats.create("trip", ids(bob, cem), admins=ids(ann, bob))
    await world.all_know([ann, bob, cem])
    await asyncio.gather(ann.chats.set_title(ann.key, "by ann"), bob.chats.set_title(bob.key, "by bob"))
    for person in (ann, bob, cem):
        await soon(lambda person=person: person.chats.conversation(person.key).revision >= 1)  # type: ignore[misc]
    await all_are_told(ann, bob, cem)
    for person in (bob, cem):
        await soon(lambda person=person: person.chats.conversation(person.key) == ann.chats.conversation(ann.key))  # type: ignore[misc]


async def test_who_leaves_is_out_at_everybody_and_says_so_after_a_restart(
    world: World, client_relay: WatchedRelay
) -> None:
    ann, bob, cem = await world.people(3)
    client_relay.fault = away(lambda sent: sent.path.startswith("/v1/messages/"))
    cem.device._sender._requests = replace(cem.device._sender._requests, deadline=0.1)
    await cem.chats.leave(cem.key)
    with pytest.raises(UnknownConversation):
        await cem.chats.write(cem.key, "still here?")
    with pytest.raises(UnknownConversation):
        await cem.chats.leave(cem.key)
    await cem.close()
    client_relay.fault = None
    await cem.open()
    for person in (ann, bob):
        await soon(lambda person=person: person.chats.conversation(person.key).members == ids(ann, bob))  # type: ignore[misc]
    await ann.write("without cem")
    await reads(bob, "without cem")
    assert cem.texts() == []


async def test_who_leaves_while_others_change_it_has_left(world: World) -> None:
    ann, bob, cem = await world.people(3)
    await asyncio.gather(cem.chats.leave(cem.key), ann.chats.set_title(ann.key, "journey"))
    for person in (ann, bob, cem):
        await soon(lambda person=person: person.chats.conversation(person.key).members == ids(ann, bob))  # type: ignore[misc]
        await soon(lambda person=person: person.chats.conversation(person.key).title == "journey")  # type: ignore[misc]
    await all_are_told(ann, bob, cem)


# --- what passes, what was read, and names ---


async def test_typing_is_seen_by_who_is_there_and_is_not_to_be_kept_for_who_is_away(
    world: World, client_relay: WatchedRelay
) -> None:
    """The relay keeps it for ten seconds, for a device that is just coming back."""
    ann, bob = await world.people(2)
    seen: list[Event] = []
    bob.chats.on_passing = seen.append
    await bob.write("hello")
    await reads(ann, "hello")
    client_relay.sent.clear()
    await ann.chats.typing(ann.key)
    await ann.chats.typing(ann.key, started=False)
    await soon(lambda: len(seen) == 2)
    assert [(event.sender, event.started) for event in seen if isinstance(event, TypingChanged)] == [
        (ann.service_id, True),
        (ann.service_id, False),
    ]
    await ann.write("written")
    sent = [json.loads(each.body) for each in client_relay.sends]
    assert [(each["online"], each["urgent"]) for each in sent] == [(True, False), (True, False), (False, True)]
    await reads(bob, "hello", "written")


async def test_who_cannot_be_reached_does_not_keep_it_waiting(world: World, client_relay: WatchedRelay) -> None:
    ann, bob = await world.people(2)
    await bob.write("hello")
    await reads(ann, "hello")
    client_relay.fault = away(lambda sent: sent.path.startswith("/v1/messages/"))
    ann.device._sender._requests = replace(ann.device._sender._requests, deadline=0.1)
    await ann.chats.typing(ann.key)
    async with ann.device._store.transaction() as transaction:
        assert transaction.entries(OUTBOX) == []


async def test_what_was_being_typed_before_a_crash_is_not_sent_after_it(world: World) -> None:
    ann, bob = await world.people(2)
    await bob.write("hello")
    await reads(ann, "hello")
    seen: list[Event] = []
    bob.chats.on_passing = seen.append
    typing = encode_content(Typing(True, 1, ann.chats.conversation(ann.key).id))
    outgoing = Outgoing(bob.service_id, 1, typing, passing=True)
    assert Outgoing.decode(outgoing.encode()) == outgoing
    async with ann.device._store.transaction() as transaction:
        queue(transaction, outgoing)
    await ann.write("written")
    await reads(bob, "hello", "written")
    assert seen == []
    async with ann.device._store.transaction() as transaction:
        assert transaction.entries(OUTBOX) == []


async def test_an_author_is_told_what_was_read(world: World) -> None:
    ann, bob, cem = await world.people(3)
    journal: list[Event] = []
    ann.chats._records._journal = lambda _, event: journal.append(event)
    mine = [await ann.write("one"), await ann.write("two")]
    theirs = await cem.write("three")
    await reads(bob, "one", "two", "three")
    await bob.chats.send_read(bob.key, [*mine, theirs, MessageId(ann.service_id, 1)])
    [read] = await soon(lambda: [event for event in journal if isinstance(event, MessagesRead)])
    assert (read.sender, read.conversation, set(read.messages)) == (bob.service_id, ann.key, set(mine))


async def test_what_is_said_to_be_read_expires_from_then_on(world: World) -> None:
    ann, bob = await world.people(2)
    await ann.chats.set_expiry(ann.key, 60)
    await soon(lambda: bob.chats.conversation(bob.key).expires_in == 60)
    first, _ = await ann.write("first"), await ann.write("second")
    await reads(bob, "first", "second")
    await bob.chats.send_read(bob.key, [first])
    bob.clock.ahead += 61_000
    bob.wake()
    await reads(bob, "second")


async def test_names_are_told_to_all_and_to_who_comes_later_and_to_own_devices(world: World) -> None:
    ann, bob = await world.people(2)
    await ann.chats.set_profile("Ann 🌹", "among roses")
    await soon(lambda: bob.chats.name_of(ann.service_id) == "Ann 🌹")
    cem = await world.person()
    await bob.chats.set_members(bob.key, ids(ann, cem))
    await soon(lambda: cem.chats.name_of(ann.service_id) == "Ann 🌹")
    laptop = await world.laptop(ann)
    await soon(lambda: laptop.chats.name_of(ann.service_id) == "Ann 🌹")
    await laptop.chats.set_profile("Anna")
    for person in (ann, bob, cem):
        await soon(lambda person=person: person.chats.name_of(ann.service_id) == "Anna")  # type: ignore[misc]
    assert bob.chats.name_of(cem.service_id) == ""
    ann.wake()  # it tells all again, in case the laptop could not
    await all_are_told(ann, laptop)


@pytest.mark.parametrize(
    ("name", "about"), [("x" * (MAX_PROFILE_NAME + 1), ""), ("x", "x" * (MAX_PROFILE_ABOUT + 1))], ids=["name", "about"]
)
async def test_a_name_that_is_too_long_is_refused(world: World, name: str, about: str) -> None:
    ann, bob = await world.people(2)
    with pytest.raises(ValueError, match="too long"):
        await ann.chats.set_profile(name, about)
    await ann.chats.set_profile("x" * MAX_PROFILE_NAME, "x" * MAX_PROFILE_ABOUT)
    await soon(lambda: bob.chats.name_of(ann.service_id) == "x" * MAX_PROFILE_NAME)


async def test_own_devices_see_all_that_one_of_them_does(world: World) -> None:
    ann, bob = await world.people(2)
    laptop = await world.laptop(ann)
    await soon(lambda: laptop.chats.conversations)
    theirs = await bob.write("bob's")
    mine, gone = await ann.write("mine"), await ann.write("gone")
    await reads(laptop, "bob's", "mine", "gone")
    await ann.chats.edit(ann.key, mine, "edited")
    await ann.chats.react(ann.key, theirs, "+")
    await ann.chats.delete(ann.key, gone)
    await reads(laptop, "bob's", "edited", "")
    found = {message.id: message for message in laptop.chats.messages(laptop.key)}
    assert found[theirs].reactions[ann.service_id].emoji == "+"
    await laptop.chats.edit(laptop.key, mine, "edited there")
    await soon(lambda: "edited there" in ann.texts() and "edited there" in bob.texts())
    await laptop.chats.leave(laptop.key)
    await soon(lambda: ann.service_id not in ann.chats.conversation(ann.key).members)
    await soon(lambda: bob.chats.conversation(bob.key).members == ids(bob))

"""What arrives finds its place whatever the order, and nobody is believed beyond what they may say."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.client import Device, Received, Relay, Store, chat_records
from messaging.client.chat_records import Chat, Known
from messaging.client.chats import Chats
from messaging.client.conversation import MAX_REVISION_STEP, Conversation
from messaging.client.early import MAX_EARLY_OF_SENDER
from messaging.client.events import (
    ConversationChanged,
    Event,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    MessagesRead,
    Reacted,
    TypingChanged,
)
from messaging.client.history import ChatMessage, GivenReaction
from messaging.client.problems import Failed
from messaging.client.receiving import MAX_AHEAD, MAX_RECEIPTS, MAX_WAIT
from messaging.client.stores import StoreTransaction
from messaging.client.telling import MAX_STRANGERS, Own, news_for
from messaging.wire.content import (
    ConsentUpdate,
    Content,
    ConversationUpdate,
    DataMessage,
    DeliveryReceipt,
    ProfileKeyUpdate,
    ProfileUpdate,
    ReadReceipt,
    Said,
    SentTranscript,
    Told,
    Typing,
)
from messaging.wire.data import Deletion, Edit, Quote, Reaction
from messaging.wire.identifiers import DeviceAddress, MessageId, ServiceId
from messaging.wire.limits import MAX_CONVERSATION_MEMBERS, MAX_TIMESTAMP
from signal_protocol.operations import SignalCrypto
from signal_protocol.public import KeyPair
from tests.messaging.client.people import Person
from tests.messaging.client.world import World, a_relay
from tests.relays import TlsFiles
from tests.servers import Postgres

ANN, CEM, EVE = Person.new(), Person.new(), Person.new()
NOW = 10_000
_numbers = itertools.count(1_000_000)  # of contents, which are in no inbox


@pytest.fixture(scope="module")
async def world(
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_template: Path,
    postgres: Postgres,
    tls_files: TlsFiles,
    crypto: SignalCrypto,
) -> AsyncIterator[World]:
    """A relay for all tests here."""
    async with AsyncExitStack() as stack:
        relay = a_relay(tmp_path_factory.mktemp("relay"), sqlite_template, postgres, tls_files)
        started = await stack.enter_async_context(relay)
        client = await stack.enter_async_context(Relay(started.url))
        made = World(started, client, crypto)
        stack.push_async_callback(made.close)
        yield made


@pytest.fixture(scope="module")
async def device(world: World) -> Device:
    """Bob's, in all tests."""
    return await world.device()


@pytest.fixture
async def bob(device: Device) -> Device:
    """The same; it knows the others' keys."""
    for person in (ANN, CEM, EVE):
        await device.trust(person.service_id, person.identity_key)
    return device


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """For the conversations of one test."""
    async with Store.open(":memory:", bytes(32)) as opened:
        yield opened


@pytest.fixture
async def chats(bob: Device, store: Store) -> Chats:
    """Bob's conversations, with nothing running in the background."""
    return await Chats.open(bob, store, now=lambda: NOW)


def received(sender: ServiceId, content: Content) -> Received:
    return Received(next(_numbers), DeviceAddress(sender, 1), content, NOW, True)


async def take(chats: Chats, sender: Person | ServiceId, *contents: Content) -> bool:
    """Take these; says whether all of them were for a conversation."""
    account = sender.service_id if isinstance(sender, Person) else sender
    return all([await chats.take(received(account, content)) for content in contents])


def a_conversation(bob: ServiceId, *members: Person) -> Conversation:
    return Conversation.create("trip", [bob, *(member.service_id for member in members or (ANN,))])


def consent(conversation: Conversation, person: Person, at: int = 100, *, opted_in: bool = True) -> ConsentUpdate:
    return ConsentUpdate(conversation.key, person.signed(conversation.key, at, opted_in=opted_in))


def said(chats: Chats, key: bytes) -> set[tuple[ServiceId, str]]:
    return {(message.id.author, message.text) for message in chats.messages(key)}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=st.permutations(range(7)))
async def test_it_all_finds_its_place_in_whatever_order_it_arrives(chats: Chats, order: Sequence[int]) -> None:
    begun = a_conversation(chats.me)
    grown = begun.with_members([*begun.members, CEM.service_id])
    renamed = replace(grown.with_members(grown.members), title="journey")
    everything: list[tuple[Person, Content]] = [
        (ANN, begun.as_update()),
        (ANN, consent(begun, ANN)),
        (ANN, DataMessage("hello", 200, begun.key)),
        (ANN, grown.as_update()),
        (CEM, consent(begun, CEM)),
        (CEM, DataMessage("hi", 200, begun.key)),
        (CEM, renamed.as_update()),
    ]
    for place in order:
        assert await take(chats, *everything[place])
    conversation = chats.conversation(begun.key)
    assert (conversation.title, conversation.members) == ("journey", grown.members)
    assert conversation.opted_in(NOW) == {ANN.service_id, CEM.service_id}
    assert said(chats, begun.key) == {(ANN.service_id, "hello"), (CEM.service_id, "hi")}


async def test_what_waits_is_shown_again_after_a_crash_and_what_was_taken_is_not(
    bob: Device, store: Store, chats: Chats
) -> None:
    conversation = a_conversation(bob.service_id)
    early = DataMessage("early", 200, conversation.key)
    async with bob._store.transaction() as transaction:  # as the device writes it down when it arrives
        number = transaction.append("inbox", b"")
    first = replace(received(ANN.service_id, early), id=number)

    async def is_there() -> bool:
        async with bob._store.transaction() as transaction:
            return number in [each for each, _ in transaction.entries("inbox")]

    assert await chats.take(first)
    assert await is_there()
    again = await Chats.open(bob, store, now=lambda: NOW)
    assert await again.take(first)
    assert await take(again, ANN, conversation.as_update())
    assert said(again, conversation.key) == {(ANN.service_id, "early")}
    assert not await is_there()


async def test_a_message_that_comes_twice_is_there_once(chats: Chats) -> None:
    conversation = a_conversation(chats.me)
    await take(chats, ANN, conversation.as_update())
    message = DataMessage("hello", 200, conversation.key)
    await take(chats, ANN, message, message, replace(message, body="other"))
    assert said(chats, conversation.key) == {(ANN.service_id, "hello")}


async def test_who_is_no_member_says_nothing(chats: Chats) -> None:
    conversation = a_conversation(chats.me)
    await take(chats, ANN, conversation.as_update())
    await take(
        chats,
        EVE,
        DataMessage("let me in", 200, conversation.key),
        consent(conversation, EVE),
        conversation.with_members([chats.me, EVE.service_id]).as_update(),
        ConsentUpdate(conversation.key, ANN.signed(conversation.key, 100)),
    )
    assert said(chats, conversation.key) == set()
    assert chats.conversation(conversation.key) == conversation


async def test_nobody_consents_for_another(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    other = a_conversation(chats.me)
    await take(chats, ANN, conversation.as_update(), other.as_update())
    await take(
        chats,
        CEM,
        consent(conversation, ANN),
        ConsentUpdate(conversation.key, CEM.signed(other.key, 100)),
        ConsentUpdate(conversation.key, replace(CEM.signed(conversation.key, 100), signature=bytes(64))),
    )
    assert chats.conversation(conversation.key).opted_in(NOW) == frozenset()
    await take(chats, CEM, consent(conversation, CEM))
    assert chats.conversation(conversation.key).opted_in(NOW) == {CEM.service_id}


async def test_a_statement_under_a_key_that_is_not_trusted_is_none(bob: Device, chats: Chats) -> None:
    conversation = a_conversation(bob.service_id)
    await take(chats, ANN, conversation.as_update())
    await bob.trust(ANN.service_id, EVE.identity_key)
    await take(chats, ANN, consent(conversation, ANN))
    assert chats.conversation(conversation.key).opted_in(NOW) == frozenset()


async def test_a_conversation_that_does_not_have_us_or_its_sender_in_it_is_none(chats: Chats) -> None:
    for members in ([chats.me, CEM.service_id], [ANN.service_id, CEM.service_id], []):
        assert await take(chats, ANN, Conversation.create("trip", members).as_update())
    crowd = tuple(ServiceId(uuid4()) for _ in range(MAX_CONVERSATION_MEMBERS))
    assert await take(chats, ANN, ConversationUpdate(bytes(32), "all", (chats.me, ANN.service_id, *crowd)))
    assert chats.conversations == ()


async def test_an_update_far_ahead_changes_nothing_but_how_far_we_are(chats: Chats) -> None:
    conversation = a_conversation(chats.me)
    await take(chats, ANN, conversation.as_update())
    await take(chats, ANN, replace(conversation.as_update(), title="far", revision=2**31))
    assert chats.conversation(conversation.key) == conversation.caught_up()


async def test_who_has_come_apart_from_us_is_told_what_we_know(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    ahead = replace(conversation.as_update(), revision=MAX_REVISION_STEP)
    await take(chats, ANN, ahead)
    chat = chats._records.chats[conversation.key]
    assert not chat.told.get(CEM.service_id, Known()).lost
    await take(chats, CEM, replace(conversation.as_update(), members=(chats.me, CEM.service_id), revision=1))
    assert chats.conversation(conversation.key).as_update() == ahead
    assert chat.told[CEM.service_id].lost
    [news] = [each for each in news_for(chat, Own(chats.me, bytes(32)), CEM.service_id).contents if each == ahead]
    assert news == ahead


async def test_a_statement_from_the_far_future_is_dropped(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN)
    await take(chats, ANN, conversation.as_update())
    for at in (NOW + MAX_AHEAD + 1, MAX_TIMESTAMP):
        await take(chats, ANN, consent(conversation, ANN, at))
    assert chats.conversation(conversation.key).statement_of(ANN.service_id) is None
    await take(chats, ANN, consent(conversation, ANN, NOW + MAX_AHEAD))
    assert chats.conversation(conversation.key).has_opted_in(ANN.service_id, NOW)


async def test_conversations_that_others_begin_have_an_end(chats: Chats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_records, "MAX_UNANSWERED", 10)
    for _ in range(5):
        await begin(chats, ANN)
    assert len(chats.conversations) == 10 // chat_records.SHARES  # nobody takes all the room
    assert Failed("TooManyConversations") in chats.problems()
    for person in (CEM, *(Person.new() for _ in range(6))):
        await begin(chats, person)
        await begin(chats, person)
    assert len(chats.conversations) == 10


async def begin(chats: Chats, person: Person) -> None:
    begun = Conversation.create("hello", [person.service_id, chats.me])
    await take(chats, person, begun.as_update())


def test_in_a_conversation_of_many_the_profile_key_is_given_by_who_takes_part() -> None:
    me, members = ServiceId(uuid4()), [ServiceId(uuid4()) for _ in range(MAX_STRANGERS)]
    few, many = Chat(Conversation.create("few", [me, *members[1:]])), Chat(Conversation.create("many", [me, *members]))
    key = ProfileKeyUpdate(bytes(32))
    assert key in news_for(few, Own(me, bytes(32)), members[1]).contents
    assert key not in news_for(many, Own(me, bytes(32)), members[1]).contents
    named = MessageId(me, 1)
    many.messages[named] = ChatMessage(named, "hello")
    assert key in news_for(many, Own(me, bytes(32)), members[1]).contents


async def test_what_is_for_no_conversation_is_left_to_others(chats: Chats) -> None:
    for content in (DeliveryReceipt((1,)), DataMessage("hello", 1), SentTranscript(DataMessage("hello", 1))):
        assert not await take(chats, ANN, content)
    assert not await take(chats, chats.me, SentTranscript(DataMessage("hello", 1)))


async def test_who_floods_pushes_out_only_what_is_their_own(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    await take(chats, CEM, DataMessage("early", 1, conversation.key))
    flood = [DataMessage(str(at), at, conversation.key) for at in range(2 * MAX_EARLY_OF_SENDER)]
    await take(chats, ANN, *flood)
    await take(chats, ANN, conversation.as_update())
    assert (CEM.service_id, "early") in said(chats, conversation.key)
    assert len(said(chats, conversation.key)) == MAX_EARLY_OF_SENDER + 1


async def test_many_early_changes_are_taken_one_after_the_other(chats: Chats) -> None:
    """They could be so many that to take each from within the one before would end the program."""
    people = [Person.new() for _ in range(4)]
    conversation = a_conversation(chats.me, ANN)
    grown = conversation.with_members([*conversation.members, *(person.service_id for person in people)])
    updates = [replace(grown.as_update(), revision=at, title=str(at)) for at in range(2, 250)]
    for place, update in enumerate(updates):
        await take(chats, people[place % 4], update)
    await take(chats, ANN, conversation.as_update(), grown.as_update())
    assert chats.conversation(conversation.key).title == "249"


# --- what is said of messages ---


def hello(conversation: Conversation, text: str = "hello", at: int = 200) -> DataMessage:
    return DataMessage(text, at, conversation.key)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=st.permutations(range(6)))
async def test_what_is_said_of_a_message_finds_it_in_whatever_order_it_arrives(
    chats: Chats, order: Sequence[int]
) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    named = MessageId(ANN.service_id, 200)
    everything: list[tuple[Person, Content]] = [
        (ANN, conversation.as_update()),
        (ANN, hello(conversation)),
        (ANN, Edit(200, hello(conversation, "bye", 201))),
        (CEM, Reaction("+", named, 202, conversation.key)),
        (CEM, hello(conversation, "gone")),
        (CEM, Deletion(200, 203, conversation.key)),
    ]
    for place in order:
        assert await take(chats, *everything[place])
    found = {message.id: message for message in chats.messages(conversation.key)}
    assert (found[named].text, found[named].reactions[CEM.service_id].emoji) == ("bye", "+")
    assert found[MessageId(CEM.service_id, 200)] == ChatMessage(MessageId(CEM.service_id, 200), "", deleted=True)


async def test_others_edit_and_delete_nothing(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    await take(chats, ANN, conversation.as_update(), hello(conversation))
    before = chats.messages(conversation.key)
    await take(chats, CEM, Edit(200, hello(conversation, "forged", 201)), Deletion(200, 201, conversation.key))
    await take(chats, EVE, Reaction("+", MessageId(ANN.service_id, 200), 201, conversation.key))
    assert chats.messages(conversation.key) == before


async def test_words_of_a_deleted_message_go_from_what_quotes_it(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    quote = Quote(MessageId(ANN.service_id, 200), "hello")
    await take(chats, ANN, conversation.as_update(), hello(conversation))
    await take(chats, CEM, replace(hello(conversation, "what?", 201), quote=quote))
    await take(chats, ANN, Deletion(200, 202, conversation.key))
    [_, answer] = chats.messages(conversation.key)
    assert (answer.text, answer.quote) == ("what?", Quote(quote.message))


async def test_what_is_said_of_messages_that_never_come_pushes_out_nothing_else(chats: Chats) -> None:
    conversation, other = a_conversation(chats.me, ANN), a_conversation(chats.me, ANN)
    await take(chats, ANN, conversation.as_update(), hello(other, "early"))
    flood = [Reaction("+", MessageId(chats.me, at), at, conversation.key) for at in range(2 * MAX_EARLY_OF_SENDER)]
    await take(chats, ANN, *flood)
    assert len(chats._receiving._early_said) == MAX_EARLY_OF_SENDER
    await take(chats, ANN, other.as_update())
    assert said(chats, other.key) == {(ANN.service_id, "early")}


async def test_what_is_said_of_a_message_waits_for_it_for_a_day(bob: Device, store: Store) -> None:
    clock = NOW + MAX_WAIT
    chats = await Chats.open(bob, store, now=lambda: clock)
    conversation = a_conversation(bob.service_id)
    await take(chats, ANN, conversation.as_update(), Edit(200, hello(conversation, "bye", 201)))
    clock += 1
    await take(chats, ANN, Edit(300, hello(conversation, "late", 301)), hello(conversation, "first", 100))
    await take(chats, ANN, hello(conversation), hello(conversation, "other", 300))
    assert said(chats, conversation.key) == {(ANN.service_id, text) for text in ("first", "bye", "other")}


async def test_what_has_to_wait_for_its_conversation_then_waits_for_its_message(chats: Chats) -> None:
    conversation = a_conversation(chats.me)
    await take(chats, ANN, Edit(200, hello(conversation, "bye", 201)), conversation.as_update())
    assert (len(chats._receiving._early), len(chats._receiving._early_said)) == (0, 1)
    await take(chats, ANN, hello(conversation))
    assert said(chats, conversation.key) == {(ANN.service_id, "bye")}
    assert len(chats._receiving._early_said) == 0


# --- who may change a conversation ---


def governed(me: ServiceId, *admins: Person) -> Conversation:
    members = [me, *(person.service_id for person in (ANN, CEM))]
    return Conversation.create("trip", members, admins=[admin.service_id for admin in admins or (ANN,)])


async def test_a_change_by_who_is_no_admin_waits_and_crowds_out_nobody(chats: Chats) -> None:
    conversation = governed(chats.me)
    await take(chats, ANN, conversation.as_update())
    promoted = conversation.changed(admins=[ANN.service_id, CEM.service_id], by=ANN.service_id)
    renamed = promoted.changed(title="journey", by=CEM.service_id)
    flood = [replace(conversation.as_update(), title=str(at), revision=at) for at in range(3, 300)]
    other = a_conversation(chats.me)
    await take(chats, ANN, hello(other, "early"))
    await take(chats, CEM, *flood, renamed.as_update())
    assert chats.conversation(conversation.key) == conversation
    assert chats.untold(conversation.key) <= {ANN.service_id, CEM.service_id}
    await take(chats, ANN, other.as_update())
    assert said(chats, other.key) == {(ANN.service_id, "early")}


async def test_a_change_by_who_became_an_admin_meanwhile_is_taken_when_that_is_known(chats: Chats) -> None:
    conversation = governed(chats.me)
    promoted = conversation.changed(admins=[ANN.service_id, CEM.service_id], by=ANN.service_id)
    renamed = promoted.changed(title="journey", by=CEM.service_id)
    await take(chats, ANN, conversation.as_update())
    await take(chats, CEM, renamed.as_update())
    await take(chats, ANN, promoted.as_update())
    assert chats.conversation(conversation.key) == renamed


async def test_who_is_no_admin_neither_goes_ahead_nor_takes_others_along(chats: Chats) -> None:
    conversation = governed(chats.me)
    await take(chats, ANN, conversation.as_update())
    chat = chats._records.chats[conversation.key]
    await take(chats, CEM, replace(conversation.as_update(), title="far", revision=2**31))
    await take(chats, ANN, replace(conversation.as_update(), title="far", revision=2**31))
    assert chats.conversation(conversation.key) == conversation  # who is no admin has nothing to tell others
    assert not chat.announced_by_us


async def test_an_admin_overrules_one_who_went_on_without_knowing_that_they_are_none_any_more(chats: Chats) -> None:
    conversation = governed(chats.me, ANN, CEM)
    mine = conversation.changed(admins=[*conversation.admins, chats.me], by=ANN.service_id)
    removed = mine.changed(admins=[ANN.service_id, chats.me], by=ANN.service_id)
    unknowing = mine.changed(title="1", by=CEM.service_id).changed(title="2", by=CEM.service_id)
    await take(chats, ANN, conversation.as_update(), mine.as_update(), removed.as_update())
    await take(chats, CEM, unknowing.as_update())
    found = chats.conversation(conversation.key)
    assert (found.title, found.admins) == ("trip", (ANN.service_id, chats.me))
    assert found.revision == unknowing.revision + 1
    assert {ANN.service_id, CEM.service_id} <= chats.untold(conversation.key)
    assert unknowing.with_update(chats.me, found.as_update()).as_update() == found.as_update()


async def test_who_differs_where_there_are_admins_is_answered_by_one_side_at_most(chats: Chats) -> None:
    """Or two who are no admins would tell each other for ever what neither believes."""
    conversation = governed(chats.me)
    changed = conversation.changed(title="journey", by=ANN.service_id)
    await take(chats, ANN, changed.as_update())
    chat = chats._records.chats[conversation.key]
    await take(chats, CEM, replace(changed.as_update(), title="otherwise"))
    assert not chat.told.get(CEM.service_id, Known()).lost
    await take(chats, CEM, conversation.as_update())
    assert chat.told[CEM.service_id].lost


# --- leaving ---


async def test_who_leaves_tells_the_others_even_if_somebody_changes_it_meanwhile(bob: Device, store: Store) -> None:
    chats = await Chats.open(bob, store, now=lambda: NOW)
    conversation = a_conversation(bob.service_id, ANN, CEM)
    await take(chats, ANN, conversation.as_update())
    chat = chats._records.chats[conversation.key]
    await chats.leave(conversation.key)  # they have no devices, so nobody can be told
    for again in (chats, await Chats.open(bob, store, now=lambda: NOW)):
        chat = again._records.chats[conversation.key]
        for member in (ANN, CEM):
            [news] = news_for(chat, Own(bob.service_id, bytes(32)), member.service_id).contents
            assert isinstance(news, ConversationUpdate)
            assert bob.service_id not in news.members
    renamed = conversation.changed(title="journey", by=ANN.service_id)
    await take(chats, ANN, renamed.as_update())
    found = chats.conversation(conversation.key)
    assert (found.title, chats.me in found.members) == ("journey", False)
    assert {ANN.service_id, CEM.service_id} <= chats.untold(conversation.key)
    [news] = news_for(chats._records.chats[conversation.key], Own(chats.me, bytes(32)), CEM.service_id).contents
    assert renamed.with_update(chats.me, news).members == (ANN.service_id, CEM.service_id)  # type: ignore[arg-type]


async def test_what_arrives_after_one_has_left_is_not_taken(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    await take(chats, ANN, conversation.as_update(), hello(conversation, "before"))
    await chats.leave(conversation.key)
    left = chats.conversation(conversation.key)
    await take(chats, ANN, hello(conversation, "after", 300), Deletion(200, 301, conversation.key))
    assert said(chats, conversation.key) == {(ANN.service_id, "before")}
    back = left.changed(members=[*left.members, chats.me], by=ANN.service_id)
    await take(chats, ANN, back.as_update())
    assert said(chats, conversation.key) == {(ANN.service_id, ""), (ANN.service_id, "after")}  # it was sent to us


async def test_who_has_left_hears_of_nobody_typing(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    heard: list[Event] = []
    chats.on_passing = heard.append
    await take(chats, ANN, conversation.as_update())
    await take(chats, ANN, Typing(True, 300, conversation.id))
    await chats.leave(conversation.key)
    await take(chats, ANN, Typing(False, 301, conversation.id))
    assert heard == [TypingChanged(conversation.key, ANN.service_id, 300, True)]


# --- what passes ---


async def test_typing_is_heard_of_members_and_never_kept(bob: Device, store: Store) -> None:
    kept: list[Event] = []
    chats = await Chats.open(bob, store, journal=lambda _, event: kept.append(event), now=lambda: NOW)
    conversation, heard = a_conversation(bob.service_id), list[Event]()
    chats.on_passing = heard.append
    await take(chats, ANN, conversation.as_update())
    kept.clear()
    for sender in (EVE.service_id, bob.service_id):
        assert await take(chats, sender, Typing(True, 300, conversation.id))
    for elsewhere in (None, bytes(32)):
        assert await take(chats, ANN, Typing(True, 300, elsewhere))
    assert heard == []
    assert await take(chats, ANN, Typing(True, 300, conversation.id), Typing(False, 301, conversation.id))
    assert heard == [
        TypingChanged(conversation.key, ANN.service_id, at, started) for at, started in ((300, True), (301, False))
    ]
    assert kept == []


async def test_a_receipt_counts_for_own_messages_in_conversations_with_its_sender(bob: Device, store: Store) -> None:
    kept: list[Event] = []
    chats = await Chats.open(bob, store, journal=lambda _, event: kept.append(event), now=lambda: NOW)
    one, two, other = (a_conversation(bob.service_id, member) for member in (ANN, ANN, CEM))
    await take(chats, ANN, one.as_update(), two.as_update(), hello(one))
    await take(chats, CEM, other.as_update())
    for conversation, at in ((one, 300), (one, 310), (two, 320), (other, 330)):
        await take(chats, bob.service_id, SentTranscript(hello(conversation, "x", at)))
    kept.clear()
    assert await take(chats, ANN, ReadReceipt((300, 320, 330, 200, 300, MAX_TIMESTAMP)), ReadReceipt(()))
    assert await take(chats, EVE, ReadReceipt((300,)))
    assert await take(chats, bob.service_id, ReadReceipt((300,)))
    assert kept == [
        MessagesRead(conversation.key, ANN.service_id, at, (MessageId(bob.service_id, at),))
        for conversation, at in ((one, 300), (two, 320))
    ]


@pytest.mark.parametrize("more", [0, 1])
async def test_of_a_receipt_for_very_many_messages_the_first_count(bob: Device, store: Store, more: int) -> None:
    kept: list[Event] = []
    chats = await Chats.open(bob, store, journal=lambda _, event: kept.append(event), now=lambda: NOW)
    conversation = a_conversation(bob.service_id)
    await take(chats, ANN, conversation.as_update())
    await take(chats, bob.service_id, SentTranscript(hello(conversation, "x", 300)))
    kept.clear()
    foreign = range(1000, 1000 + MAX_RECEIPTS - 1 + more)
    await take(chats, ANN, ReadReceipt((*foreign, 300)))
    assert len(kept) == 1 - more


async def test_a_profile_is_of_members_and_of_oneself(chats: Chats) -> None:
    await take(chats, ANN, a_conversation(chats.me).as_update())
    await take(chats, EVE, ProfileUpdate("Eve", "", 1))
    await take(chats, ANN, ProfileUpdate("Ann", "", 2), ProfileUpdate("Anna", "", 1))
    await take(chats, chats.me, ProfileUpdate("Bob", "", 1))
    assert [chats.name_of(each) for each in (ANN.service_id, EVE.service_id, chats.me)] == ["Ann", "", "Bob"]


# --- events ---


async def test_a_program_hears_of_all_that_others_do_and_of_nothing_that_this_account_does(
    bob: Device, store: Store
) -> None:
    kept: list[Event] = []

    def keep(_: StoreTransaction, event: Event) -> None:
        kept.append(event)

    chats = await Chats.open(bob, store, journal=keep, now=lambda: NOW)
    ann, key = ANN.service_id, (conversation := a_conversation(bob.service_id, ANN, CEM)).key
    renamed = conversation.changed(title="journey", by=ann)
    of_ann: list[Content] = [
        conversation.as_update(),
        hello(conversation),
        Edit(200, hello(conversation, "bye", 201)),
        Reaction("+", MessageId(ann, 200), 202, key),
        Reaction("+", MessageId(ann, 200), 203, key, remove=True),
        Deletion(200, 204, key),
        renamed.as_update(),
        renamed.without(ann).as_update(),
    ]
    for _ in range(2):  # what comes again is no news
        await take(chats, ANN, *of_ann)
    named = MessageId(ann, 200)
    left = renamed.without(ann)
    assert kept == [
        ConversationChanged(key, ann, 0, joined=conversation.members, settings=True),
        MessageReceived(key, ann, 200, "hello"),
        MessageEdited(key, ann, 201, named, "bye"),
        Reacted(key, ann, 202, named, "+"),
        Reacted(key, ann, 203, named, "+", removed=True),
        MessageDeleted(key, ann, 204, named),
        ConversationChanged(key, ann, 1, settings=True),
        ConversationChanged(key, ann, left.revision, left=(ann,)),
    ]
    kept.clear()
    me = bob.service_id
    mine: list[Said] = [
        hello(conversation, "x", 300),
        Edit(300, hello(conversation, "y", 301)),
        Deletion(300, 302, key),
    ]
    await take(chats, me, *map(SentTranscript, mine))
    await take(chats, me, Told(me, left.changed(title="mine", by=me).as_update()))
    assert chats.conversation(key).title == "mine"
    assert kept == []


async def test_changes_that_follow_each_other_have_names_of_their_own(bob: Device, store: Store) -> None:
    """Also those of somebody who does not know yet that another has left."""
    kept: list[Event] = []
    chats = await Chats.open(bob, store, journal=lambda _, event: kept.append(event), now=lambda: NOW)
    conversation = a_conversation(bob.service_id, ANN, CEM)
    first = conversation.changed(title="1", by=ANN.service_id)
    second = first.changed(title="2", by=ANN.service_id)
    await take(chats, ANN, conversation.as_update())
    await take(chats, CEM, conversation.without(CEM.service_id).as_update())
    await take(chats, ANN, first.as_update(), second.as_update())
    assert len(kept) == len({event.id for event in kept}) == 4


# --- own devices ---


async def test_own_devices_see_what_this_account_says_of_messages(chats: Chats) -> None:
    conversation, me = a_conversation(chats.me), chats.me
    await take(chats, ANN, conversation.as_update(), hello(conversation))
    said_there: list[Said] = [
        hello(conversation, "mine", 300),
        Edit(300, hello(conversation, "edited", 301)),
        Reaction("+", MessageId(ANN.service_id, 200), 302, conversation.key),
        hello(conversation, "gone", 303),
        Deletion(303, 304, conversation.key),
    ]
    for each in said_there:
        await take(chats, me, SentTranscript(each))
        assert not await take(chats, ANN, SentTranscript(each))
    [theirs, mine, gone] = chats.messages(conversation.key)
    assert theirs.reactions == {me: GivenReaction("+", 302)}
    assert (mine.text, mine.edited, gone.deleted) == ("edited", 301, True)


async def test_a_leave_on_another_own_device_is_not_told_again(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    await take(chats, chats.me, Told(chats.me, conversation.as_update()))
    await take(chats, chats.me, Told(chats.me, conversation.without(chats.me).as_update()))
    assert chats.me not in chats.conversation(conversation.key).members
    assert chats.untold(conversation.key) == frozenset()


async def test_what_another_own_device_wrote_is_there(chats: Chats) -> None:
    conversation = a_conversation(chats.me)
    written = SentTranscript(DataMessage("from the laptop", 300, conversation.key))
    await take(chats, chats.me, written, Told(chats.me, conversation.as_update()))
    assert said(chats, conversation.key) == {(chats.me, "from the laptop")}
    assert not await take(chats, ANN, written)


async def test_an_own_device_tells_what_others_said_and_is_believed_only_with_their_signature(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    await take(chats, chats.me, Told(ANN.service_id, consent(conversation, ANN)))
    await take(chats, chats.me, Told(chats.me, conversation.as_update()))
    await take(chats, chats.me, Told(CEM.service_id, consent(conversation, ANN)))
    assert chats.conversation(conversation.key).opted_in(NOW) == {ANN.service_id}
    assert not await take(chats, ANN, Told(CEM.service_id, consent(conversation, CEM)))


async def test_nothing_that_an_own_device_says_is_told_to_everybody_again(bob: Device, chats: Chats) -> None:
    conversation = a_conversation(bob.service_id, ANN, CEM)
    await take(chats, bob.service_id, Told(bob.service_id, conversation.as_update()))
    assert chats.untold(conversation.key) == frozenset()
    forged = consent(conversation, Person(bob.service_id, EVE.keys))
    await take(chats, bob.service_id, Told(bob.service_id, forged))
    assert chats.conversation(conversation.key).opted_in(NOW) == frozenset()
    await take(
        chats, bob.service_id, Told(bob.service_id, consent(conversation, Person(bob.service_id, _keys_of(bob))))
    )
    assert chats.conversation(conversation.key).opted_in(NOW) == {bob.service_id}
    assert chats.untold(conversation.key) == frozenset()


async def test_an_author_whose_key_is_not_known_is_looked_up_later(bob: Device, chats: Chats, world: World) -> None:
    dan = await world.device()
    conversation = Conversation.create("trip", [bob.service_id, dan.service_id])
    update = consent(conversation, Person(dan.service_id, _keys_of(dan)))
    await take(chats, bob.service_id, Told(bob.service_id, conversation.as_update()), Told(dan.service_id, update))
    assert chats.conversation(conversation.key).opted_in(NOW) == frozenset()
    await chats._receiving.look_up_authors()
    assert chats.conversation(conversation.key).opted_in(NOW) == {dan.service_id}


def _keys_of(device: Device) -> KeyPair:
    identity = device._account.identity
    return KeyPair(private=identity.private_key, public=identity.public_key)


async def test_messages_are_in_the_order_in_which_they_came(chats: Chats) -> None:
    conversation = a_conversation(chats.me, ANN, CEM)
    await take(chats, ANN, conversation.as_update(), DataMessage("second", 200, conversation.key))
    await take(chats, CEM, DataMessage("first", 100, conversation.key))
    assert [message.id for message in chats.messages(conversation.key)] == [
        MessageId(ANN.service_id, 200),
        MessageId(CEM.service_id, 100),
    ]
    assert [message.text for message in chats.unread(conversation.key)] == ["second", "first"]
    await chats.mark_read(conversation.key)
    await take(chats, CEM, DataMessage("third", 300, conversation.key))
    assert [message.text for message in chats.unread(conversation.key)] == ["third"]

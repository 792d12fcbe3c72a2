"""Everybody is told what they do not know, and nobody twice; who cannot be told now stops nobody and is told later."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from uuid import uuid4

import pytest

from messaging.client import ClientError, IdentityChanged, RelayUnreachable, Store
from messaging.client.background import AT_ONCE, Patience
from messaging.client.chat_records import Chat, ChatRecords, Known
from messaging.client.conversation import Conversation
from messaging.client.profiles import Profiles
from messaging.client.telling import FIRST_PAUSE, LAST_PAUSE, News, Own, Telling, news_for, untold
from messaging.wire.content import ConsentUpdate, Content, ConversationUpdate, ProfileKeyUpdate, ProfileUpdate, Told
from messaging.wire.identifiers import ServiceId
from tests.messaging.client.people import Person

ANN, BOB, CEM = Person.new(), Person.new(), Person.new()
ME = ANN.service_id
PROFILE_KEY = b"\x09" * 32
OWN = Own(ME, PROFILE_KEY)
PROFILE = ProfileKeyUpdate(PROFILE_KEY)


def a_chat(*, by_us: bool = True) -> Chat:
    chat = Chat(Conversation.create("trip", [ME, BOB.service_id, CEM.service_id]), announced_by_us=by_us)
    if not by_us:
        chat.told[ME] = Known(True, None, 1)
    return chat


def opt_in(chat: Chat, at: int, *, person: Person = ANN, opted_in: bool = True) -> ConsentUpdate:
    statement = person.states(chat.conversation.key, at, opted_in=opted_in)
    chat.note_statement(person.service_id, statement, ME)
    return ConsentUpdate(chat.conversation.key, statement.signed)


def news(chat: Chat, member: ServiceId) -> tuple[Content, ...]:
    return news_for(chat, OWN, member).contents


def tell(chat: Chat, *members: ServiceId) -> None:
    """As if all of it had arrived."""
    for member in members:
        known = news_for(chat, OWN, member).known
        assert known is not None
        chat.told[member] = known


def tell_all(chat: Chat) -> None:
    tell(chat, ME, *chat.conversation.others(ME))


# --- what is told ---


def test_members_are_told_of_a_new_conversation_our_profile_key_and_our_consent_in_this_order() -> None:
    chat = a_chat()
    update = opt_in(chat, 100)
    assert news(chat, BOB.service_id) == (chat.conversation.as_update(), PROFILE, update)
    tell(chat, BOB.service_id)
    assert news(chat, BOB.service_id) == ()
    assert news(chat, CEM.service_id) != ()


def test_what_another_member_announced_is_not_ours_to_tell_but_the_rest_is() -> None:
    assert news(a_chat(by_us=False), BOB.service_id) == (PROFILE,)


def test_only_what_has_changed_is_told_again() -> None:
    chat = a_chat()
    opt_in(chat, 100)
    tell_all(chat)
    withdrawn = opt_in(chat, 200, opted_in=False)
    assert news(chat, BOB.service_id) == (withdrawn,)
    assert news(chat, ME) == (Told(ME, withdrawn),)
    tell_all(chat)
    chat.conversation = chat.conversation.with_members(chat.conversation.members)
    assert news(chat, BOB.service_id) == (chat.conversation.as_update(),)
    assert news(chat, ME) == (Told(ME, chat.conversation.as_update()),)


def test_a_new_member_is_told_everything_and_who_is_out_that_they_are() -> None:
    chat = a_chat()
    update = opt_in(chat, 100)
    tell_all(chat)
    dan = ServiceId(uuid4())
    chat.conversation = chat.conversation.with_members([ME, BOB.service_id, dan])
    assert news(chat, dan) == (chat.conversation.as_update(), PROFILE, update)
    assert news_for(chat, OWN, CEM.service_id) == News((chat.conversation.as_update(),), None)
    assert untold(chat, OWN) == [ME, BOB.service_id, dan, CEM.service_id]
    assert news(chat, ServiceId(uuid4())) == ()


def test_who_has_lost_everything_is_told_of_the_conversation_whoever_changed_it() -> None:
    chat = a_chat(by_us=False)
    chat.told[BOB.service_id] = Known(lost=True)
    assert news(chat, BOB.service_id) == (chat.conversation.as_update(), PROFILE)
    tell(chat, BOB.service_id)
    assert news(chat, BOB.service_id) == ()


def test_who_is_out_tells_nothing_but_a_withdrawal() -> None:
    chat = a_chat(by_us=False)
    opt_in(chat, 100)
    chat.note_change(chat.conversation.with_members([BOB.service_id, CEM.service_id]), ME)
    update = opt_in(chat, 200, opted_in=False)
    assert news(chat, BOB.service_id) == (update,)


def test_who_leaves_tells_all_others_and_their_own_devices() -> None:
    chat = a_chat()
    opt_in(chat, 100)
    tell_all(chat)
    left = chat.conversation.without(ME)
    chat.conversation, chat.announced_by_us = left, True
    for member in (BOB, CEM):
        assert news(chat, member.service_id) == (left.as_update(),)
    assert news(chat, ME) == (Told(ME, left.as_update()),)
    tell_all(chat)
    assert untold(chat, OWN) == []


def test_a_name_is_told_once_to_members_and_own_devices_and_again_when_it_changes() -> None:
    chat = a_chat()
    tell_all(chat)
    named, renamed = (replace(OWN, profile=ProfileUpdate(name, "", at)) for at, name in ((5, "Ann"), (6, "Anna")))
    for own in (named, renamed):
        for member in (ME, BOB.service_id, CEM.service_id):
            told = news_for(chat, own, member)
            assert told.contents == (own.profile,)
            assert told.known is not None
            chat.told[member] = told.known
        assert untold(chat, own) == []
    dan = ServiceId(uuid4())
    chat.conversation = chat.conversation.with_members([*chat.conversation.members, dan])
    assert renamed.profile in news_for(chat, renamed, dan).contents


def test_own_devices_are_told_first_of_what_we_decided_and_nothing_that_members_tell_them() -> None:
    chat = a_chat(by_us=False)
    opt_in(chat, 100, person=BOB)
    assert news(chat, ME) == ()
    update = opt_in(chat, 200)
    assert news(chat, ME) == (Told(ME, update),)
    assert untold(chat, OWN)[0] == ME


def test_a_device_that_joins_later_is_told_everything() -> None:
    chat = a_chat(by_us=False)
    first, second = opt_in(chat, 100), opt_in(chat, 200)
    of_bob = opt_in(chat, 150, person=BOB)
    del chat.told[ME]
    told = (
        Told(ME, chat.conversation.as_update()),
        Told(ME, first),
        Told(ME, second),
        Told(BOB.service_id, of_bob),
    )
    assert news(chat, ME) == told
    tell(chat, ME)
    assert news(chat, ME) == ()


def test_what_another_own_device_says_it_tells_all() -> None:
    chat = a_chat(by_us=False)
    chat.told[CEM.service_id] = Known(lost=True)
    opt_in(chat, 100)
    chat.note_told_by_another_device(ME)
    assert untold(chat, OWN) == [CEM.service_id]


# --- telling ---


@dataclass
class Line:
    """A device that delivers to some."""

    service_id: ServiceId = ME
    profile_key: bytes = PROFILE_KEY
    fails: dict[ServiceId, ClientError] = field(default_factory=dict)
    sent: list[tuple[ServiceId, Content]] = field(default_factory=list)
    tried: list[ServiceId] = field(default_factory=list)
    meanwhile: dict[ServiceId, Known] = field(default_factory=dict)
    chat: Chat | None = None

    async def send(self, to: ServiceId, content: Content) -> None:
        self.tried.append(to)
        if to in self.fails:
            raise self.fails[to]
        if self.chat is not None and to in self.meanwhile:
            self.chat.told[to] = self.meanwhile.pop(to)
        self.sent.append((to, content))

    async def send_to_own_devices(self, content: Content) -> None:
        await self.send(self.service_id, content)

    def kinds(self, to: ServiceId) -> list[type]:
        return [type(content) for each, content in self.sent if each == to]


@dataclass
class Scene:
    """A conversation that is told over a line, with a clock of its own."""

    line: Line
    chat: Chat
    telling: Telling
    now: float = 0.0


@pytest.fixture
async def told() -> AsyncIterator[Scene]:
    async with Store.open(":memory:", bytes(32)) as store:
        records = await ChatRecords.load(store, ME)
        chat, line = a_chat(), Line()
        await records.save(chat)
        state = Scene(line, chat, Telling(line, records, await Profiles.load(store, ME)))
        state.telling._patience = Patience(FIRST_PAUSE, LAST_PAUSE, lambda: state.now)
        yield state


async def test_everybody_is_told_once(told: Scene) -> None:
    for _ in range(2):
        await told.telling.tell_all()
    assert told.telling.untold(told.chat) == []
    for person in (BOB, CEM):
        assert told.line.kinds(person.service_id) == [ConversationUpdate, ProfileKeyUpdate]
    assert told.line.kinds(ME) == [Told]


async def test_who_cannot_be_told_stops_nobody_and_is_told_later(told: Scene) -> None:
    told.line.fails[BOB.service_id] = IdentityChanged(BOB.service_id, b"")
    assert await told.telling.tell(told.chat)
    assert told.telling.untold(told.chat) == [BOB.service_id]
    told.now += FIRST_PAUSE - 1
    await told.telling.tell_all()
    assert told.line.tried.count(BOB.service_id) == 1
    told.now += 1
    told.line.fails.clear()
    await told.telling.tell_all()
    assert told.telling.untold(told.chat) == []


async def test_with_something_new_they_are_tried_at_once(told: Scene) -> None:
    told.line.fails[BOB.service_id] = IdentityChanged(BOB.service_id, b"")
    await told.telling.tell(told.chat)
    await told.telling.tell(told.chat, at_once=True)
    assert told.line.tried.count(BOB.service_id) == 2
    told.telling.try_again(told.chat, BOB.service_id)
    await told.telling.tell(told.chat)
    assert told.line.tried.count(BOB.service_id) == 3


async def test_once_the_relay_is_away_nobody_else_is_tried(told: Scene) -> None:
    others = [ServiceId(uuid4()) for _ in range(3 * AT_ONCE)]
    told.chat.conversation = told.chat.conversation.with_members([ME, *others])
    told.line.fails = {each: RelayUnreachable() for each in (ME, *others)}
    assert not await told.telling.tell(told.chat)
    assert len(told.line.tried) <= AT_ONCE
    told.line.fails = {}
    told.now += FIRST_PAUSE
    assert await told.telling.tell(told.chat)
    assert told.telling.untold(told.chat) == []


async def test_what_happens_while_somebody_is_told_is_told_next_time(told: Scene) -> None:
    told.line.chat, told.line.meanwhile = told.chat, {BOB.service_id: Known(lost=True)}
    await told.telling.tell(told.chat)
    assert told.telling.untold(told.chat) == [BOB.service_id]
    await told.telling.tell(told.chat)
    assert told.telling.untold(told.chat) == []


async def test_who_is_out_is_told_so_and_forgotten(told: Scene) -> None:
    await told.telling.tell_all()
    told.chat.conversation = told.chat.conversation.with_members([ME, CEM.service_id])
    await told.telling.tell_all()
    assert told.line.sent[-1] in [
        (each, told.chat.conversation.as_update()) for each in (BOB.service_id, CEM.service_id)
    ]
    assert told.line.kinds(BOB.service_id) == [ConversationUpdate, ProfileKeyUpdate, ConversationUpdate]
    assert BOB.service_id not in told.chat.told


async def test_who_was_told_is_remembered_after_a_crash(told: Scene) -> None:
    told.line.fails[BOB.service_id] = IdentityChanged(BOB.service_id, b"")
    await told.telling.tell_all()
    store = told.telling._records._store
    again = await ChatRecords.load(store, ME)
    [chat] = again.chats.values()
    assert untold(chat, OWN) == [BOB.service_id]
    assert replace(chat.conversation, statements={}) == replace(told.chat.conversation, statements={})

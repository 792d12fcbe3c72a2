"""Making true, for people, what a member decided: every member and every own device is told until they know.

What somebody has yet to be told follows from a chat's record alone (:func:`news_for`), so it is the same after a crash. Who cannot
be told now is left alone for a while and stops nobody else. What is told is idempotent: to say it twice changes nothing.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from messaging.client.background import Patience, for_each
from messaging.client.chat_records import Chat, ChatRecords, Known
from messaging.client.errors import ClientError, RelayUnreachable
from messaging.client.profiles import Profiles
from messaging.wire.content import ConsentUpdate, Content, ProfileKeyUpdate, ProfileUpdate, Told
from messaging.wire.identifiers import ServiceId
from signal_protocol.errors import SignalError

# Seconds until who could not be told is told again; what was queued meanwhile arrives twice and does no harm.
FIRST_PAUSE = 30.0
LAST_PAUSE = 6 * 3600.0
MAX_STRANGERS = 32  # members who get our profile key although we have done nothing in their conversation yet


class Device(Protocol):
    """What this module needs of a :class:`messaging.client.Device`."""

    @property
    def service_id(self) -> ServiceId:
        """The own account."""

    @property
    def profile_key(self) -> bytes:
        """The own account's."""

    async def send(self, to: ServiceId, content: Content) -> None:
        """Deliver ``content`` to every device of ``to``."""

    async def send_to_own_devices(self, content: Content) -> None:
        """Deliver ``content`` to every other device of the own account."""


@dataclass(frozen=True, slots=True)
class News:
    """What somebody has yet to be told, in order, and what they know then; ``None``: nothing that has to be remembered."""

    contents: tuple[Content, ...]
    known: Known | None


@dataclass(frozen=True, slots=True)
class Own:
    """What the own account gives of itself: its profile key (32 bytes), and what it wants to be called, if it has said so."""

    service_id: ServiceId
    profile_key: bytes = field(repr=False)
    profile: ProfileUpdate | None = None


def news_for(chat: Chat, me: Own, member: ServiceId) -> News:
    """What ``member`` does not know yet. ``me`` is the own account, and as a ``member`` its other devices."""
    if member == me.service_id:
        return _for_own_devices(chat, me)
    if member in chat.conversation.members:
        return _for_member(chat, me, chat.told.get(member, Known()))
    was_told = member in chat.told  # and is a member no more
    return News((chat.conversation.as_update(),) if was_told and chat.announced_by_us else (), None)


def untold(chat: Chat, me: Own) -> list[ServiceId]:
    """Who has yet to be told something: own devices first, because they may still act otherwise."""
    everybody = dict.fromkeys((me.service_id, *chat.conversation.members, *chat.told))
    return [member for member in everybody if news_for(chat, me, member).contents]


def _for_member(chat: Chat, me: Own, known: Known) -> News:
    contents: list[Content] = []
    # Who is out has only a consent to withdraw, and to say that they have left.
    is_member = me.service_id in chat.conversation.members
    if (is_member and known.lost) or _is_behind(chat, known):
        contents.append(chat.conversation.as_update())
        known = replace(known, revision=chat.conversation.revision + 1, lost=False)
    gives = is_member and _gives_profile(chat, me.service_id)
    if gives and not known.profile_key:
        contents.append(ProfileKeyUpdate(me.profile_key))
        known = replace(known, profile_key=True)
    if gives and me.profile is not None and known.profile < me.profile.timestamp:
        contents.append(me.profile)
        known = replace(known, profile=me.profile.timestamp)
    statement = chat.conversation.statement_of(me.service_id)
    if statement is not None and known.statement != statement.signed.digest():
        contents.append(ConsentUpdate(chat.conversation.key, statement.signed))
        known = replace(known, statement=statement.signed.digest())
    return News(tuple(contents), known)


def _for_own_devices(chat: Chat, me: Own) -> News:
    """They get what members say by themselves, but for what was said before they joined."""
    conversation, known, own = chat.conversation, chat.told.get(me.service_id), me.service_id
    contents: list[Content] = []
    if known is None or _is_behind(chat, known):
        contents.append(Told(own, conversation.as_update()))
    for author, said in conversation.statements.items():
        news = said if known is None else said[-1:] if author == own and known.statement != chat.digest_of(own) else ()
        contents.extend(Told(author, ConsentUpdate(conversation.key, each.signed)) for each in news)
    profile = 0 if me.profile is None else me.profile.timestamp
    if me.profile is not None and (known is None or known.profile < profile):
        contents.append(me.profile)
    return News(tuple(contents), Known(True, chat.digest_of(own), conversation.revision + 1, profile=profile))


def _gives_profile(chat: Chat, me: ServiceId) -> bool:
    """In a conversation of many, which a stranger may have begun, only once we take part: or a stranger could make all write to all."""
    return len(chat.conversation.members) <= MAX_STRANGERS or chat.takes_part(me)


def _is_behind(chat: Chat, known: Known) -> bool:
    return chat.announced_by_us and known.revision <= chat.conversation.revision


class Telling:
    """Tells members and own devices what ``records`` says they do not know."""

    def __init__(self, device: Device, records: ChatRecords, profiles: Profiles) -> None:
        self._device = device
        self._records = records
        self._profiles = profiles
        self._patience = Patience(FIRST_PAUSE, LAST_PAUSE)

    def untold(self, chat: Chat) -> list[ServiceId]:
        """Who has yet to be told something."""
        return untold(chat, self._me)

    @property
    def _me(self) -> Own:
        return Own(self._device.service_id, self._device.profile_key, self._profiles.own)

    async def tell_all(self) -> None:
        """See that everybody knows, in all conversations; what fails is tried again another time."""
        for chat in list(self._records.chats.values()):
            if not await self.tell(chat):
                return

    async def tell(self, chat: Chat, *, at_once: bool = False) -> bool:
        """The same in one conversation; says whether the relay was there.

        With ``at_once`` those too who could not be told a moment ago: there is something new.
        """
        async with chat.telling:
            waiting = [each for each in self.untold(chat) if at_once or self._patience.may_try(_name(chat, each))]
            if not waiting:
                return True
            relay = _RelayState()
            try:
                await for_each(waiting, partial(self._tell_one, chat, relay))
            finally:
                await self._records.save(chat)
            return relay.is_there

    def try_again(self, chat: Chat, member: ServiceId) -> None:
        """Something has changed about ``member``, who could not be told before."""
        self._patience.change(_name(chat, member))

    async def _tell_one(self, chat: Chat, relay: "_RelayState", member: ServiceId) -> None:
        if not relay.is_there:
            return
        self._patience.begin(_name(chat, member))
        before = chat.told.get(member)
        news = news_for(chat, self._me, member)
        try:
            for content in news.contents:
                await self._send(member, content)
        except (ClientError, SignalError) as error:
            relay.is_there = not isinstance(error, RelayUnreachable)
            self._patience.failed(_name(chat, member))
            return
        self._patience.done(_name(chat, member))
        if chat.told.get(member) == before:  # or something has happened meanwhile, and is told next time
            _note(chat, member, news.known)

    async def _send(self, member: ServiceId, content: Content) -> None:
        if member == self._device.service_id:
            await self._device.send_to_own_devices(content)
        else:
            await self._device.send(member, content)


@dataclass(slots=True)
class _RelayState:
    """Once the relay is away, nobody else is tried: everything that is tried then is queued, and would be again."""

    is_there: bool = True


def _name(chat: Chat, member: ServiceId) -> tuple[bytes, ServiceId]:
    return chat.conversation.key, member


def _note(chat: Chat, member: ServiceId, known: Known | None) -> None:
    if known is None:
        chat.told.pop(member, None)
    else:
        chat.told[member] = known

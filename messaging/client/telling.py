"""Making true, for people, what a member decided: every member and every own device is told until they know.

What somebody has yet to be told follows from a chat's record alone (:func:`news_for`), so it is the same after a crash. Who cannot
be told now is left alone for a while and stops nobody else. What is told is idempotent: to say it twice changes nothing.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from messaging.client.background import Patience, for_each
from messaging.client.chat_records import Chat, ChatRecords, Known
from messaging.client.errors import ClientError, RelayUnreachable
from messaging.wire.content import ConsentUpdate, Content, ProfileKeyUpdate, Told
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


def news_for(chat: Chat, me: ServiceId, member: ServiceId, profile_key: bytes) -> News:
    """What ``member`` does not know yet. ``me`` is the own account, and as a ``member`` its other devices."""
    if member == me:
        return _for_own_devices(chat, me)
    if member in chat.conversation.members:
        return _for_member(chat, me, chat.told.get(member, Known()), profile_key)
    was_told = member in chat.told  # and is a member no more
    return News((chat.conversation.as_update(),) if was_told and chat.announced_by_us else (), None)


def untold(chat: Chat, me: ServiceId, profile_key: bytes) -> list[ServiceId]:
    """Who has yet to be told something: own devices first, because they may still act otherwise."""
    everybody = dict.fromkeys((me, *chat.conversation.members, *chat.told))
    return [member for member in everybody if news_for(chat, me, member, profile_key).contents]


def _for_member(chat: Chat, me: ServiceId, known: Known, profile_key: bytes) -> News:
    contents: list[Content] = []
    is_member = me in chat.conversation.members  # who is out has only a consent to withdraw
    if is_member and (known.lost or _is_behind(chat, known)):
        contents.append(chat.conversation.as_update())
        known = replace(known, revision=chat.conversation.revision + 1, lost=False)
    if is_member and not known.profile_key and _gives_profile_key(chat, me):
        contents.append(ProfileKeyUpdate(profile_key))
        known = replace(known, profile_key=True)
    statement = chat.conversation.statement_of(me)
    if statement is not None and known.statement != statement.signed.digest():
        contents.append(ConsentUpdate(chat.conversation.key, statement.signed))
        known = replace(known, statement=statement.signed.digest())
    return News(tuple(contents), known)


def _for_own_devices(chat: Chat, me: ServiceId) -> News:
    """They get what members say by themselves, but for what was said before they joined."""
    conversation, known = chat.conversation, chat.told.get(me)
    contents: list[Content] = []
    if known is None or _is_behind(chat, known):
        contents.append(Told(me, conversation.as_update()))
    for author, said in conversation.statements.items():
        news = said if known is None else said[-1:] if author == me and known.statement != chat.digest_of(me) else ()
        contents.extend(Told(author, ConsentUpdate(conversation.key, each.signed)) for each in news)
    return News(tuple(contents), Known(True, chat.digest_of(me), conversation.revision + 1))


def _gives_profile_key(chat: Chat, me: ServiceId) -> bool:
    """In a conversation of many, which a stranger may have begun, only once we take part: or a stranger could make all write to all."""
    return len(chat.conversation.members) <= MAX_STRANGERS or chat.takes_part(me)


def _is_behind(chat: Chat, known: Known) -> bool:
    return chat.announced_by_us and known.revision <= chat.conversation.revision


class Telling:
    """Tells members and own devices what ``records`` says they do not know."""

    def __init__(self, device: Device, records: ChatRecords) -> None:
        self._device = device
        self._records = records
        self._patience = Patience(FIRST_PAUSE, LAST_PAUSE)

    def untold(self, chat: Chat) -> list[ServiceId]:
        """Who has yet to be told something."""
        return untold(chat, self._device.service_id, self._device.profile_key)

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
        news = news_for(chat, self._device.service_id, member, self._device.profile_key)
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

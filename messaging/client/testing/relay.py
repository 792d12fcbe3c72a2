"""A relay in memory, with the people on it: what one says reaches all others at once, in one order, and nothing is encrypted.

It decides as real members do (``client.conversation``, ``client.history``). What differs: all members always agree, and nobody has
keys, so nobody's keys change.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

from messaging.client.chats import NotAllowed, UnknownConversation, UnknownMessage
from messaging.client.conversation import Conversation
from messaging.client.errors import AttachmentMissing
from messaging.client.events import ConversationChanged, Event, MessagesRead, TypingChanged
from messaging.client.history import ChatMessage, event_of, message_of, target_of
from messaging.client.testing.clock import Clock
from messaging.wire.assistant import Coverage, Result, Summary, SummaryLine
from messaging.wire.content import ListedBot
from messaging.wire.data import AttachmentPointer, DataMessage, Deletion, Edit, Mention, Quote, Reaction, Said
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import ATTACHMENT_SECRET, DIGEST, MAX_QUOTED, SALT

OPERATIONS = frozenset(
    {
        "write", "edit", "delete", "react", "typing", "mark_read", "upload", "download", "read", "create", "set_title",
        "set_members", "set_admins", "set_expiry", "leave", "set_profile", "opt_in", "opt_out", "summarize",
    }
)  # fmt: skip


@dataclass(slots=True)
class Room:
    """A conversation: what it is, what was said, and who got each message.

    Who is out knows it as it was when they ``left``. Those who have ``opted_in`` let the assistant read along.
    """

    conversation: Conversation
    messages: dict[MessageId, ChatMessage] = field(default_factory=dict, repr=False)
    got: dict[MessageId, frozenset[ServiceId]] = field(default_factory=dict, repr=False)
    left: dict[ServiceId, Conversation] = field(default_factory=dict, repr=False)
    opted_in: set[ServiceId] = field(default_factory=set)


@dataclass(slots=True)
class _Fault:
    operation: str
    error: Exception
    times: int
    after: bool


class MemoryRelay:
    """All accounts and conversations of one test."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rooms: dict[bytes, Room] = {}
        self.names: dict[ServiceId, str] = {}
        self.bots: dict[ServiceId, bool] = {}  # whether each reads all
        self.files: dict[str, bytes] = {}
        self.said_once: dict[tuple[ServiceId, str], MessageId] = {}
        self.begun_once: dict[tuple[ServiceId, str], bytes] = {}
        self.mailboxes: dict[ServiceId, deque[Event]] = {}
        self.mail = asyncio.Event()
        self.summarize: Callable[[Room, Sequence[ChatMessage]], Summary] = first_words
        self._faults: list[_Fault] = []
        self._held: list[tuple[ServiceId, Event]] | None = None  # while it cannot be reached

    # --- accounts ---

    def account(self, name: str = "", *, bot: bool = False, reads_all: bool = False) -> ServiceId:
        """A new account."""
        who = ServiceId(uuid4())
        if name:
            self.names[who] = name
        if bot:
            self.bots[who] = reads_all
        return who

    def mailbox(self, who: ServiceId) -> deque[Event]:
        """What waits for an account. What is not taken out stays, as at a relay."""
        return self.mailboxes.setdefault(who, deque())

    # --- what goes wrong ---

    def fail_next(self, operation: str, error: Exception, *, times: int = 1, after: bool = False) -> None:
        """Have the next calls of this method of an account raise ``error``.

        Args:
            after: it is done, and only whoever called does not hear so.
        """
        if operation not in OPERATIONS:
            raise ValueError(f"an account does one of {', '.join(sorted(OPERATIONS))}")
        self._faults.append(_Fault(operation, error, times, after))

    def trouble(self, operation: str, *, after: bool = False) -> None:
        """Raise what :meth:`fail_next` has asked for."""
        for fault in self._faults:
            if (fault.operation, fault.after) == (operation, after):
                fault.times -= 1
                if not fault.times:
                    self._faults.remove(fault)
                raise fault.error

    def go_away(self) -> None:
        """From now on nothing arrives anywhere; what is said is kept until :meth:`come_back`."""
        self._held = self._held or []

    def come_back(self) -> None:
        """All that is waiting arrives."""
        held, self._held = self._held or [], None
        for who, event in held:
            self._deliver(who, event)

    # --- conversations ---

    def room(self, key: bytes, member: ServiceId) -> Room:
        """One that somebody is in.

        Raises:
            UnknownConversation: they are in no such conversation.
        """
        room = self.rooms.get(key)
        if room is None or member not in room.conversation.members:
            raise UnknownConversation
        return room

    def seen(self, key: bytes, who: ServiceId) -> Conversation | None:
        """One as somebody knows it who is in it, or was; ``None`` for nobody."""
        room = self.rooms.get(key)
        if room is None:
            return None
        return room.conversation if who in room.conversation.members else room.left.get(who)

    def begin(self, by: ServiceId, title: str, members: Iterable[ServiceId], admins: Iterable[ServiceId] = ()) -> Room:
        """Somebody begins a conversation; without ``admins`` all may change it."""
        named = [by, *members]
        listed = [ListedBot(who, self.bots[who]) for who in dict.fromkeys(named) if who in self.bots]
        room = Room(Conversation.create(title, named, admins=admins, bots=listed))
        self.rooms[room.conversation.key] = room
        self._tell_change(by, None, room)
        return room

    def change(self, by: ServiceId, key: bytes, change: Callable[[Conversation], Conversation]) -> None:
        """Somebody changes it.

        Raises:
            UnknownConversation: they are not in it.
            NotAllowed: they are no admin.
        """
        room = self.room(key, by)
        if not room.conversation.may_change(by):
            raise NotAllowed
        self._set(by, room, change(room.conversation))

    def leave(self, by: ServiceId, key: bytes) -> None:
        """Somebody leaves, as anybody may."""
        room = self.room(key, by)
        self._set(by, room, room.conversation.without(by))

    def _set(self, by: ServiceId, room: Room, changed: Conversation) -> None:
        added = [who for who in changed.members if who in self.bots and changed.bot(who) is None]
        listed = (*changed.bots, *(ListedBot(who, self.bots[who]) for who in added))
        before, room.conversation = room.conversation, replace(changed, bots=listed)
        room.left |= {who: room.conversation for who in before.members if who not in changed.members}
        self._tell_change(by, before, room)

    def _tell_change(self, by: ServiceId, before: Conversation | None, room: Room) -> None:
        """To those who are in it or were; for whoever has come it is new, or what they left."""
        known, after = () if before is None else before.members, room.conversation
        self._tell(by, _change(by, before, after), known)
        for who in after.members:
            if who not in known and who != by:
                self._deliver(who, _change(by, room.left.pop(who, None), after))

    def _tell(self, by: ServiceId, event: Event, members: Iterable[ServiceId]) -> None:
        for who in members:
            if who != by:
                self._deliver(who, event)

    def _deliver(self, who: ServiceId, event: Event) -> None:
        if self._held is not None:
            if not isinstance(event, TypingChanged):
                self._held.append((who, event))
        elif who in self.mailboxes:
            self.mailboxes[who].append(event)
            self.mail.set()

    # --- what is said ---

    def say(
        self,
        by: ServiceId,
        key: bytes,
        text: str,
        *,
        quote: MessageId | None = None,
        attachments: Sequence[AttachmentPointer] = (),
        mentions: Sequence[Mention] = (),
    ) -> MessageId:
        """Somebody writes. Raises ``UnknownConversation``, and ``UnknownMessage`` for what is quoted."""
        room = self.room(key, by)
        quoted = None if quote is None else Quote(quote, self._message(room, quote).text[:MAX_QUOTED])
        expires_in = room.conversation.expires_in
        said = DataMessage(text, self.clock.tick(), key, None, quoted, tuple(attachments), tuple(mentions), expires_in)
        message = message_of(by, said)
        room.messages[message.id] = message
        room.got[message.id] = frozenset((by, *self._send(by, room, said)))
        return message.id

    def edit(self, by: ServiceId, key: bytes, message: MessageId, text: str) -> None:
        """Somebody edits their message. Raises as :meth:`delete`."""
        room = self._room_of_own(by, key, message)
        another = DataMessage(text, self.clock.tick(), key)
        self._say_of(by, room, Edit(message.timestamp, another))

    def delete(self, by: ServiceId, key: bytes, message: MessageId) -> None:
        """Somebody deletes their message.

        Raises:
            UnknownConversation, UnknownMessage: there is none.
            NotAllowed: it is another's.
        """
        room = self._room_of_own(by, key, message)
        self._say_of(by, room, Deletion(message.timestamp, self.clock.tick(), key))

    def react(self, by: ServiceId, key: bytes, message: MessageId, emoji: str, *, remove: bool) -> None:
        """Somebody reacts. Raises ``UnknownConversation`` and ``UnknownMessage``."""
        if not emoji:
            raise ValueError("a reaction is one emoji")
        room = self.room(key, by)
        self._message(room, message)
        self._say_of(by, room, Reaction(emoji, message, self.clock.tick(), key, remove))

    def read(self, by: ServiceId, key: bytes, messages: Iterable[MessageId]) -> None:
        """Somebody has read these; their authors are told."""
        room = self.room(key, by)
        named = [each for each in dict.fromkeys(messages) if each in room.messages and each.author != by]
        for author in dict.fromkeys(each.author for each in named):
            theirs = tuple(each for each in named if each.author == author)
            latest = max(each.timestamp for each in theirs)
            self._deliver(author, MessagesRead(key, by, latest, theirs))

    def type(self, by: ServiceId, key: bytes, *, started: bool) -> None:
        """Somebody begins or ceases to write."""
        room = self.room(key, by)
        self._tell(by, TypingChanged(key, by, self.clock.tick(), started), room.conversation.members)

    def messages(self, who: ServiceId, key: bytes) -> list[ChatMessage]:
        """What somebody has got and still knows. Raises ``UnknownConversation``."""
        room = self.rooms.get(key)
        if room is None:
            raise UnknownConversation
        return [message for named, message in room.messages.items() if who in room.got[named]]

    def _send(self, by: ServiceId, room: Room, said: Said) -> list[ServiceId]:
        """To whom it goes: bots that do not read all get what is addressed to them."""
        conversation = room.conversation
        receivers = [who for who in conversation.others(by) if conversation.is_for(who, said)]
        self._tell(by, event_of(by, conversation.key, said), receivers)
        return receivers

    def _say_of(self, by: ServiceId, room: Room, said: Edit | Reaction | Deletion) -> None:
        target = target_of(by, said)
        room.messages[target] = room.messages[target].with_said(by, said)
        knew, conversation = room.got[target], room.conversation
        receivers = [who for who in conversation.others(by) if who in knew and conversation.is_for(who, said)]
        self._tell(by, event_of(by, conversation.key, said), receivers)

    def _room_of_own(self, by: ServiceId, key: bytes, message: MessageId) -> Room:
        room = self.room(key, by)
        if message.author != by:
            raise NotAllowed
        self._message(room, message)
        return room

    def _message(self, room: Room, message: MessageId) -> ChatMessage:
        known = room.messages.get(message)
        if known is None or known.deleted:
            raise UnknownMessage
        return known

    # --- files ---

    def upload(self, data: bytes, *, content_type: str, file_name: str) -> AttachmentPointer:
        """Keep a file."""
        key = secrets.token_urlsafe(24)
        self.files[key] = data
        hidden = secrets.token_bytes(ATTACHMENT_SECRET), secrets.token_bytes(DIGEST)
        return AttachmentPointer(3, key, *hidden, len(data), content_type, file_name)

    def file(self, pointer: AttachmentPointer) -> bytes:
        """Give it out.

        Raises:
            AttachmentMissing: there is none.
        """
        if pointer.key not in self.files:
            raise AttachmentMissing
        return self.files[pointer.key]

    # --- the assistant ---

    def ask(self, by: ServiceId, key: bytes, messages: Iterable[MessageId]) -> Result:
        """What ``summarize`` makes of those messages whose authors have opted in."""
        room = self.room(key, by)
        asked = [room.messages[each] for each in messages if each in room.messages]
        shared = [message for message in asked if message.id.author in room.opted_in]
        summary = self.summarize(room, shared)
        coverage = Coverage(len(shared), len(asked) - len(shared), 0)
        told = replace(summary, coverage=coverage)
        return Result(kind=told, salt=secrets.token_bytes(SALT), engine="memory")


def first_words(_: Room, messages: Sequence[ChatMessage]) -> Summary:
    """A summary for tests: each message is a line of its own."""
    lines = [SummaryLine(each.text, "said", (each.id,), each.id.author) for each in messages]
    return Summary(tuple(lines), Coverage(len(messages), 0, 0))


def _change(by: ServiceId, before: Conversation | None, after: Conversation) -> ConversationChanged:
    known = () if before is None else before.members
    return ConversationChanged(
        after.key,
        by,
        after.revision,
        joined=tuple(who for who in after.members if who not in known),
        left=tuple(who for who in known if who not in after.members),
        settings=before is None or _settings(before) != _settings(after),
    )


def _settings(conversation: Conversation) -> tuple[object, ...]:
    return conversation.title, conversation.admins, conversation.bots, conversation.expires_in

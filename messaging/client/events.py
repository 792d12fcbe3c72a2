"""What happens in conversations, as a program hears of it: typed, with a name that stays the same however often it is told.

An event is stored in the transaction that takes what it tells of (``Chats`` calls its journal), so a crash loses none. No I/O.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from messaging.client.stores import StoreTransaction
from messaging.wire.consent import conversation_id
from messaging.wire.data import AttachmentPointer, Mention, Quote
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.json import decode_base64, encode_base64

_EVENT = b"subrosa event v1\x00"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that ``sender`` did in a conversation at ``timestamp``, milliseconds since 1970 by their clock.

    ``conversation`` is its master key. What changes a conversation has its revision for a timestamp.
    """

    kind: ClassVar[str] = ""
    conversation: bytes = field(repr=False)
    sender: ServiceId
    timestamp: int

    @property
    def id(self) -> str:
        """32 hexadecimal digits: the same whenever this event is told, and another for any other one."""
        named = [self.kind, str(self.sender), str(self.timestamp), *self._about()]
        return hashlib.sha256(_EVENT + conversation_id(self.conversation) + "\n".join(named).encode()).hexdigest()[:32]

    def _about(self) -> Iterable[str]:
        """What else tells it from others of its sender and time, whose clock may say the same twice. No content: a hash can be guessed."""
        return ()


@dataclass(frozen=True, slots=True)
class MessageReceived(Event):
    """Somebody wrote. Whoever has read it deletes it ``expires_in`` seconds later, with 0 never."""

    kind: ClassVar[str] = "message"
    text: str = field(repr=False)
    quote: Quote | None = None
    attachments: tuple[AttachmentPointer, ...] = ()
    mentions: tuple[Mention, ...] = ()
    expires_in: int = 0

    @property
    def message(self) -> MessageId:
        """Names it."""
        return MessageId(self.sender, self.timestamp)


@dataclass(frozen=True, slots=True)
class MessageEdited(Event):
    """The sender gave their ``message`` another text."""

    kind: ClassVar[str] = "edit"
    message: MessageId
    text: str = field(repr=False)

    def _about(self) -> Iterable[str]:
        return _words(self.message)


@dataclass(frozen=True, slots=True)
class MessageDeleted(Event):
    """The sender wants their ``message`` forgotten."""

    kind: ClassVar[str] = "deletion"
    message: MessageId

    def _about(self) -> Iterable[str]:
        return _words(self.message)


@dataclass(frozen=True, slots=True)
class Reacted(Event):
    """The sender put ``emoji`` on ``message``, or took it back (``removed``)."""

    kind: ClassVar[str] = "reaction"
    message: MessageId
    emoji: str = field(repr=False)
    removed: bool = False

    def _about(self) -> Iterable[str]:
        return (*_words(self.message), str(self.removed))


@dataclass(frozen=True, slots=True)
class ConversationChanged(Event):
    """A member began or changed a conversation; ``timestamp`` is its revision.

    Who has come and who has gone; this account is among them if it is in, or out, from now on. ``settings``: title, roles, bots or
    the time after which messages are deleted are others now.
    """

    kind: ClassVar[str] = "conversation"
    joined: tuple[ServiceId, ...] = ()
    left: tuple[ServiceId, ...] = ()
    settings: bool = False

    def _about(self) -> Iterable[str]:
        return (*map(str, self.joined), "left", *map(str, self.left), str(self.settings))


@dataclass(frozen=True, slots=True)
class MessagesRead(Event):
    """The sender has read these messages of this account."""

    kind: ClassVar[str] = "read"
    messages: tuple[MessageId, ...] = ()

    def _about(self) -> Iterable[str]:
        return [word for each in self.messages for word in _words(each)]


@dataclass(frozen=True, slots=True)
class TypingChanged(Event):
    """The sender begins or ceases to write. It is told while it happens, and never kept."""

    kind: ClassVar[str] = "typing"
    started: bool = True

    def _about(self) -> Iterable[str]:
        return (str(self.started),)


Journal = Callable[[StoreTransaction, Event], None]
"""Stores an event, in the transaction that it is given: both are written, or neither."""

_KINDS: Mapping[str, type[Event]] = {
    each.kind: each
    for each in (MessageReceived, MessageEdited, MessageDeleted, Reacted, ConversationChanged, MessagesRead)
}


def encode_event(event: Event) -> bytes:
    """For the store.

    Raises:
        ValueError: of a kind that is not kept.
    """
    if event.kind not in _KINDS:
        raise ValueError("this event is not kept")
    members: dict[str, Any] = {
        "kind": event.kind,
        "conversation": encode_base64(event.conversation),
        "sender": str(event.sender),
        "timestamp": event.timestamp,
    }
    match event:
        case MessageReceived():
            members |= {
                "text": event.text,
                "quote": None if event.quote is None else [*_named(event.quote.message), event.quote.text],
                "attachments": [write_pointer(each) for each in event.attachments],
                "mentions": [[each.start, each.length, str(each.who)] for each in event.mentions],
                "expires_in": event.expires_in,
            }
        case MessageEdited():
            members |= {"message": _named(event.message), "text": event.text}
        case MessageDeleted():
            members |= {"message": _named(event.message)}
        case Reacted():
            members |= {"message": _named(event.message), "emoji": event.emoji, "removed": event.removed}
        case ConversationChanged():
            members |= {
                "joined": list(map(str, event.joined)),
                "left": list(map(str, event.left)),
                "settings": event.settings,
            }
        case MessagesRead():
            members |= {"messages": [_named(each) for each in event.messages]}
    return json.dumps(members).encode()


def decode_event(data: bytes) -> Event:
    """Undo :func:`encode_event`."""
    members = json.loads(data)
    named = (decode_base64(members["conversation"]), ServiceId.parse(members["sender"]), members["timestamp"])
    kind = _KINDS[members["kind"]]
    if kind is MessageReceived:
        quote = members["quote"]
        return MessageReceived(
            *named,
            text=members["text"],
            quote=None if quote is None else Quote(_message(quote[:2]), quote[2]),
            attachments=tuple(map(read_pointer, members["attachments"])),
            mentions=tuple(Mention(start, length, ServiceId.parse(who)) for start, length, who in members["mentions"]),
            expires_in=members["expires_in"],
        )
    if kind is MessageEdited:
        return MessageEdited(*named, _message(members["message"]), members["text"])
    if kind is MessageDeleted:
        return MessageDeleted(*named, _message(members["message"]))
    if kind is Reacted:
        return Reacted(*named, _message(members["message"]), members["emoji"], members["removed"])
    if kind is MessagesRead:
        return MessagesRead(*named, tuple(map(_message, members["messages"])))
    joined, left = (tuple(map(ServiceId.parse, members[each])) for each in ("joined", "left"))
    return ConversationChanged(*named, joined, left, members["settings"])


def write_pointer(pointer: AttachmentPointer) -> list[Any]:
    """An attachment's pointer as JSON holds it."""
    secrets = [encode_base64(pointer.secret), encode_base64(pointer.digest)]
    return [pointer.cdn, pointer.key, *secrets, pointer.size, pointer.content_type, pointer.file_name]


def read_pointer(parts: list[Any]) -> AttachmentPointer:
    """Undo :func:`write_pointer`."""
    cdn, key, secret, digest, *rest = parts
    return AttachmentPointer(cdn, key, decode_base64(secret), decode_base64(digest), *rest)


def _words(message: MessageId) -> tuple[str, str]:
    return str(message.author), str(message.timestamp)


def _named(message: MessageId) -> list[Any]:
    return [str(message.author), message.timestamp]


def _message(parts: list[Any]) -> MessageId:
    return MessageId(ServiceId.parse(parts[0]), parts[1])

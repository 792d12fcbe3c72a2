"""What was said in a conversation, as it stands now: messages with their edits and reactions. No I/O.

What arrives in another order leads to the same: of edits, and of the reactions of each member, the latest by its author's clock
stands, of two of the same time one that anybody would choose, and a deleted message stays deleted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from messaging.client.events import (
    Event,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    Reacted,
    read_pointer,
    write_pointer,
)
from messaging.wire.data import AttachmentPointer, DataMessage, Deletion, Edit, Mention, Quote, Reaction, Said
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.json import decode_base64, encode_base64

MAX_REACTIONS = 1000  # members whose reaction to one message is kept: as many as a conversation has


@dataclass(frozen=True, slots=True)
class GivenReaction:
    """What a member thinks of a message; without an ``emoji`` they have taken it back."""

    emoji: str = field(repr=False)
    timestamp: int


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """Something that was said.

    ``roster`` is, of an own message, the digest of our view of the members when it was written. ``edited`` is the timestamp of the
    edit that stands, 0 without one. A ``deleted`` message has nothing but its name. One that expires does so at ``expires_at``,
    milliseconds since 1970, which is ``None`` until it was read.
    """

    id: MessageId
    text: str = field(repr=False)
    roster: bytes | None = field(default=None, repr=False)
    quote: Quote | None = field(default=None, repr=False)
    attachments: tuple[AttachmentPointer, ...] = field(default=(), repr=False)
    mentions: tuple[Mention, ...] = field(default=(), repr=False)
    expires_in: int = 0
    edited: int = 0
    deleted: bool = False
    reactions: Mapping[ServiceId, GivenReaction] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    expires_at: int | None = None

    def with_said(self, author: ServiceId, said: Edit | Reaction | Deletion) -> "ChatMessage":
        """Note what ``author`` says of it; the same object if that is no news, or not theirs to say."""
        if self.deleted:
            return self
        match said:
            case Edit(_, message):
                if author != self.id.author or message.timestamp <= self.id.timestamp:
                    return self
                if _text(message.timestamp, message.body, message.mentions) <= self._stands:
                    return self
                return replace(self, text=message.body, mentions=message.mentions, edited=message.timestamp)
            case Deletion():
                return ChatMessage(self.id, "", deleted=True) if author == self.id.author else self
            case Reaction():
                return self._with_reaction(author, said)

    @property
    def _stands(self) -> tuple[object, ...]:
        """Of two texts the one with the greater one stands."""
        return _text(self.edited, self.text, self.mentions)

    def _with_reaction(self, author: ServiceId, said: Reaction) -> "ChatMessage":
        known = self.reactions.get(author)
        given = GivenReaction("" if said.remove else said.emoji, said.timestamp)
        if known is None and len(self.reactions) >= MAX_REACTIONS:
            return self
        if known is not None and (given.timestamp, given.emoji) <= (known.timestamp, known.emoji):
            return self
        return replace(self, reactions=MappingProxyType({**self.reactions, author: given}))

    def quotes(self, message: MessageId) -> bool:
        """Whether it repeats words of another message."""
        return self.quote is not None and self.quote.message == message and self.quote.text != ""

    def without_quoted_text(self) -> "ChatMessage":
        """The same, when what it quotes has been deleted."""
        return self if self.quote is None else replace(self, quote=Quote(self.quote.message))

    def as_data(self, conversation: bytes) -> DataMessage:
        """As it is sent, with the text that stands."""
        return DataMessage(
            self.text,
            self.id.timestamp,
            conversation,
            self.roster,
            self.quote,
            self.attachments,
            self.mentions,
            self.expires_in,
        )


def _text(timestamp: int, text: str, mentions: tuple[Mention, ...]) -> tuple[object, ...]:
    return timestamp, text, [(each.start, each.length, str(each.who)) for each in mentions]


def message_of(author: ServiceId, data: DataMessage) -> ChatMessage:
    """A message as it arrived, or was written."""
    return ChatMessage(
        MessageId(author, data.timestamp),
        data.body,
        data.roster,
        data.quote,
        data.attachments,
        data.mentions,
        data.expires_in,
    )


def target_of(author: ServiceId, said: Edit | Reaction | Deletion) -> MessageId:
    """The message that something is said of."""
    return said.target if isinstance(said, Reaction) else MessageId(author, said.target)


def event_of(author: ServiceId, conversation: bytes, said: Said) -> Event:
    """What a program hears of it."""
    named = (conversation, author, said.timestamp)
    match said:
        case DataMessage():
            return MessageReceived(*named, said.body, said.quote, said.attachments, said.mentions, said.expires_in)
        case Edit(target, message):
            return MessageEdited(*named, MessageId(author, target), message.body)
        case Deletion(target):
            return MessageDeleted(*named, MessageId(author, target))
        case Reaction():
            return Reacted(*named, said.target, said.emoji, said.remove)


def write_message(conversation: bytes, message: ChatMessage) -> bytes:
    """For the store."""
    quote = message.quote
    members: dict[str, Any] = {
        "conversation": encode_base64(conversation),
        "author": str(message.id.author),
        "timestamp": message.id.timestamp,
        "text": message.text,
    }
    more: dict[str, Any] = {
        "roster": None if message.roster is None else encode_base64(message.roster),
        "quote": None if quote is None else [str(quote.message.author), quote.message.timestamp, quote.text],
        "attachments": [write_pointer(each) for each in message.attachments],
        "mentions": [[each.start, each.length, str(each.who)] for each in message.mentions],
        "expires_in": message.expires_in,
        "edited": message.edited,
        "deleted": message.deleted,
        "reactions": [[str(who), given.emoji, given.timestamp] for who, given in message.reactions.items()],
        "expires_at": message.expires_at,
    }
    return json.dumps(members | {name: value for name, value in more.items() if value}).encode()


def read_message(entry: bytes) -> tuple[bytes, ChatMessage]:
    """Undo :func:`write_message`; returns the conversation's key as well."""
    members = json.loads(entry)
    if isinstance(members, list):
        return _read_older(members)
    quote, roster = members.get("quote"), members.get("roster")
    message = ChatMessage(
        MessageId(ServiceId.parse(members["author"]), members["timestamp"]),
        members["text"],
        None if roster is None else decode_base64(roster),
        None if quote is None else Quote(MessageId(ServiceId.parse(quote[0]), quote[1]), quote[2]),
        tuple(map(read_pointer, members.get("attachments", ()))),
        tuple(Mention(start, length, ServiceId.parse(who)) for start, length, who in members.get("mentions", ())),
        members.get("expires_in", 0),
        members.get("edited", 0),
        members.get("deleted", False),
        MappingProxyType(
            {ServiceId.parse(who): GivenReaction(emoji, at) for who, emoji, at in members.get("reactions", ())}
        ),
        members.get("expires_at"),
    )
    return decode_base64(members["conversation"]), message


def _read_older(parts: list[Any]) -> tuple[bytes, ChatMessage]:
    """As versions before edits and reactions wrote it; the oldest end with the text."""
    key, author, timestamp, text, *roster = parts
    digest = decode_base64(roster[0]) if roster and roster[0] else None
    return decode_base64(key), ChatMessage(MessageId(ServiceId.parse(author), timestamp), text, digest)

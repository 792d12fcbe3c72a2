"""What people say to each other in a conversation: messages, and what is said of messages.

Fields carry the numbers of Signal's ``DataMessage`` and ``EditMessage``. A message is named by its author and the timestamp that its
author gave it; so is everything else here, since each has a timestamp of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import assert_never

from messaging.wire.errors import MalformedField
from messaging.wire.fields import dated, sized
from messaging.wire.identifiers import IdentityKind, MessageId, ServiceId
from messaging.wire.limits import (
    ATTACHMENT_SECRET,
    DIGEST,
    MASTER_KEY,
    MAX_ATTACHMENT_KEY,
    MAX_ATTACHMENTS,
    MAX_CONTENT_TYPE,
    MAX_EMOJI,
    MAX_FILE_NAME,
    MAX_MENTIONS,
    MAX_QUOTED,
)
from messaging.wire.protobuf import content_pb2 as pb


@dataclass(frozen=True, slots=True)
class AttachmentPointer:
    """Where an encrypted file lies, and what opens it. ``size`` is bytes of the plaintext; see ``client.attachments``.

    ``secret`` is 64 bytes: a key for AES-256, and one for HMAC-SHA256. ``digest`` is SHA-256 of everything that was uploaded.
    ``content_type`` and ``file_name`` are the sender's word.
    """

    cdn: int
    key: str = field(repr=False)
    secret: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    size: int
    content_type: str = field(repr=False)
    file_name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Quote:
    """The message that is answered, with its first words as the sender saw them."""

    message: MessageId
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Mention:
    """A part of a text that names somebody: from ``start`` on, ``length`` UTF-16 code units."""

    start: int
    length: int
    who: ServiceId


@dataclass(frozen=True, slots=True)
class DataMessage:
    """Something that a person wrote. ``conversation`` is its master key, ``None`` outside a conversation.

    ``roster`` is the digest of the author's :class:`~messaging.wire.content.Roster` when it was written, told to the assistant or
    not. With ``None`` the assistant uses it for nobody but its author. Whoever has read it deletes it ``expires_in`` seconds later,
    with 0 never.
    """

    body: str = field(repr=False)
    timestamp: int
    conversation: bytes | None = field(default=None, repr=False)
    roster: bytes | None = field(default=None, repr=False)
    quote: Quote | None = None
    attachments: tuple[AttachmentPointer, ...] = ()
    mentions: tuple[Mention, ...] = ()
    expires_in: int = 0


@dataclass(frozen=True, slots=True)
class Edit:
    """Another text for the own message with the timestamp ``target``; ``message`` has a timestamp of its own."""

    target: int
    message: DataMessage

    @property
    def timestamp(self) -> int:
        """Of the edit."""
        return self.message.timestamp

    @property
    def conversation(self) -> bytes | None:
        """Its master key."""
        return self.message.conversation


@dataclass(frozen=True, slots=True)
class Reaction:
    """An emoji on a message, or its end (``remove``). The latest reaction of each member stands."""

    emoji: str = field(repr=False)
    target: MessageId
    timestamp: int
    conversation: bytes | None = field(default=None, repr=False)
    remove: bool = False


@dataclass(frozen=True, slots=True)
class Deletion:
    """The own message with the timestamp ``target`` is to be forgotten by all."""

    target: int
    timestamp: int
    conversation: bytes | None = field(default=None, repr=False)


Said = DataMessage | Edit | Reaction | Deletion


def said_to_protobuf(said: DataMessage | Reaction | Deletion) -> pb.DataMessage:
    """What goes into ``Content.data_message``."""
    match said:
        case DataMessage():
            return _message_to_protobuf(said)
        case Reaction():
            data = _data(said.timestamp, said.conversation)
            data.reaction.CopyFrom(
                pb.DataMessage.Reaction(
                    emoji=said.emoji,
                    remove=said.remove,
                    target_author_aci=str(said.target.author),
                    target_sent_timestamp=said.target.timestamp,
                )
            )
            return data
        case Deletion():
            data = _data(said.timestamp, said.conversation)
            data.delete.target_sent_timestamp = said.target
            return data
        case _:
            assert_never(said)


def edit_to_protobuf(edit: Edit) -> pb.EditMessage:
    """What goes into ``Content.edit_message``."""
    return pb.EditMessage(target_sent_timestamp=edit.target, data_message=_message_to_protobuf(edit.message))


def said_from_protobuf(data: pb.DataMessage) -> DataMessage | Reaction | Deletion | None:
    """Undo :func:`said_to_protobuf`; ``None`` if it is of a kind that this version does not know.

    Raises:
        MalformedField: a field does not have its shape, or is beyond its limit.
    """
    timestamp, conversation = dated(data.timestamp), _conversation_of(data)
    if data.HasField("reaction"):
        reaction = data.reaction
        target = MessageId(_aci(reaction.target_author_aci), dated(reaction.target_sent_timestamp))
        emoji = _short(reaction.emoji, MAX_EMOJI, "emoji")
        if not (emoji or reaction.remove):
            raise MalformedField("emoji")
        return Reaction(emoji, target, timestamp, conversation, reaction.remove)
    if data.HasField("delete"):
        return Deletion(dated(data.delete.target_sent_timestamp), timestamp, conversation)
    if not (data.HasField("body") or data.attachments):
        return None
    return _message_from_protobuf(data, timestamp, conversation)


def edit_from_protobuf(edit: pb.EditMessage) -> Edit | None:
    """Undo :func:`edit_to_protobuf`; ``None`` and raises as :func:`said_from_protobuf`."""
    message = said_from_protobuf(edit.data_message)
    return Edit(dated(edit.target_sent_timestamp), message) if isinstance(message, DataMessage) else None


def _data(timestamp: int, conversation: bytes | None) -> pb.DataMessage:
    data = pb.DataMessage(timestamp=timestamp)
    if conversation is not None:
        data.group_v2.master_key = conversation
    return data


def _message_to_protobuf(message: DataMessage) -> pb.DataMessage:
    data = _data(message.timestamp, message.conversation)
    data.body = message.body
    if message.conversation is not None and message.roster is not None:
        data.group_v2.roster = message.roster
    if message.quote is not None:
        quoted = message.quote.message
        data.quote.CopyFrom(
            pb.DataMessage.Quote(id=quoted.timestamp, author_aci=str(quoted.author), text=message.quote.text)
        )
    data.attachments.extend(map(_pointer_to_protobuf, message.attachments))
    data.body_ranges.extend(
        pb.BodyRange(start=each.start, length=each.length, mention_aci=str(each.who)) for each in message.mentions
    )
    if message.expires_in:
        data.expire_timer = message.expires_in
    return data


def _pointer_to_protobuf(pointer: AttachmentPointer) -> pb.AttachmentPointer:
    return pb.AttachmentPointer(
        content_type=pointer.content_type,
        key=pointer.secret,
        size=pointer.size,
        digest=pointer.digest,
        file_name=pointer.file_name,
        cdn_number=pointer.cdn,
        cdn_key=pointer.key,
    )


def _message_from_protobuf(data: pb.DataMessage, timestamp: int, conversation: bytes | None) -> DataMessage:
    if len(data.attachments) > MAX_ATTACHMENTS:
        raise MalformedField("attachments")
    roster = None
    if data.HasField("group_v2") and data.group_v2.HasField("roster"):
        roster = sized(data.group_v2.roster, DIGEST, "roster")
    return DataMessage(
        data.body,
        timestamp,
        conversation,
        roster,
        quote=_quote(data.quote) if data.HasField("quote") else None,
        attachments=tuple(map(_pointer, data.attachments)),
        mentions=_mentions(data.body_ranges),
        expires_in=data.expire_timer,
    )


def _quote(quote: pb.DataMessage.Quote) -> Quote:
    return Quote(MessageId(_aci(quote.author_aci), dated(quote.id)), _short(quote.text, MAX_QUOTED, "quote"))


def _pointer(pointer: pb.AttachmentPointer) -> AttachmentPointer:
    return AttachmentPointer(
        cdn=pointer.cdn_number,
        key=_short(pointer.cdn_key, MAX_ATTACHMENT_KEY, "cdn key"),
        secret=sized(pointer.key, ATTACHMENT_SECRET, "key"),
        digest=sized(pointer.digest, DIGEST, "digest"),
        size=pointer.size,
        content_type=_short(pointer.content_type, MAX_CONTENT_TYPE, "content type"),
        file_name=_short(pointer.file_name, MAX_FILE_NAME, "file name"),
    )


def _mentions(ranges: Iterable[pb.BodyRange]) -> tuple[Mention, ...]:
    named = [each for each in ranges if each.HasField("mention_aci")]  # others are for the eye
    if len(named) > MAX_MENTIONS:
        raise MalformedField("mentions")
    return tuple(Mention(each.start, each.length, _aci(each.mention_aci)) for each in named)


def _conversation_of(data: pb.DataMessage) -> bytes | None:
    return sized(data.group_v2.master_key, MASTER_KEY, "master key") if data.HasField("group_v2") else None


def _aci(text: str) -> ServiceId:
    service_id = ServiceId.parse(text)
    if service_id.kind is not IdentityKind.ACI:
        raise MalformedField("author")
    return service_id


def _short(text: str, most: int, name: str) -> str:
    if len(text) > most:
        raise MalformedField(name)
    return text

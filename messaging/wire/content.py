"""What a ciphertext holds, padded: messages between people, and between people and the assistant.

Fields carry the numbers of Signal's ``Content`` and ``DataMessage``; ours are 1000 and above. A message is named as
Signal names it, by its author and its timestamp. What a request or an answer of the assistant says is for
``messaging.wire.assistant`` to read; here it is bytes. What people say to each other is in ``messaging.wire.data``.
"""

from dataclasses import dataclass, field
from typing import assert_never

from google.protobuf.message import DecodeError

from messaging.wire.consent import SignedConsent, check_sizes, roster_digest
from messaging.wire.data import (
    AttachmentPointer,
    DataMessage,
    Deletion,
    Edit,
    Mention,
    Quote,
    Reaction,
    Said,
    edit_from_protobuf,
    edit_to_protobuf,
    said_from_protobuf,
    said_to_protobuf,
)
from messaging.wire.errors import MalformedContent, MalformedField
from messaging.wire.fields import dated, sized
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import (
    ANSWER_BUCKETS,
    DIGEST,
    FRAME,
    FRAME_DATA,
    MASTER_KEY,
    MAX_BOTS,
    MAX_CONVERSATION_MEMBERS,
    MAX_PROFILE_ABOUT,
    MAX_PROFILE_NAME,
    MAX_REVISION,
    MEMBER_TAG,
    PROFILE_KEY,
    REQUEST_BUCKETS,
    REQUEST_ID,
)
from messaging.wire.padding import pad, pad_to_bucket, unpad
from messaging.wire.protobuf import content_pb2 as pb

__all__ = [
    "AnswerFrame",
    "AssistantCall",
    "AttachmentPointer",
    "ConsentUpdate",
    "Content",
    "ConversationUpdate",
    "DataMessage",
    "Deletion",
    "DeliveryReceipt",
    "Edit",
    "ListedBot",
    "Mention",
    "ProfileKeyUpdate",
    "ProfileUpdate",
    "Quote",
    "Reaction",
    "ReadReceipt",
    "Roster",
    "Said",
    "SenderKeyDistribution",
    "SentTranscript",
    "Told",
    "Typing",
    "Unsupported",
    "decode_content",
    "encode_content",
]


@dataclass(frozen=True, slots=True)
class ProfileKeyUpdate:
    """The sender's profile key (32 bytes): with it, messages to them can be sealed."""

    profile_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SenderKeyDistribution:
    """A sender key of the sending device, as libsignal writes it; only ever inside a pairwise session."""

    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """The messages with these timestamps, written by the receiver of this receipt, have arrived."""

    timestamps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    """The messages with these timestamps, written by the receiver of this receipt, have been read."""

    timestamps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Typing:
    """The sender begins or ceases to write. ``conversation_id`` names the conversation without giving its key away."""

    started: bool
    timestamp: int
    conversation_id: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ProfileUpdate:
    """What the sender wants to be called, and what they say of themselves. The one with the greatest timestamp stands."""

    name: str = field(repr=False)
    about: str = field(default="", repr=False)
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class ListedBot:
    """A member that is a program. Unless it ``reads_all``, others send it only what is addressed to it."""

    service_id: ServiceId
    reads_all: bool = False


@dataclass(frozen=True, slots=True)
class ConversationUpdate:
    """A conversation as its members know it; the relay never learns that it exists. The greatest revision stands.

    ``admins`` are those who may change it; with none everybody may. ``bots`` are the members that are programs. Messages are
    deleted ``expires_in`` seconds after they were read, with 0 never.
    """

    conversation: bytes = field(repr=False)
    title: str = field(repr=False)
    members: tuple[ServiceId, ...]
    revision: int = 0
    admins: tuple[ServiceId, ...] = ()
    bots: tuple[ListedBot, ...] = ()
    expires_in: int = 0


@dataclass(frozen=True, slots=True)
class ConsentUpdate:
    """What the sender lets the assistant do with their own messages in this conversation.

    ``assistant`` is the one that the sender shares with now, ``None`` if there is none: a hint for the other members.
    """

    conversation: bytes = field(repr=False)
    consent: SignedConsent
    assistant: ServiceId | None = None


@dataclass(frozen=True, slots=True)
class Roster:
    """Whom the sender counts among the members: ``messaging.wire.consent.member_tag`` of each, with the identity key that they trust.

    The greatest revision stands; of two with the same one, that which came last.
    """

    conversation: bytes = field(repr=False)
    revision: int
    tags: frozenset[bytes] = field(repr=False)

    def digest(self) -> bytes:
        """What a message names it by."""
        return roster_digest(self.conversation, self.revision, self.tags)


@dataclass(frozen=True, slots=True)
class SentTranscript:
    """To the sender's own other devices: what this account has said."""

    message: Said


@dataclass(frozen=True, slots=True)
class Told:
    """To the sender's own other devices: what ``author`` said before they joined."""

    author: ServiceId
    content: ConversationUpdate | ConsentUpdate


@dataclass(frozen=True, slots=True)
class AssistantCall:
    """A request to the assistant, as ``messaging.wire.assistant.AssistantRequest`` encodes it."""

    request: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AnswerFrame:
    """One part of an answer; see ``messaging.wire.answers``. ``data`` has at most ``FRAME_DATA`` bytes."""

    request_id: bytes
    index: int
    last: bool
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Well-formed content of a kind that this version does not know; newer clients may send it."""


Content = (
    Said
    | ProfileKeyUpdate
    | ProfileUpdate
    | SenderKeyDistribution
    | DeliveryReceipt
    | ReadReceipt
    | Typing
    | ConversationUpdate
    | ConsentUpdate
    | Roster
    | SentTranscript
    | Told
    | AssistantCall
    | AnswerFrame
    | Unsupported
)


def encode_content(content: Content) -> bytes:
    """The padded plaintext to encrypt: requests, rosters and frames to one of a few sizes, the rest in steps of 80 bytes.

    Raises:
        ValueError: ``Unsupported``, which nobody sends, or a request, a roster or a frame beyond its limits.
    """
    data = _to_protobuf(content).SerializeToString()
    match content:
        case AssistantCall() | Roster():
            return pad_to_bucket(data, REQUEST_BUCKETS)
        case AnswerFrame():
            return pad_to_bucket(data, (FRAME,))
        case _:
            return pad(data)


def decode_content(plaintext: bytes) -> Content:
    """Read a decrypted plaintext.

    Raises:
        MalformedContent: not padded, not protobuf, or a field that does not have its shape.
    """
    try:
        content = pb.Content.FromString(unpad(plaintext))
        return _from_protobuf(content)
    except (DecodeError, MalformedField):
        raise MalformedContent("content does not have its shape") from None


def _to_protobuf(content: Content) -> pb.Content:
    match content:
        case DataMessage() | Reaction() | Deletion():
            return pb.Content(data_message=said_to_protobuf(content))
        case Edit():
            return pb.Content(edit_message=edit_to_protobuf(content))
        case ProfileKeyUpdate(profile_key):
            flags = pb.DataMessage.PROFILE_KEY_UPDATE
            return pb.Content(data_message=pb.DataMessage(flags=flags, profile_key=profile_key))
        case SenderKeyDistribution(message):
            return pb.Content(sender_key_distribution_message=message)
        case DeliveryReceipt():
            receipt = pb.ReceiptMessage(type=pb.ReceiptMessage.DELIVERY, timestamp=content.timestamps)
            return pb.Content(receipt_message=receipt)
        case ReadReceipt():
            receipt = pb.ReceiptMessage(type=pb.ReceiptMessage.READ, timestamp=content.timestamps)
            return pb.Content(receipt_message=receipt)
        case Typing():
            return pb.Content(typing_message=_typing_to_protobuf(content))
        case ProfileUpdate(name, about, timestamp):
            return pb.Content(profile_update=pb.ProfileUpdate(name=name, about=about, timestamp=timestamp))
        case ConversationUpdate():
            return pb.Content(conversation_update=_conversation_to_protobuf(content))
        case ConsentUpdate():
            return pb.Content(consent_update=_consent_to_protobuf(content))
        case Roster():
            tags = b"".join(sorted(content.tags))
            return pb.Content(roster=pb.Roster(master_key=content.conversation, revision=content.revision, tags=tags))
        case SentTranscript(message):
            return pb.Content(sync_message=pb.SyncMessage(sent=_sent_to_protobuf(message)))
        case Told():
            return pb.Content(sync_message=pb.SyncMessage(told=_told_to_protobuf(content)))
        case AssistantCall(request):
            return pb.Content(assistant_request=request)
        case AnswerFrame():
            return pb.Content(answer_frame=_frame_to_protobuf(content))
        case Unsupported():
            raise ValueError("unsupported content cannot be sent")
        case _:
            assert_never(content)


def _sent_to_protobuf(said: Said) -> pb.SyncMessage.Sent:
    if isinstance(said, Edit):
        return pb.SyncMessage.Sent(timestamp=said.timestamp, edit_message=edit_to_protobuf(said))
    return pb.SyncMessage.Sent(timestamp=said.timestamp, message=said_to_protobuf(said))


def _typing_to_protobuf(typing: Typing) -> pb.TypingMessage:
    action = pb.TypingMessage.STARTED if typing.started else pb.TypingMessage.STOPPED
    message = pb.TypingMessage(timestamp=typing.timestamp, action=action)
    if typing.conversation_id is not None:
        message.group_id = typing.conversation_id
    return message


def _conversation_to_protobuf(update: ConversationUpdate) -> pb.ConversationUpdate:
    message = pb.ConversationUpdate(
        master_key=update.conversation,
        title=update.title,
        members=[member.to_bytes() for member in update.members],
        revision=update.revision,
        admins=[admin.to_bytes() for admin in update.admins],
        bots=[
            pb.ConversationUpdate.Bot(service_id=bot.service_id.to_bytes(), reads_all=bot.reads_all)
            for bot in update.bots
        ],
    )
    if update.expires_in:
        message.expire_timer = update.expires_in
    return message


def _consent_to_protobuf(update: ConsentUpdate) -> pb.ConsentUpdate:
    message = pb.ConsentUpdate(
        statement=update.consent.statement, signature=update.consent.signature, master_key=update.conversation
    )
    if update.assistant is not None:
        message.assistant = update.assistant.to_bytes()
    return message


def _told_to_protobuf(told: Told) -> pb.SyncMessage.Told:
    author = told.author.to_bytes()
    match told.content:
        case ConversationUpdate() as update:
            return pb.SyncMessage.Told(author=author, conversation_update=_conversation_to_protobuf(update))
        case ConsentUpdate() as update:
            return pb.SyncMessage.Told(author=author, consent_update=_consent_to_protobuf(update))
        case _:
            assert_never(told.content)


def _frame_to_protobuf(frame: AnswerFrame) -> pb.AnswerFrame:
    if len(frame.data) > FRAME_DATA or frame.index >= ANSWER_BUCKETS[-1]:
        raise ValueError("too much for a frame")
    return pb.AnswerFrame(request_id=frame.request_id, index=frame.index, last=frame.last, data=frame.data)


def _from_protobuf(content: pb.Content) -> Content:
    if content.HasField("data_message"):
        return _data_message(content.data_message)
    if content.HasField("sync_message"):
        return _sync_message(content.sync_message)
    if content.HasField("edit_message"):
        return edit_from_protobuf(content.edit_message) or Unsupported()
    if content.HasField("receipt_message"):
        return _receipt(content.receipt_message)
    if content.HasField("typing_message"):
        return _typing(content.typing_message)
    if content.HasField("sender_key_distribution_message"):
        return SenderKeyDistribution(content.sender_key_distribution_message)
    if content.HasField("conversation_update"):
        return _conversation_update(content.conversation_update)
    if content.HasField("consent_update"):
        return _consent_update(content.consent_update)
    if content.HasField("assistant_request"):
        return AssistantCall(content.assistant_request)
    if content.HasField("answer_frame"):
        return _answer_frame(content.answer_frame)
    if content.HasField("roster"):
        return _roster(content.roster)
    if content.HasField("profile_update"):
        return _profile(content.profile_update)
    return Unsupported()


def _data_message(message: pb.DataMessage) -> DataMessage | Reaction | Deletion | ProfileKeyUpdate | Unsupported:
    if message.flags & pb.DataMessage.PROFILE_KEY_UPDATE:
        return ProfileKeyUpdate(sized(message.profile_key, PROFILE_KEY, "profile key"))
    return said_from_protobuf(message) or Unsupported()


def _receipt(receipt: pb.ReceiptMessage) -> DeliveryReceipt | ReadReceipt | Unsupported:
    timestamps = tuple(map(dated, receipt.timestamp))
    if not receipt.HasField("type"):
        return Unsupported()  # or of a type that a newer version knows: protobuf shows those as no type
    if receipt.type == pb.ReceiptMessage.DELIVERY:
        return DeliveryReceipt(timestamps)
    return ReadReceipt(timestamps) if receipt.type == pb.ReceiptMessage.READ else Unsupported()


def _typing(typing: pb.TypingMessage) -> Typing | Unsupported:
    if not typing.HasField("action"):
        return Unsupported()
    conversation = sized(typing.group_id, DIGEST, "group id") if typing.HasField("group_id") else None
    return Typing(typing.action == pb.TypingMessage.STARTED, dated(typing.timestamp), conversation)


def _profile(profile: pb.ProfileUpdate) -> ProfileUpdate:
    if len(profile.name) > MAX_PROFILE_NAME or len(profile.about) > MAX_PROFILE_ABOUT:
        raise MalformedField("profile")
    return ProfileUpdate(profile.name, profile.about, dated(profile.timestamp))


def _sync_message(sync: pb.SyncMessage) -> SentTranscript | Told | Unsupported:
    if sync.HasField("sent"):
        sent = sync.sent
        edited = sent.HasField("edit_message")
        said = edit_from_protobuf(sent.edit_message) if edited else said_from_protobuf(sent.message)
        return Unsupported() if said is None else SentTranscript(said)
    if sync.HasField("told"):
        author = ServiceId.from_bytes(sync.told.author)
        if sync.told.HasField("conversation_update"):
            return Told(author, _conversation_update(sync.told.conversation_update))
        if sync.told.HasField("consent_update"):
            return Told(author, _consent_update(sync.told.consent_update))
    return Unsupported()


def _conversation_update(update: pb.ConversationUpdate) -> ConversationUpdate:
    if max(len(update.members), len(update.admins)) > MAX_CONVERSATION_MEMBERS or len(update.bots) > MAX_BOTS:
        raise MalformedField("members")
    return ConversationUpdate(
        sized(update.master_key, MASTER_KEY, "master key"),
        update.title,
        tuple(map(ServiceId.from_bytes, update.members)),
        _revision(update.revision),
        tuple(map(ServiceId.from_bytes, update.admins)),
        tuple(ListedBot(ServiceId.from_bytes(bot.service_id), bot.reads_all) for bot in update.bots),
        update.expire_timer,
    )


def _consent_update(update: pb.ConsentUpdate) -> ConsentUpdate:
    consent = SignedConsent(update.statement, update.signature)
    check_sizes(consent)
    return ConsentUpdate(
        sized(update.master_key, MASTER_KEY, "master key"),
        consent,
        ServiceId.from_bytes(update.assistant) if update.HasField("assistant") else None,
    )


def _roster(roster: pb.Roster) -> Roster:
    tags, rest = divmod(len(roster.tags), MEMBER_TAG)
    if rest or tags > MAX_CONVERSATION_MEMBERS:
        raise MalformedField("tags")
    found = frozenset(roster.tags[at : at + MEMBER_TAG] for at in range(0, len(roster.tags), MEMBER_TAG))
    return Roster(sized(roster.master_key, MASTER_KEY, "master key"), _revision(roster.revision), found)


def _answer_frame(frame: pb.AnswerFrame) -> AnswerFrame:
    if len(frame.data) > FRAME_DATA or frame.index >= ANSWER_BUCKETS[-1]:
        raise MalformedField("frame")
    return AnswerFrame(sized(frame.request_id, REQUEST_ID, "request id"), frame.index, frame.last, frame.data)


def _revision(revision: int) -> int:
    if revision > MAX_REVISION:
        raise MalformedField("revision")
    return revision

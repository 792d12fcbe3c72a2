"""What a ciphertext holds, padded: messages between people, and between people and the assistant.

Fields carry the numbers of Signal's ``Content`` and ``DataMessage``; ours are 1000 and above. A message is named as
Signal names it, by its author and its timestamp. Padding: the protobuf, one byte 0x80, then zeros up to a multiple of
``CONTENT_BLOCK`` less one (Signal-Android, ``PushTransportDetails``), so that lengths show only in steps.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from google.protobuf.message import DecodeError

from messaging.wire.errors import MalformedContent, MalformedField
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import CONTENT_BLOCK, MASTER_KEY, MAX_CONVERSATION_MEMBERS, MAX_EVIDENCE, NONCE, REQUEST_ID
from messaging.wire.protobuf import content_pb2 as pb
from messaging.wire.strings import check_strings


@dataclass(frozen=True, slots=True, order=True)
class MessageId:
    """Names one message: who wrote it and the timestamp its author gave it, in milliseconds since 1970."""

    author: ServiceId
    timestamp: int


@dataclass(frozen=True, slots=True)
class DataMessage:
    """Something that a person wrote. ``conversation`` is its master key, ``None`` outside a conversation."""

    body: str = field(repr=False)
    timestamp: int
    conversation: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """The messages with these timestamps, written by the receiver of this receipt, have arrived."""

    timestamps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConversationUpdate:
    """A conversation as its members know it; the relay never learns that it exists."""

    conversation: bytes = field(repr=False)
    title: str = field(repr=False)
    members: tuple[ServiceId, ...]


@dataclass(frozen=True, slots=True)
class ConsentUpdate:
    """Whether ``assistant`` may have the sender's own messages in this conversation; the latest timestamp stands."""

    conversation: bytes = field(repr=False)
    assistant: ServiceId
    opted_in: bool
    timestamp: int


@dataclass(frozen=True, slots=True)
class EvidenceRequest:
    """Prove where you run, for this ``nonce`` (32 random bytes, used once)."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Scope:
    """The messages that an answer may rest on.

    ``not_opted_in`` counts messages in the same range whose authors have not opted in: only their number is told.
    ``names`` says what the requester calls the members.
    """

    conversation: bytes = field(repr=False)
    messages: tuple[MessageId, ...]
    not_opted_in: int
    names: Mapping[ServiceId, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Summarize:
    """Summarize these messages, for me."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class SuggestReplies:
    """Suggest ``count`` replies that I could send now."""

    scope: Scope
    count: int


@dataclass(frozen=True, slots=True)
class AssistantRequest:
    """A request to the assistant; ``id`` is 16 random bytes that the answer repeats."""

    id: bytes
    kind: EvidenceRequest | Summarize | SuggestReplies


@dataclass(frozen=True, slots=True)
class Evidence:
    """An evidence document, as ``attestation`` reads it."""

    document: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """One line and the messages it rests on; a line without them is no line."""

    text: str = field(repr=False)
    kind: str
    cites: tuple[MessageId, ...]

    def __post_init__(self) -> None:
        if not self.cites:
            raise ValueError("a summary line must cite the messages it rests on")


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the scope an answer rests on: messages ``used``, and messages left out, by reason."""

    used: int
    not_opted_in: int
    not_held: int

    @property
    def left_out(self) -> int:
        """All messages of the range that the answer does not rest on."""
        return self.not_opted_in + self.not_held


@dataclass(frozen=True, slots=True)
class Summary:
    """The answer to :class:`Summarize`."""

    lines: tuple[SummaryLine, ...]
    coverage: Coverage
    engine: str
    weights_digest: bytes


@dataclass(frozen=True, slots=True)
class Replies:
    """The answer to :class:`SuggestReplies`."""

    texts: tuple[str, ...] = field(repr=False)
    coverage: Coverage
    engine: str
    weights_digest: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """The assistant does not answer; ``code`` says why, in one word of ``ai_enclave.assistant.errors``."""

    code: str


@dataclass(frozen=True, slots=True)
class AssistantAnswer:
    """The answer to the request ``id``."""

    id: bytes
    kind: Evidence | Summary | Replies | Refusal


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Well-formed content of a kind that this version does not know; newer clients may send it."""


Content = (
    DataMessage
    | DeliveryReceipt
    | ConversationUpdate
    | ConsentUpdate
    | AssistantRequest
    | AssistantAnswer
    | Unsupported
)


def encode_content(content: Content) -> bytes:
    """The padded plaintext to encrypt.

    Raises:
        ValueError: ``Unsupported``, which nobody sends.
    """
    return pad(_to_protobuf(content).SerializeToString())


def decode_content(plaintext: bytes) -> Content:
    """Read a decrypted plaintext.

    Raises:
        MalformedContent: not padded, not protobuf, or a field that does not have its shape.
    """
    try:
        content = pb.Content.FromString(unpad(plaintext))
        check_strings(content)
        return _from_protobuf(content)
    except (DecodeError, MalformedField):
        raise MalformedContent("content does not have its shape") from None


def pad(data: bytes) -> bytes:
    """``data``, 0x80, zeros: one byte less than a multiple of ``CONTENT_BLOCK``."""
    blocks = -(-(len(data) + 2) // CONTENT_BLOCK)
    return (data + b"\x80").ljust(blocks * CONTENT_BLOCK - 1, b"\x00")


def unpad(padded: bytes) -> bytes:
    """Undo :func:`pad`.

    Raises:
        MalformedContent: no 0x80 before the zeros.
    """
    data = padded.rstrip(b"\x00")
    if not data.endswith(b"\x80"):
        raise MalformedContent("content is not padded")
    return data[:-1]


def _to_protobuf(content: Content) -> pb.Content:
    match content:
        case DataMessage():
            message = pb.DataMessage(body=content.body, timestamp=content.timestamp)
            if content.conversation is not None:
                message.group_v2.master_key = content.conversation
            return pb.Content(data_message=message)
        case DeliveryReceipt():
            receipt = pb.ReceiptMessage(type=pb.ReceiptMessage.DELIVERY, timestamp=content.timestamps)
            return pb.Content(receipt_message=receipt)
        case ConversationUpdate():
            members = [member.to_bytes() for member in content.members]
            update = pb.ConversationUpdate(master_key=content.conversation, title=content.title, members=members)
            return pb.Content(conversation_update=update)
        case ConsentUpdate():
            return pb.Content(
                consent_update=pb.ConsentUpdate(
                    master_key=content.conversation,
                    assistant=content.assistant.to_bytes(),
                    opted_in=content.opted_in,
                    timestamp=content.timestamp,
                )
            )
        case AssistantRequest():
            return pb.Content(assistant_request=_request_to_protobuf(content))
        case AssistantAnswer():
            return pb.Content(assistant_answer=_answer_to_protobuf(content))
        case Unsupported():
            raise ValueError("unsupported content cannot be sent")
        case _:
            assert_never(content)


def _request_to_protobuf(request: AssistantRequest) -> pb.AssistantRequest:
    message = pb.AssistantRequest(request_id=request.id)
    match request.kind:
        case EvidenceRequest(nonce):
            message.evidence.nonce = nonce
        case Summarize(scope):
            message.summarize.scope.CopyFrom(_scope_to_protobuf(scope))
        case SuggestReplies(scope, count):
            message.suggest_replies.scope.CopyFrom(_scope_to_protobuf(scope))
            message.suggest_replies.count = count
        case _:
            assert_never(request.kind)
    return message


def _scope_to_protobuf(scope: Scope) -> pb.AssistantRequest.Scope:
    return pb.AssistantRequest.Scope(
        master_key=scope.conversation,
        messages=_references(scope.messages),
        not_opted_in=scope.not_opted_in,
        names=[pb.MemberName(member=member.to_bytes(), name=name) for member, name in scope.names.items()],
    )


def _answer_to_protobuf(answer: AssistantAnswer) -> pb.AssistantAnswer:
    message = pb.AssistantAnswer(request_id=answer.id)
    match answer.kind:
        case Evidence(document):
            message.evidence.deflated = zlib.compress(document, 9)
        case Summary(lines, coverage, engine, weights_digest):
            message.summary.MergeFrom(
                pb.AssistantAnswer.Summary(
                    lines=[
                        pb.AssistantAnswer.Line(text=line.text, kind=line.kind, cites=_references(line.cites))
                        for line in lines
                    ],
                    coverage=_coverage_to_protobuf(coverage),
                    engine=engine,
                    weights_digest=weights_digest,
                )
            )
        case Replies(texts, coverage, engine, weights_digest):
            message.replies.MergeFrom(
                pb.AssistantAnswer.Replies(
                    texts=texts,
                    coverage=_coverage_to_protobuf(coverage),
                    engine=engine,
                    weights_digest=weights_digest,
                )
            )
        case Refusal(code):
            message.refusal.code = code
        case _:
            assert_never(answer.kind)
    return message


def _references(messages: tuple[MessageId, ...]) -> list[pb.MessageReference]:
    return [pb.MessageReference(author=message.author.to_bytes(), timestamp=message.timestamp) for message in messages]


def _coverage_to_protobuf(coverage: Coverage) -> pb.AssistantAnswer.Coverage:
    return pb.AssistantAnswer.Coverage(
        used=coverage.used, not_opted_in=coverage.not_opted_in, not_held=coverage.not_held
    )


def _from_protobuf(content: pb.Content) -> Content:
    if content.HasField("data_message") and content.data_message.HasField("body"):
        return _data_message(content.data_message)
    if content.HasField("receipt_message") and content.receipt_message.type == pb.ReceiptMessage.DELIVERY:
        return DeliveryReceipt(tuple(content.receipt_message.timestamp))
    if content.HasField("conversation_update"):
        return _conversation_update(content.conversation_update)
    if content.HasField("consent_update"):
        update = content.consent_update
        return ConsentUpdate(
            _sized(update.master_key, MASTER_KEY, "master key"),
            ServiceId.from_bytes(update.assistant),
            update.opted_in,
            update.timestamp,
        )
    if content.HasField("assistant_request"):
        return _assistant_request(content.assistant_request)
    if content.HasField("assistant_answer"):
        return _assistant_answer(content.assistant_answer)
    return Unsupported()


def _data_message(message: pb.DataMessage) -> DataMessage:
    conversation = None
    if message.HasField("group_v2"):
        conversation = _sized(message.group_v2.master_key, MASTER_KEY, "master key")
    return DataMessage(message.body, message.timestamp, conversation)


def _conversation_update(update: pb.ConversationUpdate) -> ConversationUpdate:
    if len(update.members) > MAX_CONVERSATION_MEMBERS:
        raise MalformedField("members")
    members = tuple(ServiceId.from_bytes(member) for member in update.members)
    return ConversationUpdate(_sized(update.master_key, MASTER_KEY, "master key"), update.title, members)


def _assistant_request(request: pb.AssistantRequest) -> Content:
    request_id = _sized(request.request_id, REQUEST_ID, "request id")
    match request.WhichOneof("kind"):
        case "evidence":
            return AssistantRequest(request_id, EvidenceRequest(_sized(request.evidence.nonce, NONCE, "nonce")))
        case "summarize":
            return AssistantRequest(request_id, Summarize(_scope(request.summarize.scope)))
        case "suggest_replies":
            suggest = request.suggest_replies
            return AssistantRequest(request_id, SuggestReplies(_scope(suggest.scope), suggest.count))
        case _:
            return Unsupported()


def _scope(scope: pb.AssistantRequest.Scope) -> Scope:
    return Scope(
        conversation=_sized(scope.master_key, MASTER_KEY, "master key"),
        messages=_message_ids(scope.messages),
        not_opted_in=scope.not_opted_in,
        names={ServiceId.from_bytes(entry.member): entry.name for entry in scope.names},
    )


def _inflated(data: bytes) -> bytes:
    """Undo the deflation, and stop where it would grow beyond the limit."""
    inflater = zlib.decompressobj()
    try:
        document = inflater.decompress(data, MAX_EVIDENCE)
    except zlib.error:
        raise MalformedField("evidence") from None
    if not inflater.eof or inflater.unused_data or inflater.unconsumed_tail:
        raise MalformedField("evidence")
    return document


def _assistant_answer(answer: pb.AssistantAnswer) -> Content:
    request_id = _sized(answer.request_id, REQUEST_ID, "request id")
    match answer.WhichOneof("kind"):
        case "evidence":
            return AssistantAnswer(request_id, Evidence(_inflated(answer.evidence.deflated)))
        case "summary":
            return AssistantAnswer(request_id, _summary(answer.summary))
        case "replies":
            replies = answer.replies
            coverage = _coverage(replies.coverage)
            return AssistantAnswer(
                request_id, Replies(tuple(replies.texts), coverage, replies.engine, replies.weights_digest)
            )
        case "refusal":
            return AssistantAnswer(request_id, Refusal(answer.refusal.code))
        case _:
            return Unsupported()


def _summary(summary: pb.AssistantAnswer.Summary) -> Summary:
    return Summary(
        lines=tuple(_line(line) for line in summary.lines),
        coverage=_coverage(summary.coverage),
        engine=summary.engine,
        weights_digest=summary.weights_digest,
    )


def _line(line: pb.AssistantAnswer.Line) -> SummaryLine:
    cites = _message_ids(line.cites)
    if not cites:
        raise MalformedField("cites")
    return SummaryLine(line.text, line.kind, cites)


def _coverage(coverage: pb.AssistantAnswer.Coverage) -> Coverage:
    return Coverage(coverage.used, coverage.not_opted_in, coverage.not_held)


def _message_ids(references: Iterable[pb.MessageReference]) -> tuple[MessageId, ...]:
    return tuple(MessageId(ServiceId.from_bytes(reference.author), reference.timestamp) for reference in references)


def _sized(data: bytes, size: int, field_name: str) -> bytes:
    if len(data) != size:
        raise MalformedField(field_name)
    return data

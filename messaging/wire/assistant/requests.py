"""What members ask of the assistant.

A request travels as bytes that receipts hash. What the fields mean is in ``docs/protocol.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from google.protobuf.message import DecodeError

from messaging.wire.errors import MalformedField
from messaging.wire.fields import dated, sized
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import (
    DIGEST,
    MASTER_KEY,
    MAX_AUTHORS,
    MAX_DEADLINE,
    MAX_DRAFT,
    MAX_MEMBER_NAME,
    MAX_REQUEST,
    MAX_SCOPE,
    MAX_TONE,
    NONCE,
    REQUEST_ID,
)
from messaging.wire.protobuf import assistant_pb2 as pb


@dataclass(frozen=True, slots=True)
class EvidenceRequest:
    """Prove where you run, for this ``nonce`` (32 random bytes, used once)."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Scope:
    """The messages that an answer may rest on.

    ``not_opted_in`` and ``not_asked`` count further messages in the same range, of authors who have not opted in and
    beyond ``MAX_SCOPE``: only their numbers are told. ``names`` says what the requester calls the authors.
    """

    conversation: bytes = field(repr=False)
    messages: tuple[MessageId, ...]
    not_opted_in: int = 0
    not_asked: int = 0
    names: Mapping[ServiceId, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Summarize:
    """Summarize these messages, for me."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class SuggestReplies:
    """Suggest ``count`` replies that I could send now."""

    scope: Scope
    count: int = 3


@dataclass(frozen=True, slots=True)
class QuestionsForMe:
    """Which questions in these messages wait for my answer?"""

    scope: Scope


@dataclass(frozen=True, slots=True)
class Actions:
    """What was asked, promised and decided in these messages, and for when?"""

    scope: Scope


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Write my ``draft`` in another ``tone``."""

    draft: str = field(repr=False)
    tone: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop my messages of ``conversation``, or of all conversations if ``None``; with ``whole`` also those of authors who count me."""

    conversation: bytes | None = field(default=None, repr=False)
    whole: bool = False


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """How are you, and what do you hold of mine in ``conversation``?"""

    conversation: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Cancel:
    """I do not wait for the answer to ``request_id`` any more. There is no answer to this."""

    request_id: bytes


AboutMessages = Summarize | SuggestReplies | QuestionsForMe | Actions
RequestKind = EvidenceRequest | AboutMessages | Rewrite | Forget | StatusRequest | Cancel


_NAMES: Mapping[type[RequestKind], str] = {
    EvidenceRequest: "evidence",
    Summarize: "summarize",
    SuggestReplies: "suggest_replies",
    QuestionsForMe: "questions_for_me",
    Actions: "actions",
    Rewrite: "rewrite",
    Forget: "forget",
    StatusRequest: "status",
    Cancel: "cancel",
}


def request_name(kind: RequestKind) -> str:
    """What receipts call this kind of request."""
    return _NAMES[type(kind)]


@dataclass(frozen=True, slots=True)
class AssistantRequest:
    """One request. ``id`` is 16 random bytes that the answer repeats; ``evidence`` is the SHA-256 of the evidence document that the
    requester relies on; ``deadline`` is how many milliseconds they wait.
    """

    id: bytes
    kind: RequestKind
    evidence: bytes | None = None
    deadline: int = MAX_DEADLINE

    def encode(self) -> bytes:
        """The bytes that travel, and that a receipt hashes."""
        message = pb.AssistantRequest(request_id=self.id, deadline=self.deadline)
        if self.evidence is not None:
            message.evidence = self.evidence
        _put_kind(message, self.kind)
        return message.SerializeToString()

    @classmethod
    def parse(cls, data: bytes) -> "AssistantRequest":
        """Undo :meth:`encode`.

        Raises:
            MalformedField: not a request that this version understands.
        """
        if len(data) > MAX_REQUEST:
            raise MalformedField("request")
        try:
            message = pb.AssistantRequest.FromString(data)
        except DecodeError:
            raise MalformedField("request") from None
        evidence = sized(message.evidence, DIGEST, "evidence") if message.HasField("evidence") else None
        deadline = min(message.deadline, MAX_DEADLINE) if message.HasField("deadline") else MAX_DEADLINE
        return cls(sized(message.request_id, REQUEST_ID, "request id"), _kind(message), evidence, deadline)


def request_id_of(data: bytes) -> bytes | None:
    """The id of a request, even of one that cannot be understood; ``None`` if it has none."""
    try:
        found = pb.AssistantRequest.FromString(data).request_id
    except DecodeError:
        return None
    return found if len(found) == REQUEST_ID else None


def is_cancel(data: bytes) -> bool:
    """Whether these bytes ask to take a request back; :meth:`AssistantRequest.parse` says whether they can be understood."""
    try:
        return pb.AssistantRequest.FromString(data).HasField("cancel")
    except DecodeError:
        return False


def _put_kind(message: pb.AssistantRequest, kind: RequestKind) -> None:
    match kind:
        case EvidenceRequest(nonce):
            message.evidence_request.nonce = nonce
        case Summarize(scope):
            message.summarize.scope.CopyFrom(_put_scope(scope))
        case SuggestReplies(scope, count):
            message.suggest_replies.scope.CopyFrom(_put_scope(scope))
            message.suggest_replies.count = count
        case QuestionsForMe(scope):
            message.questions_for_me.scope.CopyFrom(_put_scope(scope))
        case Actions(scope):
            message.actions.scope.CopyFrom(_put_scope(scope))
        case Rewrite(draft, tone):
            message.rewrite.draft, message.rewrite.tone = draft, tone
        case Forget(conversation, whole):
            message.forget.whole = whole
            if conversation is not None:
                message.forget.master_key = conversation
        case StatusRequest(conversation):
            message.status.SetInParent()
            if conversation is not None:
                message.status.master_key = conversation
        case Cancel(request_id):
            message.cancel.request_id = request_id
        case _:
            assert_never(kind)


def _kind(message: pb.AssistantRequest) -> RequestKind:
    match message.WhichOneof("kind"):
        case "evidence_request":
            return EvidenceRequest(sized(message.evidence_request.nonce, NONCE, "nonce"))
        case "summarize":
            return Summarize(_scope(message.summarize.scope))
        case "suggest_replies":
            return SuggestReplies(_scope(message.suggest_replies.scope), message.suggest_replies.count)
        case "questions_for_me":
            return QuestionsForMe(_scope(message.questions_for_me.scope))
        case "actions":
            return Actions(_scope(message.actions.scope))
        case "rewrite":
            return _rewrite(message.rewrite)
        case "forget":
            return _forget(message.forget)
        case "status":
            return StatusRequest(_optional_key(message.status))
        case "cancel":
            return Cancel(sized(message.cancel.request_id, REQUEST_ID, "request id"))
        case _:
            raise MalformedField("kind")


def _put_scope(scope: Scope) -> pb.AssistantRequest.Scope:
    """Authors in order, and of each the messages in order: the same scope has the same bytes."""
    timestamps: dict[ServiceId, list[int]] = {author: [] for author in scope.names}
    for message in scope.messages:
        timestamps.setdefault(message.author, []).append(message.timestamp)
    return pb.AssistantRequest.Scope(
        master_key=scope.conversation,
        authors=[
            pb.AssistantRequest.Author(
                author=author.to_bytes(),
                timestamps=sorted(timestamps[author]),
                name=scope.names.get(author, "")[:MAX_MEMBER_NAME],
            )
            for author in sorted(timestamps)
        ],
        not_opted_in=scope.not_opted_in,
        not_asked=scope.not_asked,
    )


def _scope(scope: pb.AssistantRequest.Scope) -> Scope:
    if len(scope.authors) > MAX_AUTHORS or sum(len(author.timestamps) for author in scope.authors) > MAX_SCOPE:
        raise MalformedField("scope")
    authors = [(ServiceId.from_bytes(author.author), author) for author in scope.authors]
    messages = tuple(MessageId(author, dated(timestamp)) for author, named in authors for timestamp in named.timestamps)
    if len(set(messages)) != len(messages):
        raise MalformedField("scope")
    return Scope(
        conversation=sized(scope.master_key, MASTER_KEY, "master key"),
        messages=messages,
        not_opted_in=scope.not_opted_in,
        not_asked=scope.not_asked,
        names={author: named.name[:MAX_MEMBER_NAME] for author, named in authors if named.name},
    )


def _rewrite(rewrite: pb.AssistantRequest.Rewrite) -> Rewrite:
    if len(rewrite.draft.encode()) > MAX_DRAFT:
        raise MalformedField("draft")
    if len(rewrite.tone) > MAX_TONE:
        raise MalformedField("tone")
    return Rewrite(rewrite.draft, rewrite.tone)


def _forget(forget: pb.AssistantRequest.Forget) -> Forget:
    conversation = _optional_key(forget)
    if forget.whole and conversation is None:
        raise MalformedField("master key")
    return Forget(conversation, forget.whole)


def _optional_key(message: pb.AssistantRequest.Forget | pb.AssistantRequest.Status) -> bytes | None:
    return sized(message.master_key, MASTER_KEY, "master key") if message.HasField("master_key") else None

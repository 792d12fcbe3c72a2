"""What members ask of the assistant, and what it answers.

Requests and results travel as bytes that receipts hash, so both keep the bytes that they were read from. A line without the
messages it rests on cannot be made. What the fields mean is in ``docs/protocol.md``.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from google.protobuf.message import DecodeError

from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import (
    DIGEST,
    MASTER_KEY,
    MAX_AUTHORS,
    MAX_DEADLINE,
    MAX_DRAFT,
    MAX_EVIDENCE,
    MAX_MEMBER_NAME,
    MAX_REQUEST,
    MAX_SCOPE,
    MAX_TIMESTAMP,
    MAX_TONE,
    NONCE,
    REQUEST_ID,
    SALT,
)
from messaging.wire.protobuf import assistant_pb2 as pb
from messaging.wire.strings import check_strings


class RefusalCode(StrEnum):
    """Why the assistant does not answer; these words travel."""

    NOT_OPTED_IN = "not_opted_in"  # the requester has not opted in to this conversation, as far as this enclave knows
    NOT_A_MEMBER = (
        "not_a_member"  # an author whose messages were asked for does not count the requester among the members
    )
    OUT_OF_SCOPE = "out_of_scope"  # the requester's own consent does not cover what they ask for
    SCOPE_TOO_LARGE = "scope_too_large"
    UNKNOWN_EVIDENCE = "unknown_evidence"  # not of this start: verify again
    NEEDS_GENERATING_ENGINE = "needs_generating_engine"
    BUSY = "busy"  # the answer would come too late
    QUOTA = "quota"  # this user has asked too often
    DRAINING = "draining"  # this enclave is about to stop: ask another
    TOO_LATE = "too_late"  # the deadline passed while waiting
    CANCELLED = "cancelled"
    ENGINE_FAILED = "engine_failed"
    NO_EVIDENCE = "no_evidence"  # the hardware gave no report; the operator has to look
    MALFORMED = "malformed"  # this version does not understand the request


# --- requests ---


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
        check_strings(message)
        evidence = _sized(message.evidence, DIGEST, "evidence") if message.HasField("evidence") else None
        deadline = min(message.deadline, MAX_DEADLINE) if message.HasField("deadline") else MAX_DEADLINE
        return cls(_sized(message.request_id, REQUEST_ID, "request id"), _kind(message), evidence, deadline)


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
            return EvidenceRequest(_sized(message.evidence_request.nonce, NONCE, "nonce"))
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
            return Cancel(_sized(message.cancel.request_id, REQUEST_ID, "request id"))
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
    messages = tuple(MessageId(author, _time(timestamp)) for author, named in authors for timestamp in named.timestamps)
    if len(set(messages)) != len(messages):
        raise MalformedField("scope")
    return Scope(
        conversation=_sized(scope.master_key, MASTER_KEY, "master key"),
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
    return _sized(message.master_key, MASTER_KEY, "master key") if message.HasField("master_key") else None


# --- results ---


@dataclass(frozen=True, slots=True)
class Evidence:
    """An evidence document as ``attestation`` reads it, and what the vendors say about it (a collateral, encoded)."""

    document: bytes = field(repr=False)
    collateral: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """One line, who said it, and the messages it rests on; a line without them is no line."""

    text: str = field(repr=False)
    kind: str
    cites: tuple[MessageId, ...]
    speaker: ServiceId | None = None
    marks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.cites:
            raise ValueError("a summary line must cite the messages it rests on")


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the range an answer rests on: messages ``used``, and messages left out, by reason."""

    used: int
    not_opted_in: int
    not_held: int
    not_asked: int = 0

    @property
    def left_out(self) -> int:
        """All messages of the range that the answer does not rest on."""
        return self.not_opted_in + self.not_held + self.not_asked


@dataclass(frozen=True, slots=True)
class Summary:
    """Lines: the answer to :class:`Summarize`, :class:`QuestionsForMe` and :class:`Actions`."""

    lines: tuple[SummaryLine, ...]
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class Reply:
    """Something that the requester could send; nobody sends it for them."""

    text: str = field(repr=False)
    intent: str


@dataclass(frozen=True, slots=True)
class Replies:
    """The answer to :class:`SuggestReplies`."""

    replies: tuple[Reply, ...]
    coverage: Coverage

    @property
    def texts(self) -> tuple[str, ...]:
        """What they say."""
        return tuple(reply.text for reply in self.replies)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The answer to :class:`Rewrite`."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """So many messages were dropped."""

    messages: int


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to :class:`StatusRequest`. Nothing from before ``started_at`` (milliseconds since 1970) is known.

    ``longest`` is in seconds, ``expected_wait`` in milliseconds. The last two are about the conversation asked about.
    """

    release: str
    started_at: int
    most_messages: int
    longest: int
    generates: bool
    expected_wait: int
    own_messages: int = 0
    opted_in: frozenset[ServiceId] = frozenset()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The assistant does not answer; ``code`` is one of :class:`RefusalCode`, ``retry_after`` milliseconds if it helps to wait."""

    code: str
    retry_after: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class ConsentReference:
    """Whose consent an answer rests on, and the digest of the statement (``SignedConsent.digest``)."""

    author: ServiceId
    digest: bytes


ResultKind = Evidence | Summary | Replies | Rewritten | Forgotten | Status | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the assistant answers. ``salt`` is 16 random bytes; ``model`` names the weights, ``instructions`` what they were told."""

    kind: ResultKind
    salt: bytes = field(repr=False)
    engine: str = ""
    model: bytes = bytes(DIGEST)
    instructions: bytes = bytes(DIGEST)
    consents: tuple[ConsentReference, ...] = ()

    def encode(self) -> bytes:
        """The bytes that travel, and that a receipt hashes."""
        message = pb.Result(
            salt=self.salt,
            engine=self.engine,
            model=self.model,
            instructions=self.instructions,
            consents=[
                pb.Result.ConsentReference(author=consent.author.to_bytes(), digest=consent.digest)
                for consent in sorted(self.consents)
            ],
        )
        _put_result(message, self.kind)
        return message.SerializeToString()

    @classmethod
    def parse(cls, data: bytes) -> "Result":
        """Undo :meth:`encode`.

        Raises:
            MalformedField: not a result that this version understands.
        """
        try:
            message = pb.Result.FromString(data)
        except DecodeError:
            raise MalformedField("result") from None
        check_strings(message)
        consents = tuple(
            ConsentReference(ServiceId.from_bytes(entry.author), _sized(entry.digest, DIGEST, "digest"))
            for entry in message.consents
        )
        if len(set(consents)) != len(consents):
            raise MalformedField("consents")
        return cls(
            kind=_result(message),
            salt=_sized(message.salt, SALT, "salt"),
            engine=message.engine,
            model=_sized(message.model, DIGEST, "model"),
            instructions=_sized(message.instructions, DIGEST, "instructions"),
            consents=consents,
        )


def _put_result(message: pb.Result, kind: ResultKind) -> None:
    match kind:
        case Evidence(document, collateral):
            message.evidence.deflated = zlib.compress(document, 9)
            if collateral:
                message.evidence.collateral = zlib.compress(collateral, 9)
        case Summary(lines, coverage):
            message.lines.lines.extend(_put_line(line) for line in lines)
            message.lines.coverage.CopyFrom(_put_coverage(coverage))
        case Replies(replies, coverage):
            message.replies.replies.extend(pb.Result.Reply(text=each.text, intent=each.intent) for each in replies)
            message.replies.coverage.CopyFrom(_put_coverage(coverage))
        case Rewritten(text):
            message.rewritten.text = text
        case Forgotten(messages):
            message.forgotten.messages = messages
        case Status():
            message.status.CopyFrom(_put_status(kind))
        case Refusal(code, retry_after):
            message.refusal.code = code
            if retry_after is not None:
                message.refusal.retry_after = retry_after
        case _:
            assert_never(kind)


def _result(message: pb.Result) -> ResultKind:
    match message.WhichOneof("kind"):
        case "evidence":
            return _evidence(message.evidence)
        case "lines":
            return Summary(tuple(map(_line, message.lines.lines)), _coverage(message.lines.coverage))
        case "replies":
            replies = tuple(Reply(each.text, each.intent) for each in message.replies.replies)
            return Replies(replies, _coverage(message.replies.coverage))
        case "rewritten":
            return Rewritten(message.rewritten.text)
        case "forgotten":
            return Forgotten(message.forgotten.messages)
        case "status":
            return _status(message.status)
        case "refusal":
            retry = message.refusal.retry_after if message.refusal.HasField("retry_after") else None
            return Refusal(message.refusal.code, retry)
        case _:
            raise MalformedField("kind")


def _evidence(evidence: pb.Result.Evidence) -> Evidence:
    collateral = _inflated(evidence.collateral) if evidence.HasField("collateral") else b""
    return Evidence(_inflated(evidence.deflated), collateral)


def _put_line(line: SummaryLine) -> pb.Result.Line:
    cites = [pb.MessageReference(author=cite.author.to_bytes(), timestamp=cite.timestamp) for cite in line.cites]
    message = pb.Result.Line(text=line.text, kind=line.kind, cites=cites, marks=line.marks)
    if line.speaker is not None:
        message.speaker = line.speaker.to_bytes()
    return message


def _line(line: pb.Result.Line) -> SummaryLine:
    if not line.cites:
        raise MalformedField("cites")
    cites = tuple(MessageId(ServiceId.from_bytes(cite.author), _time(cite.timestamp)) for cite in line.cites)
    speaker = ServiceId.from_bytes(line.speaker) if line.HasField("speaker") else None
    return SummaryLine(line.text, line.kind, cites, speaker, tuple(line.marks))


def _put_coverage(coverage: Coverage) -> pb.Result.Coverage:
    return pb.Result.Coverage(
        used=coverage.used,
        not_opted_in=coverage.not_opted_in,
        not_held=coverage.not_held,
        not_asked=coverage.not_asked,
    )


def _coverage(coverage: pb.Result.Coverage) -> Coverage:
    return Coverage(coverage.used, coverage.not_opted_in, coverage.not_held, coverage.not_asked)


def _put_status(status: Status) -> pb.Result.Status:
    return pb.Result.Status(
        release=status.release,
        started_at=status.started_at,
        most_messages=status.most_messages,
        longest=status.longest,
        generates=status.generates,
        expected_wait=status.expected_wait,
        own_messages=status.own_messages,
        opted_in=[author.to_bytes() for author in sorted(status.opted_in)],
    )


def _status(status: pb.Result.Status) -> Status:
    return Status(
        release=status.release,
        started_at=_time(status.started_at),
        most_messages=status.most_messages,
        longest=status.longest,
        generates=status.generates,
        expected_wait=status.expected_wait,
        own_messages=status.own_messages,
        opted_in=frozenset(_service_ids(status.opted_in)),
    )


def _service_ids(data: Iterable[bytes]) -> Iterable[ServiceId]:
    return (ServiceId.from_bytes(each) for each in data)


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


def _time(timestamp: int) -> int:
    if timestamp > MAX_TIMESTAMP:
        raise MalformedField("timestamp")
    return timestamp


def _sized(data: bytes, size: int, field_name: str) -> bytes:
    if len(data) != size:
        raise MalformedField(field_name)
    return data

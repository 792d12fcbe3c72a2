"""What the assistant answers.

A result travels as bytes that receipts hash. A line without the messages it rests on cannot be made. What the fields mean is in
``docs/protocol.md``.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from google.protobuf.message import DecodeError

from messaging.wire.errors import MalformedField
from messaging.wire.fields import dated, sized
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import DIGEST, MAX_EVIDENCE, SALT
from messaging.wire.protobuf import assistant_pb2 as pb


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
        consents = tuple(
            ConsentReference(ServiceId.from_bytes(entry.author), sized(entry.digest, DIGEST, "digest"))
            for entry in message.consents
        )
        if len(set(consents)) != len(consents):
            raise MalformedField("consents")
        return cls(
            kind=_result(message),
            salt=sized(message.salt, SALT, "salt"),
            engine=message.engine,
            model=sized(message.model, DIGEST, "model"),
            instructions=sized(message.instructions, DIGEST, "instructions"),
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
    cites = tuple(MessageId(ServiceId.from_bytes(cite.author), dated(cite.timestamp)) for cite in line.cites)
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
        started_at=dated(status.started_at),
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

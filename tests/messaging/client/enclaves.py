"""A simulated enclave's part of a conversation with one client: real evidence, real receipts, real frames, and every way to cheat.

What carries contents to it and back is the test's: a function call (``test_assistant``) or a device on a relay (``test_chats``).
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation import (
    CpuType,
    KeySection,
    Policy,
    Receipt,
    Release,
    SimulatedTee,
    UnsafeAcceptSimulated,
    consent_set_digest,
    measure,
    sign_receipt,
)
from messaging.wire.answers import AnswerPart, FrameWriter
from messaging.wire.assistant import (
    AssistantRequest,
    ConsentReference,
    Coverage,
    Evidence,
    EvidenceRequest,
    Forget,
    Forgotten,
    Refusal,
    Replies,
    Reply,
    RequestKind,
    Result,
    ResultKind,
    Rewrite,
    Rewritten,
    Status,
    StatusRequest,
    SuggestReplies,
    Summary,
    request_name,
)
from messaging.wire.consent import conversation_id
from messaging.wire.content import AnswerFrame
from messaging.wire.limits import FRAME, SALT

RELEASE = "release 1"
MEASUREMENT = measure({"release": b"1"})
STRICT = Policy(releases=(Release(name=RELEASE, type=CpuType.SIMULATED, measurement=MEASUREMENT),))
UNSAFE = STRICT.weakened_by(UnsafeAcceptSimulated)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Enclave:
    """What an enclave says. Tests change its fields to make it cheat."""

    identity_key: bytes
    receipt_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    release: str = RELEASE
    tee: SimulatedTee = field(default_factory=lambda: SimulatedTee(MEASUREMENT))
    now: Callable[[], datetime] = _now
    consents: Callable[[RequestKind], Iterable[ConsentReference]] = lambda _: ()
    refuses: Refusal | None = None  # everything but evidence
    refuses_once: list[Refusal] = field(default_factory=list)
    refuses_evidence: Refusal | None = None
    tamper: Callable[[bytes], bytes] = lambda document: document
    text: tuple[str, ...] = ()  # said before the result
    result: ResultKind | None = None  # instead of the right one
    receipt: dict[str, Any] = field(default_factory=dict)  # members of receipts that are other than they should be
    receipts: bool = True
    issued: list[bytes] = field(default_factory=list)  # evidence documents

    @property
    def keys(self) -> KeySection:
        """What the evidence vouches for."""
        return KeySection(self.identity_key, self.receipt_key.public_key().public_bytes_raw(), self.release)

    def answer(self, request: AssistantRequest, encoded: bytes) -> list[AnswerFrame]:
        """The frames of the answer to one request."""
        frames = FrameWriter(request.id)
        for text in self.text:
            frames.write(AnswerPart(text=text))
        kind = self.result or self._kind(request.kind)
        result = Result(
            kind=kind,
            salt=secrets.token_bytes(SALT),
            engine="simulated",
            consents=tuple(self.consents(request.kind)),
        )
        answer = result.encode()
        total = frames.total(len(answer) + 1024)
        receipted = not isinstance(request.kind, EvidenceRequest | StatusRequest) and not isinstance(kind, Refusal)
        signed = self._sign(request, encoded, result, answer, total) if receipted and self.receipts else None
        frames.write(AnswerPart(result=answer, receipt=signed))
        return list(frames.finish(total))

    def _kind(self, kind: RequestKind) -> ResultKind:
        if isinstance(kind, EvidenceRequest):
            return self.refuses_evidence or self._evidence(kind.nonce)
        if self.refuses_once:
            return self.refuses_once.pop(0)
        if self.refuses is not None:
            return self.refuses
        match kind:
            case SuggestReplies(scope, count):
                return Replies((Reply("yes", "agree"),) * count, Coverage(len(scope.messages), 0, 0))
            case Rewrite(draft, _):
                return Rewritten(draft)
            case Forget():
                return Forgotten(7)
            case StatusRequest():
                return Status(self.release, 1, 500, 3600, False, 0)
            case _:
                return Summary((), Coverage(0, 0, 0))

    def _evidence(self, nonce: bytes) -> Evidence:
        self.issued.append(self.tamper(self.tee.attest(nonce, self.keys)))
        return Evidence(self.issued[-1])

    def _sign(self, request: AssistantRequest, encoded: bytes, result: Result, answer: bytes, frames: int) -> bytes:
        members: dict[str, Any] = {
            "kind": request_name(request.kind),
            "request": hashlib.sha256(encoded).digest(),
            "answer": hashlib.sha256(answer).digest(),
            "conversation": _conversation_of(request.kind),
            "consents": consent_set_digest((each.author.to_bytes(), each.digest) for each in result.consents),
            "engine": result.engine,
            "model": result.model,
            "instructions": result.instructions,
            "release": self.release,
            "measurement": self.tee.measurement,
            "evidence": request.evidence or bytes(32),
            "time": self.now().replace(microsecond=0),
            "request_bucket": len(encoded),
            "answer_bucket": frames * FRAME,
        }
        return sign_receipt(Receipt(**{**members, **self.receipt}), self.receipt_key)


def _conversation_of(kind: RequestKind) -> bytes | None:
    scope = getattr(kind, "scope", None)
    key = getattr(kind, "conversation", None) if scope is None else scope.conversation
    return None if key is None else conversation_id(key)


def renumbered(frames: Sequence[AnswerFrame], request_id: bytes) -> list[AnswerFrame]:
    """The same frames, as if they were of another answer."""
    return [replace(frame, request_id=request_id) for frame in frames]

"""An assistant in the simulated TEE, and members who tell and ask it: everything real but sockets, sessions and the hardware."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ai_enclave.assistant import Assistant
from ai_enclave.desk import Counter, Desk
from ai_enclave.engine import Reader, Writer
from ai_enclave.engine.interface import Judgement, Vectors
from ai_enclave.pacing import Pace
from ai_enclave.proving import Prover
from ai_enclave.receipts import ReceiptIssuer
from ai_enclave.share import Member as Account
from attestation import Claims, KeySection, Policy, Release, SimulatedTee, UnsafeAcceptSimulated, appraise
from attestation.document import CpuType
from messaging.client.consent import make_consent
from messaging.wire.answers import AnswerPart, FrameReader
from messaging.wire.assistant import (
    AssistantRequest,
    Cancel,
    ConsentReference,
    Evidence,
    EvidenceRequest,
    RequestKind,
    Result,
    ResultKind,
    Scope,
)
from messaging.wire.consent import ALL_SCOPES, ConsentScope, SignedConsent, member_tag
from messaging.wire.content import AnswerFrame, ConsentUpdate, DataMessage, Deletion, Edit, Roster
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import MAX_DEADLINE, REQUEST_ID
from signal_protocol.public import KeyPair, generate_key_pair, sign
from tests.ai_enclave.features.threads import equal_judgement
from tests.attestation import machines

KEY = bytes(range(32))  # of the conversation
RELEASE = "subrosa-enclave 1.0"
START = int(machines.NOW.timestamp() * 1000)
HURRY = Pace(grid=0.001, beat=0.02)


class StillEngine:
    """Finds everything equal, at once."""

    name = "still"
    weights_digest = hashlib.sha256(b"still").digest()

    def encode(self, texts: Iterable[str]) -> Vectors:
        return np.zeros((len(list(texts)), 4), dtype=np.float32)

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        return equal_judgement(len(vectors))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its frames, what they showed, and when each came."""

    frames: list[AnswerFrame]
    parts: list[AnswerPart]
    times: list[float]
    request: bytes = field(repr=False)

    @property
    def encoded(self) -> bytes:
        """The result as it travelled."""
        assert self.parts[-1].result is not None
        return self.parts[-1].result

    @property
    def receipt(self) -> bytes | None:
        """Signed, or none."""
        return self.parts[-1].receipt

    @property
    def result(self) -> Result:
        """What the assistant says."""
        return Result.parse(self.encoded)

    @property
    def kind(self) -> ResultKind:
        """The same, without its dress."""
        return self.result.kind


class Enclave:
    """One assistant, its keys, and its clock in milliseconds."""

    def __init__(
        self,
        engine: Reader | None = None,
        *,
        writer: Writer | None = None,
        pace: Pace = HURRY,
        attest: Callable[[bytes], bytes] | None = None,
        collateral: bytes = b"",
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.now = START
        self.receipt_key = Ed25519PrivateKey.generate()
        keys = KeySection(b"\x05" + bytes(32), self.receipt_key.public_key().public_bytes_raw(), RELEASE)
        simulated = partial(SimulatedTee(machines.SIMULATED_MEASUREMENT).attest, keys=keys)
        seconds = asyncio.get_running_loop().time if clock is None else clock
        self.counter = Counter(Desk(), seconds)
        prover = Prover(attest or simulated, lambda: collateral, Counter(Desk(), seconds))
        issuer = ReceiptIssuer(self.receipt_key, RELEASE, lambda: self.now)
        self.assistant = Assistant(
            StillEngine() if engine is None else engine, prover, issuer, self.counter, writer=writer, pace=pace
        )


class Member:
    """Somebody with an identity key who tells and asks one enclave."""

    def __init__(self, enclave: Enclave, number: int) -> None:
        self.enclave = enclave
        self.service_id = ServiceId(UUID(int=number))
        self.keys: KeyPair = generate_key_pair()
        self.evidence: bytes | None = None
        self.nonce = secrets.token_bytes(32)
        self.document = b""
        self.statements: list[SignedConsent] = []
        self.rosters: dict[bytes, Roster] = {}  # what was told last, by conversation

    @property
    def account(self) -> Account:
        """As the enclave's memory knows this member."""
        return Account(self.service_id, self.keys.public)

    # --- what is told ---

    def state(
        self,
        *,
        opted_in: bool = True,
        scopes: Iterable[ConsentScope] = ALL_SCOPES,
        at: int | None = None,
        until: int | None = None,
        key: bytes = KEY,
    ) -> bool:
        """Tell a statement of consent, by default from an hour ago; says whether it was an opting out."""
        signed = make_consent(
            partial(sign, self.keys.private),
            conversation=key,
            author=self.service_id,
            timestamp=START - 3_600_000 if at is None else at,
            opted_in=opted_in,
            scopes=frozenset(scopes),
            expires_at=until,
        )
        self.statements.append(signed)
        return self.tell(ConsentUpdate(key, signed))

    def count(self, *members: "Member", revision: int = 1, key: bytes = KEY) -> None:
        """Tell whom this member counts among the members."""
        self.tell(self.counted(*members, revision=revision, key=key))

    def counted(self, *members: "Member", revision: int = 1, key: bytes = KEY) -> Roster:
        """Count these among the members from now on, and tell nobody."""
        tags = frozenset(member_tag(key, member.service_id, member.keys.public) for member in members)
        self.rosters[key] = Roster(key, revision, tags)
        return self.rosters[key]

    def write(self, text: str, at: int, key: bytes = KEY) -> MessageId:
        """Write something, ``at`` milliseconds after the enclave's start."""
        self.tell(self.written(text, at, key))
        return MessageId(self.service_id, START + at)

    def written(self, text: str, at: int, key: bytes = KEY) -> DataMessage:
        """The same, before it is sent: under the present view of the members."""
        roster = self.rosters.get(key)
        return DataMessage(text, START + at, key, None if roster is None else roster.digest())

    def edit(self, message: MessageId, text: str, at: int, key: bytes = KEY) -> None:
        """Give an own message another text, ``at`` milliseconds after the enclave's start."""
        self.tell(Edit(message.timestamp, self.written(text, at, key)))

    def delete(self, message: MessageId, key: bytes = KEY) -> None:
        """Have an own message forgotten."""
        self.tell(Deletion(message.timestamp, START, key))

    def tell(self, content: ConsentUpdate | Roster | DataMessage | Edit | Deletion) -> bool:
        """Say something to the enclave under this member's own key."""
        return self.enclave.assistant.note(self.service_id, self.keys.public, content)

    @property
    def consent(self) -> ConsentReference:
        """What names the latest statement."""
        return ConsentReference(self.service_id, self.statements[-1].digest())

    # --- what is asked ---

    async def verify(self) -> Claims:
        """Ask for evidence, and rely on it from now on; returns what it proves."""
        evidence = (await self.ask(EvidenceRequest(self.nonce))).kind
        assert isinstance(evidence, Evidence)
        self.document = evidence.document
        self.evidence = hashlib.sha256(evidence.document).digest()
        return self.claims

    @property
    def claims(self) -> Claims:
        """What the evidence proves."""
        release = Release(name=RELEASE, type=CpuType.SIMULATED, measurement=machines.SIMULATED_MEASUREMENT)
        policy = Policy(releases=(release,), unsafe=frozenset({UnsafeAcceptSimulated}))
        return appraise(self.document, nonce=self.nonce, policy=policy, now=machines.NOW)

    async def ask(self, kind: RequestKind, *, deadline: int = MAX_DEADLINE, request_id: bytes | None = None) -> Answer:
        """Ask, and wait for the whole answer."""
        answer = await self.call(self.request(kind, deadline=deadline, request_id=request_id).encode())
        assert answer is not None
        return answer

    def request(
        self, kind: RequestKind, *, deadline: int = MAX_DEADLINE, request_id: bytes | None = None
    ) -> AssistantRequest:
        """A request that relies on the evidence that this member verified."""
        return AssistantRequest(request_id or secrets.token_bytes(REQUEST_ID), kind, self.evidence, deadline)

    async def call(self, request: bytes) -> Answer | None:
        """The answer to these bytes; ``None`` if there is silence."""
        clock, reader = asyncio.get_running_loop().time, FrameReader()
        answer = Answer([], [], [], request)
        async with aclosing(self.enclave.assistant.answer(self.service_id, request, self.keys.public)) as frames:
            async for frame in frames:
                answer.times.append(clock())
                answer.frames.append(frame)
                answer.parts.extend(reader.read(frame))
        assert reader.ended == bool(answer.frames)
        return answer if answer.frames else None

    def asking(self, kind: RequestKind, *, deadline: int = MAX_DEADLINE, request_id: bytes | None = None) -> "Asking":
        """Ask, and do something else meanwhile."""
        return asyncio.ensure_future(self.ask(kind, deadline=deadline, request_id=request_id))

    async def cancel(self, request_id: bytes) -> None:
        """Do not wait for it any more."""
        assert await self.call(self.request(Cancel(request_id)).encode()) is None


Asking = asyncio.Future[Answer]


def scope_of(
    messages: Iterable[MessageId],
    names: Mapping[ServiceId, str] | None = None,
    *,
    not_opted_in: int = 0,
    not_asked: int = 0,
) -> Scope:
    """A scope in the conversation."""
    return Scope(KEY, tuple(messages), not_opted_in, not_asked, names or {})


async def opted_in(enclave: Enclave, *numbers: int) -> list[Member]:
    """Members who have verified the enclave, opted in, and count each other."""
    members = [Member(enclave, number) for number in numbers]
    for member in members:
        await member.verify()
        member.state()
        member.count(*members)
    return members

"""A member's side of the assistant: nothing but a nonce goes to an enclave that has not proved where it runs."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from attestation import (
    CpuType,
    EvidenceDocument,
    KeySection,
    Policy,
    Release,
    SimulatedTee,
    UnsafeAcceptSimulated,
    appraise,
    measure,
)
from attestation.bundle import Bundle
from messaging.client.assistant import (
    Assistant,
    AssistantNotVerified,
    AssistantRefused,
    AssistantSilent,
    EvidenceRefused,
)
from messaging.client.errors import IdentityChanged
from messaging.wire.content import (
    AssistantAnswer,
    AssistantRequest,
    ConsentUpdate,
    Content,
    Coverage,
    DataMessage,
    Evidence,
    EvidenceRequest,
    Refusal,
    Scope,
    Summarize,
    Summary,
)
from messaging.wire.identifiers import ServiceId

ASSISTANT = ServiceId(uuid4())
MEASUREMENT = measure({"release": b"1"})
STRICT = Policy(releases=(Release(name="release 1", type=CpuType.SIMULATED, measurement=MEASUREMENT),))
UNSAFE = STRICT.weakened_by(UnsafeAcceptSimulated)
SCOPE = Scope(bytes(32), (), 0, {})


class Enclave:
    """A simulated peer: what a device would carry to an enclave and back, with an identity key that may change."""

    def __init__(self) -> None:
        self.identity_key = b"\x05" + secrets.token_bytes(32)
        self.attested_key: bytes | None = None  # of the evidence, if not its own
        self.trusted: bytes | None = None
        self.got: list[Content] = []
        self.tee = SimulatedTee(MEASUREMENT)
        self.tamper: Callable[[bytes], bytes] = lambda document: document
        self.silent = False
        self.refuses = False
        self.member: Assistant | None = None

    async def send(self, to: ServiceId, content: Content) -> None:
        assert to == ASSISTANT
        self.trusted = self.trusted or self.identity_key
        if self.trusted != self.identity_key:
            raise IdentityChanged(to, self.identity_key)
        self.got.append(content)
        if isinstance(content, AssistantRequest) and not self.silent and self.member is not None:
            asyncio.get_running_loop().call_soon(self.member.receive, ASSISTANT, self.answer(content))

    async def trusted_identity(self, service_id: ServiceId) -> bytes | None:
        return self.trusted

    async def trust(self, service_id: ServiceId, identity_key: bytes) -> None:
        self.trusted = identity_key

    def answer(self, request: AssistantRequest) -> AssistantAnswer:
        if isinstance(request.kind, EvidenceRequest):
            keys = KeySection(self.attested_key or self.identity_key, bytes(32), "release 1")
            return AssistantAnswer(request.id, Evidence(self.tamper(self.tee.attest(request.kind.nonce, keys))))
        if self.refuses:
            return AssistantAnswer(request.id, Refusal("busy"))
        return AssistantAnswer(request.id, Summary((), Coverage(0, 0, 0), "engine", b""))


def a_member(enclave: Enclave, policy: Policy = UNSAFE, deadline: float = 5) -> Assistant:
    enclave.member = Assistant(enclave, ASSISTANT, policy, deadline=deadline)
    return enclave.member


async def test_an_enclave_that_proves_itself_gets_messages() -> None:
    enclave = Enclave()
    member = a_member(enclave)
    claims = await member.verify()
    assert (claims.identity_key, claims.simulated) == (enclave.identity_key, True)
    await member.share(DataMessage("hello", 1, bytes(32)))
    assert enclave.got[-1] == DataMessage("hello", 1, bytes(32))
    assert isinstance(await member.summarize(SCOPE), Summary)


def a_bundle_of(member: Assistant) -> Bundle:
    assert member.bundle is not None
    return member.bundle


async def test_what_an_appraisal_rested_on_can_be_checked_again_by_others() -> None:
    enclave = Enclave()
    member = a_member(enclave)
    assert member.bundle is None
    claims, saved = await member.verify(), a_bundle_of(member)
    bundle = Bundle.parse(saved.encode())
    again = appraise(bundle.evidence, nonce=bundle.nonce, policy=UNSAFE, collateral=bundle.collateral, now=bundle.time)
    assert again == claims


async def test_before_that_it_gets_nothing_at_all() -> None:
    enclave = Enclave()
    member = a_member(enclave)
    for attempt in (
        member.share(DataMessage("hello", 1, bytes(32))),
        member.announce(ConsentUpdate(bytes(32), ASSISTANT, True, 1)),
        member.summarize(SCOPE),
    ):
        with pytest.raises(AssistantNotVerified):
            await attempt
    assert enclave.got == []


async def test_a_refused_enclave_saw_a_nonce_and_nothing_else() -> None:
    enclave = Enclave()
    member = a_member(enclave, STRICT)
    with pytest.raises(EvidenceRefused, match="simulated") as refused:
        await member.verify()
    assert refused.value.check == "genuine hardware"
    with pytest.raises(AssistantNotVerified):
        await member.share(DataMessage("hello", 1, bytes(32)))
    [request] = enclave.got
    assert isinstance(request, AssistantRequest)
    assert isinstance(request.kind, EvidenceRequest)


async def test_every_appraisal_has_a_nonce_of_its_own() -> None:
    enclave = Enclave()
    member = a_member(enclave)
    await member.verify()
    await member.verify()
    nonces = {request.kind.nonce for request in enclave.got if isinstance(request, AssistantRequest)}  # type: ignore[union-attr]
    assert len(nonces) == 2


async def test_a_replayed_document_is_refused() -> None:
    enclave = Enclave()
    member = a_member(enclave)
    old = enclave.tee.attest(bytes(32), KeySection(enclave.identity_key, bytes(32), "release 1"))
    enclave.tamper = lambda _document: old
    with pytest.raises(EvidenceRefused) as refused:
        await member.verify()
    assert refused.value.check == "binding to nonce and keys"


async def test_evidence_of_another_enclave_is_refused() -> None:
    enclave = Enclave()
    enclave.attested_key = b"\x05" + bytes(32)
    with pytest.raises(EvidenceRefused) as refused:
        await a_member(enclave).verify()
    assert refused.value.check == "identity key"


async def test_other_code_is_refused() -> None:
    enclave = Enclave()
    enclave.tee = replace(enclave.tee, measurement=measure({"release": b"2"}))
    with pytest.raises(EvidenceRefused) as refused:
        await a_member(enclave).verify()
    assert refused.value.check == "measurement"


def as_tdx(document: EvidenceDocument) -> EvidenceDocument:
    return replace(document, cpu=replace(document.cpu, type=CpuType.TDX))


async def test_a_stripped_or_changed_document_is_refused() -> None:
    enclave = Enclave()
    member = a_member(enclave)
    for tamper in (
        lambda document: document[:-1],
        lambda document: document + b" ",
        lambda document: as_tdx(EvidenceDocument.parse(document)).encode(),
    ):
        enclave.tamper = tamper
        with pytest.raises(EvidenceRefused):
            await member.verify()
        assert member.claims is None


async def test_a_restarted_enclave_has_to_prove_itself_again() -> None:
    enclave = Enclave()
    member = a_member(enclave)
    await member.verify()
    enclave.identity_key = b"\x05" + secrets.token_bytes(32)
    with pytest.raises(AssistantNotVerified):
        await member.share(DataMessage("hello", 1, bytes(32)))
    with pytest.raises(AssistantNotVerified):
        await member.summarize(SCOPE)
    claims = await member.verify()
    assert claims.identity_key == enclave.identity_key
    await member.share(DataMessage("hello", 1, bytes(32)))


async def test_a_key_that_something_else_trusted_meanwhile_does_not_count() -> None:
    enclave = Enclave()
    member = a_member(enclave)
    await member.verify()
    enclave.identity_key = enclave.trusted = b"\x05" + secrets.token_bytes(32)
    with pytest.raises(AssistantNotVerified):
        await member.share(DataMessage("hello", 1, bytes(32)))


async def test_silence_ends_at_the_deadline_and_refusals_are_named() -> None:
    enclave = Enclave()
    member = a_member(enclave, deadline=0.05)
    await member.verify()
    enclave.refuses = True
    with pytest.raises(AssistantRefused, match="busy"):
        await member.summarize(SCOPE)
    enclave.silent = True
    with pytest.raises(AssistantSilent):
        await member.summarize(SCOPE)


async def test_answers_of_others_and_to_no_question_are_left_alone() -> None:
    enclave = Enclave()
    member = a_member(enclave)
    answer = AssistantAnswer(bytes(16), Refusal("busy"))
    assert not member.receive(ASSISTANT, answer)
    assert not member.receive(ServiceId(uuid4()), answer)
    assert not member.receive(ASSISTANT, Summarize(SCOPE))  # type: ignore[arg-type]


async def test_a_message_never_goes_to_a_key_that_came_to_be_trusted_while_it_waited() -> None:
    """The relay swaps the key while a message is on its way and evidence is asked for again."""
    enclave = Enclave()
    member = a_member(enclave, deadline=0.2)
    await member.verify()
    slow, plain = asyncio.Event(), enclave.trusted_identity

    async def slowly(service_id: ServiceId) -> bytes | None:
        trusted = await plain(service_id)
        await slow.wait()
        return trusted

    enclave.trusted_identity = slowly  # type: ignore[method-assign]
    sharing = asyncio.ensure_future(member.share(DataMessage("secret", 1, bytes(32))))
    await asyncio.sleep(0)
    enclave.identity_key, enclave.silent = b"\x05" + secrets.token_bytes(32), True
    verifying = asyncio.ensure_future(member.verify())
    await asyncio.sleep(0.01)
    slow.set()
    outcomes = await asyncio.gather(sharing, verifying, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [AssistantNotVerified, AssistantSilent]
    assert not any(isinstance(content, DataMessage) for content in enclave.got)

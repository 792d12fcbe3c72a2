"""The assistant answers members who opted in, from what its authors let it use, with what proves it; everybody else hears why not."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest

from ai_enclave.answers import NO_INSTRUCTIONS
from ai_enclave.desk import Load
from ai_enclave.engine import EmbeddedEngine
from ai_enclave.engine.interface import Judgement, Request, Vectors
from ai_enclave.features import composing
from ai_enclave.features.rewriting import INSTRUCTIONS
from ai_enclave.limits import (
    ANSWER_GRID,
    MAX_AGE,
    MAX_CONSENT_AHEAD,
    MAX_MESSAGES,
    MAX_REPLIES,
    REQUESTS_BURST,
    STREAM_PACE,
)
from ai_enclave.pacing import MAX_STREAMED, Pace
from attestation import AttestationError, Receipt, consent_set_digest, parse_receipt, verify_receipt
from attestation.bundle import Bundle
from attestation.collateral import NO_COLLATERAL
from messaging.client.answers import Proved, check_receipt
from messaging.client.receipt_checks import assess_receipt
from messaging.client.receipts import ReceiptFile, ShownConsent
from messaging.wire.assistant import (
    AboutMessages,
    Actions,
    AssistantRequest,
    Coverage,
    Evidence,
    EvidenceRequest,
    Forget,
    Forgotten,
    QuestionsForMe,
    Refusal,
    RefusalCode,
    Replies,
    RequestKind,
    Rewrite,
    Rewritten,
    Status,
    StatusRequest,
    SuggestReplies,
    Summarize,
    Summary,
)
from messaging.wire.consent import ConsentScope, conversation_id
from messaging.wire.content import (
    AssistantCall,
    AttachmentPointer,
    ConsentUpdate,
    Deletion,
    DeliveryReceipt,
    Edit,
    Reaction,
    encode_content,
)
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import (
    ANSWER_BUCKETS,
    DIGEST,
    FRAME,
    MAX_AUTHORS,
    MAX_DRAFT,
    MAX_SCOPE,
    REQUEST_BUCKETS,
    REQUEST_ID,
)
from tests.ai_enclave.asking import (
    KEY,
    RELEASE,
    START,
    Answer,
    Asking,
    Enclave,
    Member,
    StillEngine,
    opted_in,
    scope_of,
)
from tests.ai_enclave.reachable import reachable
from tests.ai_enclave.virtual_time import run_in_virtual_time
from tests.ai_enclave.writers import ScriptedWriter
from tests.attestation import machines

OTHER_KEY = b"\x01" * 32
CHAT = (
    (0, "We meet on Friday at 9:30 at the north station."),
    (1, "I will bring the tents and two lamps."),
    (0, "The cabin costs 240 euros for two nights."),
    (1, "Ann, does 9:15 still work for you?"),
)
KINDS: dict[str, Callable[[Iterable[MessageId]], AboutMessages]] = {
    "summarize": lambda messages: Summarize(scope_of(messages)),
    "questions_for_me": lambda messages: QuestionsForMe(scope_of(messages)),
    "actions": lambda messages: Actions(scope_of(messages)),
    "suggest_replies": lambda messages: SuggestReplies(scope_of(messages)),
}


async def a_chat(engine: EmbeddedEngine) -> tuple[Enclave, Member, Member, list[MessageId]]:
    """Ann and Bob have opted in and written a little."""
    enclave = Enclave(engine)
    ann, bob = await opted_in(enclave, 1, 2)
    messages = [(ann, bob)[who].write(text, at) for at, (who, text) in enumerate(CHAT)]
    return enclave, ann, bob, messages


def named(ann: Member, bob: Member) -> dict[ServiceId, str]:
    return {ann.service_id: "Ann", bob.service_id: "Bob"}


async def refused(asking: Awaitable[Answer]) -> Refusal:
    answer = await asking
    assert isinstance(answer.kind, Refusal)
    assert answer.receipt is None
    assert answer.result.consents == ()
    return answer.kind


class Gate:
    """An engine that waits for a word each time, once it is set up."""

    name, weights_digest = "gate", hashlib.sha256(b"gate").digest()

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.texts: list[str] = []

    def shut(self) -> None:
        self.go.clear()
        self.begun.clear()

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.texts = list(texts)
        self.begun.set()
        assert self.go.wait(10)
        return StillEngine().encode(texts)

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        return StillEngine().judge(vectors, hints)


async def begun(gate: Gate) -> None:
    """Wait until the engine has a request."""
    await asyncio.to_thread(gate.begun.wait, 10)


# --- what is answered -------------------------------------------------------------------------------------------------


async def test_anyone_gets_evidence_for_their_nonce_which_nobody_signs_for_again() -> None:
    eve = Member(Enclave(collateral=b"what vendors say"), 9)
    answer = await eve.ask(EvidenceRequest(eve.nonce))
    assert isinstance(answer.kind, Evidence)
    assert answer.kind.collateral == b"what vendors say"
    assert answer.receipt is None
    assert (await eve.verify()).receipt_key == eve.enclave.receipt_key.public_key().public_bytes_raw()


async def test_a_summary_says_who_said_what_and_cites_the_messages_it_rests_on(engine: EmbeddedEngine) -> None:
    _, ann, bob, messages = await a_chat(engine)
    answer = await ann.ask(Summarize(scope_of(messages, named(ann, bob))))
    assert isinstance(answer.kind, Summary)
    [line] = [line for line in answer.kind.lines if "9:30" in line.text]
    assert (line.cites, line.speaker) == ((messages[0],), ann.service_id)
    assert all(set(line.cites) <= set(messages) for line in answer.kind.lines)
    assert all({cite.author for cite in line.cites} == {line.speaker} for line in answer.kind.lines)


async def test_questions_are_those_that_wait_for_the_requester(engine: EmbeddedEngine) -> None:
    _, ann, bob, messages = await a_chat(engine)
    for member, waiting in ((ann, [messages[3]]), (bob, [])):
        answer = await member.ask(QuestionsForMe(scope_of(messages, named(ann, bob))))
        assert isinstance(answer.kind, Summary)
        assert [cite for line in answer.kind.lines for cite in line.cites] == waiting


async def test_actions_are_what_was_promised_and_when(engine: EmbeddedEngine) -> None:
    _, ann, bob, messages = await a_chat(engine)
    answer = await ann.ask(Actions(scope_of(messages, named(ann, bob))))
    assert isinstance(answer.kind, Summary)
    assert {line.kind: line.cites for line in answer.kind.lines}["commitment"] == (messages[1],)


@pytest.mark.parametrize(("count", "given"), [(0, 0), (1, 1), (3, 3), (1000, MAX_REPLIES)])
async def test_replies_are_suggested_as_many_as_asked_for_up_to_a_limit(
    engine: EmbeddedEngine, count: int, given: int
) -> None:
    _, ann, bob, messages = await a_chat(engine)
    answer = await ann.ask(SuggestReplies(scope_of(messages, named(ann, bob)), count))
    assert isinstance(answer.kind, Replies)
    assert min(given, 3) <= len(answer.kind.texts) <= given  # what is unlikely is not suggested
    assert count < 3 or "Yes, 9:15 works for me." in answer.kind.texts


@pytest.mark.parametrize("kind", KINDS)
async def test_every_answer_says_how_much_it_rests_on_and_what_was_left_out(engine: EmbeddedEngine, kind: str) -> None:
    enclave, ann, bob, messages = await a_chat(engine)
    cid, eve = Member(enclave, 3), Member(enclave, 9)  # Eve has opted in elsewhere, as the others know
    cid.state()
    cid.count(ann, bob, cid)
    bob.count(bob, cid, revision=2)
    missing = [MessageId(ann.service_id, START + 99), MessageId(eve.service_id, START)]
    asked = KINDS[kind]([*messages, *missing])
    answer = await ann.ask(replace(asked, scope=replace(asked.scope, not_opted_in=3, not_asked=5)))
    assert isinstance(answer.kind, Summary | Replies)
    assert answer.kind.coverage == Coverage(used=2, not_opted_in=3 + 2, not_held=2, not_asked=5)
    assert answer.kind.coverage.left_out == 12


async def test_a_requester_who_counts_without_measure_gets_the_most_that_can_be_said() -> None:
    ann, bob = await opted_in(Enclave(), 1, 2)
    message = bob.write("hello", 1)
    bob.count(bob, revision=2)
    most = 2**32 - 1
    ann.count(ann, revision=2)
    answer = await ann.ask(Summarize(scope_of([message], not_opted_in=most, not_asked=most)))
    assert isinstance(answer.kind, Summary)
    assert answer.kind.coverage == Coverage(used=0, not_opted_in=most, not_held=0, not_asked=most)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_answer_names_the_engine_that_spoke(engine: EmbeddedEngine, kind: str) -> None:
    _, ann, _, messages = await a_chat(engine)
    result = (await ann.ask(KINDS[kind](messages))).result
    assert (result.engine, result.model, result.instructions) == (engine.name, engine.weights_digest, NO_INSTRUCTIONS)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_consents_are_those_of_the_messages_used_and_the_requesters_own(
    engine: EmbeddedEngine, kind: str
) -> None:
    enclave, ann, bob, messages = await a_chat(engine)
    cid = Member(enclave, 3)
    cid.state()
    cid.count(ann, bob, cid)
    cid.write("nobody asks for this", 50)
    assert (await ann.ask(KINDS[kind](messages))).result.consents == (ann.consent, bob.consent)
    assert (await ann.ask(KINDS[kind](messages[1:2]))).result.consents == (ann.consent, bob.consent)
    assert (await ann.ask(KINDS[kind](messages[0:1]))).result.consents == (ann.consent,)
    assert (await ann.ask(KINDS[kind]([]))).result.consents == (ann.consent,)


async def test_messages_written_under_several_statements_name_them_all() -> None:
    ann, bob = await opted_in(Enclave(), 1, 2)
    first = bob.consent
    messages = [bob.write("one", 1)]
    bob.state(at=START + 2, scopes=[ConsentScope.SUMMARIES])
    messages += [bob.write("two", 3)]
    answer = await ann.ask(Summarize(scope_of(messages)))
    assert set(answer.result.consents) == {ann.consent, first, bob.consent}
    assert isinstance(answer.kind, Summary)
    assert answer.kind.coverage.used == 2
    answer = await ann.ask(SuggestReplies(scope_of(messages)))
    assert isinstance(answer.kind, Replies)
    assert answer.kind.coverage == Coverage(used=0, not_opted_in=2, not_held=0)


async def test_no_two_answers_have_the_same_bytes() -> None:
    [ann] = await opted_in(Enclave(), 1)
    answers = [await ann.ask(Forget(KEY)) for _ in range(2)]
    assert answers[0].encoded != answers[1].encoded


async def test_what_is_forgotten_is_counted_and_gone() -> None:
    ann, bob = await opted_in(Enclave(), 1, 2)
    ann.state(key=OTHER_KEY)

    def write() -> None:
        for at in (1, 2):
            ann.write("a", at)
        bob.write("b", 3)
        ann.write("c", 4, key=OTHER_KEY)

    for kind, count, left in ((Forget(KEY), 2, 2), (Forget(), 3, 1), (Forget(KEY, whole=True), 3, 1)):
        write()
        answer = await ann.ask(kind)
        assert answer.kind == Forgotten(count)
        assert ann.enclave.assistant.memory.messages_held == left
        assert (answer.result.engine, answer.result.consents) == ("still", ())


async def test_who_has_not_opted_in_may_have_their_own_forgotten_and_nobody_elses() -> None:
    enclave = Enclave()
    ann, bob = await opted_in(enclave, 1, 2)
    ann.write("a", 1)
    eve = Member(enclave, 9)
    assert (await eve.ask(Forget(KEY))).kind == Forgotten(0)
    assert await refused(eve.ask(Forget(KEY, whole=True))) == Refusal(RefusalCode.NOT_OPTED_IN)
    eve.state()
    eve.count(ann, bob, eve)
    assert await refused(eve.ask(Forget(KEY, whole=True))) == Refusal(RefusalCode.NOT_A_MEMBER)
    assert enclave.assistant.memory.messages_held == 1


async def test_a_status_says_how_the_enclave_is_and_what_it_holds_of_the_requester() -> None:
    enclave = Enclave()
    ann, bob = await opted_in(enclave, 1, 2)
    ann.write("a", 1)
    bob.write("b", 2)
    longest = int(MAX_AGE.total_seconds())
    of_nothing = Status(RELEASE, START, MAX_MESSAGES, longest, generates=False, expected_wait=0)
    assert (await Member(enclave, 9).ask(StatusRequest())).kind == of_nothing
    both = frozenset({ann.service_id, bob.service_id})
    answer = await ann.ask(StatusRequest(KEY))
    assert answer.kind == replace(of_nothing, own_messages=1, opted_in=both)
    assert answer.receipt is None
    bob.count(bob, revision=2)
    ann.count(ann, revision=2)
    assert (await ann.ask(StatusRequest(KEY))).kind == replace(
        of_nothing, own_messages=1, opted_in=frozenset({ann.service_id})
    )


async def test_the_status_of_a_conversation_is_for_its_members() -> None:
    enclave = Enclave()
    ann, bob = await opted_in(enclave, 1, 2)
    eve = Member(enclave, 9)
    assert await refused(eve.ask(StatusRequest(KEY))) == Refusal(RefusalCode.NOT_OPTED_IN)
    eve.state()
    eve.count(ann, bob, eve)
    assert await refused(eve.ask(StatusRequest(KEY))) == Refusal(RefusalCode.NOT_A_MEMBER)


async def test_a_status_says_how_long_one_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    enclave = Enclave(writer=Scripted())
    monkeypatch.setattr(type(enclave.counter), "load", property(lambda _: Load(3, 1.25)))
    status = (await Member(enclave, 9).ask(StatusRequest())).kind
    assert isinstance(status, Status)
    assert (status.expected_wait, status.generates) == (1250, True)


# --- receipts ---------------------------------------------------------------------------------------------------------


def verified(member: Member, answer: Answer) -> Receipt:
    """What the proved enclave says of an answer."""
    assert answer.receipt is not None
    return verify_receipt(parse_receipt(answer.receipt), member.claims, member.document)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_receipt_is_the_proved_enclaves_for_these_very_bytes(engine: EmbeddedEngine, kind: str) -> None:
    enclave, ann, bob, messages = await a_chat(engine)
    enclave.now = START + 5_999
    answer = await ann.ask(KINDS[kind](messages))
    receipt = verified(ann, answer)
    assert receipt == Receipt(
        kind=kind,
        request=hashlib.sha256(answer.request).digest(),
        answer=hashlib.sha256(answer.encoded).digest(),
        conversation=conversation_id(KEY),
        consents=consent_set_digest((each.author.to_bytes(), each.digest) for each in (ann.consent, bob.consent)),
        engine=engine.name,
        model=engine.weights_digest,
        instructions=NO_INSTRUCTIONS,
        release=RELEASE,
        measurement=machines.SIMULATED_MEASUREMENT,
        evidence=hashlib.sha256(ann.document).digest(),
        time=machines.NOW.replace(second=5),
        request_bucket=REQUEST_BUCKETS[0],
        answer_bucket=len(answer.frames) * FRAME,
    )


async def test_a_client_accepts_it_and_anybody_who_is_shown_it_with_its_consents_does(engine: EmbeddedEngine) -> None:
    _, ann, bob, messages = await a_chat(engine)
    kind = Summarize(scope_of(messages))
    answer = await ann.ask(kind)
    bundle = Bundle(ann.nonce, machines.NOW, ann.document, NO_COLLATERAL)
    proved = Proved(ann.claims, bundle, hashlib.sha256(ann.document).digest())
    check_receipt(proved, kind, answer.request, answer.result, answer.parts[-1], now=machines.NOW)
    shown = tuple(ShownConsent(who.service_id, who.keys.public, who.statements[-1]) for who in (ann, bob))
    assert answer.receipt is not None
    file = ReceiptFile(
        bundle=bundle, signed=answer.receipt, consents=shown, request=answer.request, answer=answer.encoded
    )
    assert assess_receipt(file, ann.claims).errors == ()
    other = Enclave(engine)
    [eve] = await opted_in(other, 9)
    with pytest.raises(AttestationError):
        verify_receipt(parse_receipt(answer.receipt), eve.claims, eve.document)


async def test_forgetting_has_a_receipt_too_if_the_requester_can_check_it() -> None:
    [ann] = await opted_in(Enclave(), 1)
    receipt = verified(ann, await ann.ask(Forget(KEY)))
    assert (receipt.kind, receipt.conversation) == ("forget", conversation_id(KEY))
    assert verified(ann, await ann.ask(Forget())).conversation is None
    ann.evidence = bytes(DIGEST)
    assert (await ann.ask(Forget(KEY))).receipt is None
    ann.evidence = None
    assert (await ann.ask(Forget(KEY))).receipt is None


async def test_a_receipt_names_the_bucket_that_the_request_was_padded_to() -> None:
    ann, bob = await opted_in(Enclave(), 1, 2)
    many = [MessageId(bob.service_id, START + at) for at in range(MAX_SCOPE)]
    names = {ServiceId(bob.service_id.uuid.__class__(int=number)): "x" * 64 for number in range(100, 349)}
    answer = await ann.ask(Summarize(scope_of(many, names)))
    assert verified(ann, answer).request_bucket == REQUEST_BUCKETS[1]
    assert len(encode_content(AssistantCall(answer.request))) == REQUEST_BUCKETS[1]


async def test_a_receipt_is_of_a_time_at_which_the_consents_that_it_names_were_in_force() -> None:
    """A consent runs out while the answer is on its way: it was in force when the answer was made."""
    gate = Gate()
    enclave = Enclave(gate)
    ann, bob = await opted_in(enclave, 1, 2)
    until = START + 60_000
    bob.state(at=START, until=until)
    message = bob.write("hello", 1)
    gate.shut()
    asking = ann.asking(SuggestReplies(scope_of([message])))
    await begun(gate)
    enclave.now = until - 1
    gate.go.set()
    receipt = verified(ann, await asking)
    assert int(receipt.time.timestamp() * 1000) == until - 1000


# --- frames -----------------------------------------------------------------------------------------------------------


def assert_uniform(answer: Answer) -> None:
    """All that a relay sees of two answers of one size is the same."""
    assert len(answer.frames) in ANSWER_BUCKETS
    assert {len(encode_content(frame)) for frame in answer.frames} == {FRAME}
    assert [frame.index for frame in answer.frames] == list(range(len(answer.frames)))
    assert [frame.last for frame in answer.frames] == [False] * (len(answer.frames) - 1) + [True]


async def test_all_frames_have_one_size_and_their_number_is_a_bucket(engine: EmbeddedEngine) -> None:
    _, ann, _, messages = await a_chat(engine)
    small: list[RequestKind] = [
        StatusRequest(),
        Forget(),
        Rewrite("draft"),
        *(kind(messages) for kind in KINDS.values()),
    ]
    for kind in small:
        answer = await ann.ask(kind)
        assert_uniform(answer)
        assert len(answer.frames) == 1


async def test_large_evidence_takes_a_larger_bucket() -> None:
    noise = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(1000))
    ann = Member(Enclave(collateral=noise), 1)
    answer = await ann.ask(EvidenceRequest(ann.nonce))
    assert_uniform(answer)
    assert len(answer.frames) == 8


async def test_evidence_too_large_for_any_answer_is_none() -> None:
    noise = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(40_000))
    ann = Member(Enclave(collateral=noise), 1)
    assert await refused(ann.ask(EvidenceRequest(ann.nonce))) == Refusal(RefusalCode.NO_EVIDENCE)


async def test_an_answer_and_a_refusal_leave_on_the_grid() -> None:
    ann = Member(Enclave(pace=Pace()), 1)
    clock = asyncio.get_running_loop().time
    for request in (
        ann.request(StatusRequest()).encode(),
        ann.request(StatusRequest(KEY)).encode(),
        b"\x0a\x10" + bytes(16),
    ):
        arrived = clock()
        answer = await ann.call(request)
        assert answer is not None
        assert answer.times[0] - arrived >= ANSWER_GRID - 0.002  # the loop's timers are coarse


# --- refusals ---------------------------------------------------------------------------------------------------------


async def _not_opted_in() -> Refusal:
    [ann] = await opted_in(Enclave(), 1)
    ann.state(opted_in=False, at=START)
    return await refused(ann.ask(Summarize(scope_of([]))))


async def _not_a_member() -> Refusal:
    ann, bob = await opted_in(Enclave(), 1, 2)
    bob.count(bob, revision=2)
    return await refused(ann.ask(Summarize(scope_of([]))))


async def _out_of_scope() -> Refusal:
    [ann] = await opted_in(Enclave(), 1)
    ann.state(scopes=[ConsentScope.SUMMARIES], at=START)
    assert isinstance((await ann.ask(Summarize(scope_of([])))).kind, Summary)
    return await refused(ann.ask(SuggestReplies(scope_of([]))))


async def _scope_too_large() -> Refusal:
    [ann] = await opted_in(Enclave(), 1)
    most = [MessageId(ann.service_id, at) for at in range(MAX_SCOPE)]
    assert isinstance((await ann.ask(Summarize(scope_of(most)))).kind, Summary)
    return await refused(ann.ask(Summarize(scope_of([*most, MessageId(ann.service_id, MAX_SCOPE)]))))


async def _unknown_evidence() -> Refusal:
    ann, bob = await opted_in(Enclave(), 1, 2)
    ann.evidence = None
    assert await refused(ann.ask(Rewrite("x"))) == Refusal(RefusalCode.UNKNOWN_EVIDENCE)
    ann.evidence = bob.evidence  # which was given to somebody else
    return await refused(ann.ask(Summarize(scope_of([]))))


async def _needs_generating_engine() -> Refusal:
    [ann] = await opted_in(Enclave(), 1)
    return await refused(ann.ask(Rewrite("x")))


async def _busy() -> Refusal:
    gate = Gate()
    ann, bob = await opted_in(Enclave(gate), 1, 2)
    message = bob.write("hello", 1)
    gate.shut()
    first = ann.asking(SuggestReplies(scope_of([message])))
    await begun(gate)
    refusal = await refused(bob.ask(Summarize(scope_of([])), deadline=100))
    gate.go.set()
    await first
    assert refusal.retry_after is not None
    assert refusal.retry_after >= 1000
    return replace(refusal, retry_after=None)


async def _quota() -> Refusal:
    [ann] = await opted_in(Enclave(), 1)
    for _ in range(REQUESTS_BURST):
        assert isinstance((await ann.ask(Summarize(scope_of([])))).kind, Summary)
    refusal = await refused(ann.ask(Summarize(scope_of([]))))
    assert refusal.retry_after is not None
    return replace(refusal, retry_after=None)


async def _draining() -> Refusal:
    enclave = Enclave(writer=Scripted())
    [ann] = await opted_in(enclave, 1)
    enclave.assistant.drain()
    assert await refused(ann.ask(EvidenceRequest(bytes(32)))) == Refusal(RefusalCode.DRAINING)
    assert await refused(ann.ask(Rewrite("x"))) == Refusal(RefusalCode.DRAINING)
    assert isinstance((await ann.ask(StatusRequest())).kind, Status)
    assert isinstance((await ann.ask(Forget())).kind, Forgotten)
    return await refused(ann.ask(Summarize(scope_of([]))))


async def _too_late() -> Refusal:
    gate = Gate()
    ann, bob = await opted_in(Enclave(gate), 1, 2)
    message = bob.write("hello", 1)
    gate.shut()
    refusal = await refused(ann.ask(SuggestReplies(scope_of([message])), deadline=50))
    gate.go.set()
    assert await refused(ann.ask(Summarize(scope_of([])), deadline=0)) == Refusal(RefusalCode.TOO_LATE)
    return refusal


async def _cancelled() -> Refusal:
    gate = Gate()
    ann, bob = await opted_in(Enclave(gate), 1, 2)
    message = bob.write("hello", 1)
    gate.shut()
    request_id = bytes(range(REQUEST_ID))
    first = ann.asking(SuggestReplies(scope_of([message])), request_id=request_id)
    await begun(gate)
    await bob.cancel(request_id)  # not his
    await ann.cancel(bytes(REQUEST_ID))  # no such
    await asyncio.sleep(0)
    assert not first.done()
    await ann.cancel(request_id)
    refusal = await refused(first)
    gate.go.set()
    return refusal


async def _engine_failed() -> Refusal:
    engine = Broken()
    ann, bob = await opted_in(Enclave(engine), 1, 2)
    message = bob.write("hello", 1)
    engine.broken = True
    return await refused(ann.ask(SuggestReplies(scope_of([message]))))


async def _no_evidence() -> Refusal:
    def attest(_nonce: bytes) -> bytes:
        raise OSError("canary")

    return await refused(Member(Enclave(attest=attest), 1).ask(EvidenceRequest(bytes(32))))


async def _malformed() -> Refusal:
    ann = Member(Enclave(), 1)
    requests = [
        b"\x0a\x10" + bytes(16),  # an id, and nothing asked
        AssistantRequest(bytes(16), EvidenceRequest(bytes(31))).encode(),
        AssistantRequest(bytes(16), Rewrite("x" * (MAX_DRAFT + 1))).encode(),
        AssistantRequest(bytes(16), Forget(None, whole=True)).encode(),
        AssistantRequest(bytes(16), StatusRequest(b"short")).encode(),
    ]
    for request in requests:
        answer = await ann.call(request)
        assert answer is not None
        assert_uniform(answer)
        assert answer.frames[0].request_id == bytes(16)
        assert answer.kind == Refusal(RefusalCode.MALFORMED)
    return Refusal(RefusalCode.MALFORMED)


REFUSALS: dict[RefusalCode, Callable[[], Awaitable[Refusal]]] = {
    RefusalCode.NOT_OPTED_IN: _not_opted_in,
    RefusalCode.NOT_A_MEMBER: _not_a_member,
    RefusalCode.OUT_OF_SCOPE: _out_of_scope,
    RefusalCode.SCOPE_TOO_LARGE: _scope_too_large,
    RefusalCode.UNKNOWN_EVIDENCE: _unknown_evidence,
    RefusalCode.NEEDS_GENERATING_ENGINE: _needs_generating_engine,
    RefusalCode.BUSY: _busy,
    RefusalCode.QUOTA: _quota,
    RefusalCode.DRAINING: _draining,
    RefusalCode.TOO_LATE: _too_late,
    RefusalCode.CANCELLED: _cancelled,
    RefusalCode.ENGINE_FAILED: _engine_failed,
    RefusalCode.NO_EVIDENCE: _no_evidence,
    RefusalCode.MALFORMED: _malformed,
}


@pytest.mark.parametrize("code", RefusalCode)
async def test_who_is_refused_hears_why_in_one_word(code: RefusalCode) -> None:
    assert await REFUSALS[code]() == Refusal(code)


async def test_too_many_authors_are_a_scope_too_large() -> None:
    [ann] = await opted_in(Enclave(), 1)
    names = {ServiceId(ann.service_id.uuid.__class__(int=number)): "x" for number in range(1, MAX_AUTHORS + 2)}
    assert await refused(ann.ask(Summarize(scope_of([], names)))) == Refusal(RefusalCode.SCOPE_TOO_LARGE)


@pytest.mark.parametrize("request_", [b"", b"\xff", b"\x0a\x0f" + bytes(15), b"no protobuf at all"])
async def test_what_has_no_id_is_met_with_silence(request_: bytes) -> None:
    assert await Member(Enclave(), 1).call(request_) is None


async def test_who_may_not_ask_is_told_at_once_and_takes_nobodys_turn() -> None:
    gate = Gate()
    enclave = Enclave(gate)
    ann, bob = await opted_in(enclave, 1, 2)
    eve = Member(enclave, 9)
    await eve.verify()
    message = bob.write("hello", 1)
    gate.shut()
    first = ann.asking(SuggestReplies(scope_of([message])))
    await begun(gate)
    for _ in range(REQUESTS_BURST + 1):
        assert await refused(eve.ask(Summarize(scope_of([message])))) == Refusal(RefusalCode.NOT_OPTED_IN)
    gate.go.set()
    await first


async def test_a_request_for_evidence_may_be_cancelled() -> None:
    go = threading.Event()

    def attest(_nonce: bytes) -> bytes:
        assert go.wait(10)
        raise OSError

    ann = Member(Enclave(attest=attest), 1)
    request_id = bytes(range(REQUEST_ID))
    asking = ann.asking(EvidenceRequest(bytes(32)), request_id=request_id)
    await asyncio.sleep(0.01)
    await ann.cancel(request_id)
    assert await refused(asking) == Refusal(RefusalCode.CANCELLED)
    go.set()


# --- what may change meanwhile ----------------------------------------------------------------------------------------


async def waiting(gate: Gate, ann: Member, bob: Member, message: MessageId) -> tuple[Asking, Asking]:
    """Bob's request is in service, Ann's waits."""
    gate.shut()
    first = bob.asking(SuggestReplies(scope_of([message])))
    await begun(gate)
    second = ann.asking(SuggestReplies(scope_of([message])))
    await asyncio.sleep(0.01)
    return first, second


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda ann, bob: ann.state(opted_in=False, at=START), RefusalCode.NOT_OPTED_IN),
        (lambda ann, bob: ann.state(scopes=[ConsentScope.SUMMARIES], at=START), RefusalCode.OUT_OF_SCOPE),
        (lambda ann, bob: bob.count(bob, revision=2), RefusalCode.NOT_A_MEMBER),
    ],
)
async def test_consent_that_ends_while_a_request_waits_is_not_used(
    change: Callable[[Member, Member], object], code: RefusalCode
) -> None:
    gate = Gate()
    ann, bob = await opted_in(Enclave(gate), 1, 2)
    message = ann.write("hello", 1)
    first, second = await waiting(gate, ann, bob, message)
    change(ann, bob)
    gate.go.set()
    assert await refused(second) == Refusal(code)
    await first


async def test_messages_whose_author_opts_out_while_a_request_waits_are_left_out() -> None:
    gate = Gate()
    ann, bob, cid = await opted_in(Enclave(gate), 1, 2, 3)
    message = cid.write("hello", 1)
    first, second = await waiting(gate, ann, bob, message)
    cid.state(opted_in=False, at=START + 2)
    gate.go.set()
    answer = await second
    assert isinstance(answer.kind, Replies)
    assert answer.kind.coverage == Coverage(used=0, not_opted_in=1, not_held=0)
    assert answer.result.consents == (ann.consent,)
    assert await refused(first) == Refusal(RefusalCode.BUSY, 1000)


@pytest.mark.parametrize(
    "change",
    [
        lambda cid, ann: cid.delete(MessageId(cid.service_id, START + 1)),
        lambda cid, ann: cid.edit(MessageId(cid.service_id, START + 1), "hullo", 2),
        lambda cid, ann: cid.state(opted_in=False, at=START + 2),
        lambda cid, ann: cid.state(scopes=[ConsentScope.SUMMARIES], at=START + 2),
        lambda cid, ann: cid.count(cid, revision=2),
        lambda cid, ann: setattr(cid.enclave, "now", START + 60_000),
        lambda cid, ann: cid.enclave.assistant.forget_account(cid.service_id),
    ],
)
async def test_an_answer_that_rests_on_what_may_not_be_used_any_more_does_not_leave(
    change: Callable[[Member, Member], object],
) -> None:
    gate = Gate()
    ann, cid = await opted_in(Enclave(gate), 1, 3)
    ann.count(ann, revision=2)  # so that Ann is not refused as somebody whom nobody counts
    cid.state(at=START, until=START + 60_000)
    message = cid.write("hello", 1)
    gate.shut()
    asking = ann.asking(SuggestReplies(scope_of([message])))
    await begun(gate)
    assert gate.texts == ["hello"]
    change(cid, ann)
    gate.go.set()
    assert await refused(asking) == Refusal(RefusalCode.BUSY, 1000)


async def test_a_request_that_waits_is_answered_without_what_was_deleted_meanwhile_and_with_what_was_edited() -> None:
    gate = Gate()
    ann, bob, cid = await opted_in(Enclave(gate), 1, 2, 3)
    gone, other = cid.write("what was deleted", 1), cid.write("what was edited", 2)
    first, _ = await waiting(gate, ann, bob, ann.write("hello", 3))
    second = cid.asking(Summarize(scope_of([gone, other])))
    await asyncio.sleep(0.01)
    cid.delete(gone)
    cid.edit(other, "Shall we meet at 9?", 4)
    gate.go.set()
    answer = await second
    assert isinstance(answer.kind, Summary)
    assert answer.kind.coverage == Coverage(used=1, not_opted_in=0, not_held=1)
    assert gate.texts == ["Shall we meet at 9?"]
    await first


@pytest.mark.parametrize(
    ("change", "leaves"),
    [
        (lambda cid, message: cid.delete(message), False),
        (lambda cid, message: cid.edit(message, "hullo", 2), False),
        (lambda cid, message: cid.state(opted_in=False, at=START + 2), False),
        (lambda cid, message: cid.count(cid, revision=2), False),
        (lambda cid, message: cid.delete(MessageId(message.author, message.timestamp + 1)), True),
        (lambda cid, message: cid.edit(message, "before", 0), True),
    ],
    ids=["deleted", "edited", "withdrawn", "requester refused", "another deleted", "edited before"],
)
def test_what_is_deleted_before_the_first_frame_leaves_is_in_no_frame(
    change: Callable[[Member, MessageId], object], leaves: bool
) -> None:
    async def main() -> Answer:
        writer = Scripted((0.1, "[]"))
        ann, cid = await opted_in(Enclave(writer=writer, pace=Pace(grid=1.0)), 1, 3)
        message = cid.write("hello", 1)
        asking = ann.asking(Summarize(scope_of([message])))
        await asyncio.sleep(0.5)
        assert writer.closed  # what was said waits for the grid
        change(cid, message)
        return await asking

    answer = run_in_virtual_time(main)
    assert_uniform(answer)
    if leaves:
        assert isinstance(answer.kind, Summary)
    else:
        assert (answer.kind, answer.receipt) == (Refusal(RefusalCode.BUSY, 1000), None)


async def test_what_changes_meanwhile_without_touching_the_answer_leaves_it_alone() -> None:
    gate = Gate()
    ann, cid = await opted_in(Enclave(gate), 1, 3)
    message = cid.write("hello", 1)
    gate.shut()
    asking = ann.asking(SuggestReplies(scope_of([message])))
    await begun(gate)
    cid.write("more", 2)
    cid.state(at=START + 3)
    cid.count(cid, ann, revision=7)
    gate.go.set()
    assert isinstance((await asking).kind, Replies)


async def test_a_consumer_that_goes_away_takes_its_request_with_it() -> None:
    gate = Gate()
    enclave = Enclave(gate)
    ann, bob = await opted_in(enclave, 1, 2)
    message = ann.write("hello", 1)
    first, second = await waiting(gate, ann, bob, message)
    assert enclave.counter.load.waiting == 1
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.sleep(0)
    assert enclave.counter.load.waiting == 0
    gate.go.set()
    await first


# --- faults -----------------------------------------------------------------------------------------------------------


class Broken:
    """An engine that fails with words that must not get out."""

    name, weights_digest = "broken", bytes(DIGEST)

    def __init__(self) -> None:
        self.broken = False

    def encode(self, texts: Sequence[str]) -> Vectors:
        if self.broken:
            raise RuntimeError(f"canary {texts}")
        return StillEngine().encode(texts)

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        return StillEngine().judge(vectors, hints)


async def test_the_words_of_an_error_get_nowhere_and_the_next_request_is_served(
    capfd: pytest.CaptureFixture[str],
) -> None:
    engine = Broken()
    ann, bob = await opted_in(Enclave(engine), 1, 2)
    kind = SuggestReplies(scope_of([bob.write("canary", 1)]))
    for broken in (True, True, False):
        engine.broken = broken
        answer = await ann.ask(kind)
        assert isinstance(answer.kind, Refusal if broken else Replies)
        assert not broken or b"canary" not in answer.encoded
    assert capfd.readouterr() == ("", 2 * "subrosa enclave: no answer (RuntimeError)\n")


# --- what is told -----------------------------------------------------------------------------------------------------


async def test_a_statement_counts_only_if_its_author_made_it_about_this_conversation() -> None:
    enclave = Enclave()
    ann, bob = Member(enclave, 1), Member(enclave, 2)
    await ann.verify()
    bob.state()
    signed = bob.statements[-1]
    enclave.assistant.note(ann.service_id, ann.keys.public, ConsentUpdate(KEY, signed))
    enclave.assistant.note(ann.service_id, bob.keys.public, ConsentUpdate(KEY, signed))
    bob.tell(ConsentUpdate(OTHER_KEY, signed))
    ann.tell(ConsentUpdate(KEY, replace(signed, statement=b"\x00")))
    assert await refused(ann.ask(Summarize(scope_of([])))) == Refusal(RefusalCode.NOT_OPTED_IN)
    assert enclave.assistant.memory.own_consent(bob.account, OTHER_KEY) is None


async def test_it_is_told_who_has_just_opted_out_once() -> None:
    ann = Member(Enclave(), 1)
    assert not ann.state()
    assert ann.state(opted_in=False, at=START)
    assert not ann.tell(ConsentUpdate(KEY, ann.statements[-1]))
    assert not ann.state(opted_in=False, at=START - 1)


async def test_a_statement_from_the_future_gives_nothing_before_its_time() -> None:
    ann = Member(Enclave(), 1)
    await ann.verify()
    ahead = int(MAX_CONSENT_AHEAD.total_seconds() * 1000)
    ann.state(at=START + ahead + 1)
    assert await refused(ann.ask(Summarize(scope_of([])))) == Refusal(RefusalCode.NOT_OPTED_IN)
    ann.enclave.now += 1
    answer = await ann.ask(Summarize(scope_of([])))
    assert answer.receipt is not None
    shown = ShownConsent(ann.service_id, ann.keys.public, ann.statements[-1])
    bundle = Bundle(ann.nonce, machines.NOW, ann.document, NO_COLLATERAL)
    assert assess_receipt(ReceiptFile(bundle=bundle, signed=answer.receipt, consents=(shown,)), ann.claims).errors == ()


async def test_other_content_is_passed_over() -> None:
    enclave = Enclave()
    ann = Member(enclave, 1)
    message = MessageId(ann.service_id, START)
    for content in (
        DeliveryReceipt((1,)),
        Reaction("x", message, START, KEY),
        Deletion(START, START, KEY),
        Edit(START, ann.written("who has never opted in", 1)),
    ):
        assert not enclave.assistant.note(ann.service_id, ann.keys.public, content)
    assert enclave.assistant.memory.bytes_held == 0


async def test_what_an_author_edits_is_answered_as_it_stands_and_what_they_delete_is_as_if_it_had_never_come(
    engine: EmbeddedEngine,
) -> None:
    enclave, ann, bob, messages = await a_chat(engine)
    never = MessageId(ann.service_id, START + 99)
    ann.edit(messages[0], "We meet on Sunday at 8:15 at the south station.", 10)
    bob.edit(messages[2], "The cabin costs nothing.", 10)  # which is Ann's
    ann.delete(messages[2])
    bob.delete(messages[0])
    answer = await bob.ask(Summarize(scope_of([*messages, never], named(ann, bob))))
    assert isinstance(answer.kind, Summary)
    assert answer.kind.coverage == Coverage(used=3, not_opted_in=0, not_held=2)
    told = {cite: line.text for line in answer.kind.lines for cite in line.cites}
    assert "8:15 at the south station" in told[messages[0]]
    assert messages[2] not in told
    ann.tell(ann.written(CHAT[2][1], 2))  # it was on its way, or is shared again
    assert await gets(ann, messages[2]) == set()
    kept = " ".join(text for text in reachable(enclave.assistant.memory) if isinstance(text, str))
    assert "Sunday" in kept
    assert not any(word in kept for word in ("Friday", "240 euros", "nothing"))


async def test_keys_of_files_are_let_go_of_as_they_arrive() -> None:
    enclave = Enclave()
    [ann] = await opted_in(enclave, 1)
    file = AttachmentPointer(2, "where it lies", b"s" * 64, b"d" * 32, 9, "image/png", "me.png")
    message = replace(ann.written("look at this", 1), attachments=(file,))
    ann.tell(message)
    ann.tell(Edit(message.timestamp, replace(message, body="look at that", timestamp=START + 2)))
    assert isinstance((await ann.ask(Summarize(scope_of([MessageId(ann.service_id, START + 1)])))).kind, Summary)
    kept = reachable(enclave.assistant)
    assert "look at that" in kept
    assert not kept & {"look at this", "where it lies", b"s" * 64, b"d" * 32, "image/png", "me.png"}


async def test_what_is_to_be_deleted_soon_is_dropped_then() -> None:
    enclave = Enclave()
    ann, bob = await opted_in(enclave, 1, 2)
    ann.tell(replace(ann.written("a", 1), expires_in=60))
    ann.write("b", 2)
    enclave.now += 60_000
    enclave.assistant.forget_old()
    assert enclave.assistant.memory.messages_held == 1
    message = bob.write("c", 60_001)
    gone = MessageId(ann.service_id, START + 1)
    answer = await bob.ask(Summarize(scope_of([gone, message])))
    assert isinstance(answer.kind, Summary)
    assert answer.kind.coverage == Coverage(used=1, not_opted_in=0, not_held=1)


async def test_of_an_account_with_new_keys_nothing_is_left() -> None:
    enclave = Enclave()
    ann, _ = await opted_in(enclave, 1, 2)
    ann.write("a", 1)
    enclave.assistant.forget_account(ann.service_id)
    assert enclave.assistant.memory.messages_held == 0
    assert await refused(ann.ask(Summarize(scope_of([])))) == Refusal(RefusalCode.UNKNOWN_EVIDENCE)
    await ann.verify()
    assert await refused(ann.ask(Summarize(scope_of([])))) == Refusal(RefusalCode.NOT_OPTED_IN)


# --- who was a member when it was written ---


async def gets(requester: Member, *asked: MessageId) -> set[MessageId]:
    """Those of the messages that a summary for ``requester`` rests on."""
    summary = (await requester.ask(Summarize(scope_of(list(asked))))).kind
    assert isinstance(summary, Summary)
    return {cite for line in summary.lines for cite in line.cites}


async def test_who_was_removed_gets_nothing_that_was_written_since_although_the_relay_dropped_the_roster(
    engine: EmbeddedEngine,
) -> None:
    enclave = Enclave(engine)
    alice, carol, dave = await opted_in(enclave, 1, 3, 4)
    before = alice.write("The meeting moved to Friday at 10 in room Orion.", 1000)
    alice.counted(alice, dave, revision=2)
    after = alice.write("Carol will be sued on Monday morning at 9.", 5000)
    assert await gets(carol, before, after) == {before}
    assert await gets(dave, before, after) == {before}
    assert await gets(alice, after) == {after}


async def test_a_newcomer_gets_nothing_that_was_written_before_them_although_it_came_after_their_roster(
    engine: EmbeddedEngine,
) -> None:
    enclave = Enclave(engine)
    alice, dave, xaver = (Member(enclave, number) for number in (1, 4, 9))
    for member in (alice, dave, xaver):
        await member.verify()
        member.state()
    alice.counted(alice, dave)
    late = alice.written("We never hire Xaver because of his record.", 1000)  # no assistant is verified yet
    alice.count(alice, dave, xaver, revision=2)
    alice.tell(late)
    soon = alice.write("Xaver starts on Monday at 9.", 2000)
    assert await gets(xaver, MessageId(alice.service_id, late.timestamp), soon) == {soon}


async def test_who_takes_an_account_over_gets_nothing_although_they_know_the_conversations_key(
    engine: EmbeddedEngine,
) -> None:
    enclave = Enclave(engine)
    alice, bob = await opted_in(enclave, 1, 2)
    said = alice.write("The launch meeting moved to Friday at 10 in room Orion.", 1000)
    impostor = Member(enclave, 2)
    assert impostor.service_id == bob.service_id
    enclave.assistant.forget_account(bob.service_id)  # as the service does when it takes in the new key
    await impostor.verify()
    impostor.state()
    impostor.count(alice, impostor)
    for kind in (Summarize(scope_of([said])), Forget(KEY, whole=True), StatusRequest(KEY)):
        assert await refused(impostor.ask(kind)) == Refusal(RefusalCode.NOT_A_MEMBER)
    assert await gets(alice, said) == {said}


async def test_so_does_who_has_an_account_that_the_enclave_never_heard_of(engine: EmbeddedEngine) -> None:
    enclave = Enclave(engine)
    alice, bob, impostor = (Member(enclave, number) for number in (1, 2, 2))
    alice.state()
    alice.count(alice, bob)
    said = alice.write("The launch meeting moved to Friday at 10 in room Orion.", 1000)
    await impostor.verify()
    impostor.state()
    assert await refused(impostor.ask(Summarize(scope_of([said])))) == Refusal(RefusalCode.NOT_A_MEMBER)


async def test_a_request_that_came_under_an_older_key_is_nobodys(engine: EmbeddedEngine) -> None:
    enclave = Enclave(engine)
    alice, bob = await opted_in(enclave, 1, 2)
    said = alice.write("The launch meeting moved to Friday at 10 in room Orion.", 1000)
    again = Member(enclave, 2)
    await again.verify()
    again.state()
    assert await refused(bob.ask(Summarize(scope_of([said])))) == Refusal(RefusalCode.NOT_OPTED_IN)


async def test_what_is_old_is_dropped() -> None:
    enclave = Enclave()
    [ann] = await opted_in(enclave, 1)
    ann.write("a", 1)
    enclave.now += int(MAX_AGE.total_seconds() * 1000)
    enclave.assistant.forget_old()
    assert enclave.assistant.memory.messages_held == 0


async def test_who_drains_finishes_what_was_accepted() -> None:
    gate = Gate()
    enclave = Enclave(gate)
    ann, bob = await opted_in(enclave, 1, 2)
    first, second = await waiting(gate, ann, bob, ann.write("hello", 1))
    enclave.assistant.drain()
    drained = asyncio.ensure_future(enclave.assistant.drained())
    await asyncio.sleep(0.01)
    assert not drained.done()
    gate.go.set()
    assert isinstance((await first).kind, Replies)
    assert isinstance((await second).kind, Replies)
    await asyncio.wait_for(drained, 5)


# --- a text that is streamed ------------------------------------------------------------------------------------------


class Scripted(ScriptedWriter):
    """Writes each piece after so many seconds."""

    weights_digest = hashlib.sha256(b"scripted").digest()

    def __init__(self, *pieces: tuple[float, str]) -> None:
        self.pieces = pieces
        self.closed = False

    async def write(self, request: Request) -> AsyncGenerator[str]:
        try:
            for seconds, piece in self.pieces:
                await asyncio.sleep(seconds)
                yield piece
        finally:
            self.closed = True


def streamed(*pieces: tuple[float, str], draft: str = "pls come at 9:30") -> tuple[Answer, list[float]]:
    """The answer to a rewrite, and the seconds after the request at which frames left."""

    async def main() -> tuple[Answer, list[float]]:
        enclave = Enclave(writer=Scripted(*pieces), pace=Pace())
        [ann] = await opted_in(enclave, 1)
        arrived = asyncio.get_running_loop().time()
        answer = await ann.ask(Rewrite(draft, "kind"))
        if answer.receipt is not None:
            receipt = verified(ann, answer)
            assert receipt.answer_bucket == FRAME * len(answer.frames)
            assert (receipt.kind, receipt.conversation) == ("rewrite", None)
            assert receipt.instructions == INSTRUCTIONS.digest
        return answer, [round(at - arrived, 6) for at in answer.times]

    return run_in_virtual_time(main)


def texts(answer: Answer) -> list[str]:
    return [part.text for part in answer.parts if part.text]


def test_a_draft_is_rewritten_and_its_text_comes_before_its_result() -> None:
    answer, _ = streamed((0.1, "Please "), (0.1, "do co"), (0.2, "me at "), (0.2, "9:30."))
    assert answer.kind == Rewritten("Please do come at 9:30.")
    assert texts(answer) == ["Please do", " come at"]
    assert answer.parts[-1].result is not None
    result = answer.result
    assert (result.engine, result.model) == ("scripted", Scripted.weights_digest)
    assert (result.instructions, result.consents) == (INSTRUCTIONS.digest, ())


def test_a_frame_leaves_at_each_beat_whether_there_is_text_or_not_and_the_rest_on_the_grid() -> None:
    answer, times = streamed((0.1, "Please come "), (0.93, "soon"))
    beat = STREAM_PACE
    assert times == [beat, 2 * beat, 3 * beat, 4 * beat, *[1.05] * 4]
    assert [frame.index for frame in answer.frames if frame.data] == [0, 4]
    assert_uniform(answer)


def test_what_is_written_within_a_beat_leaves_at_once() -> None:
    answer, times = streamed((0.13, "Please come"))
    assert times == [0.15]
    assert texts(answer) == []
    assert answer.kind == Rewritten("Please come")


def test_a_long_stream_stops_at_its_bound_and_ends_with_the_result() -> None:
    answer, times = streamed(*[(0.5, "word ")] * 50)
    assert times[MAX_STREAMED - 1] == MAX_STREAMED * STREAM_PACE
    assert len(answer.frames) == ANSWER_BUCKETS[-1]
    assert set(times[MAX_STREAMED:]) == {25.0}
    assert_uniform(answer)


@pytest.mark.parametrize("invented", ["Pay €500 now", "Call 0170 1234567 now", "See evil.example now"])
def test_a_text_that_holds_what_the_draft_does_not_is_refused_and_never_seen(invented: str) -> None:
    answer, _ = streamed((0.3, "Please come. "), (0.3, invented), (0.3, " please"))
    assert answer.kind == Refusal(RefusalCode.ENGINE_FAILED)
    assert answer.receipt is None
    assert " ".join(texts(answer)).split() in (["Please", "come."], ["Please", "come.", invented.split()[0]])


def test_a_draft_of_the_largest_size_fits() -> None:
    draft = "word " * (MAX_DRAFT // 5)
    answer, _ = streamed(*[(0.001, "words ")] * (2 * MAX_DRAFT // 6), draft=draft)
    assert isinstance(answer.kind, Rewritten)
    assert len(answer.kind.text) > 1.9 * MAX_DRAFT
    assert_uniform(answer)


def test_who_waits_for_the_writer_gets_no_frames_before_it_is_their_turn() -> None:
    async def main() -> list[float]:
        enclave = Enclave(writer=Scripted((0.9, "fine")), pace=Pace())
        ann, bob = await opted_in(enclave, 1, 2)
        first = ann.asking(Rewrite("x"))
        await asyncio.sleep(0.01)
        arrived = asyncio.get_running_loop().time()
        second = await bob.ask(Rewrite("y"))
        await first
        return [round(at - arrived, 6) for at in second.times]

    assert run_in_virtual_time(main)[:3] == [1.14, 1.39, 1.64]


def test_who_stops_listening_stops_the_writer() -> None:
    async def main() -> tuple[bool, int]:
        writer = Scripted(*[(0.3, "word ")] * 100)
        enclave = Enclave(writer=writer, pace=Pace())
        ann, bob = await opted_in(enclave, 1, 2)
        async with aclosing(
            enclave.assistant.answer(ann.service_id, ann.request(Rewrite("x")).encode(), ann.keys.public)
        ) as frames:
            for _ in range(3):
                await anext(frames)
        await asyncio.sleep(0.01)
        closed = writer.closed
        writer.pieces = ((0.1, "fine"),)
        assert (await bob.ask(Rewrite("y"))).kind == Rewritten("fine")
        return closed, enclave.counter.load.waiting

    assert run_in_virtual_time(main) == (True, 0)


def test_a_writer_that_is_too_slow_is_stopped_at_the_deadline() -> None:
    async def main() -> tuple[Refusal, bool]:
        writer = Scripted(*[(0.3, "word ")] * 100)
        [ann] = await opted_in(Enclave(writer=writer, pace=Pace()), 1)
        return await refused(ann.ask(Rewrite("x"), deadline=1000)), writer.closed

    assert run_in_virtual_time(main) == (Refusal(RefusalCode.TOO_LATE), True)


def test_a_stream_may_be_cancelled() -> None:
    async def main() -> Answer:
        [ann] = await opted_in(Enclave(writer=Scripted(*[(0.3, "word ")] * 100), pace=Pace()), 1)
        request_id = bytes(range(REQUEST_ID))
        asking = ann.asking(Rewrite("x"), request_id=request_id)
        await asyncio.sleep(1.6)
        await ann.cancel(request_id)
        return await asking

    answer = run_in_virtual_time(main)
    assert answer.kind == Refusal(RefusalCode.CANCELLED)
    assert len(answer.frames) == 8
    assert_uniform(answer)


# --- a summary in an engine's own words -------------------------------------------------------------------------------


class Telling(ScriptedWriter):
    """Writes one line about the first message that it is shown, or breaks."""

    weights_digest = hashlib.sha256(b"telling").digest()

    def __init__(self, text: str) -> None:
        self.text = text
        self.tenants: list[bytes] = []

    async def write(self, request: Request) -> AsyncGenerator[str]:
        self.tenants.append(request.tenant)
        assert request.form is not None
        yield self.text.replace("LABEL", request.form.labels[0])


async def told_by(writer: Telling) -> tuple[Answer, Receipt, Telling]:
    enclave = Enclave(writer=writer)
    ann, bob = await opted_in(enclave, 1, 2)
    message = bob.write("I will bring the tents and two lamps.", 1)
    answer = await ann.ask(Summarize(scope_of([message], named(ann, bob))))
    return answer, verified(ann, answer), writer


async def test_a_summary_comes_in_the_words_of_the_engine_that_writes_and_its_receipt_says_so() -> None:
    answer, receipt, writer = await told_by(Telling('[{"text": "Bob will bring tents.", "cites": ["LABEL"]}]'))
    assert isinstance(answer.kind, Summary)
    assert [line.text for line in answer.kind.lines] == ["Bob will bring tents."]
    assert (answer.result.engine, answer.result.model) == ("scripted", Telling.weights_digest)
    assert receipt.instructions == composing.INSTRUCTIONS.digest
    assert len(answer.result.consents) == 2
    assert len(writer.tenants) == 1


@pytest.mark.parametrize("text", ["", "[]", "no JSON"])
async def test_where_the_engine_that_writes_has_nothing_the_other_one_answers_and_the_receipt_says_that(
    text: str,
) -> None:
    answer, receipt, _ = await told_by(Telling(text))
    assert isinstance(answer.kind, Summary)
    assert [line.text for line in answer.kind.lines] == ["Bob will bring the tents and two lamps."]
    assert answer.result.engine == StillEngine.name
    assert receipt.instructions == NO_INSTRUCTIONS


async def test_what_the_engine_invents_is_not_shown() -> None:
    answer, _, _ = await told_by(Telling('[{"text": "Bob owes everybody 500 euros.", "cites": ["LABEL"]}]'))
    assert isinstance(answer.kind, Summary)
    assert [line.text for line in answer.kind.lines] == ["Bob will bring the tents and two lamps."]

"""A member's side of the assistant: nothing but a nonce goes to an enclave that has not proved where it runs."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import (
    Collateral,
    CpuType,
    EvidenceDocument,
    KeySection,
    Policy,
    Release,
    UnsafeAcceptAnyMeasurement,
    appraise,
    measure,
)
from attestation.bundle import Bundle
from attestation.encoding import encode
from messaging.client.answers import CLOCK_TOLERANCE
from messaging.client.assistant import (
    EVIDENCE_AGE,
    REAPPRAISE_AFTER,
    RETRY_AFTER,
    Assistant,
    AssistantNotVerified,
    AssistantRefused,
    AssistantSilent,
    AssistantUnreachable,
    EvidenceRefused,
    ReceiptRefused,
)
from messaging.client.errors import (
    ContentTooLarge,
    IdentityChanged,
    RelayRefused,
    RelayUnreachable,
    UnknownRecipient,
)
from messaging.wire.answers import MAX_ANSWER, AnswerPart, FrameWriter
from messaging.wire.assistant import (
    AssistantRequest,
    Cancel,
    ConsentReference,
    Evidence,
    EvidenceRequest,
    Forget,
    Forgotten,
    Refusal,
    RefusalCode,
    RequestKind,
    Rewrite,
    Scope,
    Status,
    StatusRequest,
    SuggestReplies,
    Summarize,
    Summary,
)
from messaging.wire.content import AnswerFrame, AssistantCall, Content, DataMessage
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import ANSWER_BUCKETS, FRAME_DATA, MAX_DRAFT, MAX_TONE
from tests.messaging.client.enclaves import STRICT, UNSAFE, Enclave, renumbered

ASSISTANT = ServiceId(uuid4())
SCOPE = Scope(bytes(32), ())
HELLO = DataMessage("hello", 1, bytes(32))
START = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def a_key() -> bytes:
    return b"\x05" + secrets.token_bytes(32)


@dataclass
class Line:
    """What a device does between a member and one enclave, and what a hostile relay may do with it."""

    enclave: Enclave = field(default_factory=lambda: Enclave(a_key(), now=lambda: START))
    member: Assistant | None = None
    trusted: bytes | None = None
    got: list[Content] = field(default_factory=list)
    silent: bool = False
    fails: Exception | None = None
    now: datetime = START
    deliver: Callable[[list[AnswerFrame]], list[AnswerFrame]] = lambda frames: frames
    before_send: Callable[[], Awaitable[None]] | None = None

    async def send(self, to: ServiceId, content: Content, *, only_to: bytes | None = None) -> None:
        assert to == ASSISTANT
        if self.before_send is not None:
            await self.before_send()
        if self.fails is not None:
            raise self.fails
        self.trusted = self.trusted or self.enclave.identity_key
        if only_to not in (None, self.trusted):
            raise IdentityChanged(to, self.trusted)
        if self.trusted != self.enclave.identity_key:
            raise IdentityChanged(to, self.enclave.identity_key)
        self.got.append(content)
        if isinstance(content, AssistantCall) and not self.silent:
            request = AssistantRequest.parse(content.request)
            if not isinstance(request.kind, Cancel):
                self.arrive(self.deliver(self.enclave.answer(request, content.request)))

    def arrive(self, frames: list[AnswerFrame]) -> None:
        for frame in frames:
            asyncio.get_running_loop().call_soon(self.of_member.receive, ASSISTANT, frame)

    async def trusted_identity(self, service_id: ServiceId) -> bytes | None:
        return self.trusted

    async def trust(self, service_id: ServiceId, identity_key: bytes) -> None:
        self.trusted = identity_key

    @property
    def of_member(self) -> Assistant:
        assert self.member is not None
        return self.member

    @property
    def requests(self) -> list[RequestKind]:
        """What was asked of the enclave."""
        calls = [each.request for each in self.got if isinstance(each, AssistantCall)]
        return [AssistantRequest.parse(call).kind for call in calls]

    def restart(self) -> None:
        """The enclave has other keys, and remembers nothing."""
        self.enclave.identity_key = a_key()
        self.enclave.receipt_key = Ed25519PrivateKey.generate()


def a_line(policy: Policy = UNSAFE, deadline: float = 5, collateral: Collateral | None = None) -> Line:
    line = Line()
    more = {} if collateral is None else {"collateral": collateral}
    line.member = Assistant(line, ASSISTANT, policy, now=lambda: line.now, deadline=deadline, **more)
    return line


async def a_verified_line(deadline: float = 5) -> Line:
    line = a_line()
    await line.of_member.verify()
    line.of_member._deadline = deadline  # only now: what has to succeed has time on a busy machine
    line.got.clear()
    return line


def is_due(line: Line) -> bool:
    return line.of_member.is_due


def bundle_of(line: Line) -> Bundle | None:
    return line.of_member.bundle


async def refused_check(line: Line) -> str:
    """The check that the evidence fails."""
    with pytest.raises(EvidenceRefused) as refused:
        await line.of_member.verify()
    assert line.of_member.claims is None
    assert f"({refused.value.check})" in str(refused.value)
    return refused.value.check


# --- proving ---


async def test_an_enclave_that_proves_itself_gets_messages_and_is_asked() -> None:
    line = a_line()
    claims = await line.of_member.verify()
    assert (claims.identity_key, claims.simulated) == (line.enclave.identity_key, True)
    assert line.of_member.claims == claims
    await line.of_member.tell(HELLO)
    assert line.got[-1] == HELLO
    assert isinstance(await line.of_member.summarize(SCOPE), Summary)


async def test_what_an_appraisal_rested_on_can_be_checked_again_by_others() -> None:
    line = a_line()
    line.now += timedelta(milliseconds=1)
    assert bundle_of(line) is None
    claims = await line.of_member.verify()
    saved = bundle_of(line)
    assert saved is not None
    bundle = Bundle.parse(saved.encode())
    assert bundle.time == START
    again = appraise(bundle.evidence, nonce=bundle.nonce, policy=UNSAFE, collateral=bundle.collateral, now=bundle.time)
    assert again == claims


async def test_before_that_it_gets_nothing_at_all() -> None:
    line = a_line()
    for attempt in (
        line.of_member.tell(HELLO),
        line.of_member.summarize(SCOPE),
        line.of_member.suggest_replies(SCOPE),
        line.of_member.questions_for_me(SCOPE),
        line.of_member.rewrite("draft"),
        line.of_member.forget(),
        line.of_member.status(),
    ):
        with pytest.raises(AssistantNotVerified):
            await attempt
    assert line.got == []


async def test_a_refused_enclave_saw_a_nonce_and_nothing_else() -> None:
    line = a_line(STRICT)
    assert await refused_check(line) == "genuine hardware"
    with pytest.raises(AssistantNotVerified):
        await line.of_member.tell(HELLO)
    [request] = line.requests
    assert isinstance(request, EvidenceRequest)
    assert len(line.got) == 1


async def test_every_appraisal_has_a_nonce_of_its_own() -> None:
    line = a_line()
    for _ in range(3):
        await line.of_member.verify()
    assert len({request.nonce for request in line.requests if isinstance(request, EvidenceRequest)}) == 3


async def test_replayed_evidence_is_refused() -> None:
    line = await a_verified_line()
    [old] = line.enclave.issued
    line.enclave.tamper = lambda _document: old
    assert await refused_check(line) == "binding to nonce and keys"


async def test_evidence_that_speaks_for_another_key_is_refused() -> None:
    line = a_line()
    other = KeySection(a_key(), bytes(32), "release 1")
    line.enclave.tamper = lambda _: line.enclave.tee.attest(last_nonce(line), other)
    assert await refused_check(line) == "identity key"


def last_nonce(line: Line) -> bytes:
    [*_, request] = line.requests
    assert isinstance(request, EvidenceRequest)
    return request.nonce


async def test_other_code_is_refused() -> None:
    line = a_line()
    line.enclave.tee = replace(line.enclave.tee, measurement=measure({"release": b"2"}))
    assert await refused_check(line) == "measurement"


async def test_a_release_by_another_name_is_refused() -> None:
    line = a_line()
    line.enclave.release = "release 2"
    assert await refused_check(line) == "measurement"


async def test_a_policy_that_is_over_accepts_nothing() -> None:
    line = a_line(replace(UNSAFE, valid_until=START - SECOND))
    assert await refused_check(line) == "policy validity"


async def test_stripped_or_changed_documents_are_refused() -> None:
    line = a_line()
    for tamper in (
        lambda document: document[:-1],
        lambda document: document + b" ",
        lambda document: as_tdx(EvidenceDocument.parse(document)).encode(),
        lambda _: b"",
    ):
        line.enclave.tamper = tamper
        await refused_check(line)


def as_tdx(document: EvidenceDocument) -> EvidenceDocument:
    return replace(document, cpu=replace(document.cpu, type=CpuType.TDX))


async def test_an_answer_that_is_no_evidence_is_refused() -> None:
    line = a_line()
    line.enclave.result = Forgotten(1)
    assert await refused_check(line) == "syntax"


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200) | st.sampled_from([b"{}", b"[" * 10_000, b'{"intel":1}', b"null"]))
async def test_whatever_it_says_of_its_vendors_it_is_refused_or_accepted(collateral: bytes) -> None:
    line = a_line()
    line.deliver = lambda _: evidence_frames(line, Evidence(line.enclave.issued[-1], collateral))
    [outcome] = await asyncio.gather(line.of_member.verify(), return_exceptions=True)
    if isinstance(outcome, EvidenceRefused):
        assert outcome.check in {"collateral syntax", "syntax"}
    else:
        assert outcome == line.of_member.claims


def evidence_frames(line: Line, evidence: Evidence) -> list[AnswerFrame]:
    [*_, call] = [each.request for each in line.got if isinstance(each, AssistantCall)]
    again = replace(line.enclave, result=evidence)
    return again.answer(AssistantRequest.parse(call), call)


async def test_collateral_comes_from_the_assistant_unless_the_member_has_some() -> None:
    own, handed = Collateral(rims=(b"own",)), Collateral(rims=(b"handed",))
    for collateral, used in ((None, handed), (own, own)):
        line = a_line(collateral=collateral)
        line.deliver = lambda _, line=line: evidence_frames(  # type: ignore[misc]
            line, Evidence(line.enclave.issued[-1], encode(handed.members()))
        )
        await line.of_member.verify()
        assert line.of_member.bundle is not None
        assert line.of_member.bundle.collateral == used


@pytest.mark.parametrize(
    ("refusal", "code", "retry"),
    [(Refusal("busy", 1500), "busy", 1.5), (Refusal("no_evidence"), "no_evidence", None)],
)
async def test_who_gives_no_evidence_says_why(refusal: Refusal, code: str, retry: float | None) -> None:
    line = a_line()
    line.enclave.refuses_evidence = refusal
    with pytest.raises(AssistantRefused) as refused:
        await line.of_member.verify()
    assert (refused.value.code, refused.value.retry_after) == (code, retry)
    assert line.of_member.claims is None


# --- trust in time ---


async def test_evidence_is_due_after_some_hours_and_counts_until_the_new_is_there() -> None:
    line = await a_verified_line()
    line.now = START + REAPPRAISE_AFTER - SECOND
    assert not is_due(line)
    line.now += SECOND
    assert is_due(line)
    line.silent = True
    line.of_member._deadline = 0.02
    with pytest.raises(AssistantSilent):
        await line.of_member.verify()
    await line.of_member.tell(HELLO)
    line.silent = False
    line.enclave.refuses_evidence = Refusal("busy")
    with pytest.raises(AssistantRefused):
        await line.of_member.verify()
    await line.of_member.tell(HELLO)


async def test_after_a_try_that_changed_nothing_it_is_not_due_for_a_while() -> None:
    line = await a_verified_line()
    line.now = START + REAPPRAISE_AFTER
    line.enclave.refuses_evidence = Refusal("busy")
    with pytest.raises(AssistantRefused):
        await line.of_member.verify()
    assert not is_due(line)
    line.now += RETRY_AFTER - SECOND
    assert not is_due(line)
    line.now += SECOND
    assert is_due(line)


async def test_one_that_is_doubted_is_asked_again_soon_and_counts_until_then() -> None:
    line = await a_verified_line()
    line.of_member.doubt()
    assert not is_due(line)  # it has just answered
    line.now += RETRY_AFTER
    assert is_due(line)
    await line.of_member.tell(HELLO)
    await line.of_member.verify()
    line.now += RETRY_AFTER
    assert not is_due(line)


async def test_new_evidence_that_is_refused_ends_the_old_trust() -> None:
    line = await a_verified_line()
    line.enclave.tee = replace(line.enclave.tee, measurement=measure({"release": b"2"}))
    await refused_check(line)
    with pytest.raises(AssistantNotVerified):
        await line.of_member.tell(HELLO)


async def test_while_new_evidence_is_asked_for_the_old_trust_stands() -> None:
    line = await a_verified_line()
    line.silent = True
    verifying = asyncio.ensure_future(line.of_member.verify())
    await asyncio.sleep(0.01)
    await line.of_member.tell(HELLO)
    verifying.cancel()
    await asyncio.gather(verifying, return_exceptions=True)
    assert HELLO in line.got


@pytest.mark.parametrize("age", [EVIDENCE_AGE, -SECOND])
async def test_nothing_is_sent_on_evidence_that_is_too_old_or_from_a_time_to_come(age: timedelta) -> None:
    line = await a_verified_line()
    line.now = START + EVIDENCE_AGE - SECOND
    await line.of_member.tell(HELLO)
    line.now = START + age
    assert line.of_member.claims is None
    assert line.of_member.bundle is None
    assert is_due(line)
    for attempt in (line.of_member.tell(HELLO), line.of_member.status()):
        with pytest.raises(AssistantNotVerified):
            await attempt
    assert line.got == [HELLO]


async def test_another_policy_ends_trust_at_once_and_judges_anew() -> None:
    line = await a_verified_line()
    line.of_member.set_policy(STRICT)
    with pytest.raises(AssistantNotVerified):
        await line.of_member.tell(HELLO)
    assert await refused_check(line) == "genuine hardware"
    line.of_member.set_policy(UNSAFE)
    await line.of_member.verify()


@pytest.mark.parametrize(("before", "after"), [(UNSAFE, STRICT), (STRICT, UNSAFE)])
async def test_evidence_that_is_on_its_way_is_judged_by_the_policy_that_stands_when_it_is_there(
    before: Policy, after: Policy
) -> None:
    line = a_line(before)
    original = line.trusted_identity

    async def meanwhile(service_id: ServiceId) -> bytes | None:
        line.of_member.set_policy(after)
        return await original(service_id)

    line.trusted_identity = meanwhile  # type: ignore[method-assign]
    if after is STRICT:
        assert await refused_check(line) == "genuine hardware"
    else:
        await line.of_member.verify()
    assert len(line.requests) == 1


async def test_a_revoked_release_is_refused_and_another_one_is_not() -> None:
    line = await a_verified_line()
    release_2 = Release(name="release 2", type=CpuType.SIMULATED, measurement=measure({"release": b"2"}))
    line.of_member.set_policy(replace(UNSAFE, releases=(release_2,)))
    assert await refused_check(line) == "measurement"
    line.enclave.release, line.enclave.tee = "release 2", replace(line.enclave.tee, measurement=release_2.measurement)
    assert (await line.of_member.verify()).release == "release 2"


async def test_what_weakens_the_policy_stands_in_what_was_proved() -> None:
    line = a_line(UNSAFE.weakened_by(UnsafeAcceptAnyMeasurement))
    line.enclave.tee = replace(line.enclave.tee, measurement=measure({"release": b"2"}))
    claims = await line.of_member.verify()
    assert {"UnsafeAcceptSimulated", "UnsafeAcceptAnyMeasurement"} <= set(claims.weakenings)


# --- other keys ---


async def test_a_restarted_enclave_has_to_prove_itself_again() -> None:
    line = await a_verified_line()
    line.restart()
    for attempt in (line.of_member.tell(HELLO), line.of_member.summarize(SCOPE)):
        with pytest.raises(AssistantNotVerified):
            await attempt
    claims = await line.of_member.verify()
    assert claims.identity_key == line.enclave.identity_key
    await line.of_member.tell(HELLO)
    assert line.got[-1] == HELLO


async def test_what_was_proved_under_another_key_counts_no_more_whatever_comes_of_the_question() -> None:
    line = await a_verified_line(deadline=0.02)
    line.restart()
    line.silent = True
    with pytest.raises(AssistantSilent):
        await line.of_member.verify()
    assert line.of_member.claims is None


async def test_a_key_that_something_else_trusted_meanwhile_does_not_count() -> None:
    line = await a_verified_line()
    line.restart()
    line.trusted = line.enclave.identity_key
    with pytest.raises(AssistantNotVerified):
        await line.of_member.tell(HELLO)
    assert line.of_member.claims is None
    assert line.got == []


async def test_a_message_never_goes_to_a_key_that_came_to_be_trusted_while_it_waited() -> None:
    """The relay swaps the key while a message is on its way and evidence is asked for again."""
    line = await a_verified_line(deadline=0.2)
    slow = asyncio.Event()
    line.before_send = slow.wait  # type: ignore[assignment]
    telling = asyncio.ensure_future(line.of_member.tell(HELLO))
    await asyncio.sleep(0)
    line.restart()
    line.silent, line.before_send = True, None
    verifying = asyncio.ensure_future(line.of_member.verify())
    await asyncio.sleep(0.01)
    assert line.trusted == line.enclave.identity_key  # to ask it for evidence
    slow.set()
    outcomes = await asyncio.gather(telling, verifying, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [AssistantNotVerified, AssistantSilent]
    assert HELLO not in line.got


async def test_a_withdrawal_reaches_an_enclave_that_is_not_trusted_any_more_and_no_other() -> None:
    line = await a_verified_line()
    key = line.enclave.identity_key
    line.of_member.set_policy(STRICT)
    await line.of_member.withdraw(key, HELLO)
    assert line.got == [HELLO]
    with pytest.raises(AssistantNotVerified):
        await line.of_member.withdraw(a_key(), HELLO)
    line.restart()
    line.of_member.set_policy(UNSAFE)
    claims = await line.of_member.verify()
    with pytest.raises(AssistantNotVerified):
        await line.of_member.withdraw(key, HELLO)
    assert line.got[:1] == [HELLO]
    assert line.got.count(HELLO) == 1
    assert line.of_member.claims == claims


async def test_keys_that_change_faster_than_one_can_follow_end_in_an_error() -> None:
    line = await a_verified_line()

    async def another_key() -> None:
        line.enclave.identity_key = a_key()

    line.before_send = another_key
    with pytest.raises(AssistantUnreachable):
        await line.of_member.verify()
    assert line.got == []


@pytest.mark.parametrize("error", [UnknownRecipient(), RelayRefused(403)])
async def test_an_account_that_the_relay_takes_nothing_for_is_unreachable(error: Exception) -> None:
    line = await a_verified_line()
    line.fails = error
    for attempt in (line.of_member.tell(HELLO), line.of_member.verify(), line.of_member.summarize(SCOPE)):
        with pytest.raises(AssistantUnreachable):
            await attempt


async def test_that_the_relay_is_away_is_not_the_assistants_fault() -> None:
    line = await a_verified_line()
    line.fails = RelayUnreachable()
    for attempt in (line.of_member.tell(HELLO), line.of_member.verify(), line.of_member.summarize(SCOPE)):
        with pytest.raises(RelayUnreachable):
            await attempt
    assert line.of_member.claims is not None


# --- asking ---


async def test_each_kind_of_request_gets_its_answer() -> None:
    line = await a_verified_line()
    member = line.of_member
    assert isinstance(await member.summarize(SCOPE), Summary)
    assert isinstance(await member.questions_for_me(SCOPE), Summary)
    assert (await member.suggest_replies(SCOPE, 2)).texts == ("yes", "yes")
    assert await member.rewrite("see you", "formal") == "see you"
    assert await member.forget(bytes(32), whole=True) == 7
    assert isinstance(await member.status(bytes(32)), Status)
    assert line.requests[1:] != []


async def test_an_answer_of_another_kind_is_none() -> None:
    line = await a_verified_line()
    line.enclave.result = Forgotten(1)
    with pytest.raises(AssistantRefused) as refused:
        await line.of_member.summarize(SCOPE)
    assert refused.value.code == RefusalCode.MALFORMED


async def test_silence_ends_at_the_deadline_and_the_enclave_is_told_that_nobody_waits() -> None:
    line = await a_verified_line(deadline=0.05)
    line.silent = True
    with pytest.raises(AssistantSilent):
        await line.of_member.summarize(SCOPE)
    await asyncio.sleep(0.01)
    assert line.requests == [Summarize(SCOPE), Cancel(request_ids(line)[0])]


def request_ids(line: Line) -> list[bytes]:
    return [AssistantRequest.parse(each.request).id for each in line.got if isinstance(each, AssistantCall)]


async def test_who_does_not_wait_any_more_says_so() -> None:
    line = await a_verified_line()
    line.silent = True
    asking = asyncio.ensure_future(line.of_member.summarize(SCOPE))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0.01)
    assert line.requests == [Summarize(SCOPE), Cancel(request_ids(line)[0])]


async def test_an_unverified_enclave_hears_nothing_of_a_cancellation() -> None:
    line = a_line(deadline=0.02)
    line.silent = True
    with pytest.raises(AssistantSilent):
        await line.of_member.verify()
    await asyncio.sleep(0.01)
    assert [type(request) for request in line.requests] == [EvidenceRequest]


async def test_what_still_runs_ends_when_it_is_closed() -> None:
    line = await a_verified_line(deadline=0.02)
    line.silent = True
    with pytest.raises(AssistantSilent):
        await line.of_member.summarize(SCOPE)
    never = asyncio.Event()
    line.before_send = never.wait  # type: ignore[assignment]
    async with asyncio.timeout(5):
        await line.of_member.close()
    assert line.of_member._background == set()


@pytest.mark.parametrize("code", [*RefusalCode, "something new"])
async def test_a_refusal_says_why_and_when_to_ask_again(code: str) -> None:
    line = await a_verified_line()
    line.enclave.refuses = Refusal(code, 2500)
    with pytest.raises(AssistantRefused, match="the assistant refused: ") as refused:
        await line.of_member.summarize(SCOPE)
    assert (refused.value.code, refused.value.retry_after) == (code, 2.5)
    assert ("does not know" in str(refused.value)) == (code == "something new")


async def test_the_request_names_the_evidence_that_was_proved_and_how_long_one_waits() -> None:
    line = await a_verified_line(deadline=5)
    answered = await line.of_member.ask(Summarize(SCOPE))
    request = AssistantRequest.parse(answered.request_bytes)
    assert line.of_member.bundle is not None
    assert (request.evidence, request.deadline) == (answered.receipt and answered.receipt.evidence, 5000)
    assert answered.bundle == line.of_member.bundle


async def test_what_there_is_no_room_for_is_refused_before_anything_is_sent() -> None:
    line = await a_verified_line()
    assert await line.of_member.rewrite("x" * MAX_DRAFT, "y" * MAX_TONE)
    for draft, tone in (("x" * (MAX_DRAFT + 1), ""), ("é" * (MAX_DRAFT // 2 + 1), ""), ("x", "y" * (MAX_TONE + 1))):
        with pytest.raises(ContentTooLarge):
            await line.of_member.rewrite(draft, tone)
    assert len(line.requests) == 1


# --- receipts ---


async def test_an_answer_comes_with_its_receipt() -> None:
    line = await a_verified_line()
    line.enclave.consents = lambda _: [ConsentReference(ASSISTANT, bytes(32)), ConsentReference(ASSISTANT, b"1" * 32)]
    answered = await line.of_member.ask(Summarize(SCOPE))
    assert answered.receipt is not None
    assert answered.receipt.kind == "summarize"
    assert len(answered.result.consents) == 2


async def test_a_status_has_none() -> None:
    line = await a_verified_line()
    assert (await line.of_member.ask(StatusRequest())).receipt is None


def other(**members: Any) -> Callable[[Enclave], None]:
    def change(enclave: Enclave) -> None:
        enclave.receipt.update(members)

    return change


def without_receipt(enclave: Enclave) -> None:
    enclave.receipts = False


FORGED: dict[str, tuple[Callable[[Enclave], None], str]] = {
    "missing": (without_receipt, "there is none"),
    "for another request": (other(request=bytes(32)), "another request"),
    "for another kind of request": (other(kind="actions"), "another request"),
    "about another conversation": (other(conversation=bytes(32)), "another request"),
    "about no conversation": (other(conversation=None), "another request"),
    "for another answer": (other(answer=bytes(32)), "another answer"),
    "with other consents": (other(consents=bytes(32)), "other consents"),
    "by another engine": (other(engine="another"), "another engine"),
    "with other weights": (other(model=b"1" * 32), "another engine"),
    "with other instructions": (other(instructions=b"1" * 32), "another engine"),
    "of another release": (other(release="release 2"), "another release"),
    "of other code": (other(measurement=bytes(48)), "another measurement"),
    "resting on other evidence": (other(evidence=bytes(32)), "another evidence"),
}


@pytest.mark.parametrize("name", FORGED)
async def test_an_answer_without_its_very_receipt_is_dropped(name: str) -> None:
    change, reason = FORGED[name]
    line = await a_verified_line()
    change(line.enclave)
    with pytest.raises(ReceiptRefused, match=reason):
        await line.of_member.summarize(SCOPE)
    line.enclave.receipt, line.enclave.receipts = {}, True
    assert isinstance(await line.of_member.summarize(SCOPE), Summary)


async def test_a_receipt_under_another_key_is_none() -> None:
    line = await a_verified_line()
    line.enclave.receipt_key = Ed25519PrivateKey.generate()
    with pytest.raises(ReceiptRefused, match="another key"):
        await line.of_member.summarize(SCOPE)


@pytest.mark.parametrize("off", [CLOCK_TOLERANCE, -CLOCK_TOLERANCE])
async def test_a_receipt_is_of_this_time_by_our_own_clock(off: timedelta) -> None:
    line = await a_verified_line()
    line.enclave.receipt = {"time": line.now + off}
    assert isinstance(await line.of_member.summarize(SCOPE), Summary)
    line.enclave.receipt = {"time": line.now + off + (SECOND if off > timedelta(0) else -SECOND)}
    with pytest.raises(ReceiptRefused, match="this device's clock"):
        await line.of_member.summarize(SCOPE)


async def test_a_receipt_cannot_be_used_twice() -> None:
    line = await a_verified_line()
    kept: list[AnswerFrame] = []

    def keep_first(frames: list[AnswerFrame]) -> list[AnswerFrame]:
        kept.extend(frames if not kept else ())
        return renumbered(kept, frames[0].request_id)

    line.deliver = keep_first
    await line.of_member.summarize(SCOPE)
    with pytest.raises(ReceiptRefused, match="another request"):
        await line.of_member.summarize(SCOPE)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=64))
async def test_no_bytes_pass_for_a_receipt(data: bytes) -> None:
    line = await a_verified_line()
    line.enclave._sign = lambda *_: data  # type: ignore[method-assign]
    with pytest.raises(ReceiptRefused):
        await line.of_member.summarize(SCOPE)


# --- frames ---


LONG = ("a word, " * 3000,)  # three frames of text; with the result a bucket of four


async def test_frames_may_come_in_any_order_and_twice() -> None:
    line = await a_verified_line()
    line.enclave.text = LONG
    for deliver in (
        lambda frames: frames[::-1],
        lambda frames: [*frames, *frames],
        lambda frames: frames[1:] + frames[:1],
    ):
        line.deliver = deliver
        assert isinstance(await line.of_member.summarize(SCOPE), Summary)


async def test_text_is_shown_as_it_comes_and_in_its_order() -> None:
    line = await a_verified_line()
    line.enclave.text, seen = ("one ", "two ", *LONG), [""]
    line.deliver = lambda frames: frames[::-1]
    await line.of_member.rewrite("draft", on_text=seen.append)
    assert "".join(seen) == "".join(line.enclave.text)


async def test_what_goes_wrong_with_shown_text_is_for_who_asked() -> None:
    line = await a_verified_line()
    line.enclave.text = ("one",)

    def fails(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await line.of_member.rewrite("draft", on_text=fails)


async def test_an_answer_is_there_when_its_last_frame_is_although_that_is_padding() -> None:
    line = await a_verified_line(deadline=0.05)
    line.enclave.text = ("a word, " * 2100,)  # with the result three frames of a bucket of four
    line.deliver = lambda frames: frames[:-1]
    with pytest.raises(AssistantSilent):
        await line.of_member.summarize(SCOPE)
    line.deliver = lambda frames: frames
    assert isinstance(await line.of_member.summarize(SCOPE), Summary)


async def test_nothing_is_shown_of_an_answer_that_was_given_up() -> None:
    line = await a_verified_line()
    line.enclave.text, seen = ("one", *LONG), [""]

    def fails(text: str) -> None:
        seen.append(text)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await line.of_member.rewrite("draft", on_text=fails)
    assert seen == ["", "one"]


async def test_frames_of_others_late_ones_and_those_nobody_asked_for_are_left_alone() -> None:
    line = await a_verified_line()
    kept: list[AnswerFrame] = []

    def keep(frames: list[AnswerFrame]) -> list[AnswerFrame]:
        kept.extend(frames)
        return frames

    line.deliver = keep
    await line.of_member.summarize(SCOPE)
    [frame] = kept
    assert not line.of_member.receive(ASSISTANT, frame)
    assert not line.of_member.receive(ServiceId(uuid4()), frame)
    assert not line.of_member.receive(ASSISTANT, replace(frame, request_id=bytes(16)))
    assert not line.of_member.receive(ASSISTANT, HELLO)


async def test_another_account_cannot_answer() -> None:
    line = await a_verified_line(deadline=0.05)

    def from_elsewhere(frames: list[AnswerFrame]) -> list[AnswerFrame]:
        assert not any(line.of_member.receive(ServiceId(uuid4()), frame) for frame in frames)
        return []

    line.deliver = from_elsewhere
    with pytest.raises(AssistantSilent):
        await line.of_member.summarize(SCOPE)


def garbage(frames: list[AnswerFrame], data: bytes) -> list[AnswerFrame]:
    return [replace(frames[0], data=data, last=True)]


def raw_part(part: AnswerPart) -> bytes:
    return part.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00\x05abc",
        b"\xff\xff\xff\xff" + bytes(100),
        b"\x00\x00\x00\x02\xff\xff",
        raw_part(AnswerPart(text="no result")),
        raw_part(AnswerPart(result=b"")) * 2,
        raw_part(AnswerPart(result=b"\xff")),
        raw_part(AnswerPart(receipt=b"without a result")),
        (MAX_ANSWER + 1).to_bytes(4, "big"),
    ],
)
async def test_garbage_ends_in_an_error_at_once(data: bytes) -> None:
    line = await a_verified_line()
    line.deliver = lambda frames: garbage(frames, data)
    async with asyncio.timeout(1):
        with pytest.raises(AssistantRefused) as refused:
            await line.of_member.summarize(SCOPE)
    assert refused.value.code == RefusalCode.MALFORMED


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.binary(max_size=60)), max_size=8))
async def test_whatever_frames_come_an_answer_is_never_made_up(made_up: list[tuple[int, bool, bytes]]) -> None:
    line = await a_verified_line(deadline=0.02)
    line.deliver = lambda frames: [AnswerFrame(frames[0].request_id, *each) for each in made_up]
    with pytest.raises((AssistantRefused, AssistantSilent, ReceiptRefused)):
        await line.of_member.summarize(SCOPE)


async def test_a_flood_of_frames_costs_bounded_memory_and_changes_nothing() -> None:
    line = await a_verified_line(deadline=0.1)
    most = ANSWER_BUCKETS[-1]

    def flood(frames: list[AnswerFrame]) -> list[AnswerFrame]:
        filler = [replace(frames[0], index=index, last=False, data=bytes(FRAME_DATA)) for index in range(1, most)]
        for frame in filler * 3:
            line.of_member.receive(ASSISTANT, frame)
        [awaited] = line.of_member._waiting.values()
        assert sum(len(each.data) for each in awaited._reader._early.values()) <= MAX_ANSWER
        return []

    line.deliver = flood
    with pytest.raises(AssistantSilent):
        await line.of_member.summarize(SCOPE)
    assert line.of_member._waiting == {}


async def test_text_without_end_is_shown_no_longer_than_an_answer_may_be() -> None:
    line = await a_verified_line()
    seen: list[str] = []

    def endless(frames: list[AnswerFrame]) -> list[AnswerFrame]:
        writer = FrameWriter(frames[0].request_id)
        for _ in range(ANSWER_BUCKETS[-1]):
            writer.write(AnswerPart(text="x" * (FRAME_DATA - 20)))
        sent = [writer._next(last=False) for _ in range(ANSWER_BUCKETS[-1] - 1)]
        return [*sent, writer._next(last=True)]

    line.deliver = endless
    with pytest.raises(AssistantRefused):
        await line.of_member.rewrite("draft", on_text=seen.append)
    assert sum(map(len, seen)) <= MAX_ANSWER


async def test_a_document_that_inflates_without_end_is_refused() -> None:
    line = a_line()
    line.deliver = lambda _: evidence_frames(line, Evidence(bytes(5 * 1024 * 1024)))
    with pytest.raises(AssistantRefused) as refused:
        await line.of_member.verify()
    assert refused.value.code == RefusalCode.MALFORMED


async def test_questions_at_the_same_time_get_their_own_answers() -> None:
    line = await a_verified_line()
    held: list[AnswerFrame] = []

    def hold(frames: list[AnswerFrame]) -> list[AnswerFrame]:
        held.extend(frames)
        return []

    line.deliver = hold
    asking = [asyncio.ensure_future(line.of_member.suggest_replies(SCOPE, count)) for count in (1, 2, 3)]
    while len(held) < 3:
        await asyncio.sleep(0)
    line.arrive(held[::-1])
    assert [len((await each).replies) for each in asking] == [1, 2, 3]


def test_no_error_and_no_answer_shows_content() -> None:
    assert "secret" not in repr(Rewrite("secret")) + repr(SuggestReplies(replace(SCOPE, names={ASSISTANT: "secret"})))
    assert repr(Forget(b"secret" * 4)).count("secret") == 0

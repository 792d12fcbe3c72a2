"""The assistant answers members who opted in, from what their authors let it have, and says what it left out."""

import asyncio
import hashlib
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest

from ai_enclave.assistant import Assistant, RefusalCode
from ai_enclave.engine import EmbeddedEngine
from ai_enclave.engine.interface import Vectors
from ai_enclave.limits import MAX_PENDING, MAX_PROVING, MAX_SCOPE
from attestation.collecting.errors import AttesterBusy
from messaging.wire.content import (
    AssistantAnswer,
    AssistantRequest,
    ConsentUpdate,
    Coverage,
    DataMessage,
    Evidence,
    EvidenceRequest,
    MessageId,
    Refusal,
    Replies,
    Scope,
    SuggestReplies,
    Summarize,
    Summary,
)
from messaging.wire.identifiers import ServiceId

ANN, BOB, EVE, ASSISTANT = (ServiceId(uuid4()) for _ in range(4))
KEY, REQUEST = b"\x07" * 32, b"\x01" * 16
NAMES = {ANN: "Ann", BOB: "Bob"}
TEXTS = {
    MessageId(ANN, 1): "We meet on Friday at 9:30 at the north station.",
    MessageId(BOB, 2): "I will bring the tents and two lamps.",
    MessageId(ANN, 3): "The cabin costs 240 euros for two nights.",
    MessageId(BOB, 4): "Ann, does 9:15 still work for you?",
}


def an_assistant(engine: EmbeddedEngine) -> Assistant:
    return Assistant(engine, lambda nonce: b"evidence for " + nonce, lambda: datetime(2026, 1, 1, tzinfo=UTC))


async def tell(assistant: Assistant, *authors: ServiceId) -> None:
    """Consent of ``authors``, and the messages of everybody."""
    for author in authors:
        assert await assistant.receive(author, ConsentUpdate(KEY, ASSISTANT, True, 0)) is None
    for message, text in TEXTS.items():
        assert await assistant.receive(message.author, DataMessage(text, message.timestamp, KEY)) is None


def scope(*messages: MessageId, not_opted_in: int = 0) -> Scope:
    return Scope(KEY, messages or tuple(TEXTS), not_opted_in, NAMES)


async def ask(
    assistant: Assistant, requester: ServiceId, kind: Summarize | SuggestReplies
) -> Evidence | Summary | Replies | Refusal:
    answer = await assistant.receive(requester, AssistantRequest(REQUEST, kind))
    assert isinstance(answer, AssistantAnswer)
    assert answer.id == REQUEST
    return answer.kind


async def test_anyone_gets_evidence_for_their_nonce(engine: EmbeddedEngine) -> None:
    answer = await an_assistant(engine).receive(EVE, AssistantRequest(REQUEST, EvidenceRequest(b"n" * 32)))
    assert answer == AssistantAnswer(REQUEST, Evidence(b"evidence for " + b"n" * 32))


async def test_a_summary_cites_messages_and_says_what_it_rests_on(engine: EmbeddedEngine) -> None:
    assistant = an_assistant(engine)
    await tell(assistant, ANN, BOB)
    summary = await ask(assistant, ANN, Summarize(scope(not_opted_in=3)))
    assert isinstance(summary, Summary)
    assert summary.coverage == Coverage(used=4, not_opted_in=3, not_held=0)
    assert summary.lines
    assert all(set(line.cites) <= set(TEXTS) for line in summary.lines)
    assert any("9:30" in line.text and line.cites == (MessageId(ANN, 1),) for line in summary.lines)
    assert (summary.engine, summary.weights_digest) == (engine.name, engine.weights_digest)


async def test_messages_of_who_has_not_opted_in_are_not_held_even_if_they_arrive(engine: EmbeddedEngine) -> None:
    assistant = an_assistant(engine)
    await tell(assistant, ANN)
    summary = await ask(assistant, ANN, Summarize(scope()))
    assert isinstance(summary, Summary)
    assert summary.coverage == Coverage(used=2, not_opted_in=0, not_held=2)
    assert {cite.author for line in summary.lines for cite in line.cites} == {ANN}


async def test_replies_are_suggested_for_the_requester(engine: EmbeddedEngine) -> None:
    assistant = an_assistant(engine)
    await tell(assistant, ANN, BOB)
    replies = await ask(assistant, ANN, SuggestReplies(scope(), 3))
    assert isinstance(replies, Replies)
    assert len(replies.texts) == 3
    assert "Yes, 9:15 works for me." in replies.texts


async def test_who_has_not_opted_in_is_refused(engine: EmbeddedEngine) -> None:
    assistant = an_assistant(engine)
    await tell(assistant, ANN)
    for requester in (BOB, EVE):
        assert await ask(assistant, requester, Summarize(scope())) == Refusal(RefusalCode.NOT_OPTED_IN)
    await assistant.receive(ANN, ConsentUpdate(KEY, ASSISTANT, False, 10))
    assert await ask(assistant, ANN, Summarize(scope())) == Refusal(RefusalCode.NOT_OPTED_IN)


async def test_a_scope_has_a_largest_size(engine: EmbeddedEngine) -> None:
    assistant = an_assistant(engine)
    await tell(assistant, ANN)
    many = [MessageId(ANN, at) for at in range(MAX_SCOPE + 1)]
    assert isinstance(await ask(assistant, ANN, Summarize(scope(*many[:-1]))), Summary)
    assert await ask(assistant, ANN, Summarize(scope(*many))) == Refusal(RefusalCode.SCOPE_TOO_LARGE)


async def test_too_many_at_once_are_told_so_and_the_others_are_answered(engine: EmbeddedEngine) -> None:
    assistant = an_assistant(engine)
    await tell(assistant, ANN)
    answers = await asyncio.gather(*(ask(assistant, ANN, Summarize(scope())) for _ in range(MAX_PENDING + 5)))
    assert answers.count(Refusal(RefusalCode.BUSY)) == 5
    assert sum(isinstance(answer, Summary) for answer in answers) == MAX_PENDING


class BrokenEngine:
    """An engine that can be set up and then fails with words that must not get out."""

    name = "broken"
    weights_digest = hashlib.sha256(b"broken").digest()

    def __init__(self) -> None:
        self._calls = 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        self._calls += 1
        if self._calls > 1:
            raise RuntimeError(f"canary {texts}")
        return np.zeros((len(texts), 384), dtype=np.float32)


async def test_an_engine_that_fails_is_a_refusal_and_not_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    assistant = Assistant(BrokenEngine(), lambda nonce: nonce, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    await tell(assistant, ANN)
    for _ in range(2):
        assert await ask(assistant, ANN, Summarize(scope())) == Refusal(RefusalCode.ENGINE_FAILED)
    assert "canary" not in "".join(capfd.readouterr())


async def test_evidence_that_the_hardware_does_not_give_is_refused_in_one_word() -> None:
    for error in (AttesterBusy("another attestation did not end in time"), OSError("a driver's own")):

        def attest(_nonce: bytes, error: Exception = error) -> bytes:
            raise error

        assistant = Assistant(BrokenEngine(), attest, lambda: datetime(2026, 1, 1, tzinfo=UTC))
        answer = await assistant.receive(ANN, AssistantRequest(bytes(16), EvidenceRequest(bytes(32))))
        assert answer == AssistantAnswer(bytes(16), Refusal(RefusalCode.NO_EVIDENCE))


async def test_only_so_many_wait_for_the_hardware() -> None:
    released = threading.Event()

    def attest(_nonce: bytes) -> bytes:
        released.wait(10)
        return b"evidence"

    assistant = Assistant(BrokenEngine(), attest, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    request = AssistantRequest(bytes(16), EvidenceRequest(bytes(32)))
    busy = AssistantAnswer(bytes(16), Refusal(RefusalCode.BUSY))
    members = [ServiceId(uuid4()) for _ in range(MAX_PROVING)]
    waiting = [asyncio.ensure_future(assistant.receive(member, request)) for member in members[:-1]]
    await asyncio.sleep(0)
    assert await assistant.receive(members[0], request) == busy  # one of them cannot take all places
    waiting.append(asyncio.ensure_future(assistant.receive(members[-1], request)))
    await asyncio.sleep(0)
    assert await assistant.receive(ANN, request) == busy
    released.set()
    assert await asyncio.gather(*waiting) == [AssistantAnswer(bytes(16), Evidence(b"evidence"))] * MAX_PROVING

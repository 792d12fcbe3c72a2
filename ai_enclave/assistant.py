"""What the assistant answers: evidence to anyone, the rest only to members who have opted in.

It gets decrypted content with its authenticated sender and returns the answer to send to that sender alone. Sockets,
sessions and the device belong to ``ai_enclave.service``; tensors belong to ``ai_enclave.engine``.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from ai_enclave.engine import Engine
from ai_enclave.features import Digester, Message, Suggester, Thread
from ai_enclave.limits import MAX_NAME, MAX_PENDING, MAX_PROVING, MAX_REPLIES, MAX_SCOPE
from ai_enclave.memory import HeldMessage, Memory
from messaging.wire.content import (
    AssistantAnswer,
    AssistantRequest,
    ConsentUpdate,
    Content,
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
    SummaryLine,
)
from messaging.wire.identifiers import ServiceId


class RefusalCode(StrEnum):
    """Why the assistant does not answer; these words travel."""

    NOT_OPTED_IN = "not_opted_in"  # the requester has not opted in to this conversation, as far as this enclave knows
    SCOPE_TOO_LARGE = "scope_too_large"
    BUSY = "busy"  # try again later
    ENGINE_FAILED = "engine_failed"
    NO_EVIDENCE = "no_evidence"  # the hardware gave no report; the operator has to look


@dataclass(frozen=True, slots=True)
class _Recalled:
    """A scope with what is held of it: messages get short names that mean nothing outside this request."""

    thread: Thread = field(repr=False)
    ids: dict[str, MessageId]
    coverage: Coverage


class Assistant:
    """One enclave's assistant. ``attest`` turns a nonce into an evidence document, and may block; ``now`` has a time zone."""

    def __init__(self, engine: Engine, attest: Callable[[bytes], bytes], now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._digester = Digester(engine)
        self._suggester = Suggester(engine)
        self._attest = attest
        self._now = now
        self._memory = Memory()
        self._pending = 0
        self._proving: set[ServiceId] = set()
        self._one_proof = asyncio.Lock()
        self._one_at_a_time = asyncio.Lock()  # the engine owns all cores; two at once would only slow each other

    async def receive(self, sender: ServiceId, content: Content) -> AssistantAnswer | None:
        """Take one decrypted message; the answer, if it calls for one, goes to ``sender`` and nobody else."""
        match content:
            case ConsentUpdate():
                self._memory.note_consent(sender, content)
            case DataMessage():
                self._memory.store(sender, content, self._now())
            case AssistantRequest(request_id, EvidenceRequest(nonce)):
                return AssistantAnswer(request_id, await self._prove(sender, nonce))
            case AssistantRequest(request_id, (Summarize() | SuggestReplies()) as kind):
                return AssistantAnswer(request_id, await self._answer(sender, kind))
            case _:
                pass  # receipts, and what newer clients may say
        return None

    async def _prove(self, requester: ServiceId, nonce: bytes) -> Evidence | Refusal:
        """Hardware makes one report at a time, in seconds at worst: one for each who asks, and who comes when many wait is told."""
        if len(self._proving) >= MAX_PROVING or requester in self._proving:
            return Refusal(RefusalCode.BUSY)
        self._proving.add(requester)
        try:
            async with self._one_proof:  # here, and not in threads, which the engine needs
                return Evidence(await asyncio.to_thread(self._attest, nonce))
        except Exception as error:  # noqa: BLE001 -- a driver may raise anything; the assistant goes on
            print(f"subrosa enclave: no evidence ({type(error).__name__})", file=sys.stderr)  # noqa: T201
            return Refusal(RefusalCode.NO_EVIDENCE)
        finally:
            self._proving.discard(requester)

    async def _answer(self, requester: ServiceId, request: Summarize | SuggestReplies) -> Summary | Replies | Refusal:
        scope = request.scope
        if not self._memory.has_opted_in(requester, scope.conversation):
            return Refusal(RefusalCode.NOT_OPTED_IN)
        if len(scope.messages) > MAX_SCOPE:
            return Refusal(RefusalCode.SCOPE_TOO_LARGE)
        if self._pending >= MAX_PENDING:
            return Refusal(RefusalCode.BUSY)
        self._pending += 1
        try:
            async with self._one_at_a_time:
                recalled = self._recall(scope)
                return await asyncio.to_thread(self._compute, requester, request, recalled)
        except Exception:  # noqa: BLE001  # the engine must not take the service down, and its words may hold content
            return Refusal(RefusalCode.ENGINE_FAILED)
        finally:
            self._pending -= 1

    def _recall(self, scope: Scope) -> _Recalled:
        wanted = dict.fromkeys(scope.messages)
        held = self._memory.recall(scope.conversation, tuple(wanted), self._now())
        ids = {str(number): message.id for number, message in enumerate(held)}
        names = {str(member): name[:MAX_NAME] for member, name in scope.names.items()}
        coverage = Coverage(used=len(held), not_opted_in=scope.not_opted_in, not_held=len(wanted) - len(held))
        return _Recalled(_thread(held, names), ids, coverage)

    def _compute(
        self, requester: ServiceId, request: Summarize | SuggestReplies, recalled: _Recalled
    ) -> Summary | Replies:
        match request:
            case Summarize():
                digest = self._digester.digest(recalled.thread, viewer=str(requester))
                lines = tuple(
                    SummaryLine(line.text, line.kind, tuple(recalled.ids[cite] for cite in line.cites))
                    for line in digest.lines
                )
                return Summary(lines, recalled.coverage, self._engine.name, self._engine.weights_digest)
            case SuggestReplies(_, count):
                suggestions = self._suggester.suggest(
                    recalled.thread, viewer=str(requester), count=min(count, MAX_REPLIES)
                )
                texts = tuple(suggestion.text for suggestion in suggestions)
                return Replies(texts, recalled.coverage, self._engine.name, self._engine.weights_digest)
            case _:
                assert_never(request)


def _thread(held: list[HeldMessage], names: dict[str, str]) -> Thread:
    messages = tuple(
        Message(id=str(number), author=str(message.id.author), sent_at=message.id.timestamp, text=message.text)
        for number, message in enumerate(held)
    )
    return Thread(messages, {author: name for author, name in names.items() if name.strip()})

"""What the assistant answers: evidence to anyone, the rest only to members who have opted in.

It gets decrypted content with its authenticated sender, and gives the frames of the answer to send to that sender alone. Who
is served next is for ``ai_enclave.desk``; what may be used for ``memory``; what is said for ``answers``. Sockets, sessions and
the device belong to ``ai_enclave.service``; tensors to ``ai_enclave.engine``.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from ai_enclave.answers import NO_INSTRUCTIONS, Answers
from ai_enclave.desk import Counter, Refused
from ai_enclave.engine import Engine, Writer
from ai_enclave.features.rewriting import INSTRUCTIONS, rewrite
from ai_enclave.limits import ANSWER_GRID, MAX_AGE, MAX_MESSAGES, STREAM_PACE
from ai_enclave.memory import Denied, Memory, NotedConsent
from ai_enclave.proving import Prover
from ai_enclave.receipts import ROOM, ReceiptIssuer
from messaging.client.consent import ConsentRefused, verify_consent
from messaging.wire.answers import AnswerPart, FrameWriter
from messaging.wire.assistant import (
    AboutMessages,
    Actions,
    AssistantRequest,
    Cancel,
    ConsentReference,
    EvidenceRequest,
    Forget,
    Forgotten,
    QuestionsForMe,
    Refusal,
    RefusalCode,
    Result,
    ResultKind,
    Rewrite,
    Rewritten,
    Status,
    StatusRequest,
    SuggestReplies,
    Summarize,
    request_id_of,
)
from messaging.wire.consent import ConsentScope, conversation_id
from messaging.wire.content import AnswerFrame, ConsentUpdate, Content, DataMessage, Roster
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import ANSWER_BUCKETS, SALT

MAX_STREAMED = ANSWER_BUCKETS[-2]  # frames of a stream; the rest is room for its result


@dataclass(frozen=True, slots=True)
class _Answered:
    """A result before it is dressed: whose consent it rests on, and about which conversation it is."""

    kind: ResultKind
    consents: tuple[ConsentReference, ...] = ()
    conversation: bytes | None = field(default=None, repr=False)
    speaker: Engine | Writer | None = None
    instructions: bytes = NO_INSTRUCTIONS
    receipted: bool = True


class Assistant:
    """One enclave's assistant. ``writer`` is an engine that generates, where there is one."""

    def __init__(
        self,
        engine: Engine,
        prover: Prover,
        issuer: ReceiptIssuer,
        counter: Counter,
        *,
        writer: Writer | None = None,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._answers = Answers(engine)
        self._prover = prover
        self._issuer = issuer
        self._counter = counter
        self._memory = Memory()
        self._now = issuer.now
        self._started_at = self._now()

    @property
    def memory(self) -> Memory:
        """What is remembered."""
        return self._memory

    # --- what is taken without an answer ---

    def note(self, sender: ServiceId, identity_key: bytes, content: Content) -> bool:
        """Take a message, a statement or a roster of ``sender``; says whether the sender has just opted out.

        ``identity_key`` is the key under which ``content`` came.
        """
        match content:
            case DataMessage():
                self._memory.store(sender, content, self._now())
            case Roster():
                self._memory.note_roster(sender, content)
            case ConsentUpdate():
                return self._note_consent(sender, identity_key, content)
            case _:
                pass  # receipts, conversations, and what newer clients may say
        return False

    def _note_consent(self, sender: ServiceId, identity_key: bytes, update: ConsentUpdate) -> bool:
        try:
            consent = verify_consent(update, sender, identity_key)
        except ConsentRefused:
            return False
        news = self._memory.note_consent(sender, update.conversation, NotedConsent(consent, update.consent.digest()))
        return news and not consent.opted_in

    # --- what is answered ---

    async def answer(self, sender: ServiceId, request: bytes) -> AsyncGenerator[AnswerFrame]:
        """The frames of the answer to one request, each when it may leave."""
        arrived = asyncio.get_running_loop().time()
        try:
            parsed = AssistantRequest.parse(request)
        except MalformedField:
            request_id = request_id_of(request)
            if request_id is not None:
                async for frame in self._refuse(request_id, RefusalCode.MALFORMED, arrived):
                    yield frame
            return
        if isinstance(parsed.kind, Cancel):
            self._counter.cancel(sender, parsed.kind.request_id)
            return
        frames = FrameWriter(parsed.id)
        work = asyncio.ensure_future(self._answered(sender, parsed, frames))
        try:
            if isinstance(parsed.kind, Rewrite):
                async for frame in _streamed(work, frames):
                    yield frame
            answered = await work
        finally:
            work.cancel()  # nobody would get the answer
        await _wait_for_grid(arrived)
        for frame in self._finish(sender, parsed, request, frames, answered):
            yield frame

    async def _refuse(self, request_id: bytes, code: RefusalCode, arrived: float) -> AsyncIterator[AnswerFrame]:
        frames = FrameWriter(request_id)
        frames.write(AnswerPart(result=Result(kind=Refusal(code), salt=secrets.token_bytes(SALT)).encode()))
        await _wait_for_grid(arrived)
        for frame in frames.finish():
            yield frame

    async def _answered(self, sender: ServiceId, request: AssistantRequest, frames: FrameWriter) -> _Answered:
        try:
            return await self._dispatch(sender, request, frames)
        except Denied as denied:
            return _Answered(Refusal(denied.code), receipted=False)
        except Refused as refused:
            retry = None if refused.retry_after is None else max(1, round(refused.retry_after * 1000))
            return _Answered(Refusal(refused.code, retry), receipted=False)
        except Exception:  # noqa: BLE001  # the engine must not take the service down, and its words may hold content
            return _Answered(Refusal(RefusalCode.ENGINE_FAILED), receipted=False)

    async def _dispatch(self, sender: ServiceId, request: AssistantRequest, frames: FrameWriter) -> _Answered:
        match request.kind:
            case EvidenceRequest(nonce):
                if self._counter.draining:
                    raise Denied(RefusalCode.DRAINING)
                return _Answered(await self._prover.prove(sender, nonce), receipted=False)
            case StatusRequest(conversation):
                return _Answered(self._status(sender, conversation), receipted=False)
            case Forget(conversation, whole):
                return self._forget(sender, conversation, whole=whole)
            case Summarize() | SuggestReplies() | QuestionsForMe() | Actions() as kind:
                self._check_evidence(sender, request)
                return await self._about_messages(sender, request, kind)
            case Rewrite() as kind:
                self._check_evidence(sender, request)
                return await self._rewrite(sender, request, kind, frames)
            case _:
                raise Denied(RefusalCode.MALFORMED)

    def _check_evidence(self, sender: ServiceId, request: AssistantRequest) -> None:
        if not self._prover.has_issued(sender, request.evidence):
            raise Denied(RefusalCode.UNKNOWN_EVIDENCE)

    async def _about_messages(self, sender: ServiceId, request: AssistantRequest, kind: AboutMessages) -> _Answered:
        scope, purpose = kind.scope, _purpose(kind)
        self._memory.check_requester(sender, scope.conversation, purpose, self._now())

        async def work() -> _Answered:
            # Again, and now: consent may have changed while the request waited.
            self._memory.check_requester(sender, scope.conversation, purpose, self._now())
            recalled = self._memory.recall(sender, scope.conversation, scope.messages, purpose, self._now())
            result = await asyncio.to_thread(self._answers.compute, sender, kind, recalled)
            own = self._memory.own_consent(sender, scope.conversation)
            consents = {*recalled.consents, *([own] if own is not None else [])}
            return _Answered(result, tuple(consents), scope.conversation, self._engine)

        return await self._counter.serve(sender, request.id, work, deadline=request.deadline / 1000)

    async def _rewrite(
        self, sender: ServiceId, request: AssistantRequest, kind: Rewrite, frames: FrameWriter
    ) -> _Answered:
        writer = self._writer
        if writer is None:
            raise Denied(RefusalCode.NEEDS_GENERATING_ENGINE)

        async def work() -> _Answered:
            text = ""
            async with contextlib.aclosing(rewrite(writer, kind.draft, kind.tone)) as pieces:
                async for piece in pieces:
                    text += piece
                    frames.write(AnswerPart(text=piece))
            return _Answered(Rewritten(text), speaker=writer, instructions=INSTRUCTIONS.digest)

        return await self._counter.serve(sender, request.id, work, deadline=request.deadline / 1000)

    def _forget(self, sender: ServiceId, key: bytes | None, *, whole: bool) -> _Answered:
        """Forgetting asks for nothing but, of what others wrote, for membership: it gives nobody anything."""
        if whole and key is not None:
            self._memory.check_requester(sender, key, None, self._now())
            return _Answered(Forgotten(self._memory.forget_whole(key)), (), key, self._engine)
        return _Answered(Forgotten(self._memory.forget(sender, key)), (), key, self._engine)

    def _status(self, sender: ServiceId, key: bytes | None) -> Status:
        now, own, opted_in = self._now(), 0, frozenset[ServiceId]()
        if key is not None:
            self._memory.check_requester(sender, key, None, now)
            own, opted_in = self._memory.count_own(sender, key, now), self._memory.opted_in(key, now)
        return Status(
            release=self._issuer.release,
            started_at=self._started_at,
            most_messages=MAX_MESSAGES,
            longest=int(MAX_AGE.total_seconds()),
            generates=self._writer is not None,
            expected_wait=round(self._counter.load.expected_wait * 1000),
            own_messages=own,
            opted_in=opted_in,
        )

    def _finish(
        self,
        sender: ServiceId,
        request: AssistantRequest,
        request_bytes: bytes,
        frames: FrameWriter,
        answered: _Answered,
    ) -> list[AnswerFrame]:
        """Dress the result, sign for it where its sender can check the signature, and cut it up."""
        speaker = answered.speaker
        result = Result(
            kind=answered.kind,
            salt=secrets.token_bytes(SALT),
            engine="" if speaker is None else speaker.name,
            model=NO_INSTRUCTIONS if speaker is None else speaker.weights_digest,
            instructions=answered.instructions,
            consents=answered.consents,
        )
        encoded = result.encode()
        total = frames.total(len(encoded) + ROOM)
        receipt = None
        if answered.receipted and self._prover.has_issued(sender, request.evidence):
            receipt = self._issuer.issue(
                request,
                request_bytes,
                result,
                encoded,
                evidence=request.evidence or b"",
                conversation=None if answered.conversation is None else conversation_id(answered.conversation),
                measurement=self._prover.measurement,
                frames=total,
            )
        frames.write(AnswerPart(result=encoded, receipt=receipt))
        return list(frames.finish(total))

    # --- going away ---

    def drain(self) -> None:
        """Take no new work; what was accepted is finished."""
        self._counter.drain()

    async def drained(self) -> None:
        """Wait until all that was accepted is finished."""
        await self._counter.drained()

    def forget_old(self) -> None:
        """Drop what is too old, or whose consent has expired."""
        self._memory.forget_old(self._now())

    def forget_account(self, account: ServiceId) -> None:
        """Drop everything of an account that has other keys now."""
        self._memory.forget_author(account)


def _purpose(kind: AboutMessages) -> ConsentScope:
    return ConsentScope.REPLIES if isinstance(kind, SuggestReplies) else ConsentScope.SUMMARIES


async def _streamed(work: asyncio.Future[_Answered], frames: FrameWriter) -> AsyncIterator[AnswerFrame]:
    """A frame at each beat while the engine writes, with new text or without."""
    while frames.frames < MAX_STREAMED:
        done, _ = await asyncio.wait({work}, timeout=STREAM_PACE)
        if done:
            return
        yield frames.flush()


async def _wait_for_grid(arrived: float) -> None:
    """An answer leaves on a grid of times, so that its time tells less of the work behind it."""
    spent = asyncio.get_running_loop().time() - arrived
    await asyncio.sleep(-spent % ANSWER_GRID)

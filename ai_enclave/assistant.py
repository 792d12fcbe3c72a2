"""What the assistant answers: evidence to anyone, the rest only to members who have opted in.

It gets decrypted content with its authenticated sender, and gives the frames of the answer to send to that sender alone. Who
is served next is for ``ai_enclave.desk``; what may be used for ``memory``; what is said for ``answers``. Sockets, sessions and
the device belong to ``ai_enclave.service``; tensors to ``ai_enclave.engine``.
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial

from ai_enclave.answers import NO_INSTRUCTIONS, Answers
from ai_enclave.desk import Counter, Reason, Refused, in_thread
from ai_enclave.engine import Engine, Reader, Writer
from ai_enclave.features import composing
from ai_enclave.features.rewriting import INSTRUCTIONS, rewrite
from ai_enclave.limits import MAX_AGE, MAX_MESSAGES, MIN_RETRY_SECONDS
from ai_enclave.memory import Denied, Memory, Recalled
from ai_enclave.pacing import Pace, Stream, beats, wait_for_grid
from ai_enclave.proving import NoEvidence, Prover
from ai_enclave.receipts import ROOM, ReceiptIssuer
from ai_enclave.share import Member, NotedConsent
from messaging.client.consent import ConsentRefused, verify_consent
from messaging.wire.answers import AnswerPart, FrameWriter
from messaging.wire.assistant import (
    AboutMessages,
    Actions,
    AssistantRequest,
    Cancel,
    ConsentReference,
    Evidence,
    EvidenceRequest,
    Forget,
    Forgotten,
    QuestionsForMe,
    Refusal,
    RefusalCode,
    Replies,
    Result,
    ResultKind,
    Rewrite,
    Rewritten,
    Status,
    StatusRequest,
    SuggestReplies,
    Summarize,
    Summary,
    is_cancel,
    request_id_of,
)
from messaging.wire.consent import ConsentScope, conversation_id
from messaging.wire.content import AnswerFrame, ConsentUpdate, Content, DataMessage, Deletion, Edit, Roster
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import SALT


@dataclass(frozen=True, slots=True)
class _Call:
    """One request: who asks, what, and the bytes that travelled."""

    requester: Member
    request: AssistantRequest
    data: bytes = field(repr=False)

    @property
    def sender(self) -> ServiceId:
        """The account that asks."""
        return self.requester.service_id

    @property
    def seconds(self) -> float:
        """How long the requester waits."""
        return self.request.deadline / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """What a receipt says of a result: when it was made, by what, about which conversation, and whose consent it rests on."""

    made_at: int
    speaker: Engine
    instructions: bytes = NO_INSTRUCTIONS
    conversation: bytes | None = field(default=None, repr=False)
    consents: tuple[ConsentReference, ...] = ()


@dataclass(frozen=True, slots=True)
class _Used:
    """What a result rests on: a request, and the messages that were recalled for it."""

    kind: AboutMessages
    recalled: Recalled


@dataclass(frozen=True, slots=True)
class _Answered:
    """A result before it is dressed; without ``signed`` nobody stands for it."""

    kind: ResultKind
    signed: _Signed | None = None
    used: _Used | None = None


class Assistant:
    """One enclave's assistant.

    Args:
        engine: what chooses and quotes.
        prover: what proves where this runs.
        issuer: what signs receipts.
        counter: where requesters wait for an engine.
        writer: an engine that generates, where there is one.
        pace: when frames leave.
    """

    def __init__(
        self,
        engine: Reader,
        prover: Prover,
        issuer: ReceiptIssuer,
        counter: Counter,
        *,
        writer: Writer | None = None,
        pace: Pace = Pace(),  # noqa: B008  # frozen
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._answers = Answers(engine)
        self._prover = prover
        self._issuer = issuer
        self._counter = counter
        self._pace = pace
        self._memory = Memory()
        self._now = issuer.now
        self._started_at = self._now()

    @property
    def memory(self) -> Memory:
        """What is remembered."""
        return self._memory

    # --- what is taken without an answer ---

    def note(self, sender: ServiceId, identity_key: bytes, content: Content) -> bool:
        """Take a message, what is said of one, a statement or a roster of ``sender``; says whether the sender has just opted out.

        ``identity_key`` is the key under which ``content`` came.
        """
        author = Member(sender, identity_key)
        match content:
            case DataMessage():
                self._memory.store(author, content, self._now())
            case Edit():
                self._memory.edit(author, content, self._now())
            case Deletion():
                self._memory.delete(author, content)
            case Roster():
                self._memory.note_roster(author, content)
            case ConsentUpdate():
                return self._note_consent(author, content)
            case _:
                pass  # receipts, conversations, and what newer clients may say
        return False

    def _note_consent(self, author: Member, update: ConsentUpdate) -> bool:
        try:
            consent = verify_consent(update, author.service_id, author.identity_key)
        except ConsentRefused:
            return False
        noted = NotedConsent(consent, update.consent.digest())
        news = self._memory.note_consent(author, update.conversation, noted, self._now())
        return news and not consent.opted_in

    # --- what is answered ---

    async def answer(self, sender: ServiceId, request: bytes, identity_key: bytes) -> AsyncGenerator[AnswerFrame]:
        """The frames of the answer to one request, each when it may leave. Closing it ends the work.

        ``identity_key`` is the key under which the request came.

        There are none to a request without an id, and to a :class:`Cancel`. What may not be used any more when the first frame would
        leave, because it was deleted or edited, or for want of consent, is in none of them: the request is refused with ``busy``.
        """
        arrived = asyncio.get_running_loop().time()
        request_id = request_id_of(request)
        if request_id is None:
            return
        frames, used = FrameWriter(request_id), None
        requester = Member(sender, identity_key)
        try:
            call = _Call(requester, AssistantRequest.parse(request), request)
        except MalformedField as malformed:
            rest = _refused(frames, _code_of(malformed))
        else:
            if isinstance(call.request.kind, Cancel):
                self._cancel(sender, call.request.kind.request_id)
                return
            stream = Stream()
            work = asyncio.ensure_future(self._answered(call, stream))
            try:
                async with aclosing(beats(work, stream, frames, self._pace)) as streamed:
                    async for frame in streamed:
                        yield frame
                answered = await work
                used = answered.used
                rest = await self._dress(call, answered, frames)
            finally:
                work.cancel()  # nobody would get the answer
        await wait_for_grid(arrived, self._pace)
        if used is not None and not self._stands(requester, used):
            rest = _refused(FrameWriter(request_id), RefusalCode.BUSY, _milliseconds(MIN_RETRY_SECONDS))
        for frame in rest:
            yield frame

    def take_back(self, sender: ServiceId, request: bytes) -> bool:
        """Whether ``request`` is a :class:`Cancel`, which then is done: it waits for nobody and has no answer."""
        if not is_cancel(request):
            return False
        with suppress(MalformedField):
            kind = AssistantRequest.parse(request).kind
            if isinstance(kind, Cancel):
                self._cancel(sender, kind.request_id)
        return True

    def _cancel(self, sender: ServiceId, request_id: bytes) -> None:
        self._counter.cancel(sender, request_id)
        self._prover.cancel(sender, request_id)

    async def _answered(self, call: _Call, stream: Stream) -> _Answered:
        try:
            return await self._dispatch(call, stream)
        except Denied as denied:
            return _Answered(Refusal(denied.code))
        except Refused as refused:
            retry = None if refused.retry_after is None else _milliseconds(refused.retry_after)
            return _Answered(Refusal(refused.code, retry))
        except NoEvidence:
            return _Answered(Refusal(RefusalCode.NO_EVIDENCE))
        except Exception as error:  # noqa: BLE001  # it must not take the service down, and its words may hold content
            print(f"subrosa enclave: no answer ({type(error).__name__})", file=sys.stderr)  # noqa: T201
            return _Answered(Refusal(RefusalCode.ENGINE_FAILED))

    async def _dispatch(self, call: _Call, stream: Stream) -> _Answered:
        match call.request.kind:
            case EvidenceRequest(nonce):
                return _Answered(await self._prover.prove(call.sender, call.request.id, nonce, deadline=call.seconds))
            case StatusRequest(conversation):
                return _Answered(self._status(call.requester, conversation))
            case Forget(conversation, whole):
                return self._forget(call.requester, conversation, whole=whole)
            case Summarize() | SuggestReplies() | QuestionsForMe() | Actions() as kind:
                self._check_evidence(call)
                return await self._about_messages(call, kind)
            case Rewrite() as kind:
                self._check_evidence(call)
                return await self._rewrite(call, kind, stream)
            case Cancel():
                raise AssertionError("nothing is answered")

    def _check_evidence(self, call: _Call) -> None:
        if not self._prover.has_issued(call.sender, call.request.evidence):
            raise Denied(RefusalCode.UNKNOWN_EVIDENCE)

    async def _about_messages(self, call: _Call, kind: AboutMessages) -> _Answered:
        self._check_requester(call.requester, kind)
        ends = asyncio.get_running_loop().time() + call.seconds

        async def work() -> _Answered:
            recalled = self._recall(call.requester, kind)  # now: consent may have changed while the request waited
            result, signed = await self._answer_about(call, kind, recalled, ends)
            if not _same(recalled, self._recall(call.requester, kind)):  # or while the engine had it
                raise Refused(Reason.BUSY, MIN_RETRY_SECONDS)
            own = self._memory.own_consent(call.requester, kind.scope.conversation)
            consents = {*recalled.consents, *([own] if own is not None else [])}
            signed = replace(signed, conversation=kind.scope.conversation, consents=tuple(sorted(consents)))
            return _Answered(result, signed, _Used(kind, recalled))

        return await self._counter.serve(call.sender, call.request.id, work, deadline=call.seconds)

    async def _answer_about(
        self, call: _Call, kind: AboutMessages, recalled: Recalled, ends: float
    ) -> tuple[Summary | Replies, _Signed]:
        """The answer, and who gave it: the engine that writes if it can, else the one that quotes."""
        if self._writer is not None and isinstance(kind, Summarize) and recalled.messages:
            left = ends - asyncio.get_running_loop().time()
            composed = await self._answers.compose(self._writer, call.sender, kind, recalled, seconds=left)
            if composed is not None:
                instructions = composing.INSTRUCTIONS.digest
                return composed, _Signed(made_at=self._now(), speaker=self._writer, instructions=instructions)
        result = await in_thread(partial(self._answers.compute, call.sender, kind, recalled))
        return result, _Signed(made_at=self._now(), speaker=self._engine)

    def _check_requester(self, requester: Member, kind: AboutMessages) -> None:
        self._memory.check_requester(requester, kind.scope.conversation, _purpose(kind), self._now())

    def _recall(self, requester: Member, kind: AboutMessages) -> Recalled:
        self._check_requester(requester, kind)
        scope = kind.scope
        return self._memory.recall(requester, scope.conversation, scope.messages, _purpose(kind), self._now())

    def _stands(self, requester: Member, used: _Used) -> bool:
        """Whether an answer may still leave."""
        try:
            return _same(used.recalled, self._recall(requester, used.kind))
        except Denied:
            return False

    async def _rewrite(self, call: _Call, kind: Rewrite, stream: Stream) -> _Answered:
        writer = self._writer
        if writer is None:
            raise Denied(RefusalCode.NEEDS_GENERATING_ENGINE)

        async def work() -> _Answered:
            stream.begin()
            pieces = rewrite(writer, kind.draft, kind.tone, tenant=call.sender.to_bytes(), seconds=call.seconds)
            async with aclosing(pieces):
                async for piece in pieces:
                    stream.write(piece)
            signed = _Signed(made_at=self._now(), speaker=writer, instructions=INSTRUCTIONS.digest)
            return _Answered(Rewritten(stream.text), signed)

        return await self._counter.serve(call.sender, call.request.id, work, deadline=call.seconds)

    def _forget(self, requester: Member, key: bytes | None, *, whole: bool) -> _Answered:
        """Forgetting asks for nothing but, of what others wrote, for membership: it gives nobody anything."""
        now = self._now()
        if whole and key is not None:
            self._memory.check_requester(requester, key, None, now)
            dropped = self._memory.forget_whole(requester, key)
        else:
            dropped = self._memory.forget(requester, key)
        return _Answered(Forgotten(dropped), _Signed(made_at=now, speaker=self._engine, conversation=key))

    def _status(self, requester: Member, key: bytes | None) -> Status:
        now, own, opted_in = self._now(), 0, frozenset[ServiceId]()
        if key is not None:
            self._memory.check_requester(requester, key, None, now)
            own, opted_in = self._memory.count_own(requester, key, now), self._memory.opted_in(requester, key, now)
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

    # --- how it leaves ---

    async def _dress(self, call: _Call, answered: _Answered, frames: FrameWriter) -> list[AnswerFrame]:
        """The rest of the frames: the result, and a receipt for who can check its signature."""
        result = _result(answered)
        try:
            encoded = await asyncio.to_thread(result.encode)  # evidence is deflated in there
            total = frames.total(len(encoded) + ROOM)
        except ValueError:  # too large, or no text
            failed = isinstance(answered.kind, Evidence)
            return _refused(frames, RefusalCode.NO_EVIDENCE if failed else RefusalCode.ENGINE_FAILED)
        receipt = self._receipt(call, answered.signed, result, encoded, total)
        frames.write(AnswerPart(result=encoded, receipt=receipt))
        return list(frames.finish(total))

    def _receipt(
        self, call: _Call, signed: _Signed | None, result: Result, encoded: bytes, frames: int
    ) -> bytes | None:
        evidence = call.request.evidence
        if signed is None or evidence is None or not self._prover.has_issued(call.sender, evidence):
            return None
        return self._issuer.issue(
            call.request,
            call.data,
            result,
            encoded,
            evidence=evidence,
            conversation=None if signed.conversation is None else conversation_id(signed.conversation),
            measurement=self._prover.measurement,
            made_at=signed.made_at,
            frames=frames,
        )

    # --- going away ---

    def drain(self) -> None:
        """Take no new work; what was accepted is finished."""
        self._counter.drain()
        self._prover.drain()

    async def drained(self) -> None:
        """Wait until all that was accepted is finished."""
        await asyncio.gather(self._counter.drained(), self._prover.drained())

    def forget_old(self) -> None:
        """Drop what is too old, or whose consent has expired."""
        self._memory.forget_old(self._now())

    def forget_account(self, account: ServiceId) -> None:
        """Drop everything of an account that has other keys now."""
        self._memory.forget_author(account)
        self._prover.forget(account)


def _purpose(kind: AboutMessages) -> ConsentScope:
    return ConsentScope.REPLIES if isinstance(kind, SuggestReplies) else ConsentScope.SUMMARIES


def _code_of(malformed: MalformedField) -> RefusalCode:
    return RefusalCode.SCOPE_TOO_LARGE if malformed.field == "scope" else RefusalCode.MALFORMED


def _same(used: Recalled, now: Recalled) -> bool:
    """Whether what was used may still be used, and has the same text."""
    before, after = ({(held.arrival, held.edited_at) for held in recalled.messages} for recalled in (used, now))
    return before <= after


def _result(answered: _Answered) -> Result:
    salt, signed = secrets.token_bytes(SALT), answered.signed
    if signed is None:
        return Result(kind=answered.kind, salt=salt)
    return Result(
        kind=answered.kind,
        salt=salt,
        engine=signed.speaker.name,
        model=signed.speaker.weights_digest,
        instructions=signed.instructions,
        consents=signed.consents,
    )


def _refused(frames: FrameWriter, code: RefusalCode, retry_after: int | None = None) -> list[AnswerFrame]:
    frames.write(AnswerPart(result=_result(_Answered(Refusal(code, retry_after))).encode()))
    return list(frames.finish())


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))

"""One assistant, from the side of a member: verify where it runs, then share, ask, and check what it signed.

Until the evidence of the assistant has been appraised for its identity key, this module sends it nothing but a nonce. When the
key changes, as it does when the enclave restarts, the assistant counts as unverified again; so it does when its evidence has
grown old. Which assistant to ask is for ``client.assistants``.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from attestation import NO_COLLATERAL, AttestationError, Claims, Collateral, Policy, appraise
from attestation.bundle import Bundle
from attestation.encoding import decode
from attestation.limits import MAX_BUNDLE
from attestation.receipt import Receipt, consent_set_digest, parse_receipt, verify_receipt
from messaging.client.errors import ClientError, IdentityChanged
from messaging.wire.answers import AnswerPart, FrameReader
from messaging.wire.assistant import (
    Actions,
    AssistantRequest,
    Cancel,
    Evidence,
    EvidenceRequest,
    Forget,
    Forgotten,
    QuestionsForMe,
    Refusal,
    RefusalCode,
    Replies,
    RequestKind,
    Result,
    ResultKind,
    Rewrite,
    Rewritten,
    Scope,
    Status,
    StatusRequest,
    SuggestReplies,
    Summarize,
    Summary,
    request_name,
)
from messaging.wire.consent import conversation_id
from messaging.wire.content import AnswerFrame, AssistantCall, Content
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import NONCE, REQUEST_ID

ANSWER_DEADLINE = 30.0  # seconds from request to answer
REAPPRAISE_AFTER = timedelta(hours=6)  # evidence is asked for anew when it is so old
EVIDENCE_AGE = timedelta(hours=24)  # nothing is sent on older evidence, whatever keeps the new one away

Kind = TypeVar("Kind", bound=ResultKind)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class AssistantError(ClientError):
    """The assistant did not do what was asked; nothing of the conversation was lost."""


class EvidenceRefused(AssistantError):
    """The assistant could not prove where it runs; ``check`` names the check that failed."""

    def __init__(self, check: str, reason: str) -> None:
        super().__init__(f"the assistant's evidence was refused ({check}): {reason}")
        self.check = check


class ReceiptRefused(AssistantError):
    """An answer came without the receipt that proves where it was made; the answer was dropped."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the receipt of an answer was refused: {reason}")


class AssistantNotVerified(AssistantError):
    """The assistant has not been verified, or has a new identity key since: call ``verify`` first."""

    def __init__(self) -> None:
        super().__init__("the assistant is not verified under its present identity key; it may have restarted")


class AssistantSilent(AssistantError):
    """No answer within the deadline: the enclave is down, busy, or cut off by the relay."""

    def __init__(self) -> None:
        super().__init__("the assistant did not answer in time: its enclave may be down or restarting")


_ADVICE: Mapping[str, str] = {
    RefusalCode.NOT_OPTED_IN: "you have not opted in to this conversation, or it has forgotten it; opt in first",
    RefusalCode.NOT_A_MEMBER: "nobody whose messages it has counts you among the members of this conversation",
    RefusalCode.OUT_OF_SCOPE: "your own consent does not cover this; widen it first",
    RefusalCode.SCOPE_TOO_LARGE: "it was asked about too many messages at once",
    RefusalCode.UNKNOWN_EVIDENCE: "it has restarted, and forgotten everything; verify it again",
    RefusalCode.NEEDS_GENERATING_ENGINE: "its engine can choose and quote, and writes no texts of its own",
    RefusalCode.BUSY: "it is busy, and its answer would come too late; ask again in a while",
    RefusalCode.QUOTA: "you have asked more often than one member may; ask again later",
    RefusalCode.DRAINING: "it is about to stop; ask another one",
    RefusalCode.TOO_LATE: "your turn did not come within the time that you wait; ask again in a while",
    RefusalCode.CANCELLED: "the request was cancelled",
    RefusalCode.ENGINE_FAILED: "its engine failed; nothing was kept of the request",
    RefusalCode.NO_EVIDENCE: "its hardware gave no evidence; tell the operator",
    RefusalCode.MALFORMED: "it does not understand the request; it may be of another version",
}


class AssistantRefused(AssistantError):
    """The assistant answered that it will not; ``code`` says why, ``retry_after`` (seconds) when to ask again, if it helps."""

    def __init__(self, code: str, retry_after: float | None = None) -> None:
        advice = _ADVICE.get(code, "for a reason that this version does not know")
        super().__init__(f"the assistant refused: {advice}")
        self.code = code
        self.retry_after = retry_after


class Sender(Protocol):
    """What this module needs of a :class:`messaging.client.Device`."""

    async def send(self, to: ServiceId, content: Content) -> None:
        """Deliver ``content`` to every device of ``to``."""

    async def trusted_identity(self, service_id: ServiceId) -> bytes | None:
        """The identity key that messages to ``service_id`` are encrypted to."""

    async def trust(self, service_id: ServiceId, identity_key: bytes) -> None:
        """Accept a new identity key."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A result, and what proves where, by what and under whose consent it was made.

    ``receipt`` was verified under the evidence in ``bundle``; the bytes are what it hashes.
    """

    result: Result
    receipt: Receipt | None
    signed_receipt: bytes | None = field(repr=False)
    request_bytes: bytes = field(repr=False)
    result_bytes: bytes = field(repr=False)
    bundle: Bundle = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Proved:
    """An appraisal that was accepted."""

    claims: Claims
    bundle: Bundle
    digest: bytes


@dataclass(slots=True)
class _Waiting:
    """An answer on its way."""

    done: asyncio.Future[AnswerPart]
    on_text: Callable[[str], None] | None
    reader: FrameReader = field(default_factory=FrameReader)

    def take(self, frame: AnswerFrame) -> None:
        """Show text as it comes; the part with the result ends it once all frames are there."""
        try:
            for part in self.reader.read(frame):
                if part.text and self.on_text is not None:
                    self.on_text(part.text)
                if part.result is not None and not self.done.done():
                    self.done.set_result(part)
            if self.reader.ended and not self.done.done():
                self.done.set_exception(AssistantRefused(RefusalCode.MALFORMED))
        except MalformedField:
            if not self.done.done():
                self.done.set_exception(AssistantRefused(RefusalCode.MALFORMED))


class Assistant:
    """One assistant account, and what this device has proved of it.

    ``policy`` says which machines are accepted; ``collateral`` is what their vendors say, by default what the assistant hands
    on of it (it is signed by them); ``now`` is the clock to judge by.
    """

    def __init__(
        self,
        device: Sender,
        service_id: ServiceId,
        policy: Policy,
        *,
        collateral: Collateral = NO_COLLATERAL,
        now: Callable[[], datetime] = _utc_now,
        deadline: float = ANSWER_DEADLINE,
    ) -> None:
        self.service_id = service_id
        self._device = device
        self._policy = policy
        self._collateral = collateral
        self._now = now
        self._deadline = deadline
        self._trusting = asyncio.Lock()
        self._verifying = asyncio.Lock()
        self._proved: _Proved | None = None
        self._waiting: dict[bytes, _Waiting] = {}
        self._background: set[asyncio.Task[None]] = set()

    # --- trust ---

    @property
    def claims(self) -> Claims | None:
        """What was proved, ``None`` while the assistant is not verified."""
        return None if self._proved is None else self._proved.claims

    @property
    def bundle(self) -> Bundle | None:
        """What the last accepted appraisal rested on, for anybody to check again; ``None`` while not verified."""
        return None if self._proved is None else self._proved.bundle

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask for evidence: there is none, or it has grown old."""
        return self._proved is None or self._now() - self._proved.bundle.time >= REAPPRAISE_AFTER

    def set_policy(self, policy: Policy) -> None:
        """Judge by another policy from now on: what was proved under the old one does not count any more."""
        self._policy = policy
        self._proved = None

    def distrust(self) -> None:
        """Forget what was proved."""
        self._proved = None

    async def verify(self) -> Claims:
        """Ask for evidence with a fresh nonce and appraise it; only then is the assistant trusted.

        Raises:
            EvidenceRefused: the evidence failed a check, or speaks for another key than the one we encrypt to.
            AssistantSilent: no answer.
            AssistantRefused: it gives no evidence now.
        """
        async with self._verifying:
            policy = self._policy
            try:
                proved = await self._appraised(policy)
            except EvidenceRefused:
                self._proved = None
                raise
            if policy is not self._policy:
                raise EvidenceRefused("policy", "the policy was changed meanwhile")
            self._proved = proved
            return proved.claims

    @asynccontextmanager
    async def verified(self) -> AsyncIterator[None]:
        """A block in which the assistant is verified, and no other key of it may come to be trusted.

        Raises:
            AssistantNotVerified: see ``verify``.
        """
        async with self._trusting:
            proved = self._proved
            if proved is None or not await self._encrypts_to(proved.claims):
                self._proved = None
                raise AssistantNotVerified
            if self._now() - proved.bundle.time >= EVIDENCE_AGE:
                raise AssistantNotVerified
            try:
                yield
            except IdentityChanged as changed:
                if changed.service_id != self.service_id:
                    raise
                self._proved = None
                raise AssistantNotVerified from None

    async def tell(self, content: Content) -> None:
        """Send something that has no answer: a message of our own, a statement, a roster.

        Raises:
            AssistantNotVerified: see ``verify``; it was not sent.
        """
        async with self.verified():
            await self._device.send(self.service_id, content)

    # --- asking ---

    async def ask(self, kind: RequestKind, *, on_text: Callable[[str], None] | None = None) -> Answered:
        """Ask, wait, and check the receipt. ``on_text`` gets text as the engine writes it, if it does.

        Raises:
            AssistantRefused: it will not.
            AssistantSilent: no answer.
            ReceiptRefused: the answer does not come with a receipt for exactly this request and answer.
            AssistantNotVerified: see ``verify``.
        """
        proved = self._proved
        if proved is None:
            raise AssistantNotVerified
        request = AssistantRequest(
            secrets.token_bytes(REQUEST_ID), kind, proved.digest, deadline=round(self._deadline * 1000)
        )
        encoded = request.encode()
        part = await self._exchange(request, encoded, self.tell, on_text)
        result = _read(part)
        if isinstance(result.kind, Refusal):
            raise _refused(result.kind)
        receipt = None if isinstance(kind, StatusRequest) else _check_receipt(proved, kind, encoded, result, part)
        return Answered(result, receipt, part.receipt, encoded, part.result or b"", proved.bundle)

    async def summarize(self, scope: Scope) -> Summary:
        """A summary of ``scope``. Raises as :meth:`ask`, as do the others here."""
        return _of(Summary, await self.ask(Summarize(scope)))

    async def suggest_replies(self, scope: Scope, count: int = 3) -> Replies:
        """Up to ``count`` replies that we could send now."""
        return _of(Replies, await self.ask(SuggestReplies(scope, count)))

    async def questions_for_me(self, scope: Scope) -> Summary:
        """Which questions wait for our answer."""
        return _of(Summary, await self.ask(QuestionsForMe(scope)))

    async def actions(self, scope: Scope) -> Summary:
        """What was asked, promised and decided, and for when."""
        return _of(Summary, await self.ask(Actions(scope)))

    async def rewrite(self, draft: str, tone: str = "", *, on_text: Callable[[str], None] | None = None) -> str:
        """Our own draft in another tone; needs an engine that writes."""
        return _of(Rewritten, await self.ask(Rewrite(draft, tone), on_text=on_text)).text

    async def forget(self, conversation: bytes | None = None, *, whole: bool = False) -> int:
        """Have our messages of a conversation (or of all) dropped, or all messages of it; returns how many there were."""
        return _of(Forgotten, await self.ask(Forget(conversation, whole))).messages

    async def status(self, conversation: bytes | None = None) -> Status:
        """How it is, and what it holds of ours."""
        return _of(Status, await self.ask(StatusRequest(conversation)))

    def receive(self, sender: ServiceId, content: Content) -> bool:
        """Take what arrived if it is part of an answer that we wait for; says whether it was."""
        if sender != self.service_id or not isinstance(content, AnswerFrame):
            return False
        waiting = self._waiting.get(content.request_id)
        if waiting is None:
            return False
        waiting.take(content)
        return True

    # --- inside ---

    async def _appraised(self, policy: Policy) -> _Proved:
        nonce = secrets.token_bytes(NONCE)
        request = AssistantRequest(secrets.token_bytes(REQUEST_ID), EvidenceRequest(nonce))
        part = await self._exchange(request, request.encode(), self._send_to_whoever_it_is, None)
        kind = _read(part).kind
        if isinstance(kind, Refusal):
            raise _refused(kind)
        if not isinstance(kind, Evidence):
            raise EvidenceRefused("syntax", "the answer is not evidence")
        now = self._now()
        try:
            collateral = self._collateral_for(kind)
            claims = appraise(kind.document, nonce=nonce, policy=policy, collateral=collateral, now=now)
        except AttestationError as error:
            raise EvidenceRefused(error.check, str(error)) from error
        if not await self._encrypts_to(claims):
            raise EvidenceRefused("identity key", "the evidence speaks for another key than the one we encrypt to")
        bundle = Bundle(nonce, now.replace(microsecond=0), kind.document, collateral)
        return _Proved(claims, bundle, hashlib.sha256(kind.document).digest())

    def _collateral_for(self, evidence: Evidence) -> Collateral:
        if self._collateral != NO_COLLATERAL or not evidence.collateral:
            return self._collateral
        return Collateral.read(decode(evidence.collateral, limit=MAX_BUNDLE))

    async def _exchange(
        self,
        request: AssistantRequest,
        encoded: bytes,
        send: Callable[[Content], Coroutine[Any, Any, None]],
        on_text: Callable[[str], None] | None,
    ) -> AnswerPart:
        waiting = _Waiting(asyncio.get_running_loop().create_future(), on_text)
        self._waiting[request.id] = waiting
        try:
            async with asyncio.timeout(self._deadline):
                await send(AssistantCall(encoded))
                return await waiting.done
        except TimeoutError:
            self._cancel(request.id)
            raise AssistantSilent from None
        except asyncio.CancelledError:
            self._cancel(request.id)
            raise
        finally:
            del self._waiting[request.id]
            waiting.done.cancel()

    def _cancel(self, request_id: bytes) -> None:
        """Tell the enclave that nobody waits any more; it does not matter whether it hears."""

        async def cancel() -> None:
            request = AssistantRequest(secrets.token_bytes(REQUEST_ID), Cancel(request_id))
            with suppress(ClientError):
                await self.tell(AssistantCall(request.encode()))

        task = asyncio.ensure_future(cancel())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _send_to_whoever_it_is(self, request: Content) -> None:
        """A nonce tells nothing, so it may go to a key that has yet to prove itself."""
        async with self._trusting:
            try:
                await self._device.send(self.service_id, request)
            except IdentityChanged as changed:
                await self._device.trust(self.service_id, changed.identity_key)
                await self._device.send(self.service_id, request)

    async def _encrypts_to(self, claims: Claims) -> bool:
        trusted = await self._device.trusted_identity(self.service_id)
        return trusted is not None and hmac.compare_digest(trusted, claims.identity_key)


def _read(part: AnswerPart) -> Result:
    try:
        return Result.parse(part.result or b"")
    except MalformedField:
        raise AssistantRefused(RefusalCode.MALFORMED) from None


def _refused(refusal: Refusal) -> AssistantRefused:
    return AssistantRefused(refusal.code, None if refusal.retry_after is None else refusal.retry_after / 1000)


def _of(kind: type[Kind], answered: Answered) -> Kind:
    if not isinstance(answered.result.kind, kind):
        raise AssistantRefused(RefusalCode.MALFORMED)
    return answered.result.kind


def _check_receipt(proved: _Proved, kind: RequestKind, request: bytes, result: Result, part: AnswerPart) -> Receipt:
    """The receipt is by the proved enclave, for this very request and answer, and says the same of it as the answer.

    Raises:
        ReceiptRefused: it is not.
    """
    if part.receipt is None or part.result is None:
        raise ReceiptRefused("there is none")
    try:
        receipt = verify_receipt(parse_receipt(part.receipt), proved.claims, proved.bundle.evidence)
    except AttestationError as error:
        raise ReceiptRefused(str(error)) from None
    said = (receipt.kind, receipt.request, receipt.answer, receipt.conversation, receipt.consents)
    consents = consent_set_digest((consent.author.to_bytes(), consent.digest) for consent in result.consents)
    expected = (
        request_name(kind),
        hashlib.sha256(request).digest(),
        hashlib.sha256(part.result).digest(),
        _conversation_of(kind),
        consents,
    )
    if said != expected or (receipt.engine, receipt.model, receipt.instructions) != (
        result.engine,
        result.model,
        result.instructions,
    ):
        raise ReceiptRefused("it is for another request or another answer")
    return receipt


def _conversation_of(kind: RequestKind) -> bytes | None:
    match kind:
        case Summarize(scope) | SuggestReplies(scope, _) | QuestionsForMe(scope) | Actions(scope):
            return conversation_id(scope.conversation)
        case Forget(conversation, _) if conversation is not None:
            return conversation_id(conversation)
        case _:
            return None

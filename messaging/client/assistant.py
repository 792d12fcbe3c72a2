"""One assistant, from the side of a member: verify where it runs, then share, ask, and check what it signed.

Until the evidence of the assistant has been appraised for its identity key, this module sends it nothing but a nonce. When the
key changes, as it does when the enclave restarts, the assistant counts as unverified again; so it does when its evidence has
grown old. Which assistant to ask is for ``client.assistants``; whether an account is one at all, too.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from attestation import NO_COLLATERAL, AttestationError, Claims, Collateral, Policy, appraise
from attestation.bundle import Bundle
from attestation.encoding import decode
from attestation.limits import MAX_BUNDLE
from messaging.client.answers import Answered, AwaitedAnswer, Proved, check_receipt, read_result
from messaging.client.assistant_errors import (
    AssistantError,
    AssistantNotVerified,
    AssistantRefused,
    AssistantSilent,
    AssistantUnreachable,
    EvidenceRefused,
    NoAssistant,
    PolicyDowngraded,
    ReceiptRefused,
)
from messaging.client.errors import (
    ClientError,
    ContentTooLarge,
    IdentityChanged,
    RelayRefused,
    RelayUnreachable,
    UnknownRecipient,
)
from messaging.wire.answers import AnswerPart
from messaging.wire.assistant import (
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
    ResultKind,
    Rewrite,
    Rewritten,
    Scope,
    Status,
    StatusRequest,
    SuggestReplies,
    Summarize,
    Summary,
)
from messaging.wire.content import AnswerFrame, AssistantCall, Content
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import MAX_DRAFT, MAX_REQUEST, MAX_TONE, NONCE, REQUEST_ID
from signal_protocol.errors import SignalError

__all__ = [
    "Answered",
    "Assistant",
    "AssistantError",
    "AssistantNotVerified",
    "AssistantRefused",
    "AssistantSilent",
    "AssistantUnreachable",
    "EvidenceRefused",
    "NoAssistant",
    "PolicyDowngraded",
    "ReceiptRefused",
    "Sender",
]

ANSWER_DEADLINE = 30.0  # seconds from request to answer
REAPPRAISE_AFTER = timedelta(hours=6)  # evidence is asked for anew when it is so old
RETRY_AFTER = timedelta(minutes=5)  # between two tries at new evidence while the old one still counts
EVIDENCE_AGE = timedelta(hours=24)  # nothing is sent on older evidence, whatever keeps the new one away

Kind = TypeVar("Kind", bound=ResultKind)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Sender(Protocol):
    """What this module needs of a :class:`messaging.client.Device`."""

    async def send(self, to: ServiceId, content: Content, *, only_to: bytes | None = None) -> None:
        """Deliver ``content`` to every device of ``to``, now or later, if it has the identity key ``only_to`` by then."""

    async def trusted_identity(self, service_id: ServiceId) -> bytes | None:
        """The identity key that messages to ``service_id`` are encrypted to."""

    async def trust(self, service_id: ServiceId, identity_key: bytes) -> None:
        """Accept a new identity key."""


class Assistant:
    """One assistant account, and what this device has proved of it.

    ``policy`` says which machines are accepted; ``collateral`` is what their vendors say, by default what the assistant hands
    on of it (it is signed by them); ``now`` is the clock to judge by.

    Whoever makes one says that the account is an assistant: a new identity key of it is accepted for as long as it takes to ask
    for its evidence. So never make one for an account that may be a person's.
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
        self._verifying = asyncio.Lock()
        self._proved: Proved | None = None
        self._tried_at: datetime | None = None
        self._doubted = False
        self._waiting: dict[bytes, AwaitedAnswer] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End what still runs: nobody waits for it any more."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    # --- trust ---

    @property
    def claims(self) -> Claims | None:
        """What was proved, ``None`` while the assistant is not verified or was not for too long."""
        return None if self._in_force is None else self._in_force.claims

    @property
    def bundle(self) -> Bundle | None:
        """What the last accepted appraisal rested on, for anybody to check again; ``None`` while not verified."""
        return None if self._in_force is None else self._in_force.bundle

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask for evidence: there is none, it has grown old, or it is doubted that anybody is there."""
        proved = self._in_force
        if proved is None:
            return True
        tried_lately = self._tried_at is not None and self._now() - self._tried_at < RETRY_AFTER
        return (self._doubted or self._now() - proved.bundle.time >= REAPPRAISE_AFTER) and not tried_lately

    def set_policy(self, policy: Policy) -> None:
        """Judge by another policy from now on: what was proved under the old one does not count any more."""
        self._policy = policy
        self._proved = None

    def distrust(self) -> None:
        """Forget what was proved."""
        self._proved = None

    def doubt(self) -> None:
        """It may be gone: ask for evidence again soon. Until then what was proved counts."""
        self._doubted = True

    async def verify(self) -> Claims:
        """Ask for evidence with a fresh nonce and appraise it; only then is the assistant trusted.

        What was proved before counts until the answer is there, and no longer if that is refused.

        Raises:
            EvidenceRefused: the evidence failed a check, or speaks for another key than the one we encrypt to.
            AssistantSilent: no answer.
            AssistantRefused: it gives no evidence now.
            AssistantUnreachable: the relay takes nothing for it.
            RelayUnreachable, CredentialsRevoked, Displaced: see ``Device.send``.
        """
        async with self._verifying:
            self._tried_at, self._doubted = self._now(), False
            try:
                self._proved = await self._appraised()
            except EvidenceRefused:
                self._proved = None
                raise
            return self._proved.claims

    async def tell(self, content: Content) -> None:
        """Send something that has no answer: a message of our own, a statement, a roster.

        Raises:
            AssistantNotVerified: see ``verify``; it was not sent.
            AssistantUnreachable: the relay takes nothing for it.
            RelayUnreachable: it goes out later, to the same key or to nobody. See also ``Device.send``.
        """
        proved = self._in_force
        if proved is None:
            raise AssistantNotVerified
        try:
            await self._send(content, proved.claims.identity_key)
        except AssistantNotVerified:
            self._proved = None
            raise

    async def recognize(self) -> None:
        """See that one that was away has come back with the key that it proved: it is sent what needs no answer.

        Raises:
            AssistantNotVerified: it has another key, and so has forgotten all.
            AssistantUnreachable: the relay takes nothing for it.
        """
        if self._in_force is not None:
            with suppress(RelayUnreachable):
                await self.tell(AssistantCall(self._request(Cancel(secrets.token_bytes(REQUEST_ID)), None).encode()))

    async def withdraw(self, identity_key: bytes, content: Content) -> None:
        """Tell an enclave that knows the conversation that consent was withdrawn, whether or not it is trusted now.

        ``identity_key`` is the one that it proved when it was told of the conversation: nobody else hears of this.

        Raises:
            AssistantNotVerified: it has another key now, and so has forgotten all.
            AssistantUnreachable, RelayUnreachable: as for :meth:`tell`.
        """
        await self._send(content, identity_key)

    # --- asking ---

    async def ask(self, kind: RequestKind, *, on_text: Callable[[str], None] | None = None) -> Answered:
        """Ask, wait, and check the receipt. ``on_text`` gets text as the engine writes it, if it does.

        Raises:
            AssistantRefused: it will not.
            AssistantSilent: no answer.
            ReceiptRefused: the answer does not come with a receipt for exactly this request and answer, or its time is not ours.
            AssistantNotVerified: see ``verify``.
            ContentTooLarge: there is no room for what is asked.
            AssistantUnreachable, RelayUnreachable: as for :meth:`tell`.
        """
        proved = self._in_force
        if proved is None:
            raise AssistantNotVerified
        request = self._request(kind, proved.digest)
        encoded = request.encode()
        if len(encoded) > MAX_REQUEST or (isinstance(kind, Rewrite) and not _fits(kind)):
            raise ContentTooLarge
        part = await self._exchange(request.id, AssistantCall(encoded), self.tell, on_text)
        result = read_result(part)
        if isinstance(result.kind, Refusal):
            raise _refused(result.kind)
        receipt = None
        if not isinstance(kind, StatusRequest):
            receipt = check_receipt(proved, kind, encoded, result, part, now=self._now())
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
        awaited = self._waiting.get(content.request_id)
        if awaited is None:
            return False
        awaited.take(content)
        return True

    # --- evidence ---

    @property
    def _in_force(self) -> Proved | None:
        """What was proved, unless it is too old, or from a time that has not come yet."""
        proved = self._proved
        if proved is None or not timedelta(0) <= self._now() - proved.bundle.time < EVIDENCE_AGE:
            return None
        return proved

    async def _appraised(self) -> Proved:
        nonce = secrets.token_bytes(NONCE)
        request = self._request(EvidenceRequest(nonce), None)
        part = await self._exchange(request.id, AssistantCall(request.encode()), self._send_to_whoever_it_is, None)
        kind = read_result(part).kind
        if isinstance(kind, Refusal):
            raise _refused(kind)
        if not isinstance(kind, Evidence):
            raise EvidenceRefused("syntax", "the answer is not evidence")
        while True:
            policy = self._policy
            judged = await asyncio.to_thread(self._judge, nonce, kind, policy)
            trusted = await self._device.trusted_identity(self.service_id)
            if policy is self._policy:  # or another one came meanwhile, and judges anew
                break
        if isinstance(judged, EvidenceRefused):
            raise judged
        if trusted is None or not hmac.compare_digest(trusted, judged.claims.identity_key):
            raise EvidenceRefused("identity key", "the evidence speaks for another key than the one we encrypt to")
        return judged

    def _judge(self, nonce: bytes, evidence: Evidence, policy: Policy) -> Proved | EvidenceRefused:
        now = self._now().replace(microsecond=0)  # as the bundle says it, so that to judge it again gives the same
        try:
            collateral = self._collateral_for(evidence)
            claims = appraise(evidence.document, nonce=nonce, policy=policy, collateral=collateral, now=now)
        except AttestationError as error:
            return EvidenceRefused(error.check, str(error))
        return Proved(
            claims, Bundle(nonce, now, evidence.document, collateral), hashlib.sha256(evidence.document).digest()
        )

    def _collateral_for(self, evidence: Evidence) -> Collateral:
        if self._collateral != NO_COLLATERAL or not evidence.collateral:
            return self._collateral
        return Collateral.read(decode(evidence.collateral, limit=MAX_BUNDLE))

    # --- sending ---

    def _request(self, kind: RequestKind, evidence: bytes | None) -> AssistantRequest:
        deadline = round(self._deadline * 1000)
        return AssistantRequest(secrets.token_bytes(REQUEST_ID), kind, evidence, deadline=deadline)

    async def _exchange(
        self,
        request_id: bytes,
        call: AssistantCall,
        send: Callable[[Content], Coroutine[Any, Any, None]],
        on_text: Callable[[str], None] | None,
    ) -> AnswerPart:
        awaited = AwaitedAnswer(asyncio.get_running_loop().create_future(), on_text)
        self._waiting[request_id] = awaited
        try:
            async with asyncio.timeout(self._deadline):
                await send(call)
                return await awaited.done
        except TimeoutError:
            self._cancel(request_id)
            raise AssistantSilent from None
        except asyncio.CancelledError:
            self._cancel(request_id)
            raise
        finally:
            del self._waiting[request_id]
            awaited.done.cancel()

    def _cancel(self, request_id: bytes) -> None:
        """Tell the enclave that nobody waits any more; it does not matter whether it hears."""

        async def cancel() -> None:
            request = self._request(Cancel(request_id), None)
            with suppress(ClientError, SignalError):
                await self.tell(AssistantCall(request.encode()))

        task = asyncio.ensure_future(cancel())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _send(self, content: Content, identity_key: bytes) -> None:
        """To this key and no other, whoever comes to be trusted while it is on its way."""
        try:
            await self._device.send(self.service_id, content, only_to=identity_key)
        except IdentityChanged:
            raise AssistantNotVerified from None
        except (UnknownRecipient, RelayRefused):
            raise AssistantUnreachable from None

    async def _send_to_whoever_it_is(self, request: Content) -> None:
        """A nonce tells nothing, so it may go to a key that has yet to prove itself.

        But a key that has come to be trusted while it was on its way is a person's, who has written under it: that one stays.
        """
        known = await self._device.trusted_identity(self.service_id)
        try:
            try:
                await self._device.send(self.service_id, request)
            except IdentityChanged as changed:
                self._proved = None
                if await self._device.trusted_identity(self.service_id) != known:
                    raise
                await self._device.trust(self.service_id, changed.identity_key)
                await self._device.send(self.service_id, request)
        except (IdentityChanged, UnknownRecipient, RelayRefused):
            raise AssistantUnreachable from None


def _refused(refusal: Refusal) -> AssistantRefused:
    return AssistantRefused(refusal.code, None if refusal.retry_after is None else refusal.retry_after / 1000)


def _fits(rewrite: Rewrite) -> bool:
    return len(rewrite.draft.encode()) <= MAX_DRAFT and len(rewrite.tone) <= MAX_TONE


def _of(kind: type[Kind], answered: Answered) -> Kind:
    if not isinstance(answered.result.kind, kind):
        raise AssistantRefused(RefusalCode.MALFORMED)
    return answered.result.kind

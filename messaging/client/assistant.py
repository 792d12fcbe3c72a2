"""An assistant, from the side of a member: verify where it runs, then share, ask and wait.

Until the evidence of the assistant has been appraised for its identity key, this module sends it nothing but a nonce.
When the key changes, as it does when the enclave restarts, the assistant counts as unverified again.
"""

import asyncio
import hmac
import secrets
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

from attestation import NO_COLLATERAL, AttestationError, Claims, Collateral, Policy, appraise
from attestation.bundle import Bundle
from messaging.client.errors import ClientError, IdentityChanged
from messaging.wire.content import (
    AssistantAnswer,
    AssistantRequest,
    ConsentUpdate,
    Content,
    DataMessage,
    Evidence,
    EvidenceRequest,
    Refusal,
    Replies,
    Scope,
    SuggestReplies,
    Summarize,
    Summary,
)
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import NONCE, REQUEST_ID

ANSWER_DEADLINE = 30.0  # seconds from request to answer


def _utc_now() -> datetime:
    return datetime.now(UTC)


class AssistantError(ClientError):
    """The assistant did not do what was asked; nothing of the conversation was lost."""


class EvidenceRefused(AssistantError):
    """The assistant could not prove where it runs; ``check`` names the check that failed."""

    def __init__(self, check: str, reason: str) -> None:
        super().__init__(f"the assistant's evidence was refused ({check}): {reason}")
        self.check = check


class AssistantNotVerified(AssistantError):
    """The assistant has not been verified, or has a new identity key since: call ``verify`` first."""

    def __init__(self) -> None:
        super().__init__("the assistant is not verified under its present identity key; it may have restarted")


class AssistantSilent(AssistantError):
    """No answer within the deadline: the enclave is down, busy, or cut off by the relay."""

    def __init__(self) -> None:
        super().__init__("the assistant did not answer in time: its enclave may be down or restarting")


class AssistantRefused(AssistantError):
    """The assistant answered that it will not; ``code`` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the assistant refused: {code}")
        self.code = code


class Sender(Protocol):
    """What this module needs of a :class:`messaging.client.Device`."""

    async def send(self, to: ServiceId, content: Content) -> None:
        """Deliver ``content`` to every device of ``to``."""

    async def trusted_identity(self, service_id: ServiceId) -> bytes | None:
        """The identity key that messages to ``service_id`` are encrypted to."""

    async def trust(self, service_id: ServiceId, identity_key: bytes) -> None:
        """Accept a new identity key."""


class Assistant:
    """One assistant account, and what this device has proved of it.

    ``policy`` says which machines are accepted, ``collateral`` is what their vendors say, ``now`` the clock to judge by.
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
        self._claims: Claims | None = None
        self._bundle: Bundle | None = None
        self._waiting: dict[bytes, asyncio.Future[AssistantAnswer]] = {}

    @property
    def claims(self) -> Claims | None:
        """What was proved, ``None`` while the assistant is not verified."""
        return self._claims

    @property
    def bundle(self) -> Bundle | None:
        """What the last accepted appraisal rested on, for anybody to check again; ``None`` before there was one."""
        return self._bundle

    async def verify(self) -> Claims:
        """Ask for evidence with a fresh nonce and appraise it; only then is the assistant trusted.

        Raises:
            EvidenceRefused: the evidence failed a check, or speaks for another key than the one we encrypt to.
            AssistantSilent: no answer.
        """
        self._claims = None
        nonce = secrets.token_bytes(NONCE)
        answer = await self._ask(EvidenceRequest(nonce), self._send_to_whoever_it_is)
        if not isinstance(answer, Evidence):
            raise EvidenceRefused("syntax", "the answer is not evidence")
        now = self._now()
        try:
            claims = appraise(answer.document, nonce=nonce, policy=self._policy, collateral=self._collateral, now=now)
        except AttestationError as error:
            raise EvidenceRefused(error.check, str(error)) from error
        if not await self._encrypts_to(claims):
            raise EvidenceRefused("identity key", "the evidence speaks for another key than the one we encrypt to")
        self._claims = claims
        self._bundle = Bundle(nonce, now.replace(microsecond=0), answer.document, self._collateral)
        return claims

    async def announce(self, consent: ConsentUpdate) -> None:
        """Tell the assistant what this author decided.

        Raises:
            AssistantNotVerified: see ``verify``.
        """
        await self._send(consent)

    async def share(self, message: DataMessage) -> None:
        """Let the assistant have one of our own messages.

        Raises:
            AssistantNotVerified: see ``verify``; the message was not sent to it.
        """
        await self._send(message)

    async def summarize(self, scope: Scope) -> Summary:
        """Ask for a summary of ``scope``.

        Raises:
            AssistantError: not verified, silent, or it refused.
        """
        answer = await self._ask(Summarize(scope), self._send)
        if not isinstance(answer, Summary):
            raise AssistantRefused("unexpected_answer")
        return answer

    async def suggest_replies(self, scope: Scope, count: int = 3) -> Replies:
        """Ask for up to ``count`` replies that we could send now.

        Raises:
            AssistantError: not verified, silent, or it refused.
        """
        answer = await self._ask(SuggestReplies(scope, count), self._send)
        if not isinstance(answer, Replies):
            raise AssistantRefused("unexpected_answer")
        return answer

    def receive(self, sender: ServiceId, content: Content) -> bool:
        """Take what arrived if it is an answer that we wait for; says whether it was."""
        if sender != self.service_id or not isinstance(content, AssistantAnswer):
            return False
        waiting = self._waiting.get(content.id)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(content)
        return True

    async def _ask(
        self,
        kind: EvidenceRequest | Summarize | SuggestReplies,
        send: Callable[[Content], Coroutine[Any, Any, None]],
    ) -> Evidence | Summary | Replies:
        request = AssistantRequest(secrets.token_bytes(REQUEST_ID), kind)
        answered: asyncio.Future[AssistantAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = answered
        try:
            async with asyncio.timeout(self._deadline):
                await send(request)
                answer = await answered
        except TimeoutError:
            raise AssistantSilent from None
        finally:
            del self._waiting[request.id]
        if isinstance(answer.kind, Refusal):
            raise AssistantRefused(answer.kind.code)
        return answer.kind

    async def _send(self, content: Content) -> None:
        async with self._trusting:  # no other key may come to be trusted between looking and sending
            await self._send_verified(content)

    async def _send_verified(self, content: Content) -> None:
        if self._claims is None or not await self._encrypts_to(self._claims):
            self._claims = None
            raise AssistantNotVerified
        try:
            await self._device.send(self.service_id, content)
        except IdentityChanged:
            self._claims = None
            raise AssistantNotVerified from None

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

"""Several assistants: which there are, which of them this device has verified, and which one a conversation goes to.

The relay's directory is a hint: it says whom to ask for evidence, and who is probably there. Among those that prove themselves, a
conversation goes to the one with the greatest hash (rendezvous hashing, Thaler and Ravishankar 1996), so that all members of one
conversation come to the same one without talking about it, and a lost one moves its own conversations only.
"""

import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from attestation import NO_COLLATERAL, Collateral, Policy
from messaging.client.assistant import (
    ANSWER_DEADLINE,
    Assistant,
    AssistantError,
    AssistantNotVerified,
    AssistantRefused,
    AssistantSilent,
    EvidenceRefused,
    Sender,
)
from messaging.client.errors import ClientError
from messaging.wire.assistants import ListedAssistant
from messaging.wire.content import Content
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import ServiceId

DIRECTORY_AGE = 30.0  # seconds for which the directory is believed
DIRECTORY_AGE_TO_ASK = 2.0  # the same for who asks, and would wait long for an answer of one that is gone
DOWN_SECONDS = 60.0  # for which an assistant that was silent, or is about to stop, is left alone
REFUSED_SECONDS = 600.0  # for which one whose evidence was refused is left alone
MAX_ASSISTANTS = 64  # of a directory; a relay that lists more is not believed further
_RENDEZVOUS = b"subrosa rendezvous v1\x00"


class NoAssistant(AssistantError):
    """No assistant can be used now; ``refusals`` says of each that was asked what was wrong with it."""

    def __init__(self, refusals: Iterable[AssistantError] = ()) -> None:
        self.refusals = tuple(refusals)
        reasons = "; ".join(dict.fromkeys(str(refusal) for refusal in self.refusals))
        super().__init__(f"no assistant can be used now: {reasons or 'none is connected to the relay'}")


def rank(conversation_id: bytes, assistants: Iterable[ServiceId]) -> list[ServiceId]:
    """The order in which a conversation (its id) goes to ``assistants``: the first that can be used is the one."""

    def weight(assistant: ServiceId) -> bytes:
        return hashlib.sha256(_RENDEZVOUS + conversation_id + assistant.to_bytes()).digest()

    return sorted(set(assistants), key=weight, reverse=True)


@dataclass(slots=True)
class _Known:
    """One listed assistant: what this device has proved of it, and until when (monotonic seconds) it is left alone, and why."""

    assistant: Assistant
    left_until: float = 0.0
    reason: AssistantError | None = None


@dataclass(slots=True)
class Assistants:
    """All assistants of one relay, from the side of one device."""

    device: Sender
    directory: Callable[[], Awaitable[tuple[ListedAssistant, ...]]]
    policy: Policy
    collateral: Collateral = NO_COLLATERAL
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    deadline: float = ANSWER_DEADLINE
    _known: dict[ServiceId, _Known] = field(default_factory=dict)
    _listed: tuple[ServiceId, ...] = ()
    _listed_at: float = -math.inf  # monotonic seconds

    def set_policy(self, policy: Policy) -> None:
        """Judge all by another policy: when a release was revoked, or accepted. Nothing proved before counts any more."""
        self.policy = policy
        for known in self._known.values():
            known.assistant.set_policy(policy)
            known.left_until, known.reason = 0.0, None

    def get(self, service_id: ServiceId) -> Assistant:
        """One of them, verified or not."""
        return self._get(service_id).assistant

    def look_again(self) -> None:
        """The directory has probably changed."""
        self._listed_at = -math.inf

    async def choose(self, conversation_id: bytes, *, directory_age: float = DIRECTORY_AGE) -> Assistant:
        """The assistant for a conversation, verified; those that cannot prove themselves are passed over.

        ``directory_age`` is for how many seconds the directory is believed.

        Raises:
            NoAssistant: there is none.
        """
        refusals: list[AssistantError] = []
        for known in [self._get(each) for each in rank(conversation_id, await self._candidates(directory_age))]:
            if self.monotonic() < known.left_until:
                refusals.extend([known.reason] if known.reason is not None else [])
                continue
            try:
                if known.assistant.is_due:
                    await known.assistant.verify()
            except AssistantError as error:
                self.leave(known.assistant, error)
                refusals.append(error)
                continue
            return known.assistant
        raise NoAssistant(refusals)

    def ready(self, conversation_id: bytes) -> Assistant | None:
        """The assistant for a conversation as far as is known, without asking anybody; ``None`` if it is not verified now."""
        for each in rank(conversation_id, self._listed):
            known = self._get(each)
            if self.monotonic() >= known.left_until:
                return known.assistant if known.assistant.claims is not None else None
        return None

    def leave(self, assistant: Assistant, why: AssistantError) -> None:
        """Leave one alone for a while: the longer, the less waiting helps."""
        known = self._get(assistant.service_id)
        seconds = REFUSED_SECONDS if isinstance(why, EvidenceRefused) else DOWN_SECONDS
        known.left_until, known.reason = self.monotonic() + seconds, why
        self.look_again()

    def receive(self, sender: ServiceId, content: Content) -> bool:
        """Take what arrived if it belongs to an answer that one of ours waits for; says whether it did."""
        known = self._known.get(sender)
        return known is not None and known.assistant.receive(sender, content)

    def identity_changed(self, service_id: ServiceId) -> bool:
        """An account has other keys; says whether it is an assistant. It has restarted, so it is asked for evidence at once."""
        known = self._known.get(service_id)
        if known is None:
            return False
        known.assistant.distrust()
        known.left_until, known.reason = 0.0, None
        return True

    async def _candidates(self, age: float) -> tuple[ServiceId, ...]:
        """Those of the directory that say they are there; what was listed last, while the relay does not answer."""
        if self.monotonic() >= self._listed_at + age:
            try:
                listed = (await self.directory())[:MAX_ASSISTANTS]
                self._listed = tuple(
                    ServiceId.parse(each.service_id) for each in listed if each.online and each.accepting
                )
            except (ClientError, MalformedField):
                pass
            self._listed_at = self.monotonic()
        return self._listed

    def _forget_strangers(self) -> None:
        """A relay that lists ever new assistants fills no memory."""
        self._known = {
            service_id: known
            for service_id, known in self._known.items()
            if service_id in self._listed or known.assistant.claims is not None
        }

    def _get(self, service_id: ServiceId) -> _Known:
        known = self._known.get(service_id)
        if known is None:
            assistant = Assistant(
                self.device,
                service_id,
                self.policy,
                collateral=self.collateral,
                now=self.now,
                deadline=self.deadline,
            )
            known = self._known[service_id] = _Known(assistant)
        return known


def is_worth_another(error: AssistantError) -> bool:
    """Whether another assistant may do what this one did not."""
    if isinstance(error, AssistantRefused):
        return error.code in {"draining", "no_evidence", "engine_failed"}
    return isinstance(error, AssistantSilent)


def has_forgotten(error: AssistantError) -> bool:
    """Whether the same assistant will do it once it is verified, and told about the conversation, again."""
    if isinstance(error, AssistantRefused):
        return error.code in {"unknown_evidence", "not_opted_in"}
    return isinstance(error, AssistantNotVerified)

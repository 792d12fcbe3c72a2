"""Several assistants: which there are, which of them this device has verified, and which one a conversation goes to.

The relay's directory is a hint: it says whom to ask for evidence, and who is probably there. Among those that prove themselves, a
conversation goes to the one with the greatest hash (rendezvous hashing, Thaler and Ravishankar 1996), so that all members of one
conversation come to the same one without talking about it, and a lost one moves its own conversations only.

A directory that lies costs little: an account that is a person's is never treated as an assistant, who does not answer is left
alone, longer each time, and new names are looked at in small numbers.
"""

import asyncio
import hashlib
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from attestation import NO_COLLATERAL, Collateral, Policy
from messaging.client.assistant import ANSWER_DEADLINE, Assistant, Sender
from messaging.client.assistant_accounts import Accounts, UnsafeAnyAccount
from messaging.client.assistant_errors import (
    AssistantError,
    AssistantNotVerified,
    AssistantRefused,
    AssistantSilent,
    AssistantUnreachable,
    EvidenceRefused,
    NoAssistant,
)
from messaging.client.errors import ClientError
from messaging.wire.assistant import RefusalCode
from messaging.wire.assistants import ListedAssistant
from messaging.wire.content import Content
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import IdentityKind, ServiceId

T = TypeVar("T")

__all__ = ["Assistants", "NoAssistant", "has_forgotten", "is_worth_another", "rank"]

DIRECTORY_AGE = 30.0  # seconds for which the directory is believed
DIRECTORY_AGE_TO_ASK = 2.0  # the same for who asks, and would wait long for an answer of one that is gone
GONE_SECONDS = 2.0  # between two looks, while an answer is waited for, whether who is to give it is still connected
GONE_LOOKS = 2  # one after the other at which it is not: a relay that restarts has nobody for a moment
DOWN_SECONDS = 60.0  # for which one that was silent, or is about to stop, is left alone; twice as long each time
REFUSED_SECONDS = 600.0  # for which one whose evidence was refused is left alone; nobody is left alone for longer
MAX_ASSISTANTS = 64  # of a directory; a relay that lists more is not believed further
MAX_TRIES = 3  # assistants that fail while one is chosen, before that is given up for now
MAX_STRANGERS = 64  # assistants that are asked for the first time within STRANGERS_SECONDS
STRANGERS_SECONDS = 3600.0
_RENDEZVOUS = b"subrosa rendezvous v1\x00"


def rank(conversation_id: bytes, assistants: Iterable[ServiceId]) -> list[ServiceId]:
    """The order in which a conversation (its id) goes to ``assistants``: the first that can be used is the one."""

    def weight(assistant: ServiceId) -> bytes:
        return hashlib.sha256(_RENDEZVOUS + conversation_id + assistant.to_bytes()).digest()

    return sorted(set(assistants), key=weight, reverse=True)


@dataclass(slots=True)
class _Known:
    """One listed assistant: what this device has proved of it, and since and until when (monotonic seconds) it is left alone."""

    assistant: Assistant
    asked: bool = False
    left_at: float = -math.inf
    left_until: float = -math.inf
    reason: AssistantError | None = None
    failures: int = 0  # one after the other
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def leave(self, now: float, why: AssistantError) -> None:
        """Leave it alone for a while: the longer, the less waiting helps. Many who fail at the same time count once."""
        if now >= self.left_until or isinstance(why, EvidenceRefused):
            self.left_at, self.left_until, self.reason = now, now + self._seconds(why), why
            self.failures = min(self.failures + 1, 10)

    def _seconds(self, why: AssistantError) -> float:
        if isinstance(why, EvidenceRefused):
            return REFUSED_SECONDS
        if isinstance(why, AssistantRefused) and why.retry_after is not None:
            return min(why.retry_after, REFUSED_SECONDS)  # it knows best
        return min(DOWN_SECONDS * 2.0**self.failures, REFUSED_SECONDS)

    def welcome(self) -> None:
        """Ask it again at once."""
        self.left_until, self.reason = -math.inf, None

    def left_for(self, now: float) -> AssistantError | None:
        """Why it is left alone now; ``None`` if it is not."""
        return self.reason if now < self.left_until else None


@dataclass(slots=True)
class Assistants:
    """All assistants of one relay, from the side of one device.

    ``accounts`` says whom of the directory to treat as an assistant; ``Chats`` sets it to what its store knows.
    """

    device: Sender
    directory: Callable[[], Awaitable[tuple[ListedAssistant, ...]]]
    policy: Policy
    collateral: Collateral = NO_COLLATERAL
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    deadline: float = ANSWER_DEADLINE
    accounts: Accounts = field(default_factory=UnsafeAnyAccount)
    _known: dict[ServiceId, _Known] = field(default_factory=dict)
    _listed: frozenset[ServiceId] = frozenset()
    _online: frozenset[ServiceId] = frozenset()  # connected, whether they take new requests or not
    _listed_at: float = -math.inf  # monotonic seconds
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _strangers: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_STRANGERS))  # when each was asked first

    async def close(self) -> None:
        """End what still runs."""
        await asyncio.gather(*(known.assistant.close() for known in self._known.values()))

    def set_policy(self, policy: Policy) -> None:
        """Judge all by another policy: when a release was revoked, or accepted. Nothing proved before counts any more."""
        self.policy = policy
        for known in self._known.values():
            known.assistant.set_policy(policy)
            known.welcome()

    def get(self, service_id: ServiceId) -> Assistant:
        """One of them, verified or not."""
        return self._get(service_id).assistant

    # --- choosing ---

    @property
    def is_stale(self) -> bool:
        """Whether it is time to look into the directory again."""
        return self.monotonic() >= self._listed_at + DIRECTORY_AGE

    def look_again(self) -> None:
        """The directory has probably changed."""
        self._listed_at = -math.inf

    async def choose(
        self, conversation_id: bytes, *, directory_age: float = DIRECTORY_AGE, silent_before: float = -math.inf
    ) -> Assistant:
        """The assistant for a conversation, verified; those that cannot prove themselves are passed over.

        ``directory_age`` is for how many seconds the directory is believed. Those that are left alone since before
        ``silent_before`` (monotonic seconds) because they were silent are asked again before there is none: who restarts
        quickly is never seen to be away.

        Raises:
            NoAssistant: there is none.
            RelayUnreachable, CredentialsRevoked, Displaced: nobody can be asked; see ``Device.send``.
        """
        await self._look(directory_age)
        try:
            return await self._first(conversation_id)
        except NoAssistant:
            if not (silent := self._silent(silent_before)):
                raise
        for known in silent:
            known.welcome()
        return await self._first(conversation_id)

    async def _first(self, conversation_id: bytes) -> Assistant:
        refusals: list[AssistantError] = []
        failed = 0
        for service_id in rank(conversation_id, self._listed):
            known = self._get(service_id)
            left = known.left_for(self.monotonic())
            if left is None:
                try:
                    return await self._check(known)
                except AssistantError as error:
                    left, failed = error, failed + 1
            refusals.append(left)
            if failed == MAX_TRIES:
                break
        raise NoAssistant(refusals)

    def _silent(self, before: float) -> list[_Known]:
        """Those that are left alone for their silence, since before then."""
        return [
            known
            for known in map(self._get, self._listed)
            if known.left_at < before and isinstance(known.reason, AssistantSilent | AssistantUnreachable)
        ]

    def ready(self, conversation_id: bytes) -> Assistant | None:
        """The assistant for a conversation as far as is known, without asking anybody; ``None`` if it is not verified now."""
        for service_id in rank(conversation_id, self._listed):
            known = self._get(service_id)
            if known.left_for(self.monotonic()) is None:
                return known.assistant if known.assistant.claims is not None else None
        return None

    def leave(self, assistant: Assistant, why: AssistantError) -> None:
        """Leave one alone for a while, and see who else is there."""
        self._get(assistant.service_id).leave(self.monotonic(), why)
        self.look_again()

    async def while_there(self, assistant: Assistant, exchange: Coroutine[Any, Any, T]) -> T:
        """What comes of an ``exchange`` with one, unless it goes away meanwhile: then nobody waits for its whole deadline.

        Raises:
            AssistantSilent: it is not connected any more, as the directory says. Whoever lists nobody could as well drop messages.
            AssistantNotVerified: it was away and is back with other keys, so that it cannot read what it was asked.
        """
        asked, missed = asyncio.ensure_future(exchange), 0
        try:
            while not asked.done():
                await asyncio.wait([asked], timeout=GONE_SECONDS)
                if asked.done():
                    break
                was_missed, missed = missed, 0 if await self._is_connected(assistant) else missed + 1
                if missed == GONE_LOOKS:
                    raise AssistantSilent
                if was_missed and not missed:
                    await assistant.recognize()
            return await asked
        finally:
            if not asked.done():
                asked.cancel()
                await asyncio.wait([asked])

    async def _is_connected(self, assistant: Assistant) -> bool:
        """As the directory said last: as long as the relay does not answer, there is no news of the assistant."""
        await self._look(GONE_SECONDS)
        return assistant.service_id in self._online

    # --- what arrives ---

    def receive(self, sender: ServiceId, content: Content) -> bool:
        """Take what arrived if it belongs to an answer that one of ours waits for; says whether it did."""
        known = self._known.get(sender)
        return known is not None and known.assistant.receive(sender, content)

    def identity_changed(self, service_id: ServiceId) -> bool:
        """An account has other keys; says whether it is an assistant. It has restarted, so it is asked for evidence at once."""
        known = self._known.get(service_id)
        if known is None or not known.asked:
            return False
        known.assistant.distrust()
        known.welcome()
        return True

    # --- inside ---

    async def _check(self, known: _Known) -> Assistant:
        """Verify one if it is time to; whoever else wants it meanwhile waits for the same result.

        Raises:
            AssistantError: it cannot be used now, and is left alone.
        """
        async with known.checking:
            if (left := known.left_for(self.monotonic())) is not None:
                raise left
            try:
                await self._meet(known)
                if known.assistant.is_due:
                    await self._verify(known.assistant)
                    await self.accounts.note_proved(known.assistant.service_id)
            except AssistantError as error:
                self.leave(known.assistant, error)
                raise
            known.failures = 0
            return known.assistant

    async def _meet(self, known: _Known) -> None:
        """Before an account is asked for the first time."""
        if not await self.accounts.admit(known.assistant.service_id):
            raise EvidenceRefused("account", "the relay lists somebody who is no assistant")
        if not known.asked:
            now = self.monotonic()
            if len(self._strangers) == MAX_STRANGERS and now < self._strangers[0] + STRANGERS_SECONDS:
                raise EvidenceRefused("directory", "the relay lists ever new assistants")
            self._strangers.append(now)
            known.asked = True

    async def _verify(self, assistant: Assistant) -> None:
        """What was proved before counts on while an assistant that is there has no time to prove it again."""
        try:
            await self.while_there(assistant, assistant.verify())
        except AssistantRefused as refused:
            if assistant.claims is None or refused.code == RefusalCode.DRAINING:
                raise

    async def _look(self, age: float) -> None:
        """Into the directory, if what it said is older than ``age`` seconds; that stays while the relay does not answer."""
        async with self._looking:
            if self.monotonic() < self._listed_at + age:
                return
            self._listed_at = self.monotonic()  # before asking: who says meanwhile to look again is heard
            try:
                listed = _valid(await self.directory())
            except ClientError:
                return
            self._online = _some(service_id for service_id, each in listed if each.online)
            self._take(_some(service_id for service_id, each in listed if each.online and each.accepting))

    def _take(self, listed: frozenset[ServiceId]) -> None:
        for service_id in listed - self._listed:
            known = self._known.get(service_id)
            if known is not None and not isinstance(known.reason, EvidenceRefused):
                known.welcome()  # it was away, and is back
        self._listed = listed
        self._forget_strangers()

    def _forget_strangers(self) -> None:
        """A relay that lists ever new assistants fills no memory."""
        self._known = {
            service_id: known
            for service_id, known in self._known.items()
            if service_id in self._listed or known.assistant.claims is not None or known.checking.locked()
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
        return error.code in {RefusalCode.DRAINING, RefusalCode.NO_EVIDENCE, RefusalCode.ENGINE_FAILED}
    return isinstance(error, AssistantSilent | AssistantUnreachable)


def has_forgotten(error: AssistantError) -> bool:
    """Whether the same assistant will do it once it is verified, and told about the conversation, again."""
    if isinstance(error, AssistantRefused):
        return error.code in {RefusalCode.UNKNOWN_EVIDENCE, RefusalCode.NOT_OPTED_IN}
    return isinstance(error, AssistantNotVerified)


def _valid(listed: Iterable[ListedAssistant]) -> list[tuple[ServiceId, ListedAssistant]]:
    """Those that can be accounts."""
    found = []
    for each in listed:
        with suppress(MalformedField):
            found.append((ServiceId.parse(each.service_id), each))
    return [(service_id, each) for service_id, each in found if service_id.kind is IdentityKind.ACI]


def _some(service_ids: Iterable[ServiceId]) -> frozenset[ServiceId]:
    """Of too many the same ones whatever their order, so that members agree."""
    return frozenset(sorted(set(service_ids))[:MAX_ASSISTANTS])

"""The story: a cast registers, talks, opts in, verifies an enclave, asks it, and looks at what the server holds.

It decides what happens and in which order, and gathers facts; showing them belongs to ``demo.terminal``.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Protocol, TypeVar

from attestation import AttestationError, Claims, Policy, UnsafeAcceptSimulated, appraise
from attestation.bundle import Bundle
from messaging.client import ClientError, Relay
from messaging.client.assistant import Answered, AssistantRefused
from messaging.client.receipt_checks import ReceiptAppraisal, assess_receipt
from messaging.client.receipts import ReceiptFile
from messaging.demo.cast import Member, a_member
from messaging.demo.chat_file import Chat, ChatMessage
from messaging.demo.findings import Findings, search_server
from messaging.demo.services import (
    ASSISTANTS,
    Enclaves,
    Folders,
    reference_release,
    running_enclaves,
    running_relay,
)
from messaging.wire.assistant import Coverage, Replies, Result, Status, Summary
from messaging.wire.identifiers import MessageId, ServiceId
from signal_protocol.errors import SignalError
from signal_protocol.operations import SignalCrypto

MAX_CAST = 8  # devices on one machine; the people who wrote most
MAX_PLAYED = 500  # messages; the last ones, since an enclave keeps no more of a conversation
STEP_DEADLINE = 120.0  # seconds for any one step of the story
REPLIES = 3
PAUSES = 0.5, 3.0  # seconds between what the cast says after the story, at least and at most
FIRST_NUMBER = 4_915_550_000_000  # no telephone has these numbers


class StoryFailed(Exception):
    """The story cannot go on; says what happened and what to do."""


class Narrator(Protocol):
    """Who shows progress, from entry to exit."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    def step(self, what: str) -> None:
        """Something begins that may take a moment."""

    def progress(self, done: int, total: int) -> None:
        """So much of the step is done."""


@dataclass(frozen=True, slots=True)
class Script:
    """What is played: the messages, who opts in, and who asks the assistant."""

    messages: tuple[ChatMessage, ...] = field(repr=False)
    cast: tuple[str, ...]
    opted_in: frozenset[str]
    requester: str
    skipped: int  # messages of the file that are not played

    @property
    def not_opted_in(self) -> tuple[str, ...]:
        """Who keeps the assistant out."""
        return tuple(name for name in self.cast if name not in self.opted_in)


@dataclass(frozen=True, slots=True)
class Shown:
    """One receipt, judged as ``subrosa verify`` does: its file, and every step."""

    file: ReceiptFile
    appraisal: ReceiptAppraisal
    claims: Claims


@dataclass(frozen=True, slots=True)
class Refusals:
    """What was refused, and in which words: by a strict policy, by the own device, by the enclave."""

    strict_policy: str
    not_opted_in: str  # empty if everybody has opted in
    no_writer: str


@dataclass(frozen=True, slots=True)
class Moved:
    """One enclave was stopped as for an upgrade: which it was, which answers now, and how much that one knows."""

    stopped: str
    coverage: Coverage
    after: Coverage  # when there was something new


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that the story found out."""

    script: Script
    url: str
    claims: Claims
    bundle: Bundle  # what these claims rest on
    refusals: Refusals
    summary: Summary
    speaker: Result  # the result that the summary came in: it names the engine
    questions: Summary
    actions: Summary
    replies: Replies
    receipt: Shown
    status: Status
    moved: Moved
    names: dict[ServiceId, str] = field(repr=False)
    texts: dict[MessageId, str] = field(repr=False)
    messages_sent: int
    messages_delivered: int
    findings: Findings
    seconds: dict[str, float]

    @property
    def went_well(self) -> bool:
        """Whether everything was as it must be: all delivered, nothing readable, the simulation refused when asked, a receipt."""
        return (
            self.messages_delivered == self.messages_sent
            and not self.findings.places
            and self.findings.control_found
            and bool(self.refusals.strict_policy and self.refusals.no_writer)
            and not self.receipt.appraisal.errors
            and self.moved.after.used > 0
        )


def write_script(chat: Chat, *, without: Sequence[str] = (), requester: str | None = None) -> Script:
    """Choose cast, consent and requester for ``chat``; the same chat gives the same script.

    ``without`` names who does not opt in; by default it is the quietest of three or more people. The requester is by
    default the person with most messages who opted in and has not just spoken.

    Raises:
        StoryFailed: fewer than two people, a name that is not in the chat, or a requester who has not opted in.
    """
    if len(chat.authors) < 2:
        raise StoryFailed("A conversation needs at least two people; this chat has one.")
    counts = Counter(message.author for message in chat.messages)
    cast = tuple(sorted((name for name, _ in counts.most_common(MAX_CAST)), key=chat.authors.index))
    for name in (*without, *([requester] if requester else [])):
        if name not in cast:
            raise StoryFailed(f"Not in the cast. It is: {', '.join(cast)}.")
    played = tuple(message for message in chat.messages if message.author in cast)[-MAX_PLAYED:]
    quiet = set(without) or ({min(cast, key=lambda name: counts[name])} if len(cast) > 2 else set())
    opted_in = frozenset(cast) - quiet
    shared = [message.author for message in played if message.author in opted_in]
    if not shared:
        raise StoryFailed("Nobody is left whose messages the assistant may have.")
    if requester is None:
        candidates = [name for name in cast if name in opted_in and name != shared[-1]] or [shared[-1]]
        requester = max(candidates, key=lambda name: counts[name])
    elif requester not in opted_in:
        raise StoryFailed("Only somebody who has opted in may ask the assistant.")
    return Script(played, cast, opted_in, requester, skipped=len(chat.messages) - len(played))


@asynccontextmanager
async def play(
    script: Script, folders: Folders, narrator: Narrator, *, port: int = 0, go_on: bool = False
) -> AsyncIterator[Outcome]:
    """Play the story; yields what came out while everything still runs, and stops it all afterwards.

    With ``go_on`` the cast talks on meanwhile, so that there is something to watch.

    Raises:
        StoryFailed, ServiceFailed, ClientError, SignalError: it could not be played to its end.
    """
    clock = _Clock()
    async with AsyncExitStack() as stack:
        with narrator:
            narrator.step("Starting the relay")
            _, url = await stack.enter_async_context(running_relay(folders, port))
            clock.lap("relay_ready")
            narrator.step("Starting two enclaves: loading the model, making their keys")
            measuring = asyncio.create_task(reference_release())
            crypto = await stack.enter_async_context(SignalCrypto.start())
            enclaves = await stack.enter_async_context(running_enclaves(folders, url))
            policy = Policy(name="the story's", releases=(await measuring,)).weakened_by(UnsafeAcceptSimulated)
            clock.lap("enclaves_ready")
            relay = await stack.enter_async_context(Relay(url, ca_file=folders.ca))
            story = _Story(script, folders, narrator, clock, relay, crypto, policy, enclaves)
            outcome = await story.tell(stack, url)
        if go_on:
            talking = asyncio.create_task(story.talk_on())
            stack.callback(talking.cancel)
        yield outcome


@dataclass(slots=True)
class _Clock:
    """How long each part took, in seconds."""

    started: float = field(default_factory=time.monotonic)
    laps: dict[str, float] = field(default_factory=dict)

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self.started - sum(self.laps.values()), 2)


@dataclass(slots=True)
class _Story:
    script: Script
    folders: Folders
    narrator: Narrator
    clock: _Clock
    relay: Relay
    crypto: SignalCrypto
    policy: Policy
    enclaves: Enclaves
    cast: dict[str, Member] = field(default_factory=dict)

    async def talk_on(self) -> None:
        """Say it all again, a message every now and then, until cancelled."""
        for message in cycle(self.script.messages):
            await asyncio.sleep(random.uniform(*PAUSES))  # noqa: S311 - no secret
            with suppress(ClientError, SignalError):  # a part may be killed to see what happens
                await self.cast[message.author].write(message.text)

    async def tell(self, stack: AsyncExitStack, url: str) -> Outcome:
        cast = self.cast = await self._assemble(stack)
        requester = cast[self.script.requester]
        names = {member.service_id: member.name for member in cast.values()}
        await self._meet(cast)
        await self._consent(cast)
        self.clock.lap("registration_and_consent")
        await self._talk(cast)
        self.clock.lap("talking")
        self.narrator.step(f"{requester.name} asks the assistant: summary, questions, actions, replies")
        summary, questions, actions, replies = await requester.ask(names, REPLIES)
        status = await requester.chats.status(requester.conversation.key)
        self.clock.lap("assistant")
        shown = await self._show_receipt(requester, summary)
        refusals = await self._refusals(cast, summary.bundle)
        texts = requester.texts
        moved = await self._upgrade(requester, names)
        self.clock.lap("receipt_refusals_and_upgrade")
        self.narrator.step("Searching everything that the server holds for every message")
        said = [message.text for message in self.script.messages]
        findings = await asyncio.to_thread(search_server, self.folders.server, said, ASSISTANTS[0])
        self.clock.lap("search")
        others = len(self.script.cast) - 1
        return Outcome(
            script=self.script,
            url=url,
            claims=shown.claims,
            bundle=summary.bundle,
            refusals=refusals,
            summary=answer_of(summary, Summary),
            speaker=summary.result,
            questions=answer_of(questions, Summary),
            actions=answer_of(actions, Summary),
            replies=answer_of(replies, Replies),
            receipt=shown,
            status=answer_of(status, Status),
            moved=moved,
            names=names,
            texts=texts,
            messages_sent=len(self.script.messages) * others,
            messages_delivered=sum(min(member.delivered, self._expected(member)) for member in cast.values()),
            findings=findings,
            seconds=dict(self.clock.laps),
        )

    def _expected(self, member: Member) -> int:
        """How many messages of others there are to read, without what was written after the story's chat."""
        return sum(message.author != member.name for message in self.script.messages)

    async def _assemble(self, stack: AsyncExitStack) -> dict[str, Member]:
        """A device for everybody in the cast."""
        self.narrator.step(
            f"Registering {len(self.script.cast)} devices: identities, post-quantum prekeys, verification"
        )
        cast: dict[str, Member] = {}
        for place, name in enumerate(self.script.cast):
            number = f"+{FIRST_NUMBER + place}"
            member = a_member(
                name,
                number=number,
                code=lambda number=number: self._code_for(number),  # type: ignore[misc]  # mypy: defaulted lambda
                folder=self.folders.clients,
                relay=self.relay,
                crypto=self.crypto,
                policy=self.policy,
            )
            cast[name] = await stack.enter_async_context(member)
            self.narrator.progress(place + 1, len(self.script.cast))
        return cast

    def _code_for(self, number: str) -> str:
        """The last code that was sent to ``number``: the demo's text messages are a file."""
        sent = [json.loads(line) for line in self.folders.codes.read_text().splitlines()]
        return next(str(entry["code"]) for entry in reversed(sent) if entry["number"] == number)

    async def _meet(self, cast: dict[str, Member]) -> None:
        self.narrator.step("Founding the conversation, which the relay never learns of")
        founder, *others = cast.values()
        everybody = tuple(member.service_id for member in cast.values())
        await founder.chats.create("demo", everybody)
        await _all_reach(others, lambda member: member.is_in_conversation)

    async def _consent(self, cast: dict[str, Member]) -> None:
        """Each author verifies the enclave alone, with a nonce of their own, before it gets anything."""
        self.narrator.step("Those who opt in verify the enclave first, each with a fresh nonce")
        willing = [cast[name] for name in self.script.cast if name in self.script.opted_in]
        for done, member in enumerate(willing, start=1):
            await member.chats.opt_in(member.conversation.key)
            self.narrator.progress(done, len(willing))
        expected = frozenset(member.service_id for member in willing)
        await _all_reach(cast.values(), lambda member: member.sees_opted_in() == expected)

    async def _talk(self, cast: dict[str, Member]) -> None:
        self.narrator.step(f"Playing {len(self.script.messages)} messages, end-to-end encrypted")
        for done, message in enumerate(self.script.messages, start=1):
            await cast[message.author].write(message.text)
            self.narrator.progress(done, len(self.script.messages))
        total = len(self.script.messages)
        await _all_reach(cast.values(), lambda member: len(member.texts) == total)

    async def _show_receipt(self, requester: Member, answered: Answered) -> Shown:
        """The receipt as somebody sees it who is shown the file, without what was asked and answered."""
        self.narrator.step("The receipt of the summary is checked offline, as any member named in it could")
        file = await requester.chats.receipt_file(requester.conversation.key, answered)
        bundle = file.bundle
        claims = appraise(
            bundle.evidence, nonce=bundle.nonce, policy=self.policy, collateral=bundle.collateral, now=bundle.time
        )
        return Shown(file, assess_receipt(file.without_content(), claims), claims)

    async def _refusals(self, cast: dict[str, Member], bundle: Bundle) -> Refusals:
        """What is not done, and how that is explained."""
        strict = Policy(releases=self.policy.releases)
        reason = ""
        try:
            appraise(bundle.evidence, nonce=bundle.nonce, policy=strict, collateral=bundle.collateral, now=bundle.time)
        except AttestationError as error:
            reason = f"{error} ({error.check})"
        requester = cast[self.script.requester]
        key = requester.conversation.key
        no_writer = await _refusal(requester.chats.rewrite(key, "see you at nine", "formal"))
        outside = ""
        if self.script.not_opted_in:
            stranger = cast[self.script.not_opted_in[0]]
            outside = await _refusal(stranger.chats.summarize(key, tuple(stranger.texts), {}))
        return Refusals(reason, outside, no_writer)

    async def _upgrade(self, requester: Member, names: dict[ServiceId, str]) -> Moved:
        """The enclave that answered is stopped; the conversation goes on with the other, which begins with nothing."""
        serving = (await requester.assistant()).service_id
        self.narrator.step("The enclave is stopped, as for an upgrade: clients verify the other one and go on")
        stopped = await self.enclaves.drain(str(serving))
        key = requester.conversation.key
        first = await requester.chats.summarize(key, tuple(requester.texts), names)
        await requester.write("The next train to the coast leaves at 17:40 from platform 9.")
        second = await requester.chats.summarize(key, tuple(requester.texts), names)
        return Moved(stopped, answer_of(first, Summary).coverage, answer_of(second, Summary).coverage)


async def _refusal(asking: Coroutine[None, None, Answered]) -> str:
    """In which words something is refused; empty if it is not."""
    try:
        await asking
    except AssistantRefused as refused:
        return str(refused)
    return ""


Kind = TypeVar("Kind")


def answer_of(answered: Answered, kind: type[Kind]) -> Kind:
    """The answer, of the kind that was asked for.

    Raises:
        StoryFailed: it is another.
    """
    if not isinstance(answered.result.kind, kind):
        raise StoryFailed("The assistant answered something else than it was asked.")
    return answered.result.kind


async def _all_reach(members: Iterable[Member], holds: Callable[[Member], bool]) -> None:
    """Wait until ``holds`` is true of every member."""
    try:
        async with asyncio.timeout(STEP_DEADLINE):
            for member in members:
                await member.wait_until(holds)
    except TimeoutError:
        raise StoryFailed("Not everything arrived in time; the relay's log says more.") from None

"""The story: a cast registers, talks, opts in, verifies an enclave, asks it, and looks at what the server holds.

It decides what happens and in which order, and gathers facts; showing them belongs to ``demo.terminal``.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from attestation import Claims, Policy, UnsafeAcceptSimulated
from attestation.bundle import Bundle
from messaging.client import Relay
from messaging.client.conversation import Conversation
from messaging.demo.cast import Member, a_member
from messaging.demo.chat_file import Chat, ChatMessage
from messaging.demo.findings import Findings, search_server
from messaging.demo.services import (
    ASSISTANT,
    Folders,
    Service,
    ServiceFailed,
    reference_release,
    running_enclave,
    running_relay,
)
from messaging.wire.content import MessageId, Replies, Summary
from messaging.wire.identifiers import ServiceId
from signal_protocol.operations import SignalCrypto

MAX_CAST = 8  # devices on one machine; the people who wrote most
MAX_PLAYED = 500  # messages; the last ones, since an enclave keeps no more of a conversation
STEP_DEADLINE = 120.0  # seconds for any one step of the story
REPLIES = 3
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
class Outcome:
    """Everything that the story found out."""

    script: Script
    url: str
    claims: Claims
    bundle: Bundle  # what these claims rest on
    refusal: str  # what the strict policy said to the same evidence
    summary: Summary
    replies: Replies
    names: dict[ServiceId, str] = field(repr=False)
    texts: dict[MessageId, str] = field(repr=False)
    messages_sent: int
    messages_delivered: int
    findings: Findings
    seconds: dict[str, float]

    @property
    def went_well(self) -> bool:
        """Whether everything was as it must be: all delivered, nothing readable, and the simulation refused when asked."""
        return (
            self.messages_delivered == self.messages_sent
            and not self.findings.places
            and self.findings.control_found
            and bool(self.refusal)
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
async def play(script: Script, folders: Folders, narrator: Narrator, *, port: int = 0) -> AsyncIterator[Outcome]:
    """Play the story; yields what came out while everything still runs, and stops it all afterwards.

    Raises:
        StoryFailed, ServiceFailed, ClientError, SignalError: it could not be played to its end.
    """
    clock = _Clock()
    async with AsyncExitStack() as stack:
        with narrator:
            narrator.step("Starting the relay")
            _, url = await stack.enter_async_context(running_relay(folders, port))
            clock.lap("relay_ready")
            narrator.step("Starting the enclave: loading the model, making its keys")
            measuring = asyncio.create_task(reference_release())
            crypto = await stack.enter_async_context(SignalCrypto.start())
            enclave = await stack.enter_async_context(running_enclave(folders, url))
            policy = Policy(name="the story's", releases=(await measuring,)).weakened_by(UnsafeAcceptSimulated)
            clock.lap("enclave_ready")
            relay = await stack.enter_async_context(Relay(url, ca_file=folders.ca))
            story = _Story(script, folders, narrator, clock, relay, crypto, policy)
            outcome = await _or_enclave_ended(story.tell(stack, url), enclave)
        yield outcome


@dataclass(slots=True)
class _Clock:
    """How long each part took, in seconds."""

    started: float = field(default_factory=time.monotonic)
    laps: dict[str, float] = field(default_factory=dict)

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self.started - sum(self.laps.values()), 2)


async def _or_enclave_ended(telling: Coroutine[None, None, Outcome], enclave: Service) -> Outcome:
    """The outcome, or a clear word if the enclave dies before: nothing that it was asked can be answered then."""
    told = asyncio.ensure_future(telling)
    ended = asyncio.ensure_future(enclave.ended())
    try:
        await asyncio.wait((told, ended), return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            return told.result()
        raise ServiceFailed(
            f"the enclave stopped (exit code {ended.result()}). What it remembered is gone, by design: nothing of it was "
            "on a disk. No message between people was lost. Start the story again; "
            f"the enclave's log is {enclave.log}"
        )
    finally:
        for task in (told, ended):
            task.cancel()
        await asyncio.gather(told, ended, return_exceptions=True)


@dataclass(slots=True)
class _Story:
    script: Script
    folders: Folders
    narrator: Narrator
    clock: _Clock
    relay: Relay
    crypto: SignalCrypto
    policy: Policy

    async def tell(self, stack: AsyncExitStack, url: str) -> Outcome:
        cast = await self._assemble(stack)
        await self._meet(cast)
        claims, bundle = await self._consent(cast)
        refusal = await cast[self.script.requester].refusal_under(Policy(releases=self.policy.releases))
        self.clock.lap("registration_and_consent")
        await self._talk(cast)
        self.clock.lap("talking")
        requester = cast[self.script.requester]
        self.narrator.step(f"{requester.name} asks the assistant for a summary and for replies")
        names = {member.service_id: member.name for member in cast.values()}
        summary, replies = await requester.ask(names, REPLIES)
        self.clock.lap("assistant")
        self.narrator.step("Searching everything that the server holds for every message")
        texts = [message.text for message in self.script.messages]
        findings = await asyncio.to_thread(search_server, self.folders.server, texts, ASSISTANT)
        self.clock.lap("search")
        others = len(self.script.cast) - 1
        return Outcome(
            script=self.script,
            url=url,
            claims=claims,
            bundle=bundle,
            refusal=refusal,
            summary=summary,
            replies=replies,
            names=names,
            texts=dict(requester.messages),
            messages_sent=len(self.script.messages) * others,
            messages_delivered=sum(member.delivered for member in cast.values()),
            findings=findings,
            seconds=dict(self.clock.laps),
        )

    async def _assemble(self, stack: AsyncExitStack) -> dict[str, Member]:
        """A device for everybody in the cast."""
        self.narrator.step(
            f"Registering {len(self.script.cast)} devices: identities, post-quantum prekeys, verification"
        )
        assistant = await self._find_assistant()
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
                assistant=assistant,
                policy=self.policy,
            )
            cast[name] = await stack.enter_async_context(member)
            self.narrator.progress(place + 1, len(self.script.cast))
        return cast

    async def _find_assistant(self) -> ServiceId:
        info = await self.relay.server_info()
        for assistant in info.assistants:
            if assistant.name == ASSISTANT:
                return ServiceId.parse(assistant.service_id)
        raise StoryFailed("The relay knows no assistant, although the enclave said that it is ready.")

    def _code_for(self, number: str) -> str:
        """The last code that was sent to ``number``: the demo's text messages are a file."""
        sent = [json.loads(line) for line in self.folders.codes.read_text().splitlines()]
        return next(str(entry["code"]) for entry in reversed(sent) if entry["number"] == number)

    async def _meet(self, cast: dict[str, Member]) -> None:
        self.narrator.step("Founding the conversation, which the relay never learns of")
        founder, *others = cast.values()
        everybody = tuple(member.service_id for member in cast.values())
        await founder.found(Conversation.create("demo", everybody))
        await _all_reach(others, lambda member: member.is_in_conversation)

    async def _consent(self, cast: dict[str, Member]) -> tuple[Claims, Bundle]:
        """Each author verifies the enclave alone, with a nonce of their own, before opting in."""
        self.narrator.step("Those who opt in verify the enclave first, each with a fresh nonce")
        willing = [cast[name] for name in self.script.cast if name in self.script.opted_in]
        for done, member in enumerate(willing, start=1):
            await member.assistant.verify()
            await member.opt_in()
            self.narrator.progress(done, len(willing))
        assistant = willing[0].assistant.service_id
        expected = frozenset(member.service_id for member in willing)
        await _all_reach(cast.values(), lambda member: member.conversation.opted_in(assistant) == expected)
        verified = cast[self.script.requester].assistant
        if verified.claims is None or verified.bundle is None:
            raise StoryFailed("The assistant is not verified any more.")
        return verified.claims, verified.bundle

    async def _talk(self, cast: dict[str, Member]) -> None:
        self.narrator.step(f"Playing {len(self.script.messages)} messages, end-to-end encrypted")
        for done, message in enumerate(self.script.messages, start=1):
            await cast[message.author].write(message.text)
            self.narrator.progress(done, len(self.script.messages))
        total = len(self.script.messages)
        await _all_reach(cast.values(), lambda member: len(member.messages) == total)


async def _all_reach(members: Iterable[Member], holds: Callable[[Member], bool]) -> None:
    """Wait until ``holds`` is true of every member."""
    try:
        async with asyncio.timeout(STEP_DEADLINE):
            for member in members:
                await member.wait_until(holds)
    except TimeoutError:
        raise StoryFailed("Not everything arrived in time; the relay's log says more.") from None

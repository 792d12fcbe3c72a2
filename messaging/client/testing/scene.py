"""A scene: a bot, and people who write to it, in one process. No relay, no keys, no network, and time passes when a test says so."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Self

from messaging.client.bot.bot import WORKERS, Bot
from messaging.client.bot.inbox import ParkedEvent
from messaging.client.conversation import Conversation
from messaging.client.history import ChatMessage
from messaging.client.stores import Store
from messaging.client.stores.sealing import KEY
from messaging.client.stores.sqlite import IN_MEMORY
from messaging.client.testing.account import Disk, MemoryAccount, open_memory_account
from messaging.client.testing.clock import Clock
from messaging.client.testing.relay import MemoryRelay
from messaging.wire.data import Mention
from messaging.wire.identifiers import MessageId, ServiceId

PATIENCE = 10.0  # seconds, by the real clock, that a scene waits for handlers
_LOOK = 0.001  # seconds between two looks


class StillBusy(AssertionError):
    """Handlers have not ended; perhaps one waits for something that does not come."""

    def __init__(self) -> None:
        super().__init__(f"after {PATIENCE:g} seconds a handler still runs, or events still wait for one")


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation as a test sees it."""

    relay: MemoryRelay = field(repr=False)
    key: bytes = field(repr=False)
    bot: ServiceId

    @property
    def state(self) -> Conversation:
        """What it is now."""
        return self.relay.rooms[self.key].conversation

    @property
    def title(self) -> str:
        """What it is called."""
        return self.state.title

    @property
    def messages(self) -> list[ChatMessage]:
        """What was said, by anybody, as it stands now; without what was deleted."""
        return [message for message in self.relay.rooms[self.key].messages.values() if not message.deleted]

    @property
    def texts(self) -> list[str]:
        """The texts of all messages."""
        return [message.text for message in self.messages]

    @property
    def answers(self) -> list[str]:
        """The texts of the bot's messages."""
        return [message.text for message in self.messages if message.id.author == self.bot]

    def reactions(self, to: MessageId) -> dict[ServiceId, str]:
        """The emoji on a message, by who put it there."""
        given = self.relay.rooms[self.key].messages[to].reactions
        return {who: each.emoji for who, each in given.items() if each.emoji}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who does as the test says. What they do has reached the bot's mailbox when it returns."""

    relay: MemoryRelay = field(repr=False)
    id: ServiceId
    name: str

    async def writes(
        self,
        chat: Chat,
        text: str,
        *,
        quote: MessageId | None = None,
        files: Sequence[tuple[str, bytes]] = (),
        mentions: Sequence[Mention] = (),
    ) -> MessageId:
        """Write; ``files`` are names and contents."""
        pointers = [
            self.relay.upload(data, content_type="application/octet-stream", file_name=name) for name, data in files
        ]
        return self.relay.say(self.id, chat.key, text, quote=quote, attachments=pointers, mentions=mentions)

    async def edits(self, chat: Chat, message: MessageId, text: str) -> None:
        """Give an own message another text."""
        self.relay.edit(self.id, chat.key, message, text)

    async def deletes(self, chat: Chat, message: MessageId) -> None:
        """Have an own message forgotten."""
        self.relay.delete(self.id, chat.key, message)

    async def reacts(self, chat: Chat, message: MessageId, emoji: str, *, remove: bool = False) -> None:
        """Put an emoji on a message, or take it back."""
        self.relay.react(self.id, chat.key, message, emoji, remove=remove)

    async def reads(self, chat: Chat) -> None:
        """Read all that is there."""
        self.relay.read(self.id, chat.key, [message.id for message in chat.messages])

    async def types(self, chat: Chat, *, started: bool = True) -> None:
        """Begin to write, or cease."""
        self.relay.type(self.id, chat.key, started=started)

    async def adds(self, chat: Chat, *people: "Person | ServiceId") -> None:
        """Let others in."""
        added = map(_id, people)
        self.relay.change(self.id, chat.key, lambda known: known.changed(members=[*known.members, *added]))

    async def removes(self, chat: Chat, *people: "Person | ServiceId") -> None:
        """Put others out."""
        gone = set(map(_id, people))
        self.relay.change(
            self.id, chat.key, lambda known: known.changed(members=[who for who in known.members if who not in gone])
        )

    async def renames(self, chat: Chat, title: str) -> None:
        """Call a conversation otherwise."""
        self.relay.change(self.id, chat.key, lambda known: known.changed(title=title))

    async def leaves(self, chat: Chat) -> None:
        """Leave a conversation."""
        self.relay.leave(self.id, chat.key)

    def opts_in(self, chat: Chat) -> None:
        """Let the assistant have what this person writes there."""
        self.relay.room(chat.key, self.id).opted_in.add(self.id)

    def sees(self, text: str, chat: Chat | None = None) -> bool:
        """Whether they have got a message with exactly this text, in this conversation or in any."""
        keys = list(self.relay.rooms) if chat is None else [chat.key]
        return any(
            message.text == text and not message.deleted
            for key in keys
            for message in self.relay.messages(self.id, key)
        )


class Scene:
    """A bot that runs until the end of the block.

    ``errors`` holds what its handlers raised, in order. The bot's inbox is a real one, on a store in memory.
    """

    def __init__(self, bot: Bot, *, workers: int = WORKERS, reads_all: bool = False) -> None:
        """``reads_all``: whether the bot gets all that is said in groups; else what is addressed to it."""
        self.bot = bot
        self.clock = Clock()
        self.relay = MemoryRelay(self.clock)
        self.bot_id = self.relay.account(bot.name, bot=True, reads_all=reads_all)
        self.relay.mailbox(self.bot_id)
        self.errors: list[Exception] = []
        self._workers = workers
        self._store_open = AsyncExitStack()
        self._connection = AsyncExitStack()
        self._disk: Disk | None = None
        self._account: MemoryAccount | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        store = await self._store_open.enter_async_context(Store.open(IN_MEMORY, secrets.token_bytes(KEY)))
        self._disk = Disk.of(store)
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self._stop()
        else:
            await self._crash()
        await self._store_open.aclose()

    # --- who is there ---

    def person(self, name: str) -> Person:
        """Somebody new."""
        return Person(self.relay, self.relay.account(name), name)

    def private(self, person: Person) -> Chat:
        """A conversation that somebody begins with the bot alone."""
        return self.group("", person)

    def group(self, title: str, *people: Person, without_bot: bool = False) -> Chat:
        """A conversation that the first of these begins with the others, and with the bot."""
        first, *others = [person.id for person in people]
        members = others if without_bot else [*others, self.bot_id]
        return self.chat(self.relay.begin(first, title, members).conversation.key)

    def chat(self, key: bytes) -> Chat:
        """The conversation that this key names, such as one that the bot has begun."""
        return Chat(self.relay, key, self.bot_id)

    @property
    def chats(self) -> list[Chat]:
        """All of them, in the order in which they were begun."""
        return [self.chat(key) for key in self.relay.rooms]

    @property
    def account(self) -> MemoryAccount:
        """The bot's account, as it is connected now."""
        if self._account is None:
            raise RuntimeError("use the scene inside `async with`")
        return self._account

    async def parked(self) -> list[ParkedEvent]:
        """What the bot has set aside."""
        return await self.account.inbox.parked()

    # --- what happens ---

    async def settled(self) -> bool:
        """Wait until the bot has nothing to do now; says whether all was handled, and nothing failed and waits, or is set aside.

        Raises:
            StillBusy: it has not come to an end.
        """
        await self._until(self._is_quiet)
        inbox = self.account.inbox
        return not inbox.waiting and not inbox.parked_count

    async def passes(self, time: timedelta | float) -> bool:
        """Let time pass, with all that comes in it: retries, timers. A number is seconds. Returns as :meth:`settled`."""
        left = time.total_seconds() if isinstance(time, timedelta) else time
        settled = await self.settled()
        while left > 0:
            change = self.account.inbox.next_change()
            step = left if change is None else min(left, max(change, _LOOK))
            self.clock.advance(step)
            self.account.inbox.wake()
            left -= step
            settled = await self.settled()
        return settled

    async def restart(self, *, gracefully: bool = False) -> None:
        """End the bot's process and start another one: in the middle of what it is doing, or ``gracefully``."""
        if gracefully:
            await self._stop()
        else:
            await self._crash()
        await self._start()

    # --- inside ---

    def _is_quiet(self) -> bool:
        return not self.relay.mailbox(self.bot_id) and self.account.inbox.idle and not self.bot.busy

    async def _until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            if self._serving is not None and self._serving.done():
                self._serving.result()
                raise RuntimeError("the bot has stopped")
            if holds():
                return
            if time.monotonic() > deadline:
                raise StillBusy
            await asyncio.sleep(_LOOK)

    async def _start(self) -> None:
        if self._disk is None:
            raise RuntimeError("use the scene inside `async with`")
        self._connection = AsyncExitStack()
        connected = open_memory_account(self.relay, self.bot_id, self._disk)
        self._account = await self._connection.enter_async_context(connected)
        self._serving = asyncio.create_task(
            self.bot.serve(self._account, workers=self._workers, failed=self.errors.append)
        )
        await self._until(lambda: self.bot.ready)

    async def _stop(self) -> None:
        self.bot.stop()
        if self._serving is not None:
            await self._serving
        await self._connection.aclose()

    async def _crash(self) -> None:
        if self._disk is not None:
            self._disk = await self._disk.pull_the_plug()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        await self._connection.aclose()


def _id(person: Person | ServiceId) -> ServiceId:
    return person.id if isinstance(person, Person) else person

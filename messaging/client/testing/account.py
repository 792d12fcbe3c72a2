"""An account of a bot on a relay in memory: with a real inbox, on a store whose plug can be pulled."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Self

from messaging.client.assistant_errors import AssistantRefused
from messaging.client.bot.inbox import Inbox
from messaging.client.chats import UnknownConversation
from messaging.client.conversation import Conversation
from messaging.client.errors import AttachmentTooLarge, StoreFailed
from messaging.client.events import Event, TypingChanged
from messaging.client.history import ChatMessage
from messaging.client.stores import Store, StoreTransaction
from messaging.client.stores.sealing import Sealer
from messaging.client.testing.relay import MemoryRelay, Room
from messaging.wire.assistant import RefusalCode, Result
from messaging.wire.data import AttachmentPointer, Mention
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import MAX_PROFILE_ABOUT, MAX_PROFILE_NAME

MAX_ONCE = 64  # characters of the name of a message that is said once


class Disk(Store):
    """A store that a crash can cut off: nothing is written any more, and what was committed is there for the next process."""

    def __init__(self, db: sqlite3.Connection, sealer: Sealer) -> None:
        super().__init__(db, sealer)
        self._gone = False

    @classmethod
    def of(cls, store: Store) -> Self:
        """The same records as ``store``, which is not used any more itself."""
        return cls(store._db, store._sealer)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        """As of any store; none begins after the plug was pulled."""
        if self._gone:
            raise StoreFailed
        async with super().transaction() as transaction:
            if self._gone:
                raise StoreFailed
            yield transaction

    async def pull_the_plug(self) -> Self:
        """The process is gone; returns what the next one finds. A commit that is under way comes to its end."""
        self._gone = True
        async with self._lock:
            return self.of(self)


class MemoryAccount:
    """An :class:`~messaging.client.bot.account.Account`. Make it with :func:`open_memory_account`."""

    def __init__(self, relay: MemoryRelay, me: ServiceId, store: Store, inbox: Inbox) -> None:
        self._relay = relay
        self._me = me
        self._store = store
        self._inbox = inbox
        self._hear: Callable[[Event], None] = lambda _: None

    # --- what there is ---

    @property
    def me(self) -> ServiceId:
        """The own account."""
        return self._me

    @property
    def inbox(self) -> Inbox:
        """The events that wait to be handled."""
        return self._inbox

    @property
    def conversations(self) -> Sequence[Conversation]:
        """Those that this account was ever in."""
        seen = (self._relay.seen(key, self._me) for key in self._relay.rooms)
        return [conversation for conversation in seen if conversation is not None]

    def conversation(self, key: bytes) -> Conversation:
        """One of them."""
        seen = self._relay.seen(key, self._me)
        if seen is None:
            raise UnknownConversation
        return seen

    def messages(self, key: bytes) -> Sequence[ChatMessage]:
        """What was said there."""
        return self._relay.messages(self._me, key)

    def on_passing(self, hear: Callable[[Event], None]) -> None:
        """Who hears what is not kept."""
        self._hear = hear

    def name_of(self, who: ServiceId) -> str:
        """What somebody calls themselves."""
        return self._relay.names.get(who, "")

    # --- saying something ---

    async def write(
        self,
        key: bytes,
        text: str,
        *,
        quote: MessageId | None = None,
        attachments: Sequence[AttachmentPointer] = (),
        mentions: Sequence[Mention] = (),
        once: str | None = None,
    ) -> MessageId:
        """Say something, under a name once."""
        if once is not None and not 0 < len(once) <= MAX_ONCE:
            raise ValueError(f"the name of a message that is said once has 1 to {MAX_ONCE} characters")
        with self._doing("write"):
            room = self._room(key)
            if once is not None and (said := self._relay.said_once.get((self._me, once))) is not None:
                return said
            said = self._relay.say(
                self._me, room.conversation.key, text, quote=quote, attachments=attachments, mentions=mentions
            )
            if once is not None:
                self._relay.said_once[self._me, once] = said
            return said

    async def edit(self, key: bytes, message: MessageId, text: str) -> None:
        """Give an own message another text."""
        with self._doing("edit"):
            self._relay.edit(self._me, key, message, text)

    async def delete(self, key: bytes, message: MessageId) -> None:
        """Have an own message forgotten by all."""
        with self._doing("delete"):
            self._relay.delete(self._me, key, message)

    async def react(self, key: bytes, message: MessageId, emoji: str, *, remove: bool = False) -> None:
        """Put an emoji on a message, or take it back."""
        with self._doing("react"):
            self._relay.react(self._me, key, message, emoji, remove=remove)

    async def typing(self, key: bytes, *, started: bool = True) -> None:
        """Show that something is being written."""
        with self._doing("typing"):
            self._relay.type(self._me, key, started=started)

    async def mark_read(self, key: bytes, messages: Iterable[MessageId]) -> None:
        """Tell the authors that their messages were read."""
        with self._doing("mark_read"):
            self._relay.read(self._me, key, messages)

    # --- files ---

    async def upload(self, source: Path | bytes, *, content_type: str, file_name: str = "") -> AttachmentPointer:
        """Keep a file."""
        data = source if isinstance(source, bytes) else await asyncio.to_thread(source.read_bytes)
        with self._doing("upload"):
            return self._relay.upload(data, content_type=content_type, file_name=file_name)

    async def download(self, pointer: AttachmentPointer, to: Path) -> None:
        """Write a file, which appears when it is whole."""
        with self._doing("download"):
            data = self._relay.file(pointer)
        unfinished = to.with_name(f".{to.name}.part")
        await asyncio.to_thread(unfinished.write_bytes, data)
        await asyncio.to_thread(unfinished.replace, to)

    async def read(self, pointer: AttachmentPointer, *, most: int) -> bytes:
        """A small file into memory."""
        with self._doing("read"):
            data = self._relay.file(pointer)
            if len(data) > most:
                raise AttachmentTooLarge
            return data

    # --- conversations ---

    async def create(self, title: str, members: Iterable[ServiceId], *, once: str | None = None) -> Conversation:
        """Begin a conversation, under a name once; this account is its only admin."""
        with self._doing("create"):
            begun = self._relay.begun_once
            if once is not None and (key := begun.get((self._me, once))) is not None:
                return self.conversation(key)
            conversation = self._relay.begin(self._me, title, members, [self._me]).conversation
            if once is not None:
                begun[self._me, once] = conversation.key
            return conversation

    async def set_title(self, key: bytes, title: str) -> None:
        """Change the title."""
        with self._doing("set_title"):
            self._relay.change(self._me, key, lambda known: known.changed(title=title))

    async def set_members(self, key: bytes, members: Iterable[ServiceId]) -> None:
        """Change who is in."""
        with self._doing("set_members"):
            self._relay.change(self._me, key, lambda known: known.changed(members=[self._me, *members]))

    async def set_admins(self, key: bytes, admins: Iterable[ServiceId]) -> None:
        """Change who may change the conversation."""
        with self._doing("set_admins"):
            self._relay.change(self._me, key, lambda known: known.changed(admins=admins))

    async def set_expiry(self, key: bytes, seconds: int) -> None:
        """For how long messages are kept when they were read."""
        with self._doing("set_expiry"):
            self._relay.change(self._me, key, lambda known: known.changed(expires_in=seconds))

    async def leave(self, key: bytes) -> None:
        """Leave a conversation."""
        with self._doing("leave"):
            self._relay.leave(self._me, key)

    async def set_profile(self, name: str, about: str = "") -> None:
        """What this account wants to be called."""
        if len(name) > MAX_PROFILE_NAME or len(about) > MAX_PROFILE_ABOUT:
            raise ValueError("a name or a description is too long")
        with self._doing("set_profile"):
            self._relay.names[self._me] = name

    # --- the assistant ---

    async def opt_in(self, key: bytes) -> None:
        """Let the assistant read along."""
        with self._doing("opt_in"):
            self._room(key).opted_in.add(self._me)

    async def opt_out(self, key: bytes) -> None:
        """Have the assistant forget what it has."""
        with self._doing("opt_out"):
            self._room(key).opted_in.discard(self._me)

    async def summarize(self, key: bytes, messages: Iterable[MessageId]) -> Result:
        """Ask for a summary."""
        with self._doing("summarize"):
            if self._me not in self._room(key).opted_in:
                raise AssistantRefused(RefusalCode.NOT_OPTED_IN)
            return self._relay.ask(self._me, key, messages)

    # --- inside ---

    async def receive(self) -> None:
        """Take what arrives, for ever. What the store does not take stays with the relay."""
        mailbox = self._relay.mailbox(self._me)
        while True:
            self._relay.mail.clear()
            try:
                while mailbox:
                    await self._take(mailbox[0])
                    mailbox.popleft()
            except StoreFailed:
                await asyncio.sleep(0.01)  # the relay asks again
            else:
                await self._relay.mail.wait()

    async def _take(self, event: Event) -> None:
        if isinstance(event, TypingChanged):
            self._hear(event)
            return
        async with self._store.transaction() as transaction:
            self._inbox.journal(transaction, event)

    @contextmanager
    def _doing(self, operation: str) -> Iterator[None]:
        self._relay.trouble(operation)
        yield
        self._relay.trouble(operation, after=True)

    def _room(self, key: bytes) -> Room:
        return self._relay.room(key, self._me)


@asynccontextmanager
async def open_memory_account(relay: MemoryRelay, me: ServiceId, store: Store) -> AsyncIterator[MemoryAccount]:
    """Connected until the end of the block. ``store`` holds its inbox."""
    clock = relay.clock
    inbox = await Inbox.open(store, now=clock.now, monotonic=clock.seconds, random=lambda: 1.0)
    relay.mailbox(me)
    account = MemoryAccount(relay, me, store, inbox)
    receiving = asyncio.create_task(account.receive())
    try:
        yield account
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        await inbox.close()

"""What a bot does with its conversations: say things, send files, change who is in, set timers, ask the assistant.

What a handler says is named by its event and a counter. So when it is run again, after an error or a crash, what it has said
already is not said twice, as long as it says the same number of things in the same order before it; ``once=False`` says it again.
"""

import asyncio
import mimetypes
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from messaging.client.bot.account import Account
from messaging.client.bot.timers import TimerDue
from messaging.client.chats import UnknownMessage
from messaging.client.conversation import Conversation
from messaging.client.errors import ClientError
from messaging.client.history import ChatMessage
from messaging.wire.assistant import Result
from messaging.wire.data import AttachmentPointer, Mention
from messaging.wire.identifiers import MessageId, ServiceId

MOST_NAME = 200  # bytes of a file's name: file systems have 255, and what tells two of one name apart is added
TYPING_SECONDS = 5.0  # until it is shown again that something is being written
MOST_READ = 16 * 1024 * 1024  # bytes of an attachment that are read into memory, unless more are asked for
LAST = 100  # messages that are summarized, unless another number is asked for


class Run:
    """One run of handlers for an event: names what they say."""

    def __init__(self, event_id: str, mark: str = ".") -> None:
        self._names = f"{event_id}{mark}"
        self._count = 0

    def next_name(self) -> str:
        """Another one each time; the same ones in the next run."""
        self._count += 1
        return f"{self._names}{self._count}"


RUN: ContextVar[Run | None] = ContextVar("subrosa bot run", default=None)


def next_name() -> str | None:
    """What the next thing is called that a handler does; ``None`` outside of handlers."""
    run = RUN.get()
    return None if run is None else run.next_name()


def _name(once: bool) -> str | None:
    name = next_name()  # also where it is not used: what follows is to be called the same
    return name if once else None


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody. ``name`` is what they call themselves; empty if they have not said."""

    id: ServiceId
    name: str = field(default="", repr=False)


Who = Person | ServiceId | str
"""Somebody, or their service id, as text too."""


def id_of(who: Who) -> ServiceId:
    """Their service id.

    Raises:
        MalformedField: a text that is none.
    """
    if isinstance(who, str):
        return ServiceId.parse(who)
    return who.id if isinstance(who, Person) else who


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message. Name and type are the sender's word: :attr:`safe_name` is fit for a file system."""

    account: Account = field(repr=False)
    pointer: AttachmentPointer = field(repr=False)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.pointer.size

    @property
    def file_name(self) -> str:
        """As the sender calls it."""
        return self.pointer.file_name

    @property
    def content_type(self) -> str:
        """As the sender says."""
        return self.pointer.content_type

    @property
    def safe_name(self) -> str:
        """The same without folders and unusual characters, and never hidden."""
        name = re.sub(r"[^\w. -]", "_", re.split(r"[/\\]", self.file_name)[-1]).lstrip(". ")
        return name.encode()[:MOST_NAME].decode(errors="ignore") or "file"

    async def download(self, to: Path | str) -> Path:
        """To this path, or into this folder; it appears there when it is whole and proved.

        A file at the path is replaced. In a folder nothing is, because its name is for the sender to say: what comes is called by its
        :attr:`safe_name`, or nearly so if something is there under that name.

        Returns:
            Where it is.
        """
        path = Path(to)
        if not await asyncio.to_thread(path.is_dir):
            await self.account.download(self.pointer, path)
            return path
        whole = (
            path / f".{sha256(self.pointer.digest).hexdigest()[:32]}.whole"
        )  # the same in the next try, which goes on with it
        await self.account.download(self.pointer, whole)
        return _moved(whole, path / self.safe_name)

    async def read(self, *, most: int = MOST_READ) -> bytes:
        """Into memory, if it has at most ``most`` bytes."""
        return await self.account.read(self.pointer, most=most)


@dataclass(frozen=True, slots=True)
class SentMessage:
    """Something that the bot has said."""

    conversation: "BotConversation"
    id: MessageId

    async def edit(self, text: str) -> None:
        """Give it another text."""
        await self.conversation.account.edit(self.conversation.key, self.id, text)

    async def delete(self) -> None:
        """Have it forgotten by all."""
        with suppress(UnknownMessage):  # it is forgotten already
            await self.conversation.account.delete(self.conversation.key, self.id)

    async def react(self, emoji: str) -> None:
        """Put an emoji on it."""
        await self.conversation.account.react(self.conversation.key, self.id, emoji)


@dataclass(frozen=True, slots=True)
class BotConversation:
    """A conversation that the bot is in. ``key`` names it, and is a secret of its members."""

    account: Account = field(repr=False)
    key: bytes = field(repr=False)

    @property
    def state(self) -> Conversation:
        """All that is known of it.

        Raises:
            UnknownConversation: the bot is in no such conversation.
        """
        return self.account.conversation(self.key)

    @property
    def title(self) -> str:
        """What it is called."""
        return self.state.title

    @property
    def members(self) -> list[Person]:
        """Who is in it, the bot included."""
        return [Person(who, self.account.name_of(who)) for who in self.state.members]

    @property
    def private(self) -> bool:
        """Whether nobody is there but the bot and one person."""
        return len(self.state.members) == 2

    @property
    def messages(self) -> Sequence[ChatMessage]:
        """What was said and is still known."""
        return self.account.messages(self.key)

    # --- saying something ---

    async def send(
        self,
        text: str,
        *,
        attachments: Sequence[AttachmentPointer] = (),
        mentions: Sequence[Mention] = (),
        once: bool = True,
    ) -> SentMessage:
        """Say something."""
        return await self.write(text, None, attachments, mentions, once)

    async def send_file(
        self,
        source: Path | str | bytes,
        text: str = "",
        *,
        file_name: str | None = None,
        content_type: str | None = None,
        once: bool = True,
    ) -> SentMessage:
        """Encrypt, upload and send a file, or bytes. What is not said of it is guessed from its name."""
        pointer = await upload(self.account, source, file_name=file_name, content_type=content_type)
        return await self.write(text, None, [pointer], (), once)

    async def write(
        self,
        text: str,
        quote: MessageId | None,
        attachments: Sequence[AttachmentPointer],
        mentions: Sequence[Mention],
        once: bool,
    ) -> SentMessage:
        """Say something, with all that it may carry."""
        name, write = _name(once), self.account.write
        try:
            said = await write(self.key, text, quote=quote, attachments=attachments, mentions=mentions, once=name)
        except UnknownMessage:  # what was to be quoted has been deleted meanwhile
            said = await write(self.key, text, attachments=attachments, mentions=mentions, once=name)
        return SentMessage(self, said)

    @asynccontextmanager
    async def typing(self) -> AsyncIterator[None]:
        """Show until the end of the block that something is being written."""
        showing = asyncio.create_task(self._show_typing())
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            with suppress(ClientError):
                await self.account.typing(self.key, started=False)

    async def _show_typing(self) -> None:
        while True:
            with suppress(ClientError):
                await self.account.typing(self.key, started=True)
            await asyncio.sleep(TYPING_SECONDS)

    # --- what it is ---

    async def set_title(self, title: str) -> None:
        """Call it otherwise; for admins."""
        if title != self.title:
            await self.account.set_title(self.key, title)

    async def set_members(self, members: Iterable[Who]) -> None:
        """Change who is in, besides the bot; for admins."""
        wanted = dict.fromkeys([self.account.me, *map(id_of, members)])
        if set(wanted) != set(self.state.members):
            await self.account.set_members(self.key, wanted)

    async def add(self, *members: Who) -> None:
        """Let people in; for admins."""
        await self.set_members([*self.state.members, *members])

    async def remove(self, *members: Who) -> None:
        """Put people out; for admins."""
        gone = set(map(id_of, members))
        await self.set_members([who for who in self.state.members if who not in gone])

    async def set_admins(self, admins: Iterable[Who]) -> None:
        """Change who may change it; for admins."""
        await self.account.set_admins(self.key, [id_of(who) for who in admins])

    async def set_expiry(self, after: timedelta | float) -> None:
        """How long messages that follow are kept when they have been read, 0 for ever; for admins. A number is seconds."""
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        await self.account.set_expiry(self.key, round(seconds))

    async def leave(self) -> None:
        """Leave it."""
        await self.account.leave(self.key)

    # --- later ---

    async def later(
        self, when: datetime | timedelta | float, name: str, data: str = "", *, key: str | None = None
    ) -> str:
        """Have the handler ``@bot.timer(name)`` called with ``data`` at a time, or after a while; also after a restart.

        Args:
            when: a time with its zone, or how long from now; a number is seconds.
            key: names this timer. Another one with the same key takes its place; without one it has a key of its own, and comes once
                however often the handler is run that sets it.

        Returns:
            The key, for ``bot.cancel``.

        Raises:
            ValueError: a time without a zone, or beyond a limit of ``bot.timers``.
        """
        inbox = self.account.inbox
        at = _milliseconds(when, inbox.now)
        by_itself = next_name() if key is None else None
        named = key or by_itself or secrets.token_hex(16)
        await inbox.schedule(TimerDue(self.key, self.account.me, at, named, name, data, once=by_itself is not None))
        return named

    # --- the assistant ---

    async def opt_in(self) -> None:
        """Let the assistant have what the bot writes here, which asking it needs; all members are told."""
        await self.account.opt_in(self.key)

    async def opt_out(self) -> None:
        """Let the assistant have nothing more of the bot, and have it drop what it holds; all members are told."""
        await self.account.opt_out(self.key)

    async def summarize(self, *, last: int = LAST) -> Result:
        """What was said, of the ``last`` messages those whose authors have opted in. Evidence of the assistant is checked.

        Raises:
            AssistantRefused: the bot has not opted in.
            AssistantError: no assistant can be used now.
        """
        if last < 1:
            raise ValueError("at least one message is summarized")
        said = [message.id for message in self.messages if not message.deleted]
        return await self.account.summarize(self.key, said[-last:])


def _moved(file: Path, to: Path) -> Path:
    """Give a file its name, or one like it that nothing has."""
    wanted = to
    while True:
        try:
            to.touch(mode=0o600, exist_ok=False)  # unlike a link, every file system has this
        except FileExistsError:
            to = wanted.with_stem(f"{wanted.stem}-{secrets.token_hex(4)}")
        else:
            return file.replace(to)


async def upload(
    account: Account, source: Path | str | bytes, *, file_name: str | None = None, content_type: str | None = None
) -> AttachmentPointer:
    """Encrypt and upload a file, or bytes."""
    given = source if isinstance(source, bytes) else Path(source)
    name = file_name if file_name is not None else ("" if isinstance(given, bytes) else given.name)
    guessed = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return await account.upload(given, content_type=guessed, file_name=name)


def _milliseconds(when: datetime | timedelta | float, now: int) -> int:
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValueError("a time needs its zone, as in datetime.now(UTC)")
        return round(when.timestamp() * 1000)
    return now + round(1000 * (when.total_seconds() if isinstance(when, timedelta) else when))

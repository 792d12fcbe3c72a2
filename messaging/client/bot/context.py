"""What handlers get: the event, the conversation that it happened in, and what can be done about it."""

import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from messaging.client.bot.account import Account
from messaging.client.bot.conversations import Attachment, BotConversation, Person, SentMessage
from messaging.client.bot.inbox import MAX_ATTEMPTS
from messaging.client.bot.router import Call
from messaging.client.bot.timers import TimerDue
from messaging.client.chats import UnknownMessage
from messaging.client.events import (
    ConversationChanged,
    Event,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    MessagesRead,
    Reacted,
    TypingChanged,
)
from messaging.wire.data import AttachmentPointer, Mention
from messaging.wire.identifiers import MessageId

E = TypeVar("E", bound=Event)
_LATEST = 253_402_300_799_000  # milliseconds since 1970: the last second that a datetime has


class EventContext(Generic[E]):
    """An event that is being handled. ``attempt`` counts from 1."""

    def __init__(self, account: Account, event: E, attempt: int = 1) -> None:
        self.account = account
        self.event = event
        self.attempt = attempt
        self.conversation = BotConversation(account, event.conversation)

    @property
    def id(self) -> str:
        """Names the event, the same in each attempt: for what is not to be done twice outside of the conversation."""
        return self.event.id

    @property
    def sender(self) -> Person:
        """Who did it."""
        return Person(self.event.sender, self.account.name_of(self.event.sender))

    @property
    def time(self) -> datetime:
        """When, by the sender's clock; of a time that is later than a ``datetime`` can be, the latest."""
        return datetime.fromtimestamp(min(self.event.timestamp, _LATEST) / 1000, UTC)

    @property
    def is_last_attempt(self) -> bool:
        """Whether the event is set aside if this attempt fails."""
        return self.attempt >= MAX_ATTEMPTS

    async def send(self, text: str, *, once: bool = True) -> SentMessage:
        """Say something in the conversation."""
        return await self.conversation.send(text, once=once)


class MessageContext(EventContext[MessageReceived]):
    """A message. ``command`` and ``arguments`` are set for who handles a command, ``match`` for who asked for a pattern."""

    def __init__(
        self,
        account: Account,
        event: MessageReceived,
        attempt: int = 1,
        call: Call | None = None,
        match: "re.Match[str] | None" = None,
    ) -> None:
        super().__init__(account, event, attempt)
        self.command = "" if call is None else call.command
        self.arguments = "" if call is None else call.arguments
        self.match = match

    @property
    def text(self) -> str:
        """What it says."""
        return self.event.text

    @property
    def message_id(self) -> MessageId:
        """Names the message in its conversation."""
        return self.event.message

    @property
    def attachments(self) -> list[Attachment]:
        """Its files."""
        return [Attachment(self.account, pointer) for pointer in self.event.attachments]

    @property
    def mentions_me(self) -> bool:
        """Whether it names the bot."""
        return any(mention.who == self.account.me for mention in self.event.mentions)

    async def reply(
        self,
        text: str,
        *,
        quote: bool | None = None,
        attachments: Sequence[AttachmentPointer] = (),
        mentions: Sequence[Mention] = (),
        once: bool = True,
    ) -> SentMessage:
        """Answer in the conversation. With ``quote`` it shows what is answered, which it does by itself where others are, too."""
        shows = not self.conversation.private if quote is None else quote
        quoted = self.message_id if shows else None
        return await self.conversation.write(text, quoted, attachments, mentions, once)

    async def react(self, emoji: str, *, remove: bool = False) -> None:
        """Put an emoji on it, or take it back."""
        with suppress(UnknownMessage):  # it has been deleted meanwhile
            await self.account.react(self.conversation.key, self.message_id, emoji, remove=remove)

    async def read(self) -> None:
        """Tell its author that it was read."""
        await self.account.mark_read(self.conversation.key, [self.message_id])

    def typing(self) -> AbstractAsyncContextManager[None]:
        """Show until the end of the block that something is being written."""
        return self.conversation.typing()


class EditContext(EventContext[MessageEdited]):
    """Somebody gave their message another text."""

    @property
    def text(self) -> str:
        """The new one."""
        return self.event.text

    @property
    def message_id(self) -> MessageId:
        """The message, which keeps its name."""
        return self.event.message


class DeletionContext(EventContext[MessageDeleted]):
    """Somebody wants their message forgotten."""

    @property
    def message_id(self) -> MessageId:
        """Which one."""
        return self.event.message


class ReactionContext(EventContext[Reacted]):
    """Somebody put an emoji on a message, or took it back."""

    @property
    def emoji(self) -> str:
        """Which one."""
        return self.event.emoji

    @property
    def removed(self) -> bool:
        """Whether it was taken back."""
        return self.event.removed

    @property
    def message_id(self) -> MessageId:
        """The message that it is on."""
        return self.event.message

    @property
    def to_me(self) -> bool:
        """Whether the bot wrote that."""
        return self.event.message.author == self.account.me


class ChangeContext(EventContext[ConversationChanged]):
    """A conversation has begun or changed."""

    @property
    def joined(self) -> list[Person]:
        """Who has come."""
        return [Person(who, self.account.name_of(who)) for who in self.event.joined]

    @property
    def left(self) -> list[Person]:
        """Who has gone."""
        return [Person(who, self.account.name_of(who)) for who in self.event.left]

    @property
    def settings(self) -> bool:
        """Whether title, roles, bots or the time for which messages are kept are others now."""
        return self.event.settings


class ReadContext(EventContext[MessagesRead]):
    """Somebody has read what the bot wrote."""

    @property
    def messages(self) -> tuple[MessageId, ...]:
        """Which ones."""
        return self.event.messages


class TypingContext(EventContext[TypingChanged]):
    """Somebody begins or ceases to write. It is told once, and never again."""

    @property
    def started(self) -> bool:
        """Which of the two."""
        return self.event.started


class TimerContext(EventContext[TimerDue]):
    """A time has come that the bot has set for itself."""

    @property
    def name(self) -> str:
        """What is to be done."""
        return self.event.name

    @property
    def data(self) -> str:
        """What was noted for it."""
        return self.event.data

    @property
    def key(self) -> str:
        """Names this timer."""
        return self.event.key


_CONTEXTS: dict[type[Event], type[EventContext[Any]]] = {
    MessageEdited: EditContext,
    MessageDeleted: DeletionContext,
    Reacted: ReactionContext,
    ConversationChanged: ChangeContext,
    MessagesRead: ReadContext,
    TypingChanged: TypingContext,
    TimerDue: TimerContext,
}


def context_of(
    account: Account, event: Event, attempt: int, call: Call | None = None, match: "re.Match[str] | None" = None
) -> EventContext[Any]:
    """What a handler of this event gets."""
    if isinstance(event, MessageReceived):
        return MessageContext(account, event, attempt, call, match)
    return _CONTEXTS[type(event)](account, event, attempt)

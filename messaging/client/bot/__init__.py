"""Bots: programs with an account, in a few lines of Python."""

from messaging.client.bot.bot import Bot, NotRunning
from messaging.client.bot.context import (
    ChangeContext,
    DeletionContext,
    EditContext,
    EventContext,
    MessageContext,
    ReactionContext,
    ReadContext,
    TimerContext,
    TypingContext,
)
from messaging.client.bot.conversations import Attachment, BotConversation, Person, SentMessage

__all__ = [
    "Attachment",
    "Bot",
    "BotConversation",
    "ChangeContext",
    "DeletionContext",
    "EditContext",
    "EventContext",
    "MessageContext",
    "NotRunning",
    "Person",
    "ReactionContext",
    "ReadContext",
    "SentMessage",
    "TimerContext",
    "TypingContext",
]

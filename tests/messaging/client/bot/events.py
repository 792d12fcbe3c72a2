"""Events for tests, and inboxes with a clock that a test sets."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from messaging.client.bot.inbox import Inbox
from messaging.client.events import Event, MessageReceived
from messaging.client.stores import Store
from messaging.client.testing import Clock
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import MASTER_KEY

KEY = b"\x22" * 32
ANN = ServiceId(UUID(int=8))


def a_conversation() -> bytes:
    """The key of a new one."""
    return secrets.token_bytes(MASTER_KEY)


def a_message(conversation: bytes, number: int, text: str = "") -> MessageReceived:
    """The message with this number in a conversation."""
    return MessageReceived(conversation, ANN, 1_750_000_000_000 + number, text or f"message {number}")


@asynccontextmanager
async def a_store(path: Path | str = ":memory:") -> AsyncIterator[Store]:
    """A store."""
    async with Store.open(path, KEY) as store:
        yield store


async def an_inbox(store: Store, clock: Clock) -> Inbox:
    """The inbox of a store; pauses are as long as they may be."""
    return await Inbox.open(store, now=clock.now, monotonic=clock.seconds, random=lambda: 1.0)


async def tell(store: Store, inbox: Inbox, *events: Event) -> None:
    """Journal these, each in a transaction of its own."""
    for event in events:
        async with store.transaction() as transaction:
            inbox.journal(transaction, event)

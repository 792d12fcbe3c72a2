"""Notices between processes, over the publish and subscribe of Redis or Valkey.

One channel a mailbox, ``subrosa:mailbox:{ID}``; commands up to Redis 7.0. Within the process notices go directly, so
that without Redis only sockets of other processes wait, and only until ``delivery.watch`` looks. Publishing happens in
the background: a send never waits for Redis.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from messaging.relay.delivery.wakeups import (
    ConnectedElsewhere,
    CredentialsReplaced,
    Listener,
    LocalWakeups,
    MailArrived,
    Notice,
    PrekeysRunLow,
)
from messaging.relay.logs import get_logger

_PREFIX = "subrosa:mailbox:"
_EVERYBODY = "subrosa:relays"  # keeps the subscription open while no device is connected
_MAX_UNPUBLISHED = 10_000
_MAX_BATCH = 500
_RETRY_SECONDS = 0.5
_PUBLISH_TIMEOUT_SECONDS = 2
_Failure = (RedisError, OSError)


def channel_of(mailbox_id: int) -> str:
    """The channel of a mailbox; in braces, what a cluster hashes."""
    return f"{_PREFIX}{{{mailbox_id}}}"


def mailbox_of(channel: str) -> int | None:
    """Undo :func:`channel_of`; ``None`` for another channel."""
    number = channel.removeprefix(_PREFIX + "{").removesuffix("}")
    return int(number) if channel == f"{_PREFIX}{{{number}}}" and number.isdecimal() else None


def encode_notice(notice: Notice) -> bytes:
    """A few bytes: a letter, and what belongs to it."""
    match notice:
        case MailArrived(sequence):
            return b"m%d" % sequence
        case ConnectedElsewhere(connection):
            return b"c%d" % connection
        case CredentialsReplaced():
            return b"r"
        case PrekeysRunLow():
            return b"k"


def decode_notice(data: bytes) -> Notice | None:
    """Undo :func:`encode_notice`; ``None`` for what a newer version may say."""
    match data[:1], data[1:]:
        case b"m", number if number.isdigit():
            return MailArrived(int(number))
        case b"c", number if number.isdigit():
            return ConnectedElsewhere(int(number))
        case b"r", b"":
            return CredentialsReplaced()
        case b"k", b"":
            return PrekeysRunLow()
        case _:
            return None


class RedisWakeups:
    """Notices within this process (``local``) and between all processes on one Redis. ``run`` does the work."""

    def __init__(self, url: str, local: LocalWakeups) -> None:
        self._local = local
        self._publisher = Redis.from_url(
            url, socket_timeout=_PUBLISH_TIMEOUT_SECONDS, socket_connect_timeout=_PUBLISH_TIMEOUT_SECONDS
        )
        # No timeout on reading: the subscriber waits for as long as nothing happens.
        self._subscriber = Redis.from_url(url, socket_timeout=None, socket_connect_timeout=_PUBLISH_TIMEOUT_SECONDS)
        self._unpublished: asyncio.Queue[tuple[int, Notice]] = asyncio.Queue(_MAX_UNPUBLISHED)
        self._subscription: PubSub | None = None

    def announce(self, mailbox_id: int, notice: Notice) -> None:
        """Tell this process now, the others soon; if Redis is away for long, not at all.

        Mail for a socket of this process is no news for the others: a device has one socket, and if it has just opened another
        one elsewhere, the one here says so (``delivery.socket``).
        """
        self._local.announce(mailbox_id, notice)
        if isinstance(notice, MailArrived) and self._local.count(mailbox_id):
            return
        with suppress(asyncio.QueueFull):
            self._unpublished.put_nowait((mailbox_id, notice))

    @asynccontextmanager
    async def listen(self, mailbox_id: int, listener: Listener) -> AsyncIterator[None]:
        """Be a listener while the block lasts."""
        async with self._local.listen(mailbox_id, listener):
            await self._change("subscribe", mailbox_id)
            try:
                yield
            finally:
                if self._local.count(mailbox_id) == 1:
                    await self._change("unsubscribe", mailbox_id)

    async def run(self) -> None:
        """Publish and receive until cancelled; then close."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._publish())
                tasks.create_task(self._receive())
        finally:
            await self._publisher.aclose()
            await self._subscriber.aclose()

    async def _change(self, what: str, mailbox_id: int) -> None:
        if self._subscription is not None:
            with suppress(*_Failure):  # the receiver notices too, and subscribes anew to everything
                await getattr(self._subscription, what)(channel_of(mailbox_id))

    async def _publish(self) -> None:
        while not _cancelled():
            batch = [await self._unpublished.get()]
            while len(batch) < _MAX_BATCH and not self._unpublished.empty():
                batch.append(self._unpublished.get_nowait())
            try:
                async with self._publisher.pipeline(transaction=False) as pipeline:
                    for mailbox_id, notice in batch:
                        pipeline.publish(channel_of(mailbox_id), encode_notice(notice))
                    await pipeline.execute()
            except _Failure as error:
                get_logger().warning("notices_lost", count=len(batch), error=type(error).__name__)

    async def _receive(self) -> None:
        while not _cancelled():
            try:
                async with self._subscriber.pubsub() as subscription:
                    await subscription.subscribe(_EVERYBODY, *map(channel_of, self._local.mailboxes()))
                    self._subscription = subscription
                    # Who began to listen while the subscription was made, is not in it yet.
                    await subscription.subscribe(*map(channel_of, self._local.mailboxes()), _EVERYBODY)
                    async for message in subscription.listen():
                        self._deliver(message)
            except _Failure as error:
                get_logger().warning("notices_interrupted", error=type(error).__name__)
            finally:
                self._subscription = None
            await asyncio.sleep(_RETRY_SECONDS)

    def _deliver(self, message: dict[str, Any]) -> None:
        if message["type"] != "message":
            return
        mailbox_id, notice = mailbox_of(message["channel"].decode()), decode_notice(message["data"])
        if mailbox_id is not None and notice is not None:
            self._local.announce(mailbox_id, notice)


def _cancelled() -> bool:
    """Whether this task was told to end: redis-py can swallow that while it waits for an answer."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

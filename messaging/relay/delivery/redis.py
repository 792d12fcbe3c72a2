"""Notices between processes, over the sharded publish and subscribe of Redis or Valkey.

One channel a mailbox, ``subrosa:TAG:mailbox:{ID}``; commands up to Redis 7.0. In a cluster each node carries the mailboxes of
its slots. Within the process notices go directly, so that without Redis only sockets of other processes wait, and only until
``delivery.watch`` looks. Publishing happens in the background: a send never waits for Redis.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import RedisCluster

from messaging.relay.delivery.wakeups import (
    ConnectedElsewhere,
    CredentialsReplaced,
    Listener,
    LocalWakeups,
    MailArrived,
    Notice,
    PrekeysRunLow,
    Suspended,
)
from messaging.relay.metrics import Figures
from messaging.relay.redis import FAILURES, connect, node_url
from messaging.relay.tasks import end, running
from messaging.serving.logs import get_logger

_NOBODY = "subrosa:relays"  # keeps a subscription open while no device is connected
_MAX_UNPUBLISHED = 10_000
_MAX_BATCH = 500
_RETRY_SECONDS = 0.5
_TIMEOUT_SECONDS = 2
_PRESENCE_SECONDS = 1  # somebody waits for it, and it is only a hint


@dataclass(frozen=True, slots=True)
class Channels:
    """Names of channels. All databases of a Redis share them, so ``tag`` tells deployments apart: each has a mailbox 5."""

    tag: str

    @classmethod
    def under(cls, key: bytes) -> Self:
        """The names for all relays with this key, which they do not tell."""
        return cls(blake2b(b"channels", key=key, digest_size=8).hexdigest())

    def of(self, mailbox_id: int) -> str:
        """The channel of a mailbox; in braces, what a cluster hashes."""
        return f"{self._prefix}{{{mailbox_id}}}"

    def mailbox_of(self, channel: str) -> int | None:
        """Undo :meth:`of`; ``None`` for another channel."""
        number = channel.removeprefix(f"{self._prefix}{{").removesuffix("}")
        return int(number) if channel == f"{self._prefix}{{{number}}}" and number.isdecimal() else None

    @property
    def _prefix(self) -> str:
        return f"subrosa:{self.tag}:mailbox:"


def encode_notice(notice: Notice) -> bytes:
    """A few bytes: a letter, and what belongs to it."""
    match notice:
        case MailArrived(sequence):
            return b"m%d" % sequence
        case ConnectedElsewhere(connection):
            return b"c%d" % connection
        case CredentialsReplaced():
            return b"r"
        case Suspended():
            return b"s"
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
        case b"s", b"":
            return Suspended()
        case b"k", b"":
            return PrekeysRunLow()
        case _:
            return None


class RedisWakeups:
    """Notices within this process (``local``) and between all processes on one Redis. ``run`` does the work.

    ``away``: nothing is heard of the others now.
    """

    def __init__(self, url: str, channels: Channels, local: LocalWakeups, figures: Figures | None = None) -> None:
        self.away = True  # until the first subscription
        self._figures = figures or Figures()
        self._url = url
        self._channels = channels
        self._local = local
        self._publisher = connect(url, timeout=_TIMEOUT_SECONDS, connect_timeout=_TIMEOUT_SECONDS)
        self._unpublished: asyncio.Queue[tuple[int, Notice]] = asyncio.Queue(_MAX_UNPUBLISHED)
        self._changes: set[int] = set()  # mailboxes to whose listeners one has come, or from whom one has gone
        self._changed = asyncio.Event()
        self._asks_again_at = 0.0  # who is connected: anybody may cause that question, and Redis may be away

    def announce(self, mailbox_id: int, notice: Notice) -> None:
        """Tell this process now, the others soon; if Redis is away for long, not at all.

        Mail for a socket of this process is no news for the others: a device has one socket, and if it has just opened another
        one elsewhere, the one here tells that one when it hears of it (``delivery.socket``).
        """
        self._local.announce(mailbox_id, notice)
        if not (isinstance(notice, MailArrived) and self._local.count(mailbox_id)):
            self.announce_elsewhere(mailbox_id, notice)

    def announce_elsewhere(self, mailbox_id: int, notice: Notice) -> None:
        """Tell the other processes only."""
        with suppress(asyncio.QueueFull):
            self._unpublished.put_nowait((mailbox_id, notice))

    def add(self, mailbox_id: int, listener: Listener) -> None:
        """Call ``listener`` from now on, and soon with what other processes say too."""
        self._local.add(mailbox_id, listener)
        self._change(mailbox_id)

    def remove(self, mailbox_id: int, listener: Listener) -> None:
        """Do not call ``listener`` any more."""
        self._local.remove(mailbox_id, listener)
        self._change(mailbox_id)

    async def connected(self, mailbox_ids: Collection[int]) -> set[int]:
        """Those that somebody listens to, here or, as Redis counts subscribers, in another process.

        A process that has ended has none. While Redis is away all count as connected: better one that is not there is asked in
        vain than one that is there not at all.
        """
        if time.monotonic() < self._asks_again_at:
            return set(mailbox_ids)
        here = await self._local.connected(mailbox_ids)
        elsewhere = {self._channels.of(each): each for each in mailbox_ids if each not in here}
        try:
            async with asyncio.timeout(_PRESENCE_SECONDS):
                subscribers = await self._count_subscribers(list(elsewhere))
        except FAILURES as error:
            self._figures.redis_failures += 1
            get_logger().warning("presence_unknown", error=type(error).__name__)
            self._asks_again_at = time.monotonic() + _RETRY_SECONDS
            return set(mailbox_ids)
        return here | {elsewhere[channel] for channel, count in subscribers if count}

    async def _count_subscribers(self, channels: Sequence[str]) -> list[tuple[str, int]]:
        if not channels:
            return []
        if not isinstance(self._publisher, RedisCluster):
            return _counts(await self._publisher.pubsub_shardnumsub(*channels))
        await self._publisher.initialize()
        counted = []
        for channel in channels:  # each at the node that has its slot: the others know nothing of it
            node = self._publisher.get_node_from_key(channel)
            counted += _counts(await self._publisher.pubsub_shardnumsub(channel, target_nodes=node))
        return counted

    def _change(self, mailbox_id: int) -> None:
        self._changes.add(mailbox_id)
        self._changed.set()

    async def run(self) -> None:
        """Publish and receive until cancelled; then close."""
        try:
            async with running(self._publish(), self._receive()):
                await asyncio.get_running_loop().create_future()  # for ever
        finally:
            with suppress(*FAILURES):
                await self._publisher.aclose()

    async def _publish(self) -> None:
        while True:
            batch = [await self._unpublished.get()]
            while len(batch) < _MAX_BATCH and not self._unpublished.empty():
                batch.append(self._unpublished.get_nowait())
            try:
                await self._publish_batch([(self._channels.of(box), encode_notice(notice)) for box, notice in batch])
            except Exception as error:  # noqa: BLE001 - the next notices may get through
                self._figures.redis_failures += 1
                get_logger().warning("notices_lost", count=len(batch), error=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _publish_batch(self, notices: list[tuple[str, bytes]]) -> None:
        if isinstance(self._publisher, RedisCluster):
            for channel, data in notices:  # redis-py loses connections to a cluster when many calls begin at once
                await self._publisher.spublish(channel, data)
            return
        async with self._publisher.pipeline(transaction=False) as pipeline:
            for channel, data in notices:
                pipeline.spublish(channel, data)
            await pipeline.execute()

    async def _receive(self) -> None:
        while True:
            try:
                await self._receive_until_broken()
                get_logger().warning("notices_interrupted")
            except Exception as error:  # noqa: BLE001 - the next subscription may last
                get_logger().warning("notices_interrupted", error=type(error).__name__)
            self.away = True
            self._figures.redis_failures += 1
            await asyncio.sleep(_RETRY_SECONDS)

    async def _receive_until_broken(self) -> None:
        client = connect(self._url, timeout=None, connect_timeout=_TIMEOUT_SECONDS)
        try:
            if isinstance(client, RedisCluster):
                await client.initialize()
            async with Subscriptions(self._url, client, self._deliver, self._changed.set) as subscriptions:
                self.away = False
                self._changes = set(self._local.mailboxes())
                while not subscriptions.broken:
                    changes, self._changes = self._changes, set()
                    listened = {each for each in changes if self._local.count(each)}
                    await subscriptions.add(*map(self._channels.of, listened))
                    await subscriptions.remove(*map(self._channels.of, changes - listened))
                    await self._changed.wait()
                    self._changed.clear()
        finally:
            with suppress(*FAILURES):
                await client.aclose()

    def _deliver(self, channel: str, data: bytes) -> None:
        mailbox_id, notice = self._channels.mailbox_of(channel), decode_notice(data)
        if mailbox_id is not None and notice is not None:
            self._local.announce(mailbox_id, notice)


def _counts(found: Sequence[tuple[Any, int]]) -> list[tuple[str, int]]:
    return [(channel.decode(), count) for channel, count in found]


class Subscriptions:
    """Channels that are listened to, each at the node that has its slot.

    ``broken``: that has changed or failed; ``tell`` is called then.
    """

    def __init__(
        self,
        url: str,
        client: Redis | RedisCluster,
        deliver: Callable[[str, bytes], None],
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self.broken = False
        self._tell = tell
        self._url = url
        self._client = client
        self._at_once = _MAX_BATCH if isinstance(client, Redis) else 1  # a cluster takes no command for several slots
        self._deliver = deliver
        self._nodes: dict[str, PubSub] = {}
        self._clients: list[Redis] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted: set[str] = set()
        self._leaving: Counter[str] = Counter()  # unsubscribes of ours that Redis has not confirmed
        self._changing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        if isinstance(self._client, Redis):
            await self._open("", self._client)  # one that is away is known at once
        return self

    async def __aexit__(self, *_error: object) -> None:
        await end(self._tasks)
        for subscription in self._nodes.values():
            with suppress(*FAILURES):
                await subscription.aclose()  # type: ignore[no-untyped-call]  # redis-py has no types there
        for client in self._clients:
            with suppress(*FAILURES):
                await client.aclose()

    async def add(self, *channels: str) -> None:
        """Listen to these too."""
        self._wanted.update(channels)
        await self._change("ssubscribe", channels)

    async def remove(self, *channels: str) -> None:
        """Do not listen to these any more."""
        channels = tuple(self._wanted.intersection(channels))
        self._wanted.difference_update(channels)
        self._leaving.update(channels)
        await self._change("sunsubscribe", channels)

    async def _change(self, what: str, channels: Sequence[str]) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS), self._changing:
                for first in range(0, len(channels), self._at_once):
                    some = channels[first : first + self._at_once]
                    await getattr(await self._node_of(some[0]), what)(*some)
        except Exception as error:  # noqa: BLE001 - redis-py has errors of many kinds; a new subscription begins anew
            get_logger().warning("notices_interrupted", error=type(error).__name__)
            self._break()

    def _break(self) -> None:
        self.broken = True
        self._tell()

    async def _node_of(self, channel: str) -> PubSub:
        if isinstance(self._client, Redis):
            return self._nodes[""]
        node = self._client.get_node_from_key(channel)
        if node is None:
            raise ConnectionError("a slot that no node has")
        if node.name not in self._nodes:
            url = node_url(self._url, node.host, int(node.port))
            client = Redis.from_url(url, socket_timeout=None, socket_connect_timeout=_TIMEOUT_SECONDS)
            self._clients.append(client)
            await self._open(node.name, client)
        return self._nodes[node.name]

    async def _open(self, name: str, client: Redis) -> None:
        subscription = client.pubsub()
        await subscription.subscribe(_NOBODY)
        if await subscription.get_message(timeout=_TIMEOUT_SECONDS) is None:  # any later one is of another connection
            raise TimeoutError
        self._nodes[name] = subscription
        self._tasks.append(asyncio.create_task(self._read(subscription)))

    async def _read(self, subscription: PubSub) -> None:
        try:
            async for message in subscription.listen():
                self._take(message)
        except FAILURES as error:
            get_logger().warning("notices_interrupted", error=type(error).__name__)
        finally:
            self._break()

    def _take(self, message: dict[str, Any]) -> None:
        channel = message["channel"].decode()
        match message["type"]:
            case "smessage":
                self._deliver(channel, message["data"])
            case "sunsubscribe":
                self._take_unsubscribed(channel)
            case "subscribe":
                self._leaving.clear()  # a new connection: what was asked of the one before is never confirmed

    def _take_unsubscribed(self, channel: str) -> None:
        if self._leaving[channel] > 1:
            self._leaving[channel] -= 1
        elif self._leaving[channel] == 1:
            del self._leaving[channel]
        elif channel in self._wanted:
            self._break()  # nobody asked for it: the slot has moved to another node

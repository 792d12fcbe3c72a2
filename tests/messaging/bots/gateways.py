"""A real gateway on a free port of the loopback, over accounts on a relay in memory, and what calls it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp

from messaging.bots.app import Gateway, Settings, open_gateway, serving
from messaging.bots.records import Bot
from messaging.bots.running import RunningBot
from messaging.client.bot.inbox import Inbox
from messaging.client.conversation import Conversation
from messaging.client.history import ChatMessage
from messaging.client.stores import Store
from messaging.client.testing import Clock, MemoryAccount, MemoryRelay, open_memory_account
from messaging.wire.identifiers import MessageId, ServiceId

LOOPBACK = (ip_network("127.0.0.0/8"),)
NUMBER = 1_234_567_890  # of the first bot


class RealClock(Clock):
    """Time goes on by itself, and every timestamp is another one."""

    def __init__(self) -> None:
        super().__init__()
        self._latest = 0

    def now(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def seconds(self) -> float:
        """On the monotonic clock."""
        return time.monotonic()

    def tick(self) -> int:
        """A timestamp that nothing else has."""
        self._latest = max(self._latest + 1, self.now())
        return self._latest


@dataclass
class World:
    """People and bots on a relay in memory; ``folder`` holds the bots' inboxes, which outlive a gateway."""

    folder: Path
    relay: MemoryRelay
    alice: ServiceId
    bob: ServiceId

    @classmethod
    def make(cls, folder: Path) -> "World":
        """A new one."""
        folder.mkdir(parents=True, exist_ok=True)
        relay = MemoryRelay(RealClock())
        return cls(folder, relay, relay.account("Alice"), relay.account("Bob"))

    @asynccontextmanager
    async def account(self, bot: Bot, me: ServiceId) -> AsyncIterator[MemoryAccount]:
        """The account of a bot, connected."""
        async with (
            Store.open(self.folder / f"{bot.number}.db", bytes(32)) as store,
            open_memory_account(self.relay, me, store) as account,
        ):
            yield account


@dataclass
class Answered:
    """What came back."""

    status: int
    body: dict[str, Any]

    @property
    def result(self) -> Any:  # noqa: ANN401 - JSON
        """Of a call that was ok."""
        assert self.body["ok"], self.body
        return self.body["result"]


@dataclass
class Api:
    """One bot of a gateway as its program sees it, and its account as its users do."""

    url: str
    token: str
    gateway: Gateway
    number: int
    me: ServiceId
    world: World
    http: aiohttp.ClientSession

    @property
    def running(self) -> RunningBot:
        """The bot in the gateway."""
        return self.gateway.bots[self.number]

    @property
    def alice(self) -> ServiceId:
        """Somebody."""
        return self.world.alice

    @property
    def bob(self) -> ServiceId:
        """Somebody else."""
        return self.world.bob

    # --- the program ---

    async def call(self, method: str, **parameters: Any) -> Answered:
        """Call a method, with JSON."""
        async with self.http.post(self.path(method), json=parameters) as response:
            return Answered(response.status, await response.json())

    def path(self, method: str) -> str:
        """Where a method is."""
        return f"{self.url}/bot{self.token}/{method}"

    async def ok(self, method: str, **parameters: Any) -> Any:  # noqa: ANN401 - JSON
        """Call a method; returns its result."""
        return (await self.call(method, **parameters)).result

    async def refused(self, method: str, **parameters: Any) -> tuple[int, str]:
        """Call a method that is not done; returns status and description."""
        answered = await self.call(method, **parameters)
        assert answered.body["ok"] is False
        assert answered.body["error_code"] == answered.status
        return answered.status, answered.body["description"]

    async def updates(self, **parameters: Any) -> list[dict[str, Any]]:
        """What comes, without waiting long for it."""
        found: list[dict[str, Any]] = await self.ok("getUpdates", **{"timeout": 5, **parameters})
        return found

    # --- the users ---

    async def private(self) -> Conversation:
        """A conversation of Alice and the bot, of whose beginning the bot has been told."""
        return await self._begun(self.world.relay.begin(self.alice, "", [self.me]).conversation)

    async def group(self) -> Conversation:
        """A conversation of Alice, its admin, Bob and the bot, of whose beginning the bot has been told."""
        room = self.world.relay.begin(self.alice, "Gardeners", [self.bob, self.me], [self.alice])
        return await self._begun(room.conversation)

    async def _begun(self, conversation: Conversation) -> Conversation:
        inbox = self.running.session.account.inbox
        await until(lambda: inbox.waiting > 0)
        for leased in await inbox.take(1000, lease=60, per_conversation=1000):
            await inbox.handled(leased)
        return conversation

    def says(
        self, conversation: Conversation, text: str, by: ServiceId | None = None, quote: MessageId | None = None
    ) -> MessageId:
        """Alice, or somebody else, writes."""
        return self.world.relay.say(by or self.alice, conversation.key, text, quote=quote)

    def seen(self, conversation: Conversation) -> list[ChatMessage]:
        """What the bot has said there, as Alice sees it."""
        messages = self.world.relay.messages(self.alice, conversation.key)
        return [message for message in messages if message.id.author == self.me]

    async def chat_of(self, conversation: Conversation) -> int:
        """Its number."""
        self.says(conversation, "/hello")
        (update,) = await self.updates()
        await self.updates(offset=update["update_id"] + 1, timeout=0)
        number: int = update["message"]["chat"]["id"]
        return number


def a_bot(number: int = NUMBER, name: str = "Echo") -> Bot:
    """A bot."""
    return Bot(number=number, name=name, username=f"{name.lower()}_bot")


@asynccontextmanager
async def running_gateway(
    home: Path,
    world: World,
    bots: dict[ServiceId, Bot],
    **settings: Any,
) -> AsyncIterator[tuple[Gateway, str, dict[int, str]]]:
    """A gateway for these bots; gives it, its URL, and the tokens of those that are new in its home."""
    accounts = {bot.number: me for me, bot in bots.items()}
    chosen = Settings(**{"home": home, "port": 0, "allowed_networks": LOOPBACK, **settings})
    async with (
        open_gateway(chosen, lambda bot: world.account(bot, accounts[bot.number])) as gateway,
        serving(gateway) as (host, port),
    ):
        tokens = {bot.number: await gateway.add(bot) for bot in bots.values() if bot.number not in gateway.bots}
        for number in gateway.bots:
            gateway.start(number)
        await until(lambda: all(running.is_connected for running in gateway.bots.values()))
        yield gateway, f"http://{host}:{port}", tokens


@asynccontextmanager
async def running_api(
    folder: Path,
    *,
    world: World | None = None,
    me: ServiceId | None = None,
    token: str = "",
    **settings: Any,
) -> AsyncIterator[Api]:
    """A gateway with one bot; with a world, an account and a token, the one that was there before."""
    world = world or World.make(folder / "accounts")
    me = me or world.relay.account("Echo", bot=True)
    async with (
        running_gateway(folder / "gateway", world, {me: a_bot()}, **settings) as (gateway, url, tokens),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        yield Api(url, tokens.get(NUMBER, token), gateway, NUMBER, me, world, http)


def without_pauses(inbox: Inbox) -> None:
    """What fails comes again at once: eight attempts would take four minutes."""
    inbox.__dict__["_pause"] = lambda _attempt: 0.0


async def until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def until_it(condition: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    """Wait for a condition that takes a call to know."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)

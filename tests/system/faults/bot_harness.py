"""A deployment with bots that can fail in every part: users write to a bot made with the SDK, and to one behind the gateway.

Everything is real: devices with libsignal, relays, the bot, the gateway and the target of its webhook as processes. Each user has a
conversation with one of the two bots, and says numbers there. What a bot has handled stands in its ledger.
"""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from messaging.client import Device, RelayUnreachable, Store
from messaging.client import Relay as ClientRelay
from messaging.client.bot.settings import HOME, INVITE, RELAY
from messaging.client.bot.worker import RUN
from messaging.client.chats import Chats
from messaging.client.stores.sqlite import IN_MEMORY
from messaging.relay.accounts.invites import Role
from messaging.relay.settings import Settings
from messaging.wire.identifiers import ServiceId
from signal_protocol.operations import SignalCrypto
from tests.bots import an_invite, invites_of
from tests.servers import own_postgres, own_valkey
from tests.system.faults.harness import DURABLE, LIMITS, Relay, temporary_folder
from tests.system.faults.ledger import ANSWERED, Handled, Ledger, write
from tests.system.faults.parts import Part, ProcessPart, RelayPart
from tests.system.faults.promises import Findings, judge
from tests.system.faults.proxy import FaultProxy

BOT, TARGET = "tests.system.faults.recording_bot", "tests.system.faults.recording_target"
COMMAND = "messaging.bots.command"
MORE_LIMITS = "\n[verificationSessionPerAddress]\nsize = 1000\nrefill = 1\n"  # all users come from this machine
PARTS = ("bot", "gateway", "target", "relay")
DELIVERED_AT_ONCE = 1  # of one conversation, by the gateway


@dataclass
class User:
    """Somebody who says numbers in one conversation."""

    number: int
    chats: Chats
    key: bytes
    bot: ServiceId
    said: int = 0
    refused: int = 0

    async def say(self, messages: int, pause: Callable[[], float]) -> None:
        """Say so many messages, one after the other. What waits in the outbox has been said."""
        while self.said < messages:
            written = await self.chats.write(self.key, write(self.number, self.said + 1))
            if all(isinstance(error, RelayUnreachable) for error in written.failed.values()):
                self.said += 1
            else:
                self.refused += 1
            await asyncio.sleep(pause())

    @property
    def answers(self) -> list[str]:
        """What the bot said."""
        return [each.text for each in self.chats.messages(self.key) if each.id.author == self.bot]


@dataclass
class Side:
    """One of the two bots, with its users. ``parts`` are what handles; ``in_hand`` is as in ``promises.judge``."""

    service_id: ServiceId
    ledger: Ledger
    parts: Sequence[ProcessPart]
    in_hand: int
    users: list[User] = field(default_factory=list)
    handled: dict[int, list[Handled]] = field(default_factory=dict)

    def is_done(self) -> bool:
        """Whether all that was said has been handled, and answered."""
        for each in self.ledger.news():
            self.handled.setdefault(each.user, []).append(each)
        return all(self._is_done(user) for user in self.users)

    def _is_done(self, user: User) -> bool:
        handled = {each.number for each in self.handled.get(user.number, [])}
        return len(handled) >= user.said and len(set(user.answers)) >= user.said // ANSWERED

    def findings(self) -> Findings:
        """Of all users."""
        kills = sorted(when for part in self.parts for when in part.kills)
        found = Findings()
        for user in self.users:
            found += judge(user.said, self.handled.get(user.number, []), user.answers, kills, in_hand=self.in_hand)
        return found


@dataclass
class Deployment:
    """All of it. ``parts`` are what is killed, by what they are called; of several relays one is chosen each time."""

    sdk: Side
    gateway: Side
    parts: dict[str, Sequence[Part]]

    @property
    def users(self) -> list[User]:
        """All of them."""
        return [*self.sdk.users, *self.gateway.users]

    @property
    def said(self) -> int:
        """How many messages, by all."""
        return sum(user.said for user in self.users)

    def is_done(self) -> bool:
        """Whether everything was handled and answered."""
        return all([self.sdk.is_done(), self.gateway.is_done()])

    async def left_running(self) -> int:
        """Kill what handles, and count what outlives its parent."""
        parts = [*self.sdk.parts, *self.gateway.parts]
        for part in parts:
            await part.kill()
        return sum([await part.left_running() for part in parts])


# --- making it ---


@dataclass(frozen=True)
class _Making:
    """Starts parts; ``stack`` ends them."""

    folder: Path
    settings: Settings
    stack: AsyncExitStack

    async def relay(self) -> RelayPart:
        """A relay."""
        part = RelayPart(Relay(self.settings, self.folder / "limits.toml"))
        await self._proxied(part.relay.proxy)
        self.stack.push_async_callback(part.relay.kill)
        await part.start()
        return part

    async def bot(self, relay: str) -> tuple[Side, ProcessPart]:
        """The bot that is made with the SDK."""
        environment = {RELAY: relay, INVITE: await self._invite(), HOME: str(self.folder / "bot")}
        path = self.folder / "bot.ledger"
        ledger = self._ledger(path)
        part = await self._process("bot", BOT, str(path), environment=environment)
        account = ServiceId.parse(part.said.partition(" at ")[2].partition(";")[0])
        return Side(account, ledger, [part], RUN), part

    async def gateway(self, relay: str) -> tuple[Side, ProcessPart, ProcessPart]:
        """The bot behind the gateway, and the target of its webhook."""
        home, proxy, path = self.folder / "gateway", FaultProxy(), self.folder / "target.ledger"
        await self._proxied(proxy)
        ledger = self._ledger(path)
        made = await _run(COMMAND, "create", "Hook", "--relay", relay, "--invite", await self._invite(),
                          "--home", str(home), "--json")  # fmt: skip
        gateway = await self._process(
            "gateway", COMMAND, "gateway", "--home", str(home), "--port", "0", "--allow-webhook-network", "127.0.0.0/8"
        )
        secret = self.folder / "webhook"
        secret.write_text(await _set_webhook(f"{gateway.said}/bot{made['token']}", f"http://127.0.0.1:{proxy.port}/"))
        target = await self._process("target", TARGET, str(path), str(secret), proxy=proxy)
        side = Side(ServiceId.parse(made["account"]), ledger, [gateway, target], DELIVERED_AT_ONCE)
        return side, gateway, target

    async def user(self, number: int, relay: str, bot: ServiceId, crypto: SignalCrypto) -> User:
        """Somebody with a conversation with ``bot``."""
        enter, telephone = self.stack.enter_async_context, f"+49155500{number:05}"

        async def code() -> str:
            lines = [json.loads(line) for line in (self.folder / "codes").read_text().splitlines()]
            return str([line["code"] for line in lines if line["number"] == telephone][-1])

        store = await enter(Store.open(IN_MEMORY, secrets.token_bytes(32)))
        reached = await enter(ClientRelay(relay))
        device = await enter(await Device.register(store, reached, crypto, number=telephone, code=code))
        await device.ready()
        chats = await enter(await Chats.open(device, store))
        receiving = asyncio.create_task(chats.receive())
        self.stack.callback(receiving.cancel)
        begun = await chats.create("", [bot])
        return User(number, chats, begun.key, bot)

    async def _process(
        self,
        name: str,
        module: str,
        *arguments: str,
        environment: dict[str, str] | None = None,
        proxy: FaultProxy | None = None,
    ) -> ProcessPart:
        part = ProcessPart(module, arguments, self.folder / f"{name}.log", environment or {}, proxy)
        self.stack.push_async_callback(part.kill)
        await part.start()
        return part

    async def _proxied(self, proxy: FaultProxy) -> None:
        await proxy.start()
        self.stack.push_async_callback(proxy.stop)

    async def _invite(self) -> str:
        async with invites_of(self.settings) as invites:
            return await an_invite(invites, role=Role.BOT)

    def _ledger(self, path: Path) -> Ledger:
        ledger = Ledger(path)
        self.stack.callback(ledger.close)
        return ledger


@asynccontextmanager
async def deployment(*, users: int, sqlite: bool) -> AsyncIterator[Deployment]:
    """Start everything; at the end everything that was started is ended. Without ``sqlite`` there are PostgreSQL, Valkey and two relays."""
    with ExitStack() as servers:
        folder = servers.enter_context(temporary_folder())
        settings = _settings(folder, servers, sqlite=sqlite)
        async with AsyncExitStack() as stack:
            making = _Making(folder, settings, stack)
            relays = [await making.relay() for _ in range(1 if sqlite else 2)]
            urls = [f"http://127.0.0.1:{relay.relay.proxy.port}" for relay in relays]
            sdk, bot = await making.bot(urls[0])
            hooked, gateway, target = await making.gateway(urls[-1])
            crypto = await stack.enter_async_context(SignalCrypto.start())
            for number in range(users):
                side = (sdk, hooked)[number % 2]
                side.users.append(await making.user(number, urls[number // 2 % len(urls)], side.service_id, crypto))
            parts: list[Sequence[Part]] = [[bot], [gateway], [target], relays]
            yield Deployment(sdk, hooked, dict(zip(PARTS, parts, strict=True)))


def _settings(folder: Path, servers: ExitStack, *, sqlite: bool) -> Settings:
    (folder / "secret").write_bytes(secrets.token_bytes(32))
    (folder / "limits.toml").write_text(LIMITS.read_text() + MORE_LIMITS)
    return Settings(
        port=0,
        database_url=f"sqlite:///{folder / 'relay.db'}" if sqlite else servers.enter_context(own_postgres(DURABLE)).url,
        redis_url=None if sqlite else servers.enter_context(own_valkey()).url,
        verification=f"file:{folder / 'codes'}",
        secret_file=folder / "secret",
        attachments_url=(folder / "attachments").as_uri(),
    )


async def _run(module: str, *arguments: str) -> dict[str, str]:
    """What a command says in JSON."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    done: dict[str, str] = json.loads(out)
    return done


async def _set_webhook(bot: str, target: str) -> str:
    """Have a bot's messages posted to ``target``; returns the secret with which they are signed."""
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        await http.post(f"{bot}/setWebhook", json={"url": target, "allowed_updates": ["message"]})
        async with http.post(f"{bot}/getWebhookSecret") as response:
            return str((await response.json())["result"])

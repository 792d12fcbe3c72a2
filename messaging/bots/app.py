"""The gateway put together: its database, its bots, and the server in front of them."""

import asyncio
import json
import shutil
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohttp import web

from messaging.bots.http import Entrance, refused
from messaging.bots.limits import (
    BODY_SECONDS,
    FILE_SECONDS,
    HEAD_SECONDS,
    LINGER_SECONDS,
    MAX_BODY,
    MAX_FIELDS,
    MAX_FILE,
    WEBHOOK_SECONDS,
)
from messaging.bots.methods import METHODS, Context, call, find_method
from messaging.bots.openapi import describe
from messaging.bots.records import Bot, Records
from messaging.bots.requests import Intake
from messaging.bots.running import OpenAccount, RunningBot, Services
from messaging.bots.ssrf import Network, TargetPolicy
from messaging.bots.tokens import SEND, Token
from messaging.bots.updates import Json
from messaging.bots.webhooks import Execute, Surroundings
from messaging.client.bot.settings import Settings as HomeSettings
from messaging.client.errors import ClientError
from messaging.serving.http import Bounds, HttpServer, is_loopback

STORE = "gateway.db"
INCOMING = "incoming"  # the folder for files while a request is answered
SHUTDOWN_SECONDS = 5.0


class BeyondLoopback(ClientError):
    """The gateway was to listen where others could reach it: it speaks plain HTTP, and tokens would travel in the clear."""

    def __init__(self) -> None:
        super().__init__(
            "the gateway listens on this machine only: its HTTP is not encrypted. Put a proxy with TLS before it, or say "
            "--unsafe-listen-beyond-loopback"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of a gateway. ``allowed_networks`` may be webhook targets although they are private, and without TLS.

    Without a ``passphrase`` the key of its database is in a file of its home.
    """

    home: Path
    passphrase: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 8081
    unsafe_listen_beyond_loopback: bool = False
    allowed_networks: tuple[Network, ...] = ()
    webhook_ca: Path | None = None
    max_file: int = MAX_FILE
    head_seconds: float = HEAD_SECONDS
    body_seconds: float = BODY_SECONDS
    file_seconds: float = FILE_SECONDS
    webhook_seconds: float = WEBHOOK_SECONDS

    def check(self) -> None:
        """See that it listens where it may.

        Raises:
            BeyondLoopback: others could reach it.
        """
        if not is_loopback(self.host) and not self.unsafe_listen_beyond_loopback:
            raise BeyondLoopback


def milliseconds_now() -> int:
    """Since 1970."""
    return time.time_ns() // 1_000_000


def tls_context(webhook_ca: Path | None) -> ssl.SSLContext:
    """What webhook targets have to show: a certificate of a public authority, or of one in this file."""
    context = ssl.create_default_context()
    if webhook_ca is not None:
        context.load_verify_locations(webhook_ca)
    return context


class Gateway:
    """All bots of one home, running. Make it with :func:`open_gateway`."""

    def __init__(self, settings: Settings, records: Records, open_account: OpenAccount) -> None:
        self.settings = settings
        self.records = records
        self.bots: dict[int, RunningBot] = {}
        self.unfinished: dict[int, Bot] = {}  # written down, and perhaps not registered
        self.policy = TargetPolicy(settings.allowed_networks)
        tls = tls_context(settings.webhook_ca)
        around = Surroundings(self.policy, milliseconds_now, tls, seconds=settings.webhook_seconds)
        self._services = Services(records, around, open_account, self._executes)
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def load(self) -> None:
        """Read all bots, without opening their accounts."""
        for bot in await self.records.bots():
            if bot.unfinished:
                self.unfinished[bot.number] = bot
                continue
            self.bots[bot.number] = RunningBot(bot, await self.records.tokens(bot.number), self._services)

    def start(self, number: int) -> None:
        """Open the account of a bot, and keep it open."""
        self._tasks[number] = asyncio.create_task(self.bots[number].run())

    async def begin(self, bot: Bot) -> None:
        """Write down a bot that is to be registered: should this process end, what it has got by then is not lost."""
        bot = bot.with_(unfinished=True)
        await self.records.save_bot(bot)
        self.unfinished[bot.number] = bot

    async def abandon(self, number: int) -> None:
        """Forget a bot that was not registered."""
        await self.records.delete_bot(number)
        del self.unfinished[number]

    async def add(self, bot: Bot) -> str:
        """Write down a new bot; returns its first token, which is not kept."""
        bot = bot.with_(unfinished=False)
        text, token = Token.make(bot.number, ["all"], now=self._services.now())
        await self.records.save_bot(bot)
        await self.records.save_tokens(token)
        self.bots[bot.number] = RunningBot(bot, [token], self._services)
        self.unfinished.pop(bot.number, None)
        return text

    async def close(self) -> None:
        """Close all accounts; what was given out and not confirmed is given out again."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _executes(self, running: RunningBot) -> Execute:
        async def execute(said: Json, name: str) -> None:
            """What a target answered: only what says something is done, once however often it is delivered."""
            with suppress(Exception):
                method = find_method(said["method"])
                if method.scopes == {SEND}:
                    await call(method, Context(running, None, self.policy, once=name), said)

        return execute


@asynccontextmanager
async def open_gateway(settings: Settings, open_account: OpenAccount) -> AsyncIterator[Gateway]:
    """The gateway of a home, with its bots read and none of their accounts open.

    Raises:
        SettingsError: the home or its key cannot be used.
        WrongKey, StoreInUse: the database cannot be opened, or another gateway has it open.
    """
    home = HomeSettings(name="gateway", relay="", home=settings.home, passphrase=settings.passphrase)
    key = await asyncio.to_thread(home.store_key)
    async with Records.open(settings.home / STORE, key) as records:
        gateway = Gateway(settings, records, open_account)
        await gateway.load()
        try:
            yield gateway
        finally:
            await gateway.close()


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[tuple[str, int]]:
    """Answer HTTP until the end of the block; gives the address and the port.

    Raises:
        BeyondLoopback: others could reach it.
        OSError: the port is taken.
    """
    settings = gateway.settings
    settings.check()
    folder = await asyncio.to_thread(_empty_folder, settings.home / INCOMING)
    intake = Intake(folder, settings.max_file, settings.body_seconds, settings.file_seconds)
    reference = json.dumps(api_reference()).encode()
    entrance = Entrance(gateway.bots, gateway.policy, intake, reference, is_local=is_loopback(settings.host))
    bounds = Bounds(MAX_BODY, MAX_FIELDS, keepalive_seconds=settings.head_seconds, linger_seconds=LINGER_SECONDS)
    server = HttpServer(entrance.handle, refused, bounds)
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        host, port = runner.addresses[0][:2]
        yield host, port
    finally:
        for site in list(runner.sites):
            await site.stop()
        for running in gateway.bots.values():
            running.end_waiting()
        await runner.cleanup()


def api_reference() -> dict[str, Any]:
    """The OpenAPI document."""
    return describe(METHODS.values(), version=version("subrosa"))


def _empty_folder(path: Path) -> Path:
    """What a crash left there is plaintext of nobody's request any more."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700, parents=True)
    return path

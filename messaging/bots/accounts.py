"""The accounts of a gateway's bots: each in a folder of its own, all with one worker for cryptography and one connection pool a relay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from messaging.bots.records import Bot
from messaging.client.bot.session import Home, Session, open_session
from messaging.client.bot.settings import Settings
from messaging.client.connection import Relay
from signal_protocol.operations import SignalCrypto

BOTS = "bots"  # the folder with theirs


def settings_of(bot: Bot, gateway: Settings) -> Settings:
    """Of a bot that lives in the home of a gateway; what is not its own is as for all of them."""
    ca = Path(bot.ca) if bot.ca else None
    home = gateway.home / BOTS / str(bot.number)
    return replace(gateway, name=bot.username, relay=bot.relay, home=home, ca=ca, invite=None)


@dataclass(slots=True)
class Accounts:
    """Opens accounts. Make it with :meth:`start`; ``gateway`` says where they are, and what holds for all of them."""

    gateway: Settings
    _crypto: SignalCrypto | None = field(default=None, repr=False)
    _relays: dict[tuple[str, str], Relay] = field(default_factory=dict, repr=False)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack, repr=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @classmethod
    @asynccontextmanager
    async def start(cls, gateway: Settings) -> AsyncIterator["Accounts"]:
        """For the time of a block. What accounts share is started with the first."""
        accounts = cls(gateway)
        async with accounts._stack:
            yield accounts

    @asynccontextmanager
    async def open(self, bot: Bot, invite: str | None = None) -> AsyncIterator[Session]:
        """The account of a bot, connected until the end of the block; with an ``invite`` it is registered first.

        Raises:
            SettingsError: its folder or its key cannot be used.
            As ``open_session``.
        """
        settings = settings_of(bot, self.gateway)
        key = await asyncio.to_thread(settings.store_key)
        policy = await asyncio.to_thread(settings.signed_policy)
        home = Home(
            settings.store_path, key, invite, policy, settings.policy_key, refuse_new_keys=settings.refuse_new_keys
        )
        relay, crypto = await self._shared(settings)
        async with open_session(home, relay, crypto) as session:
            yield session

    async def _shared(self, settings: Settings) -> tuple[Relay, SignalCrypto]:
        async with self._lock:
            if self._crypto is None:
                self._crypto = await self._stack.enter_async_context(SignalCrypto.start())
            place = (settings.relay, str(settings.ca or ""))
            if place not in self._relays:
                relay = Relay(settings.relay, ca_file=settings.ca)
                self._relays[place] = await self._stack.enter_async_context(relay)
            return self._relays[place], self._crypto

"""A bot's account at a real relay does what every account does."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from messaging.client.bot.account import Account
from messaging.client.bot.session import Home, open_session
from messaging.client.connection import Relay
from messaging.relay.accounts.invites import Role
from signal_protocol.operations import SignalCrypto
from tests.bots import an_invite, invites_of
from tests.messaging.client.bot.account_contract import AccountContract, Accounts
from tests.messaging.client.world import a_relay
from tests.relays import StartedRelay, TlsFiles
from tests.servers import Postgres


@pytest.fixture(scope="module")
async def sqlite_relay(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, postgres: Postgres, tls_files: TlsFiles
) -> AsyncIterator[StartedRelay]:
    """Stands for the relay of the same name, and serves all tests here."""
    async with a_relay(tmp_path_factory.mktemp("relay"), sqlite_template, postgres, tls_files) as started:
        yield started


class TestSession(AccountContract):
    """On one relay."""

    @pytest.fixture
    async def accounts(
        self, sqlite_relay: StartedRelay, client_relay: Relay, crypto: SignalCrypto, tmp_path: Path
    ) -> AsyncIterator[Accounts]:
        """New bots, each with a store of its own."""
        async with AsyncExitStack() as stack:

            async def bot() -> Account:
                async with invites_of(sqlite_relay.settings) as invites:
                    invite = await an_invite(invites, role=Role.BOT)
                home = Home(tmp_path / secrets.token_hex(8), secrets.token_bytes(32), invite)
                return await stack.enter_async_context(open_session(home, client_relay, crypto))

            async def make(count: int) -> list[Account]:
                return [await bot() for _ in range(count)]

            yield make

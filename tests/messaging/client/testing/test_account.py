"""An account in memory does what every account does."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from messaging.client.bot.account import Account
from messaging.client.stores import Store
from messaging.client.testing import Clock, MemoryRelay, open_memory_account
from tests.messaging.client.bot.account_contract import AccountContract, Accounts


class TestMemoryAccount(AccountContract):
    """On one relay."""

    @pytest.fixture
    async def accounts(self) -> AsyncIterator[Accounts]:
        """New ones, each with a store of its own."""
        relay = MemoryRelay(Clock())
        async with AsyncExitStack() as stack:

            async def make(count: int) -> list[Account]:
                made: list[Account] = []
                for _ in range(count):
                    store = await stack.enter_async_context(Store.open(":memory:", secrets.token_bytes(32)))
                    made.append(
                        await stack.enter_async_context(open_memory_account(relay, relay.account(bot=True), store))
                    )
                return made

            yield make


async def test_the_name_of_what_is_said_once_is_short() -> None:
    relay = MemoryRelay(Clock())
    async with (
        Store.open(":memory:", secrets.token_bytes(32)) as store,
        open_memory_account(relay, relay.account(), store) as account,
    ):
        conversation = await account.create("", [])
        await account.write(conversation.key, "x", once="x" * 64)
        with pytest.raises(ValueError, match="64 characters"):
            await account.write(conversation.key, "x", once="x" * 65)

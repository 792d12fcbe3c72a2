"""The digest bot of the examples with a real enclave: what it posts rests on those who have opted in, and says so."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

from messaging.client.bot.account import Account
from messaging.client.bot.session import open_account
from messaging.client.bot.settings import Settings
from messaging.relay.accounts.invites import Role
from messaging.wire.content import ListedBot
from messaging.wire.identifiers import ServiceId
from tests.bots import an_invite, invites_of
from tests.system.assistant.world import Client, World

EXAMPLE = Path(__file__).parents[3] / "examples" / "bots" / "digest.py"


@pytest.fixture
async def world(world_of_module: World) -> AsyncIterator[World]:
    """One of this module: a bot lives by the machine's clock, and other tests have let time pass in theirs."""
    await world_of_module.begin()
    yield world_of_module
    await world_of_module.end()


def the_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digest", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def answers(client: Client, key: bytes, bot: ServiceId, count: int) -> list[str]:
    """What the bot has said there, once it is so much."""

    def said() -> list[str]:
        return [message.text for message in client.chats.messages(key) if message.id.author == bot]

    await client.until(lambda: len(said()) >= count)
    return said()


async def test_a_digest_is_made_by_a_verified_enclave_from_what_it_may_have(world: World, tmp_path: Path) -> None:
    bot = the_example().bot
    async with invites_of(world.relay.settings) as invites:
        code = await an_invite(invites, role=Role.BOT)
    settings = Settings(name="digest", relay=world.relay.url, home=tmp_path / "digest", invite=code)
    ann, bob, cem = (person.phone for person in world.everybody)
    async with open_account(settings, policy=world.policy) as account:
        serving = asyncio.create_task(bot.serve(account))
        members = [bob.me, cem.me, account.me]
        key = (await ann.chats.create("the trip", members, bots=[ListedBot(account.me, reads_all=True)])).key
        for client in (bob, cem):
            await client.until(lambda client=client: key in {each.key for each in client.chats.conversations})  # type: ignore[misc]
        await ann.chats.write(key, "/digest on")
        assert (await answers(ann, key, account.me, 1))[0].startswith("You get a digest each day.")
        await bob.until(lambda: account.me in bob.chats.conversation(key).opted_in(world.clock()))  # all members see it

        await bob.chats.opt_in(key)
        await bob.chats.write(key, "Can somebody bring the big tent on Friday?")
        await cem.chats.write(key, "Machines need not hear of my canary.")
        await asyncio.wait_for(_until_known(account, key, 3), 30)
        await ann.chats.write(key, "/digest now")
        digest = (await answers(ann, key, account.me, 2))[1]
        assert "the big tent on Friday?" in digest
        assert "canary" not in digest
        assert "From 1 messages; 1 were left out, 1 of them because their authors have not opted in." in digest
        assert "Engine: embedded/" in digest
        bot.stop()
        await serving


async def _until_known(account: Account, key: bytes, count: int) -> None:
    while len(account.messages(key)) < count:
        await asyncio.sleep(0.01)

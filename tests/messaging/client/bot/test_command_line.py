"""A bot on the command line: what is missing is said in a sentence, what was parked is seen without its content, and it runs."""

import asyncio
import logging
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from messaging.client.bot import Bot, MessageContext
from messaging.client.bot.inbox import MAX_ATTEMPTS, Inbox
from messaging.client.bot.logs import LOGGER
from messaging.client.bot.settings import HOME, INVITE, RELAY, Settings
from messaging.client.connection import Relay
from messaging.client.stores import Store
from messaging.client.testing import Clock
from messaging.relay.accounts.invites import Role
from messaging.wire.identifiers import ServiceId
from signal_protocol.operations import SignalCrypto
from tests.bots import an_invite, invites_of
from tests.messaging.client.bot.events import a_conversation, a_message, tell
from tests.messaging.client.world import World, soon
from tests.relays import StartedRelay

ECHO = """
from messaging.client.bot import Bot

bot = Bot("echo")

@bot.command("start", help="says hello")
async def start(message):
    await message.reply("Hello! I repeat what you write.")

@bot.message()
async def echo(message):
    await message.reply(message.text)

bot.run()
"""
SECONDS = 30  # until a test gives up waiting


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of this in the environment, and the logger as it was."""
    for name in [each for each in os.environ if each.startswith("SUBROSA_")]:
        monkeypatch.delenv(name)
    logger = logging.getLogger(LOGGER)
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


def run(bot: Bot, *argv: str) -> int:
    """Its exit code."""
    try:
        bot.run(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


# --- what is missing ---


def test_without_a_relay_it_says_how_to_name_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Bot("echo", home=tmp_path / "bot")) == 1
    said = capsys.readouterr()
    assert said.err.startswith("echo: where is the relay? Set SUBROSA_RELAY")
    assert said.out == ""


@pytest.mark.parametrize("option", [[], ["--check"]])
def test_without_an_account_and_an_invite_it_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answers(_: Relay) -> None:
        """As a relay does that is there."""

    monkeypatch.setattr(Relay, "server_info", answers)
    bot = Bot("echo", home=tmp_path / "bot", relay="http://127.0.0.1:1")
    assert run(bot, *option) == 1
    assert "subrosa invite create --role bot" in capsys.readouterr().err


def test_a_relay_that_is_not_there_is_named_by_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bot = Bot("echo", home=tmp_path / "bot", relay="http://127.0.0.1:1")
    assert run(bot, "--check") == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_help_names_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Bot("echo"), "--help") == 0
    said = capsys.readouterr().out
    for name in (RELAY, INVITE, HOME, "--parked", "--replay", "--drop", "--check"):
        assert name in said


def test_an_option_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Bot("echo"), "--fly") == 2
    assert "--fly" in capsys.readouterr().err


# --- what was set aside ---


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[tuple[Store, Inbox, Clock]]:
    """The inbox of the bot in this folder."""
    settings = Settings(name="echo", relay="", home=home)
    clock = Clock()
    async with Store.open(settings.store_path, settings.store_key()) as store:
        yield store, await Inbox.open(store, monotonic=clock.seconds), clock


async def park(home: Path, *texts: str) -> None:
    """Have a bot set messages aside."""
    async with opened(home) as (store, inbox, clock):
        await tell(store, inbox, *(a_message(a_conversation(), number, text) for number, text in enumerate(texts)))
        for _ in range(MAX_ATTEMPTS):
            for leased in await inbox.take(10, lease=60):
                await inbox.failed(leased, "SomeError")
            clock.advance(3600)


def test_nothing_is_parked_where_nothing_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Bot("echo", home=tmp_path / "bot"), "--parked") == 0
    assert "never run" in capsys.readouterr().out


def test_parked_events_are_listed_without_content_replayed_and_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "bot"
    bot = Bot("echo", home=home)
    asyncio.run(park(home, "canary one", "canary two", "canary three"))
    assert run(bot, "--parked") == 0
    listed = capsys.readouterr().out
    numbers = re.findall(r"^(\d+)  message  parked \S+ after 8 attempts: SomeError$", listed, re.MULTILINE)
    assert len(numbers) == 3
    assert "canary" not in listed
    assert run(bot, "--replay", numbers[0], "--drop", numbers[1]) == 0
    assert run(bot, "--drop", numbers[1]) == 1
    assert "not parked" in capsys.readouterr().err

    async def left() -> tuple[int, int]:
        async with opened(home) as (_, inbox, _clock):
            return inbox.waiting, inbox.parked_count

    assert asyncio.run(left()) == (1, 1)
    assert run(bot, "--drop", numbers[2]) == 0
    assert run(bot, "--parked") == 0
    assert "nothing is parked" in capsys.readouterr().out


# --- running ---


@asynccontextmanager
async def a_process(script: Path, relay: StartedRelay, home: Path, invite: str, *argv: str) -> AsyncIterator[Process]:
    """The bot of a script, in a process of its own."""
    environment = {**os.environ, RELAY: relay.url, HOME: str(home), INVITE: invite, "PYTHONPATH": str(Path.cwd())}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), *argv, env=environment, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def connected(process: Process) -> ServiceId:
    """Whom to write to."""
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        line = (await process.stdout.readline()).decode()
    found = re.fullmatch(r"echo is connected\. Write to it at (\S+); Ctrl-C stops it\.\n", line)
    assert found is not None, line
    return ServiceId.parse(found[1])


async def test_the_bot_of_the_readme_runs_at_a_relay_and_stops_when_it_is_told_to(
    sqlite_relay: StartedRelay, client_relay: Relay, crypto: SignalCrypto, tmp_path: Path
) -> None:
    script, home = tmp_path / "bot.py", tmp_path / "home"
    script.write_text(ECHO)
    async with invites_of(sqlite_relay.settings) as invites:
        invite = await an_invite(invites, role=Role.BOT)
    world = World(sqlite_relay, client_relay, crypto)
    try:
        ann = await world.person()
        async with a_process(script, sqlite_relay, home, invite) as process:
            bot = await connected(process)
            await ann.chats.create("", [bot])
            await ann.chats.write(ann.key, "/start")
            await soon(lambda: "Hello! I repeat what you write." in ann.texts())
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), SECONDS) == 0
        await ann.chats.write(ann.key, "tea")  # while nothing runs
        async with a_process(script, sqlite_relay, home, "") as process:
            assert await connected(process) == bot
            await soon(lambda: ann.texts().count("tea") == 2)
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), SECONDS) == 0
            assert process.stderr is not None
            logged = (await process.stderr.read()).decode()
        async with a_process(script, sqlite_relay, home, "", "--check") as process:
            out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
            assert process.returncode == 0
            assert f"account is {bot}; 0 events wait, 0 are parked" in out.decode()
    finally:
        await world.close()
    assert "stopping signal=SIGINT" in logged
    assert "tea" not in logged
    assert str(ann.service_id) not in logged


def test_a_bot_says_nothing_more_than_it_has_to(capsys: pytest.CaptureFixture[str]) -> None:
    """Making one opens and prints nothing."""
    bot = Bot("echo")

    @bot.message()
    async def echo(message: MessageContext) -> None:
        await message.reply(message.text)

    assert capsys.readouterr() == ("", "")

"""The examples of bots do what they say: in memory with crashes in the middle, and as processes against a real relay."""

import asyncio
import importlib.util
import json
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest
from standardwebhooks import Webhook
from yarl import URL

from messaging.bots.webhooks import new_signing_secret
from messaging.client.assistant_errors import NoAssistant
from messaging.client.bot import Bot
from messaging.client.bot.inbox import MAX_ATTEMPTS
from messaging.client.connection import Relay
from messaging.client.errors import RelayUnreachable
from messaging.client.testing import Chat, Person, Scene
from messaging.relay.accounts.invites import Role
from messaging.wire.identifiers import MessageId, ServiceId
from signal_protocol.node import find_node
from signal_protocol.operations import SignalCrypto
from tests.bots import an_invite, invites_of
from tests.messaging.client.world import Person as RealPerson
from tests.messaging.client.world import World, soon
from tests.relays import Relays, StartedRelay

EXAMPLES = Path(__file__).parents[2] / "examples" / "bots"

SECONDS = 60  # until a test gives up waiting
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of bots in the environment."""
    for name in [each for each in os.environ if each.startswith(("SUBROSA_", "SUPPORT_"))]:
        monkeypatch.delenv(name)


def the_example(name: str) -> ModuleType:
    """An example as a module of its own: nothing of it was used before."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def recovers(scene: Scene) -> None:
    """Let time pass until everything was handled."""
    async with asyncio.timeout(SECONDS):
        while not await scene.passes(1):
            await asyncio.sleep(0)


def bot_of(name: str) -> Bot:
    """The bot of an example."""
    bot = the_example(name).bot
    assert isinstance(bot, Bot)
    return bot


def test_the_smallest_one_has_ten_lines_and_is_the_one_of_the_readme() -> None:
    source = (EXAMPLES / "echo.py").read_text()
    code = [line for line in source.partition('"""\n')[2].splitlines() if line]
    assert len(code) == 9  # and with the line that says what it is, ten
    shown = re.findall(r"```python\n(.*?)```", (EXAMPLES.parents[1] / "README.md").read_text(), re.DOTALL)
    assert source.partition('"""\n\n')[2] in shown


# --- echo ---


async def test_echo_says_hello_and_repeats_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bot, "run", lambda _: None)  # it has no guard: ten lines
    async with Scene(bot_of("echo")) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "/start")
        await ann.writes(chat, "hello")
        assert await scene.settled()
        assert chat.answers == ["Hello! I repeat what you write.", "hello"]


async def test_echo_says_nothing_twice_when_it_is_killed_behind_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bot, "run", lambda _: None)
    async with Scene(bot_of("echo")) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        scene.relay.fail_next("write", RelayUnreachable(), after=True)  # said, and the bot does not hear so
        await ann.writes(chat, "once")
        await scene.settled()
        await scene.restart()
        await recovers(scene)
        assert chat.answers == ["once"]


# --- reminder ---


@asynccontextmanager
async def a_private_talk(bot: Bot) -> AsyncIterator[tuple[Scene, Person, Chat]]:
    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        yield scene, ann, scene.private(ann)


async def test_a_reminder_comes_when_it_was_asked_for() -> None:
    async with a_private_talk(bot_of("reminder")) as (scene, ann, chat):
        await ann.writes(chat, "Remind me in 10m to water the plants")
        assert await scene.passes(timedelta(minutes=9, seconds=59))
        assert chat.answers == ["I will, in 10m."]
        assert await scene.passes(1)
        assert chat.answers[1:] == ["You wanted to water the plants"]


async def test_a_reminder_outlives_a_crash_and_comes_once() -> None:
    async with a_private_talk(bot_of("reminder")) as (scene, ann, chat):
        await ann.writes(chat, "/remind 1h call Bob")
        await scene.settled()
        await scene.restart()
        scene.relay.fail_next("write", RelayUnreachable(), after=True)
        await scene.passes(timedelta(hours=1))
        await scene.restart()
        await recovers(scene)
        assert chat.answers == ["I will, in 1h.", "You wanted to call Bob"]


async def test_reminders_are_listed_and_forgotten_where_they_were_asked_for() -> None:
    async with a_private_talk(bot_of("reminder")) as (scene, ann, chat):
        bob = scene.person("Bob")
        other = scene.private(bob)
        await ann.writes(chat, "/remind 1d rest")
        await bob.writes(other, "/remind 1d run")
        await ann.writes(chat, "/reminders")
        await ann.writes(chat, "/forget")
        await ann.writes(chat, "/reminders")
        assert await scene.passes(DAY)
        assert chat.answers[1:] == ["- rest", "Forgotten.", "There is nothing to come."]
        assert other.answers[1:] == ["You wanted to run"]


@pytest.mark.parametrize("wish", ["remind me", "remind me tomorrow", "/remind 10 rest", "/remind 1d " + "x" * 1001])
async def test_what_the_reminder_does_not_understand_it_explains(wish: str) -> None:
    async with a_private_talk(bot_of("reminder")) as (scene, ann, chat):
        await ann.writes(chat, wish)
        assert await scene.settled()
        assert chat.answers == [the_example("reminder").HELP]


# --- poll ---


@dataclass
class Group:
    """Some people and the bot of an example, in a group."""

    scene: Scene
    chat: Chat
    ann: Person
    bob: Person
    cem: Person


@asynccontextmanager
async def a_group(bot: Bot, *, reads_all: bool = False) -> AsyncIterator[Group]:
    async with Scene(bot, reads_all=reads_all) as scene:
        people = [scene.person(name) for name in ("Ann", "Bob", "Cem")]
        yield Group(scene, scene.group("Lunch", *people), *people)


async def begin_poll(group: Group, text: str = "/poll What? | pizza | soup") -> MessageId:
    await group.ann.writes(group.chat, text)
    assert await group.scene.settled()
    return group.chat.messages[-1].id


def counted(group: Group, poll: MessageId) -> list[str]:
    """The lines of a poll that show answers."""
    [text] = [message.text for message in group.chat.messages if message.id == poll]
    return [re.sub(r"[^\w :]", "", line) for line in text.splitlines()[1:-1]]


async def test_a_poll_counts_reactions_and_votes_each_member_once() -> None:
    async with a_group(bot_of("poll")) as group:
        poll = await begin_poll(group)
        assert counted(group, poll) == ["1 pizza: 0", "2 soup: 0"]
        await group.ann.reacts(group.chat, poll, "1\ufe0f\u20e3")
        await group.bob.writes(group.chat, "/vote 1")
        await group.cem.writes(group.chat, "/vote 2", quote=poll)
        assert await group.scene.settled()
        assert counted(group, poll) == ["1 pizza: 2", "2 soup: 1"]

        await group.ann.reacts(group.chat, poll, "2\u20e3")  # as some keyboards write it
        await group.bob.writes(group.chat, "/vote 9")  # there is no such answer
        await group.cem.reacts(group.chat, poll, "👍")
        assert await group.scene.settled()
        assert counted(group, poll) == ["1 pizza: 1", "2 soup: 2"]

        await group.ann.reacts(group.chat, poll, "2\u20e3", remove=True)
        assert await group.scene.settled()
        assert counted(group, poll) == ["1 pizza: 1", "2 soup: 1"]


async def test_votes_that_come_while_the_bot_is_killed_are_counted() -> None:
    async with a_group(bot_of("poll")) as group:
        poll = await begin_poll(group)
        group.scene.relay.fail_next("edit", RelayUnreachable())
        await group.ann.writes(group.chat, "/vote 1")
        await group.scene.settled()
        await group.bob.reacts(group.chat, poll, "1\ufe0f\u20e3")
        await group.scene.restart()
        await recovers(group.scene)
        assert counted(group, poll) == ["1 pizza: 2", "2 soup: 0"]
        assert len(group.chat.answers) == 1


async def test_a_vote_is_for_the_poll_that_it_quotes_or_the_latest() -> None:
    async with a_group(bot_of("poll")) as group:
        first, second = [await begin_poll(group), await begin_poll(group, "/poll When? | noon | one | two")]
        await group.ann.writes(group.chat, "/vote 2")
        await group.bob.writes(group.chat, "/vote 2", quote=first)
        assert await group.scene.settled()
        assert counted(group, first) == ["1 pizza: 0", "2 soup: 1"]
        assert counted(group, second) == ["1 noon: 0", "2 one: 1", "3 two: 0"]


@pytest.mark.parametrize("text", ["/poll", "/poll What?", "/poll What? | one", "/poll | a | b", "/poll W | a |"])
async def test_half_a_poll_is_explained(text: str) -> None:
    async with a_group(bot_of("poll")) as group:
        await begin_poll(group, text)
        assert group.chat.answers == [the_example("poll").USAGE]


async def test_nobody_but_the_bot_makes_a_poll_that_counts() -> None:
    async with a_group(bot_of("poll")) as group:
        poll = await begin_poll(group)
        [text] = group.chat.answers
        forged = await group.bob.writes(group.chat, text)
        await group.ann.writes(group.chat, "/vote 1", quote=forged)
        assert await group.scene.settled()
        assert counted(group, poll) == ["1 pizza: 0", "2 soup: 0"]


# --- support ---


@dataclass
class Support:
    """The support desk, with two who answer, and somebody who asks."""

    scene: Scene
    desk: Chat
    staff: tuple[Person, Person]
    ann: Person
    chat: Chat

    def at_desk(self, text: str) -> MessageId:
        """The message at the desk that says this."""
        [found] = [message.id for message in self.desk.messages if message.text == text]
        return found


@asynccontextmanager
async def a_support_desk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Support]:
    scene = Scene(bot_of("support"))
    staff = (scene.person("Sue"), scene.person("Sam"))
    monkeypatch.setenv("SUPPORT_STAFF", ", ".join(str(person.id) for person in staff))
    monkeypatch.setenv("SUBROSA_BOT_HOME", str(folder / "support"))
    async with scene:
        [desk] = scene.chats
        ann = scene.person("Ann")
        yield Support(scene, desk, staff, ann, scene.private(ann))


@pytest.fixture
async def support(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Support]:
    async with a_support_desk(tmp_path, monkeypatch) as made:
        yield made


async def test_the_desk_answers_what_it_knows_and_hands_over_the_rest(support: Support) -> None:
    assert set(support.desk.state.members) == {support.scene.bot_id, *(person.id for person in support.staff)}
    await support.ann.writes(support.chat, "Hours")
    await support.ann.writes(support.chat, "My rose has a thorn.")
    assert await support.scene.settled()
    assert support.chat.answers == ["We are here from 9 to 17, Monday to Friday."]
    assert support.desk.answers == ["Case 1, Ann: My rose has a thorn."]


async def test_who_quotes_at_the_desk_answers_whoever_asked(support: Support) -> None:
    asked = await support.ann.writes(support.chat, "My rose has a thorn.", files=[("thorn.jpg", b"a thorn")])
    bob = support.scene.person("Bob")
    other = support.scene.private(bob)
    await bob.writes(other, "Mine, too.")
    assert await support.scene.settled()

    sue, sam = support.staff
    passed_on = support.at_desk("Case 1, Ann: My rose has a thorn.")
    await sue.writes(support.desk, "All have.", quote=passed_on)
    await sam.writes(support.desk, "Not in spring.", quote=support.at_desk("Case 2, Bob: Mine, too."))
    await sam.writes(support.desk, "Who is on holiday?")  # among themselves
    assert await support.scene.settled()
    assert (support.chat.answers, other.answers) == (["All have."], ["Not in spring."])
    [answer] = [message for message in support.chat.messages if message.text == "All have."]
    assert answer.quote is not None
    assert answer.quote.message == asked
    [shown] = [message for message in support.desk.messages if message.id == passed_on]
    assert support.scene.relay.file(shown.attachments[0]) == b"a thorn"


async def test_a_closed_case_is_followed_by_another_one(support: Support) -> None:
    await support.ann.writes(support.chat, "one")
    assert await support.scene.settled()
    await support.staff[0].writes(support.desk, "/close", quote=support.at_desk("Case 1, Ann: one"))
    assert await support.scene.settled()
    await support.ann.writes(support.chat, "two")
    await support.ann.writes(support.chat, "three")
    assert await support.scene.settled()
    assert support.chat.answers == ["Your case is closed. Write again whenever you want to."]
    assert support.desk.answers[1:] == ["Case 1 is closed.", "Case 2, Ann: two", "Case 2, Ann: three"]


async def test_a_crash_at_the_desk_loses_nothing_and_repeats_nothing(support: Support) -> None:
    support.scene.relay.fail_next("write", RelayUnreachable(), after=True)
    await support.ann.writes(support.chat, "one")
    await support.scene.settled()
    await support.scene.restart()
    await recovers(support.scene)
    assert support.desk.answers == ["Case 1, Ann: one"]
    assert len(support.scene.chats) == 2  # the desk is the same one

    support.scene.relay.fail_next("write", RelayUnreachable(), after=True)
    await support.staff[0].writes(support.desk, "yes", quote=support.at_desk("Case 1, Ann: one"))
    await support.scene.settled()
    await support.scene.restart()
    await recovers(support.scene)
    assert support.chat.answers == ["yes"]


async def test_nobody_else_answers_and_nobody_else_reads(support: Support) -> None:
    eve = support.scene.person("Eve")
    fake = support.scene.group("Support desk", eve, support.ann)
    await support.ann.writes(support.chat, "one")
    assert await support.scene.settled()
    await eve.writes(fake, "/close", quote=await eve.writes(fake, "Case 1, Ann: one"))
    await eve.writes(fake, "/hello")
    assert await support.scene.settled()
    assert fake.answers == [
        "Quote a message of the case that you want to close.",
        "Write to me alone: others would read our answers here.",
    ]
    assert support.chat.answers == []


async def test_what_is_kept_beside_the_store_holds_no_text_and_opens_nothing(support: Support, tmp_path: Path) -> None:
    await support.ann.writes(support.chat, "My canary sings.")
    assert await support.scene.settled()
    kept = (tmp_path / "support" / "cases.db").read_bytes()
    assert b"canary" not in kept
    assert support.chat.key.hex().encode() not in kept
    assert support.chat.state.id.hex().encode() in kept
    assert (tmp_path / "support" / "cases.db").stat().st_mode & 0o077 == 0


# --- digest ---


async def test_the_digest_holds_what_those_said_who_opted_in_and_counts_the_rest() -> None:
    async with a_group(bot_of("digest"), reads_all=True) as group:
        await group.ann.writes(group.chat, "/digest on")
        assert await group.scene.settled()
        group.bob.opts_in(group.chat)
        await group.bob.writes(group.chat, "I bring soup.")
        await group.cem.writes(group.chat, "I say nothing to machines.")
        assert await group.scene.passes(DAY)
        assert group.chat.answers[1].splitlines() == [
            "What was said:",
            "- I bring soup.",
            "From 1 messages; 1 were left out, 1 of them because their authors have not opted in. Engine: memory.",
        ]


async def test_each_digest_begins_where_the_last_one_ended_and_nothing_new_is_no_digest() -> None:
    async with a_group(bot_of("digest"), reads_all=True) as group:
        group.bob.opts_in(group.chat)
        await group.ann.writes(group.chat, "/digest on")
        for day in ("one", "two", ""):
            assert await group.scene.settled()
            if day:
                await group.bob.writes(group.chat, day)
            assert await group.scene.passes(DAY)
        assert [answer.splitlines()[1] for answer in group.chat.answers[1:]] == ["- one", "- two"]


async def test_a_crash_neither_loses_nor_doubles_a_digest() -> None:
    async with a_group(bot_of("digest"), reads_all=True) as group:
        group.bob.opts_in(group.chat)
        await group.ann.writes(group.chat, "/digest on")
        await group.bob.writes(group.chat, "one")
        assert await group.scene.settled()
        await group.scene.restart()
        group.scene.relay.fail_next("write", RelayUnreachable(), after=True)
        await group.scene.passes(DAY)
        await group.scene.restart()
        await recovers(group.scene)
        assert [answer.splitlines()[1] for answer in group.chat.answers[1:]] == ["- one"]
        assert len(group.scene.bot.timers) == 1


async def test_without_an_assistant_the_group_is_told_so_and_the_next_digest_comes() -> None:
    async with a_group(bot_of("digest"), reads_all=True) as group:
        group.bob.opts_in(group.chat)
        await group.ann.writes(group.chat, "/digest on")
        await group.bob.writes(group.chat, "one")
        group.scene.relay.fail_next("summarize", NoAssistant(), times=MAX_ATTEMPTS)
        await group.scene.passes(DAY + timedelta(hours=1))
        assert group.chat.answers[1].startswith("There is no digest today: no assistant can be used now")
        await group.bob.writes(group.chat, "two")
        assert await group.scene.passes(DAY)
        assert group.chat.answers[2].splitlines()[1] == "- two"


async def test_a_digest_bot_that_is_told_commands_alone_says_so() -> None:
    async with a_group(bot_of("digest")) as group:
        await group.ann.writes(group.chat, "/digest on")
        assert await group.scene.passes(2 * DAY)
        assert group.chat.answers == [the_example("digest").BLIND]


async def test_digests_end() -> None:
    async with a_group(bot_of("digest"), reads_all=True) as group:
        group.bob.opts_in(group.chat)
        for said in ("/digest on", "/digest off"):
            await group.ann.writes(group.chat, said)
        await group.bob.writes(group.chat, "one")
        assert await group.scene.passes(2 * DAY)
        assert group.chat.answers[1:] == ["There are no more digests."]


# --- as processes, at a real relay ---


@dataclass
class Running:
    """A program of the examples, in a process of its own."""

    process: Process
    errors: Path

    async def line(self) -> str:
        """What it prints next."""
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), SECONDS)).decode()
        assert line, self.errors.read_text()
        return line

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        await asyncio.wait_for(self.process.wait(), SECONDS)
        return self.process.returncode or 0


@dataclass
class Programs:
    """Starts programs at one relay; what runs at the end is killed."""

    relay: StartedRelay
    folder: Path
    invite: str
    running: list[Running] = field(default_factory=list)

    async def start(self, *command: str | Path, **environment: str) -> Running:
        errors = self.folder / f"errors {len(self.running)}"
        with errors.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={"PATH": os.defpath, "HOME": str(self.folder), **environment},
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
            )
        self.running.append(Running(process, errors))
        return self.running[-1]

    async def bot(self, name: str, **environment: str) -> tuple[Running, ServiceId]:
        """An example in Python, as its README starts it, and the account that it prints."""
        settings = {"SUBROSA_RELAY": self.relay.url, "SUBROSA_INVITE": self.invite, **environment}
        running = await self.start(
            sys.executable, EXAMPLES / f"{name}.py", **settings, PYTHONPATH=str(EXAMPLES.parents[1])
        )
        [account] = re.findall(r"[0-9a-f-]{36}", await running.line())
        return running, ServiceId.parse(account)

    async def gateway(self, *arguments: str) -> Running:
        """A verb of ``subrosa bot``."""
        return await self.start(
            sys.executable, "-m", "messaging.bots.command", *arguments, PYTHONPATH=str(EXAMPLES.parents[1])
        )

    async def close(self) -> None:
        for each in self.running:
            await each.end(signal.SIGKILL)


@pytest.fixture
async def programs(relays: Relays, tmp_path: Path) -> AsyncIterator[Programs]:
    """Programs at a relay on SQLite, and an invite for a bot."""
    relay = await relays.start("sqlite")
    async with invites_of(relay.settings) as invites:
        made = Programs(relay, tmp_path, await an_invite(invites, role=Role.BOT))
    yield made
    await made.close()


@pytest.fixture
async def ann(programs: Programs) -> AsyncIterator[RealPerson]:
    """Somebody at the same relay, with real keys."""
    async with Relay(programs.relay.url) as relay, SignalCrypto.start() as crypto:
        world = World(programs.relay, relay, crypto)
        yield await world.person()
        await world.close()


def answers_in(ann: RealPerson, bot: ServiceId) -> list[str]:
    return [message.text for message in ann.chats.messages(ann.key) if message.id.author == bot]


async def test_echo_as_a_process_is_killed_and_answers_everything_once(programs: Programs, ann: RealPerson) -> None:
    running, bot = await programs.bot("echo")
    await ann.chats.create("", [bot])
    texts = [f"message {number}" for number in range(40)]
    for text in texts[:20]:
        await ann.write(text)
    await soon(lambda: len(answers_in(ann, bot)) >= 5)
    await running.end(signal.SIGKILL)
    for text in texts[20:]:
        await ann.write(text)
    running, again = await programs.bot("echo")
    assert again == bot
    await soon(lambda: len(answers_in(ann, bot)) >= 40)
    await ann.write("/start")
    await soon(lambda: answers_in(ann, bot)[40:])
    assert answers_in(ann, bot) == [*texts, "Hello! I repeat what you write."]
    assert await running.end() == 0
    assert "message" not in running.errors.read_text().replace("kind=message", "")


async def test_reminder_as_a_process_is_killed_and_comes_back_in_time(programs: Programs, ann: RealPerson) -> None:
    running, bot = await programs.bot("reminder")
    await ann.chats.create("", [bot])
    await ann.write("remind me in 1s to rest")
    await soon(lambda: answers_in(ann, bot))
    await running.end(signal.SIGKILL)
    await programs.bot("reminder")
    await soon(lambda: len(answers_in(ann, bot)) >= 2)
    await ann.write("/reminders")
    await soon(lambda: len(answers_in(ann, bot)) >= 3)
    assert answers_in(ann, bot) == ["I will, in 1s.", "You wanted to rest", "There is nothing to come."]


async def test_a_poll_as_a_process_is_edited_for_everybody(programs: Programs, ann: RealPerson) -> None:
    running, bot = await programs.bot("poll")
    await ann.chats.create("Lunch", [bot])
    await ann.write("/poll What? | pizza | soup")
    await soon(lambda: answers_in(ann, bot))
    await running.end(signal.SIGKILL)
    await ann.write("/vote 2")
    await programs.bot("poll")
    await soon(lambda: "soup: 1" in answers_in(ann, bot)[0])
    assert len(answers_in(ann, bot)) == 1


async def test_the_support_desk_as_a_process_is_killed_between_a_question_and_its_answer(
    programs: Programs, ann: RealPerson
) -> None:
    sue = await ann.world.person()
    running, bot = await programs.bot("support", SUPPORT_STAFF=str(sue.service_id))
    await soon(lambda: sue.chats.conversations)
    await ann.chats.create("", [bot])
    asked = await ann.write("My rose has a thorn.")
    await soon(lambda: answers_in(sue, bot))
    await running.end(signal.SIGKILL)

    [passed_on] = [message.id for message in sue.chats.messages(sue.key) if message.id.author == bot]
    await sue.chats.write(sue.key, "All have.", quote=passed_on)
    await programs.bot("support", SUPPORT_STAFF=str(sue.service_id))
    await soon(lambda: answers_in(ann, bot))
    [answer] = [message for message in ann.chats.messages(ann.key) if message.id.author == bot]
    assert answer.text == "All have."
    assert answer.quote is not None
    assert answer.quote.message == asked
    assert answers_in(sue, bot) == ["Case 1, Somebody: My rose has a thorn."]


# --- Node, behind the gateway ---


@dataclass
class NodeBot:
    """The webhook bot behind a gateway of its own."""

    programs: Programs
    token: str
    account: ServiceId
    gateway: str
    program: Running
    url: str

    async def restart(self) -> None:
        """Start the program again, where it was before."""
        await self.program.end(signal.SIGKILL)
        port = self.url.rstrip("/").rpartition(":")[2]
        self.program, self.url = await start_node(self.programs, self.token, self.gateway, port)


async def start_node(programs: Programs, token: str, gateway: str, port: str) -> tuple[Running, str]:
    script = EXAMPLES / "webhook_node" / "server.mjs"
    program = await programs.start(find_node(), script, TOKEN=token, GATEWAY=gateway, PORT=port)
    return program, (await program.line()).split()[-1]


@pytest.fixture
async def node(programs: Programs, tmp_path: Path) -> NodeBot:
    home = ("--home", str(tmp_path / "gateway"))
    create = ("create", "Echo", "--relay", programs.relay.url, "--invite", programs.invite, "--json", *home)
    made = json.loads(await (await programs.gateway(*create)).line())
    serving = await programs.gateway("gateway", "--port", "0", "--allow-webhook-network", "127.0.0.0/8", *home)
    gateway = (await serving.line()).strip()
    program, url = await start_node(programs, made["token"], gateway, "0")
    return NodeBot(programs, made["token"], ServiceId.parse(made["account"]), gateway, program, url)


async def test_the_node_bot_answers_both_ways_and_outlives_being_killed(node: NodeBot, ann: RealPerson) -> None:
    await ann.chats.create("", [node.account])
    await ann.write("/start")
    await ann.write("hello")
    await ann.write("/time")
    await soon(lambda: len(answers_in(ann, node.account)) >= 3)
    hello, echoed, told = answers_in(ann, node.account)
    assert hello.startswith("Hello!")
    assert echoed == "hello"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", told)

    await node.program.end(signal.SIGKILL)
    texts = [f"message {number}" for number in range(5)]
    for text in texts:
        await ann.write(text)
    await node.restart()
    await soon(lambda: len(answers_in(ann, node.account)) >= 8)
    assert answers_in(ann, node.account)[3:] == texts


async def post_slowly(url: str, size: int) -> str:
    """The status line, for a sender that reads nothing before it has sent everything."""
    host, port = URL(url).host, URL(url).port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n".encode())
    for _ in range(20):
        writer.write(bytes(size // 20))
        await writer.drain()
        await asyncio.sleep(0.01)
    status = await reader.readline()
    writer.close()
    return status.decode().strip()


async def test_the_node_bot_takes_what_its_gateway_signed_and_nothing_else(node: NodeBot, ann: RealPerson) -> None:
    body = json.dumps({"update_id": 1, "message": {"text": "/start", "chat": {"id": 1}}})

    async with aiohttp.ClientSession() as http:

        async def post(data: str, secret: str, at: datetime) -> tuple[int, str]:
            signature = Webhook(secret).sign("an id", at, body)
            named = {"webhook-id": "an id", "webhook-timestamp": str(int(at.timestamp()))}
            headers = {**named, "webhook-signature": f"v1,bm90IHRoaXM= v2,x {signature}"}
            async with http.post(node.url, data=data, headers=headers) as response:
                return response.status, await response.text()

        async with http.get(f"{node.gateway}/bot{node.token}/getWebhookSecret") as response:
            secret = (await response.json())["result"]
        now, other = datetime.now(UTC), new_signing_secret()
        status, said = await post(body, secret, now)
        assert (status, json.loads(said)["chat_id"]) == (200, 1)
        assert await post(body, secret, now) == (status, said)  # the same again
        assert await post(body, other, now) == (401, "{}")
        assert await post(body + " ", secret, now) == (401, "{}")
        assert await post(body, secret, now - timedelta(minutes=6)) == (401, "{}")
        assert await post(body, secret, now + timedelta(minutes=6)) == (401, "{}")
        async with http.post(node.url, data=body) as response:
            assert response.status == 401
        async with http.get(node.url) as response:
            assert response.status == 405
    assert await post_slowly(node.url, 2_000_000) == "HTTP/1.1 413 Payload Too Large"
    assert node.program.errors.read_text() == ""


async def test_the_node_bot_says_what_is_missing(programs: Programs) -> None:
    script = EXAMPLES / "webhook_node" / "server.mjs"
    for environment, said in (
        ({}, "set TOKEN"),
        ({"TOKEN": "1:x", "GATEWAY": "http://127.0.0.1:1"}, "no gateway answers"),
    ):
        program = await programs.start(find_node(), script, PORT="0", **environment)
        assert await asyncio.wait_for(program.process.wait(), SECONDS) > 0
        assert said in program.errors.read_text()


def test_the_node_bot_has_no_dependencies() -> None:
    package = json.loads((EXAMPLES / "webhook_node" / "package.json").read_text())
    assert not {"dependencies", "devDependencies", "optionalDependencies"} & package.keys()
    imported = re.findall(r"from '(.*)'", (EXAMPLES / "webhook_node" / "server.mjs").read_text())
    assert all(name.startswith("node:") for name in imported)
    assert imported

"""A bot as its author sees it: what handlers get, what they can do, and what becomes of it after errors and crashes."""

import asyncio
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from messaging.client.assistant_errors import AssistantRefused
from messaging.client.bot import (
    Bot,
    ChangeContext,
    DeletionContext,
    EditContext,
    EventContext,
    MessageContext,
    NotRunning,
    ReactionContext,
    ReadContext,
    TimerContext,
    TypingContext,
)
from messaging.client.bot.inbox import LONGEST_PAUSE, MAX_ATTEMPTS
from messaging.client.errors import RelayUnreachable
from messaging.client.testing import Chat, Person, Scene
from messaging.wire.assistant import Summary
from messaging.wire.data import Mention

CANARY = "canary 7c1f sings"


class Flaw(Exception):
    """What handlers of these tests raise."""


def an_echo() -> Bot:
    bot = Bot("echo")

    @bot.command("start", help="says hello")
    async def start(message: MessageContext) -> None:
        await message.reply("Hello! I repeat what you write.")

    @bot.message()
    async def echo(message: MessageContext) -> None:
        await message.reply(message.text)

    return bot


async def test_the_first_bot_of_the_readme() -> None:
    async with Scene(an_echo()) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "/start")
        await ann.writes(chat, "tea")
        assert await scene.settled()
        assert chat.answers == ["Hello! I repeat what you write.", "tea"]
        assert ann.sees("tea", chat)


# --- what handlers get ---


async def test_every_kind_of_event_reaches_its_handler_with_what_it_is_about() -> None:
    bot, heard = Bot("all"), list[Any]()

    @bot.message()
    async def message(context: MessageContext) -> None:
        heard.append(("message", context.sender.name, context.text))

    @bot.edited()
    async def edited(context: EditContext) -> None:
        heard.append(("edited", context.message_id, context.text))

    @bot.deleted()
    async def deleted(context: DeletionContext) -> None:
        heard.append(("deleted", context.message_id))

    @bot.reaction()
    async def reaction(context: ReactionContext) -> None:
        heard.append(("reaction", context.emoji, context.removed, context.to_me))

    @bot.joined()
    async def joined(context: ChangeContext) -> None:
        heard.append(("joined", {each.name for each in context.joined}))

    @bot.left()
    async def left(context: ChangeContext) -> None:
        heard.append(("left", [each.name for each in context.left]))

    @bot.members()
    async def members(context: ChangeContext) -> None:
        heard.append(("members", [each.name for each in (*context.joined, *context.left)]))

    @bot.conversation()
    async def conversation(context: ChangeContext) -> None:
        heard.append(("conversation", context.settings, context.conversation.title))

    @bot.read()
    async def read(context: ReadContext) -> None:
        heard.append(("read", len(context.messages)))

    async with Scene(bot, reads_all=True) as scene:
        ann, bob = scene.person("Ann"), scene.person("Bob")
        chat = scene.group("Tea", ann)
        written = await ann.writes(chat, "tee")
        await ann.edits(chat, written, "tea")
        await ann.reacts(chat, written, "👍")
        await ann.reacts(chat, written, "👍", remove=True)
        await ann.deletes(chat, written)
        await ann.adds(chat, bob)
        await ann.renames(chat, "Coffee")
        await bob.leaves(chat)
        assert await scene.settled()
        said = await bot.find(chat.key).send("hello")
        await ann.reads(chat)
        await ann.reacts(chat, said.id, "👍")
        assert await scene.settled()
        await ann.removes(chat, scene.bot_id)
        assert await scene.settled()
    assert heard == [
        ("joined", {"Ann", "all"}),
        ("message", "Ann", "tee"),
        ("edited", written, "tea"),
        ("reaction", "👍", False, False),
        ("reaction", "👍", True, False),
        ("deleted", written),
        ("members", ["Bob"]),
        ("conversation", True, "Coffee"),
        ("members", ["Bob"]),
        ("read", 1),
        ("reaction", "👍", False, True),
        ("left", ["all"]),
    ]


async def test_a_command_comes_with_its_arguments_and_a_pattern_with_its_match() -> None:
    bot, heard = Bot("x"), list[Any]()

    @bot.command("remind", "r")
    async def remind(message: MessageContext) -> None:
        heard.append((message.command, message.arguments, message.match))

    @bot.message(r"(\d+) cups")
    async def cups(message: MessageContext) -> None:
        assert message.match is not None
        heard.append((message.command, message.arguments, message.match[1]))

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        for text in ("/remind me", "/R@x  you ", "please 12 cups"):
            await ann.writes(chat, text)
        assert await scene.settled()
    assert heard == [("remind", "me", None), ("r", "you", None), ("", "", "12")]


async def test_typing_is_heard_while_it_happens() -> None:
    bot, heard = Bot("x"), list[bool]()

    @bot.typing()
    async def typing(context: TypingContext) -> None:
        heard.append(context.started)

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        assert await scene.settled()
        await ann.types(chat)
        await ann.types(chat, started=False)
        assert await scene.settled()
    assert heard == [True, False]


async def test_a_handler_of_typing_that_fails_is_not_tried_again() -> None:
    bot, calls = Bot("x"), list[int]()

    @bot.typing()
    async def typing(_: TypingContext) -> None:
        calls.append(1)
        raise Flaw

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.types(chat)
        assert await scene.passes(LONGEST_PAUSE)
        assert [type(each) for each in scene.errors] == [Flaw]
    assert calls == [1]


async def test_in_a_group_a_bot_gets_what_is_addressed_to_it_or_all_if_it_reads_all() -> None:
    for reads_all, expected in ((False, ["/x", "@bot"]), (True, ["not for bots", "/x", "@bot"])):
        bot, heard = Bot("bot"), list[str]()

        @bot.message()
        async def message(context: MessageContext, heard: list[str] = heard) -> None:
            heard.append(context.text)

        async with Scene(bot, reads_all=reads_all) as scene:
            ann, bob = scene.person("Ann"), scene.person("Bob")
            chat = scene.group("Tea", ann, bob)
            await ann.writes(chat, "not for bots")
            await ann.writes(chat, "/x")
            await ann.writes(chat, "@bot", mentions=[Mention(0, 4, scene.bot_id)])
            assert await scene.settled()
        assert heard == expected


# --- help ---


async def test_help_lists_the_commands_unless_there_is_one_of_that_name() -> None:
    async with Scene(an_echo()) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "/help")
        await ann.writes(chat, "/help@echo")
        await ann.writes(chat, "/help@other")
        assert await scene.settled()
        assert chat.answers == ["/start: says hello"] * 2

    bot = Bot("x")

    @bot.command("help", help="shows this")
    async def help_(message: MessageContext) -> None:
        await message.reply("my own")

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "/help")
        assert await scene.settled()
        assert chat.answers == ["my own"]


async def test_a_bot_without_texts_for_help_has_no_help() -> None:
    bot = Bot("x")

    @bot.message()
    async def echo(message: MessageContext) -> None:
        await message.reply(message.text)

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "/help")
        assert await scene.settled()
        assert chat.answers == ["/help"]


# --- what handlers do ---


async def answers(handler: Callable[[MessageContext], Any], *, group: bool = False) -> tuple[Scene, Chat, Person]:
    """What is left of a scene in which a handler has got one message."""
    bot = Bot("x")
    bot.message()(handler)
    async with Scene(bot, reads_all=True) as scene:
        ann = scene.person("Ann")
        chat = scene.group("Tea", ann, scene.person("Bob")) if group else scene.private(ann)
        await ann.writes(chat, "tea")
        assert await scene.settled(), scene.errors
        return scene, chat, ann


@pytest.mark.parametrize(
    ("group", "quote", "quoted"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
async def test_an_answer_quotes_where_others_are(group: bool, quote: bool | None, quoted: bool) -> None:
    async def handler(message: MessageContext) -> None:
        await message.reply("yes", quote=quote)

    _, chat, _ = await answers(handler, group=group)
    assert (chat.messages[1].quote is not None) is quoted


async def test_a_message_is_answered_in_many_ways() -> None:
    async def handler(message: MessageContext) -> None:
        await message.read()
        await message.react("👍")
        async with message.typing():
            said = await message.reply("yse")
        await said.edit("yes")
        await said.react("🎉")
        wrong = await message.send("no")
        await wrong.delete()
        await wrong.delete()  # it is gone already

    _, chat, ann = await answers(handler)
    question, answer = chat.messages
    assert answer.text == "yes"
    assert list(chat.reactions(question.id).values()) == ["👍"]
    assert list(chat.reactions(answer.id).values()) == ["🎉"]
    assert not ann.sees("no")


async def test_a_question_that_was_deleted_meanwhile_is_answered_without_quoting_it() -> None:
    bot = Bot("x")

    @bot.message()
    async def answer(message: MessageContext) -> None:
        await ann.deletes(chat, message.message_id)
        await message.react("👍")
        await message.reply("yes", quote=True)

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "tea?")
        assert await scene.settled(), scene.errors
        assert [(each.text, each.quote) for each in chat.messages] == [("yes", None)]


async def test_files_come_and_go(tmp_path: Path) -> None:
    bot = Bot("x")

    @bot.message(attachments=True)
    async def files(message: MessageContext) -> None:
        [file] = message.attachments
        path = await file.download(tmp_path)
        assert (path.name, file.size) == ("tea.txt", 3)
        assert await file.read() == b"tea"
        await message.conversation.send_file(path, "yours")
        await message.conversation.send_file(b"bytes", file_name="note.md", content_type="text/markdown")

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "", files=[("../../tea.txt", b"tea")])
        assert await scene.settled(), scene.errors
        (first,), (second,) = (each.attachments for each in chat.messages[1:])
        assert (first.file_name, first.content_type) == ("tea.txt", "text/plain")
        assert (second.file_name, second.content_type) == ("note.md", "text/markdown")
        assert scene.relay.file(first) == b"tea"


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("tea.txt", "tea.txt"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\evil.exe", "evil.exe"),
        ("..", "file"),
        (".bashrc", "bashrc"),
        ("", "file"),
        ("a\x00b\n.txt", "a_b_.txt"),
        ("x" * 300, "x" * 200),
        ("漢" * 100, "漢" * 66),
        ("Größe 1.pdf", "Größe 1.pdf"),
    ],
)
async def test_the_name_of_a_file_leads_nowhere_else(given: str, safe: str) -> None:
    names: list[str] = []

    async def handler(message: MessageContext) -> None:
        names.extend(each.safe_name for each in message.attachments)

    bot = Bot("x")
    bot.message()(handler)
    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        await ann.writes(scene.private(ann), "", files=[(given, b"")])
        assert await scene.settled()
    assert names == [safe]


async def test_in_a_folder_the_sender_s_name_replaces_nothing(tmp_path: Path) -> None:
    bot, paths = Bot("files"), list[Path]()
    program = tmp_path / "bot.py"
    program.write_text("the owner's")

    @bot.message(attachments=True)
    async def files(message: MessageContext) -> None:
        paths.extend(await asyncio.gather(*(each.download(tmp_path) for each in message.attachments)))

    sent = [("bot.py", b"first"), ("bot.py", b"second"), ("漢" * 100, b"long")]
    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        await ann.writes(scene.private(ann), "", files=sent)
        assert await scene.settled(), scene.errors
    assert [path.read_bytes() for path in paths] == [b"first", b"second", b"long"]
    assert [path.suffix for path in paths] == [".py", ".py", ""]
    assert program.read_text() == "the owner's"
    assert sorted(tmp_path.iterdir()) == sorted([program, *paths])  # noqa: ASYNC240


async def test_at_a_path_of_the_owner_s_a_file_is_replaced(tmp_path: Path) -> None:
    bot, latest = Bot("files"), tmp_path / "latest"
    latest.write_bytes(b"old")

    @bot.message(attachments=True)
    async def files(message: MessageContext) -> None:
        assert await message.attachments[0].download(latest) == latest

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        await ann.writes(scene.private(ann), "", files=[("x", b"new")])
        assert await scene.settled(), scene.errors
    assert latest.read_bytes() == b"new"


async def test_a_conversation_is_changed_by_its_admin() -> None:
    bot = Bot("desk")

    @bot.command("open")
    async def opened(message: MessageContext) -> None:
        desk = await bot.create("Desk", [message.sender])
        await desk.set_title("Help desk")
        await desk.add(str(bob.id))
        await desk.add(bob.id)  # is there already: nothing changes
        await desk.remove(message.sender)
        await desk.set_expiry(timedelta(hours=1))
        await desk.set_admins([bob.id, bot.id])
        assert [each.name for each in desk.members] == ["desk", "Bob"]
        assert desk.private
        assert not message.conversation.state.admins

    async with Scene(bot) as scene:
        ann, bob = scene.person("Ann"), scene.person("Bob")
        await ann.writes(scene.private(ann), "/open")
        assert await scene.settled(), scene.errors
        desk = scene.chats[1]
        assert (desk.title, set(desk.state.members)) == ("Help desk", {scene.bot_id, bob.id})
        assert (desk.state.expires_in, desk.state.revision) == (3600, 5)
        assert [each.key for each in bot.conversations] == [each.key for each in scene.chats]
        await bot.find(desk.key).leave()
        assert desk.state.members == (bob.id,)
        assert len(bot.conversations) == 1


async def test_a_bot_asks_the_assistant_about_the_last_messages() -> None:
    bot, asked = Bot("digest"), list[Any]()

    @bot.command("digest")
    async def digest(message: MessageContext) -> None:
        conversation = message.conversation
        with pytest.raises(AssistantRefused):
            await conversation.summarize()
        await conversation.opt_in()
        result = await conversation.summarize(last=2)
        assert isinstance(result.kind, Summary)
        asked.append(([line.text for line in result.kind.lines], result.kind.coverage.not_opted_in))
        with pytest.raises(ValueError, match="at least one"):
            await conversation.summarize(last=0)

    async with Scene(bot, reads_all=True) as scene:
        ann, bob = scene.person("Ann"), scene.person("Bob")
        chat = scene.group("Tea", ann, bob)
        bob.opts_in(chat)
        for person, text in ((bob, "too long ago"), (bob, "tea at five"), (ann, "/digest")):
            await person.writes(chat, text)
        assert await scene.settled(), scene.errors
    assert asked == [(["tea at five"], 1)]


async def test_a_profile_is_set_at_the_start() -> None:
    bot = Bot("x")

    @bot.started()
    async def started() -> None:
        await bot.set_profile("The Bot")

    async with Scene(bot) as scene:
        assert await scene.settled()
        assert scene.relay.names[scene.bot_id] == "The Bot"


def test_what_needs_the_account_works_only_while_the_bot_runs() -> None:
    with pytest.raises(NotRunning, match="in a handler"):
        _ = Bot("x").conversations


# --- again ---


async def test_a_handler_that_is_run_again_after_an_error_says_nothing_twice() -> None:
    bot = Bot("x")

    @bot.message()
    async def handler(message: MessageContext) -> None:
        await message.reply("one")
        await message.send("each time", once=False)
        await message.conversation.send("two")
        if message.attempt < 3:
            raise Flaw
        await message.reply("three")

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "tea")
        assert not await scene.settled()
        assert await scene.passes(60)
        assert chat.answers == ["one", "each time", "two", "each time", "each time", "three"]


async def test_what_is_said_in_another_conversation_is_not_said_twice_either() -> None:
    bot = Bot("desk")

    @bot.message(private=True)
    async def forward(message: MessageContext) -> None:
        await bot.find(desk.key).send(message.text)
        if message.attempt == 1:
            raise Flaw

    async with Scene(bot) as scene:
        ann, bob = scene.person("Ann"), scene.person("Bob")
        desk = scene.group("Desk", bob, scene.person("Eve"))
        await ann.writes(scene.private(ann), "help!")
        await scene.settled()
        assert await scene.passes(60)
        assert desk.answers == ["help!"]


async def test_two_events_that_are_answered_alike_are_both_answered() -> None:
    async with Scene(an_echo()) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        for _ in range(3):
            await ann.writes(chat, "tea")
        assert await scene.settled()
        assert chat.answers == ["tea"] * 3


async def test_after_a_crash_in_the_middle_a_handler_runs_again_and_says_nothing_twice() -> None:
    bot, runs, go = Bot("x"), list[int](), asyncio.Event()

    @bot.message()
    async def handler(message: MessageContext) -> None:
        runs.append(message.attempt)
        await message.reply("one")
        if len(runs) == 1:
            await go.wait()
        await message.reply("two")

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "tea")
        while not runs:
            await asyncio.sleep(0.001)
        await scene.restart()
        assert await scene.settled()
        assert chat.answers == ["one", "two"]
    assert len(runs) == 2


async def test_an_answer_that_was_sent_although_the_bot_never_heard_so_is_sent_once() -> None:
    async with Scene(an_echo()) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        scene.relay.fail_next("write", RelayUnreachable(), after=True)
        await ann.writes(chat, "tea")
        assert not await scene.settled()
        assert await scene.passes(60)
        assert chat.answers == ["tea"]


async def test_while_the_relay_is_away_nothing_is_lost() -> None:
    async with Scene(an_echo()) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        scene.relay.go_away()
        await ann.writes(chat, "tea")
        assert await scene.settled()
        assert chat.answers == []
        scene.relay.come_back()
        assert await scene.settled()
        assert chat.answers == ["tea"]


async def test_what_fails_each_time_is_parked_seen_and_replayed_and_its_conversation_goes_on() -> None:
    bot, broken = Bot("x"), [True]

    @bot.message()
    async def handler(message: MessageContext) -> None:
        if message.text == "poison" and broken[0]:
            raise Flaw
        await message.reply(message.text)

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "poison")
        await ann.writes(chat, "tea")
        await scene.passes(timedelta(hours=1))
        assert chat.answers == ["tea"]
        assert len(scene.errors) == MAX_ATTEMPTS
        await scene.restart()
        [parked] = await bot.parked()
        assert (parked.reason, parked.attempts) == ("Flaw", MAX_ATTEMPTS)
        broken[0] = False
        assert await bot.replay(parked.number) == 1
        assert await scene.settled()
        assert chat.answers == ["tea", "poison"]


async def test_a_parked_event_is_dropped() -> None:
    bot = Bot("x")

    @bot.message()
    async def handler(_: MessageContext) -> None:
        raise Flaw

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        await ann.writes(scene.private(ann), "tea")
        await scene.passes(timedelta(hours=1))
        [parked] = await bot.parked()
        assert await bot.drop(parked.number) == 1
        assert await scene.settled()


async def test_what_a_bot_is_put_out_of_is_over_though_its_handler_could_not_answer() -> None:
    bot = Bot("x")

    @bot.message()
    async def handler(message: MessageContext) -> None:
        await ann.removes(chat, scene.bot_id)
        await message.reply("too late")

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "tea")
        assert await scene.settled()
        assert chat.answers == []


# --- errors, and what is around handlers ---


async def test_who_wants_to_hear_of_errors_hears_of_each_and_apologises_once() -> None:
    bot, heard = Bot("x"), list[Any]()

    @bot.message()
    async def handler(message: MessageContext) -> None:
        if message.attempt < 3:
            raise Flaw

    @bot.error()
    async def failed(context: EventContext[Any], error: Exception) -> None:
        heard.append((type(error), context.attempt, context.is_last_attempt))
        await context.send("sorry")
        raise LookupError  # it does not matter

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "tea")
        await scene.settled()
        assert await scene.passes(60)
        assert chat.answers == ["sorry"]
    assert heard == [(Flaw, 1, False), (Flaw, 2, False)]


async def test_middlewares_are_around_the_handler_and_may_keep_it_from_being_called() -> None:
    bot, order = Bot("x"), list[str]()

    @bot.middleware
    async def outer(context: EventContext[Any], call_next: Callable[[], Any]) -> None:
        order.append("outer")
        if not (isinstance(context, MessageContext) and context.text == "spam"):
            await call_next()
        order.append("outer ends")

    @bot.middleware
    async def inner(_: EventContext[Any], call_next: Callable[[], Any]) -> None:
        order.append("inner")
        await call_next()
        order.append("inner ends")

    @bot.message()
    async def handler(_: MessageContext) -> None:
        order.append("handler")

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "tea")
        await ann.writes(chat, "spam")
        assert await scene.settled()
    assert order == ["outer", "inner", "handler", "inner ends", "outer ends", "outer", "outer ends"]


# --- timers ---


async def test_a_reminder_comes_at_its_time_also_after_a_restart() -> None:
    bot = Bot("reminder")

    @bot.command("remind")
    async def remind(message: MessageContext) -> None:
        await message.conversation.later(timedelta(minutes=5), "remind", message.arguments)
        await message.reply("I will")

    @bot.timer("remind")
    async def due(timer: TimerContext) -> None:
        await timer.send(f"remember: {timer.data}")

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        chat = scene.private(ann)
        await ann.writes(chat, "/remind tea")
        assert await scene.settled()
        await scene.restart()
        await scene.passes(299)
        assert chat.answers == ["I will"]
        await scene.restart(gracefully=True)
        assert await scene.passes(1)
        assert chat.answers == ["I will", "remember: tea"]


async def test_a_handler_that_runs_again_sets_its_timer_once() -> None:
    bot = Bot("x")

    @bot.message()
    async def handler(message: MessageContext) -> None:
        await message.conversation.later(60, "due")
        if message.attempt == 1:
            raise Flaw

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        await ann.writes(scene.private(ann), "tea")
        await scene.settled()
        await scene.passes(5)
        assert len(bot.timers) == 1


async def test_a_timer_sets_the_next_one_and_all_come_in_time() -> None:
    bot, at = Bot("digest"), list[datetime]()

    @bot.timer("daily")
    async def daily(timer: TimerContext) -> None:
        at.append(timer.time)
        await timer.conversation.later(timer.time + timedelta(days=1), "daily", key="daily")

    async with Scene(bot) as scene:
        chat = scene.private(scene.person("Ann"))
        assert await scene.settled()
        first = datetime.fromtimestamp(scene.clock.now() / 1000, UTC) + timedelta(hours=1)
        assert await bot.find(chat.key).later(first, "daily", key="daily") == "daily"
        await scene.passes(timedelta(days=3))
        assert at == [first + timedelta(days=day) for day in range(3)]
        assert await bot.cancel("daily")
        assert not await bot.cancel("daily")
        await scene.passes(timedelta(days=3))
    assert len(at) == 3


async def test_a_time_without_a_zone_is_refused() -> None:
    bot = Bot("x")
    async with Scene(bot) as scene:
        chat = scene.private(scene.person("Ann"))
        assert await scene.settled()
        with pytest.raises(ValueError, match="zone"):
            await bot.find(chat.key).later(datetime(2030, 1, 1), "x")  # noqa: DTZ001


# --- running ---


async def test_a_bot_runs_once_at_a_time() -> None:
    bot = an_echo()
    async with Scene(bot) as scene:
        await scene.settled()
        with pytest.raises(RuntimeError, match="running already"):
            await bot.serve(scene.account)
        with pytest.raises(ValueError, match="at least one worker"):
            await Bot("y").serve(scene.account, workers=0)


async def test_a_bot_that_was_stopped_before_it_began_ends_at_once() -> None:
    bot = an_echo()
    async with Scene(Bot("other")) as scene:
        await scene.settled()
        bot.stop()
        assert bot.stopped
        await asyncio.wait_for(bot.serve(scene.account, grace=math.inf), 10)
        assert not bot.stopped


# --- logs ---


@pytest.mark.parametrize("what", ["handler", "typing", "errors"])
async def test_nothing_of_what_people_say_is_logged(what: str, caplog: pytest.LogCaptureFixture) -> None:
    bot = Bot("x")

    @bot.message()
    async def handler(message: MessageContext) -> None:
        raise ValueError(f"{message.text} by {message.sender.name} {message.sender.id} {message.id}")

    @bot.typing()
    async def typing(context: TypingContext) -> None:
        raise ValueError(context.sender.name)

    @bot.error()
    async def failed(_: EventContext[Any], error: Exception) -> None:
        raise RuntimeError(str(error))

    caplog.set_level(logging.DEBUG)
    async with Scene(bot) as scene:
        ann = scene.person(CANARY)
        chat = scene.private(ann)
        message = await ann.writes(chat, CANARY)
        await ann.types(chat)
        await scene.passes(timedelta(hours=1))
        assert scene.errors
        secrets = [CANARY, str(ann.id), str(scene.bot_id), str(message.timestamp), chat.key.hex()]
    logged = [f"{record.getMessage()} {record.exc_info} {record.__dict__}" for record in caplog.records]
    assert any("failed error=ValueError parked=True kind=message" in each for each in logged)
    for secret in secrets:
        assert not any(secret in each for each in logged)


async def test_whoever_asks_for_it_sees_what_was_raised(caplog: pytest.LogCaptureFixture) -> None:
    bot = Bot("x", unsafe_log_tracebacks=True)

    @bot.message()
    async def handler(message: MessageContext) -> None:
        raise ValueError(message.text)

    async with Scene(bot) as scene:
        ann = scene.person("Ann")
        await ann.writes(scene.private(ann), CANARY)
        await scene.settled()
    assert CANARY in caplog.text

"""The first handler that matches takes an event; what is for another bot, or by the bot itself, nobody takes."""

import re
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.client.bot.router import (
    CONVERSATIONS,
    DELETIONS,
    EDITS,
    JOINED,
    LEFT,
    MAX_COMMAND,
    MEMBERS,
    REACTIONS,
    READS,
    TYPING,
    Call,
    Facts,
    OfCommands,
    OfMessages,
    Router,
    help_text,
    read_call,
    timers_named,
)
from messaging.client.bot.timers import TimerDue
from messaging.client.events import (
    ConversationChanged,
    Event,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    MessagesRead,
    Reacted,
    TypingChanged,
)
from messaging.wire.data import AttachmentPointer, Mention
from messaging.wire.identifiers import MessageId, ServiceId

ME, ANN, BOB = (ServiceId(uuid4()) for _ in range(3))
KEY = bytes(32)
PRIVATE, GROUP = Facts(ME, "echo", (ME, ANN)), Facts(ME, "echo", (ME, ANN, BOB))
MESSAGE = MessageId(ANN, 1)
FILE = AttachmentPointer(3, "key", bytes(64), bytes(32), 1, "text/plain")


async def one(_: object) -> None:
    """A handler."""


async def two(_: object) -> None:
    """Another one."""


def a_text(text: str) -> MessageReceived:
    return MessageReceived(KEY, ANN, 1, text)


def takes(wanted: OfMessages, event: Event, facts: Facts = GROUP) -> bool:
    return bool(wanted.match(event, facts))


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("/start", Call("start", "", "")),
        ("/Start", Call("start", "", "")),
        ("/start  now and then ", Call("start", "", "now and then")),
        ("/start\nnow", Call("start", "", "now")),
        ("/start@Echo now", Call("start", "echo", "now")),
        ("/start@my-bot", Call("start", "my-bot", "")),
    ],
)
def test_a_command_is_a_slash_a_name_and_arguments(text: str, call: Call) -> None:
    assert read_call(text) == call


@pytest.mark.parametrize("text", ["start", " /start", "/", "/ start", "//start", "/start!", "/café", "/start@", "1/2"])
def test_other_texts_call_nothing(text: str) -> None:
    assert read_call(text) is None


@given(st.text(max_size=60))
def test_any_text_can_be_looked_at(text: str) -> None:
    call = read_call(text)
    assert call is None or 1 <= len(call.command) <= MAX_COMMAND


def test_the_first_handler_that_matches_takes_an_event() -> None:
    router = Router()
    router.add(OfMessages(re.compile("hello")), one)
    router.add(OfMessages(), two)
    found = router.find(a_text("well, hello"), PRIVATE)
    assert found is not None
    assert (found.handler, found.match and found.match[0]) == (one, "hello")
    other = router.find(a_text("bye"), PRIVATE)
    assert other is not None
    assert (other.handler, other.match) == (two, None)


def test_a_command_is_taken_by_its_handler_under_each_of_its_names() -> None:
    router = Router()
    router.add(OfCommands(("start", "begin")), one)
    for text in ("/start x", "/begin x", "/START@echo x"):
        found = router.find(a_text(text), GROUP)
        assert found is not None
        assert found.call is not None
        assert found.call.arguments == "x"
    assert router.find(a_text("/stop"), GROUP) is None


def test_an_unknown_command_is_a_message_like_any_other() -> None:
    router = Router()
    router.add(OfCommands(("start",)), one)
    router.add(OfMessages(), two)
    found = router.find(a_text("/unknown x"), GROUP)
    assert found is not None
    assert (found.handler, found.call) == (two, None)


def test_a_command_for_another_bot_is_nobodys() -> None:
    router = Router()
    router.add(OfCommands(("start",)), one)
    router.add(OfMessages(), two)
    assert router.find(a_text("/start@other"), GROUP) is None


def test_nobody_takes_what_the_bot_said_itself() -> None:
    router = Router()
    router.add(OfMessages(), one)
    assert router.find(replace(a_text("x"), sender=ME), GROUP) is None


def test_messages_of_other_bots_are_taken_only_by_who_asks_for_them() -> None:
    facts = replace(GROUP, bots=(BOB,))
    theirs = replace(a_text("/start"), sender=BOB)
    assert not takes(OfMessages(), theirs, facts)
    assert takes(OfMessages(from_bots=True), theirs, facts)
    assert not OfCommands(("start",)).match(theirs, facts)


@pytest.mark.parametrize(
    ("wanted", "matching", "other"),
    [
        (OfMessages(attachments=True), replace(a_text(""), attachments=(FILE,)), a_text("")),
        (OfMessages(attachments=False), a_text(""), replace(a_text(""), attachments=(FILE,))),
        (OfMessages(mentioned=True), replace(a_text("@x"), mentions=(Mention(0, 2, ME),)), a_text("@x")),
        (OfMessages(mentioned=True), replace(a_text("x"), mentions=(Mention(0, 1, ME),)), replace(a_text("x"), mentions=(Mention(0, 1, ANN),))),
        (OfMessages(mentioned=False), a_text("@x"), replace(a_text("@x"), mentions=(Mention(0, 2, ME),))),
    ],
)  # fmt: skip
def test_messages_are_told_apart_by_what_they_carry(
    wanted: OfMessages, matching: MessageReceived, other: MessageReceived
) -> None:
    assert takes(wanted, matching)
    assert not takes(wanted, other)


def test_messages_are_told_apart_by_who_is_there() -> None:
    assert takes(OfMessages(private=True), a_text("x"), PRIVATE)
    assert not takes(OfMessages(private=True), a_text("x"), GROUP)
    assert takes(OfMessages(private=False), a_text("x"), GROUP)
    assert not takes(OfMessages(private=False), a_text("x"), PRIVATE)


@pytest.mark.parametrize(
    ("wanted", "event"),
    [
        (EDITS, MessageEdited(KEY, ANN, 1, MESSAGE, "x")),
        (DELETIONS, MessageDeleted(KEY, ANN, 1, MESSAGE)),
        (REACTIONS, Reacted(KEY, ANN, 1, MESSAGE, "x")),
        (READS, MessagesRead(KEY, ANN, 1)),
        (TYPING, TypingChanged(KEY, ANN, 1)),
        (CONVERSATIONS, ConversationChanged(KEY, ANN, 1)),
        (MEMBERS, ConversationChanged(KEY, ANN, 1, joined=(BOB,))),
        (MEMBERS, ConversationChanged(KEY, ANN, 1, left=(BOB,))),
        (JOINED, ConversationChanged(KEY, ANN, 1, joined=(ME, ANN))),
        (LEFT, ConversationChanged(KEY, ANN, 1, left=(ME,))),
        (timers_named("tea"), TimerDue(KEY, ME, 1, "key", "tea")),
    ],
)
def test_each_kind_of_event_has_its_handlers(wanted: OfMessages, event: Event) -> None:
    assert wanted.match(event, GROUP)
    assert not wanted.match(a_text("x"), GROUP)


@pytest.mark.parametrize(
    ("wanted", "event"),
    [
        (MEMBERS, ConversationChanged(KEY, ANN, 1, joined=(ME,))),
        (MEMBERS, ConversationChanged(KEY, ANN, 1, settings=True)),
        (JOINED, ConversationChanged(KEY, ANN, 1, joined=(BOB,))),
        (LEFT, ConversationChanged(KEY, ANN, 1, left=(BOB,))),
        (timers_named("tea"), TimerDue(KEY, ME, 1, "key", "coffee")),
    ],
)
def test_the_bot_and_others_are_told_apart(wanted: OfMessages, event: Event) -> None:
    assert not wanted.match(event, GROUP)


def test_a_command_has_one_handler() -> None:
    router = Router()
    router.add(OfCommands(("start", "begin")), one)
    for names in (("start",), ("other", "begin"), ("twice", "twice")):
        with pytest.raises(ValueError, match="has a handler already"):
            router.add(OfCommands(names), two)


@pytest.mark.parametrize("name", ["", "/start", "two words", "café", "x" * (MAX_COMMAND + 1)])
def test_what_nobody_could_call_is_no_command(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        Router().add(OfCommands((name,)), one)


def test_help_lists_what_has_a_text_in_order() -> None:
    commands = [OfCommands(("start", "begin"), "says hello"), OfCommands(("secret",)), OfCommands(("stop",), "ends")]
    assert help_text(commands) == "/start: says hello\n/stop: ends"

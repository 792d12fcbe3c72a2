"""A message is the same at everybody, in whatever order they hear what is said of it, and only its author changes it."""

import json
from dataclasses import replace
from functools import reduce
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.client.events import MessageDeleted, MessageEdited, MessageReceived, Reacted
from messaging.client.history import (
    MAX_REACTIONS,
    ChatMessage,
    GivenReaction,
    event_of,
    message_of,
    read_message,
    target_of,
    write_message,
)
from messaging.wire.data import AttachmentPointer, DataMessage, Deletion, Edit, Mention, Quote, Reaction
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.json import encode_base64
from tests.messaging.wire.strategies import keys, messages, texts

ANN, BOB, CEM = (ServiceId(UUID(int=number)) for number in (1, 2, 3))
KEY = b"\x07" * 32
NAMED = MessageId(ANN, 10)
POINTER = AttachmentPointer(3, "k", bytes(64), bytes(32), 5, "text/plain", "note.txt")
WRITTEN = DataMessage(
    "hello", 10, KEY, b"\x01" * 32, Quote(MessageId(BOB, 5), "hi"), (POINTER,), (Mention(0, 1, BOB),), 60
)
MESSAGE = message_of(ANN, WRITTEN)

SaidOf = tuple[ServiceId, Edit | Reaction | Deletion]


def edit(text: str, at: int, *mentions: Mention) -> Edit:
    return Edit(10, DataMessage(text, at, KEY, mentions=mentions))


def react(emoji: str, at: int, *, remove: bool = False) -> Reaction:
    return Reaction(emoji, NAMED, at, KEY, remove)


_times = st.integers(0, 14)  # few, so that they meet
_edits = st.builds(edit, st.sampled_from(["a", "b"]), _times) | st.builds(
    edit, st.just("a"), _times, st.builds(Mention, st.integers(0, 1), st.just(1), st.just(BOB))
)
_reactions = st.builds(react, st.sampled_from("+-"), _times, remove=st.booleans())
_deletions = st.builds(Deletion, st.just(10), _times, st.just(KEY))
said_of: st.SearchStrategy[SaidOf] = st.tuples(st.sampled_from([ANN, BOB, CEM]), _edits | _reactions) | st.tuples(
    st.sampled_from([BOB, CEM]), _deletions
)


def after(*said: SaidOf, message: ChatMessage = MESSAGE) -> ChatMessage:
    return reduce(lambda known, each: known.with_said(*each), said, message)


# --- laws ---


@given(st.lists(said_of, max_size=8), st.randoms())
def test_any_order_of_the_same_leads_to_the_same(said: list[SaidOf], random: Random) -> None:
    before = after(*said)
    random.shuffle(said)
    assert after(*said) == before
    assert after(*said, *said) == before


@given(st.lists(said_of, max_size=5), st.lists(said_of, max_size=5))
def test_a_deleted_message_has_nothing_but_its_name_and_stays_so(before: list[SaidOf], later: list[SaidOf]) -> None:
    deletion = (ANN, Deletion(10, 0, KEY))
    assert after(*before, deletion, *later) == ChatMessage(NAMED, "", deleted=True)


@given(st.lists(st.tuples(st.sampled_from([BOB, CEM]), _edits | _deletions), max_size=5))
def test_others_neither_edit_nor_delete(said: list[SaidOf]) -> None:
    assert after(*said) is MESSAGE


@given(st.lists(said_of, max_size=8))
def test_the_latest_of_each_stands(said: list[SaidOf]) -> None:
    found = after(*said)
    edits = [each for who, each in said if who == ANN and isinstance(each, Edit) and each.timestamp > 10]
    assert found.edited == max((each.timestamp for each in edits), default=0)
    for member in (ANN, BOB, CEM):
        given_at = [each.timestamp for who, each in said if who == member and isinstance(each, Reaction)]
        known = found.reactions.get(member)
        assert (None if known is None else known.timestamp) == max(given_at, default=None)


@given(st.lists(said_of, max_size=8), keys)
def test_the_store_gives_it_back(said: list[SaidOf], key: bytes) -> None:
    found = replace(after(*said), expires_at=5)
    assert read_message(write_message(key, found)) == (key, found)


@given(messages, keys)
def test_as_it_arrived_so_it_is_sent(data: DataMessage, key: bytes) -> None:
    data = replace(data, conversation=key)
    message = message_of(ANN, data)
    assert message.as_data(key) == data
    assert read_message(write_message(key, message)) == (key, message)


@given(texts, texts)
def test_saying_nothing_new_gives_the_same_object(text: str, emoji: str) -> None:
    edited = MESSAGE.with_said(ANN, edit(text, 11)).with_said(BOB, react(emoji, 11))
    assert edited.with_said(ANN, edit(text, 11)) is edited
    assert edited.with_said(BOB, react(emoji, 11)) is edited


# --- examples ---


def test_an_edit_changes_text_and_mentions_and_leaves_all_else() -> None:
    edited = after((ANN, edit("bye", 11)))
    assert edited == replace(MESSAGE, text="bye", mentions=(), edited=11)
    assert edited.as_data(KEY) == replace(WRITTEN, body="bye", mentions=())


def test_an_edit_is_later_than_its_message() -> None:
    assert after((ANN, edit("early", 10))) is MESSAGE
    assert after((ANN, edit("late", 11))).text == "late"


def test_a_reaction_that_is_taken_back_does_not_come_again() -> None:
    found = after((BOB, react("+", 11)), (BOB, react("+", 12, remove=True)), (BOB, react("+", 11)))
    assert found.reactions == {BOB: GivenReaction("", 12)}


@pytest.mark.parametrize("more", [0, 1])
def test_reactions_are_kept_of_as_many_members_as_there_may_be(more: int) -> None:
    members = [ServiceId(uuid4()) for _ in range(MAX_REACTIONS + more)]
    found = after(*((member, react("+", 11)) for member in members))
    assert list(found.reactions) == members[:MAX_REACTIONS]
    again = found.with_said(members[0], react("-", 12))  # who is among them may still change their mind
    assert again.reactions[members[0]].emoji == "-"


def test_words_of_a_deleted_message_go_from_what_quotes_it() -> None:
    assert MESSAGE.quotes(MessageId(BOB, 5))
    assert not MESSAGE.quotes(MessageId(BOB, 6))
    without = MESSAGE.without_quoted_text()
    assert without == replace(MESSAGE, quote=Quote(MessageId(BOB, 5)))
    assert not without.quotes(MessageId(BOB, 5))
    assert after((ANN, Deletion(10, 11, KEY))).without_quoted_text().quote is None


def test_what_is_said_of_a_message_names_it() -> None:
    assert target_of(BOB, react("+", 1)) == NAMED
    assert target_of(BOB, edit("x", 1)) == target_of(BOB, Deletion(10, 1, KEY)) == MessageId(BOB, 10)


def test_a_program_hears_of_each() -> None:
    assert event_of(ANN, KEY, WRITTEN) == MessageReceived(
        KEY, ANN, 10, "hello", WRITTEN.quote, WRITTEN.attachments, WRITTEN.mentions, 60
    )
    assert event_of(ANN, KEY, edit("x", 11)) == MessageEdited(KEY, ANN, 11, NAMED, "x")
    assert event_of(ANN, KEY, Deletion(10, 11, KEY)) == MessageDeleted(KEY, ANN, 11, NAMED)
    assert event_of(BOB, KEY, react("+", 11, remove=True)) == Reacted(KEY, BOB, 11, NAMED, "+", removed=True)


# --- the store ---


@pytest.mark.parametrize("rest", [[], [None], [encode_base64(b"\x01" * 32)]])
def test_entries_of_earlier_versions_are_read(rest: list[str | None]) -> None:
    entry = json.dumps([encode_base64(KEY), str(ANN), 10, "hello", *rest]).encode()
    roster = b"\x01" * 32 if rest and rest[0] else None
    assert read_message(entry) == (KEY, ChatMessage(NAMED, "hello", roster))


def test_a_plain_message_takes_no_room_for_what_it_does_not_have() -> None:
    assert set(json.loads(write_message(KEY, ChatMessage(NAMED, "hello")))) == {
        "conversation",
        "author",
        "timestamp",
        "text",
    }


def test_no_content_shows() -> None:
    message = replace(MESSAGE, text="CANARY", quote=Quote(NAMED, "CANARY"), roster=b"CANARY")
    assert "CANARY" not in repr(message.with_said(BOB, react("CANARY", 11)))

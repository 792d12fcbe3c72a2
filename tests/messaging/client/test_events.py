"""Events come back from the store as they were, and each has a name that is its own and stays the same."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.client.events import (
    ConversationChanged,
    Event,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    MessagesRead,
    Reacted,
    TypingChanged,
    decode_event,
    encode_event,
)
from messaging.wire.identifiers import MessageId, ServiceId
from tests.messaging.wire.strategies import accounts, keys, mentions, pointers, quotes, said_messages, texts, times

KEY = b"\x07" * 32
ANN, BOB = (ServiceId(UUID(int=number)) for number in (1, 2))
CANARY = "CANARY"

_who = (keys, accounts, times)
_several = st.lists(accounts, max_size=3).map(tuple)
events: st.SearchStrategy[Event] = (
    st.builds(
        MessageReceived,
        *_who,
        texts,
        st.none() | quotes,
        st.lists(pointers, max_size=2).map(tuple),
        st.lists(mentions, max_size=2).map(tuple),
        st.integers(0, 2**32 - 1),
    )
    | st.builds(MessageEdited, *_who, said_messages, texts)
    | st.builds(MessageDeleted, *_who, said_messages)
    | st.builds(Reacted, *_who, said_messages, texts, st.booleans())
    | st.builds(ConversationChanged, *_who, _several, _several, st.booleans())
    | st.builds(MessagesRead, *_who, st.lists(said_messages, max_size=3).map(tuple))
)


@given(event=events)
def test_decode_undoes_encode_and_the_name_stays(event: Event) -> None:
    again = decode_event(encode_event(event))
    assert again == event
    assert again.id == event.id
    assert len(bytes.fromhex(event.id)) == 16


def test_who_is_typing_is_never_kept() -> None:
    with pytest.raises(ValueError, match="not kept"):
        encode_event(TypingChanged(KEY, ANN, 1, True))


def test_every_event_has_a_name_of_its_own() -> None:
    message, other = MessageId(ANN, 1), MessageId(BOB, 1)
    all_events: list[Event] = [
        MessageReceived(KEY, ANN, 1, "x"),
        MessageReceived(KEY, ANN, 2, "x"),
        MessageReceived(KEY, BOB, 1, "x"),
        MessageReceived(bytes(32), ANN, 1, "x"),
        MessageEdited(KEY, ANN, 1, message, "x"),
        MessageEdited(KEY, ANN, 1, replace(message, timestamp=0), "x"),
        MessageDeleted(KEY, ANN, 1, message),
        MessageDeleted(KEY, ANN, 1, replace(message, timestamp=0)),
        Reacted(KEY, ANN, 1, message, "+"),
        Reacted(KEY, ANN, 1, other, "+"),
        Reacted(KEY, ANN, 1, other, "+", removed=True),
        ConversationChanged(KEY, ANN, 1, settings=True),
        ConversationChanged(KEY, ANN, 1, joined=(BOB,)),
        ConversationChanged(KEY, ANN, 1, left=(BOB,)),
        MessagesRead(KEY, ANN, 1, (message,)),
        MessagesRead(KEY, ANN, 1, (message, other)),
        TypingChanged(KEY, ANN, 1, True),
        TypingChanged(KEY, ANN, 1, False),
    ]
    assert len({event.id for event in all_events}) == len(all_events)


def test_the_name_of_an_event_follows_from_no_content() -> None:
    """It may be in a log, and a hash of a short text can be guessed."""
    message = MessageId(ANN, 1)
    for event, other in (
        (MessageReceived(KEY, ANN, 1, "yes"), MessageReceived(KEY, ANN, 1, "no")),
        (MessageEdited(KEY, ANN, 2, message, "yes"), MessageEdited(KEY, ANN, 2, message, "no")),
        (Reacted(KEY, ANN, 2, message, "+"), Reacted(KEY, ANN, 2, message, "-")),
    ):
        assert event.id == other.id


def test_the_name_of_an_event_is_the_same_in_every_version() -> None:
    """Who has handled one before an update is not to handle it again."""
    assert MessageReceived(KEY, ANN, 1, "x").id == "7ef55abc1b8ad0fb385529b08516d186"


def test_no_content_and_no_key_shows() -> None:
    message = MessageId(ANN, 1)
    shown = [
        MessageReceived(CANARY.encode(), ANN, 1, CANARY),
        MessageEdited(CANARY.encode(), ANN, 1, message, CANARY),
        Reacted(CANARY.encode(), ANN, 1, message, CANARY),
    ]
    assert CANARY not in repr(shown)

"""A conversation knows who has opted in, and tells the assistant no more than the number of other messages."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.client.conversation import Conversation
from messaging.wire.content import ConsentUpdate, MessageId
from messaging.wire.identifiers import ServiceId

ANN, BOB, CEM, ASSISTANT = (ServiceId(uuid4()) for _ in range(4))


def a_conversation() -> Conversation:
    return Conversation.create("trip", [ANN, BOB, CEM])


def consent(conversation: Conversation, opted_in: bool = True, at: int = 100) -> ConsentUpdate:
    return ConsentUpdate(conversation.key, ASSISTANT, opted_in, at)


def test_every_conversation_has_a_key_of_its_own() -> None:
    assert a_conversation().key != a_conversation().key


def test_members_hear_of_a_conversation_as_its_founder_made_it() -> None:
    founded = a_conversation()
    assert Conversation.from_update(founded.as_update()) == founded
    assert founded.others(ANN) == (BOB, CEM)


def test_a_message_is_shared_only_from_its_authors_consent_on() -> None:
    conversation = a_conversation()
    conversation = conversation.with_consent(ANN, consent(conversation))
    assert conversation.opted_in(ASSISTANT) == {ANN}
    assert not conversation.is_shared(MessageId(ANN, 99), ASSISTANT)
    assert conversation.is_shared(MessageId(ANN, 100), ASSISTANT)
    assert not conversation.is_shared(MessageId(BOB, 100), ASSISTANT)
    assert not conversation.is_shared(MessageId(ANN, 100), ServiceId(uuid4()))


def test_opting_out_ends_it() -> None:
    conversation = a_conversation()
    conversation = conversation.with_consent(ANN, consent(conversation))
    conversation = conversation.with_consent(ANN, consent(conversation, opted_in=False, at=200))
    assert conversation.opted_in(ASSISTANT) == frozenset()
    assert not conversation.is_shared(MessageId(ANN, 150), ASSISTANT)


@given(st.permutations([(100, True), (200, False), (300, True), (400, False)]))
def test_the_latest_decision_stands_in_whatever_order_they_arrive(decisions: list[tuple[int, bool]]) -> None:
    conversation = a_conversation()
    for at, opted_in in decisions:
        conversation = conversation.with_consent(ANN, consent(conversation, opted_in, at))
    assert conversation.opted_in(ASSISTANT) == frozenset()


def test_nobody_decides_from_outside() -> None:
    conversation = a_conversation()
    with pytest.raises(ValueError, match="stranger"):
        conversation.with_consent(ServiceId(uuid4()), consent(conversation))
    with pytest.raises(ValueError, match="another conversation"):
        conversation.with_consent(ANN, consent(a_conversation()))


def test_a_scope_names_shared_messages_and_only_counts_the_others() -> None:
    conversation = a_conversation()
    conversation = conversation.with_consent(ANN, consent(conversation))
    seen = [MessageId(ANN, 50), MessageId(ANN, 150), MessageId(BOB, 160), MessageId(BOB, 170)]
    scope = conversation.scope(seen, ASSISTANT, {ANN: "Ann", BOB: "Bob"})
    assert scope.messages == (MessageId(ANN, 150),)
    assert scope.not_opted_in == 3
    assert dict(scope.names) == {ANN: "Ann"}

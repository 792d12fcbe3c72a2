"""A conversation knows who has opted in and from when on, and tells the assistant no more than the number of other messages."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.client.conversation import (
    MAX_REVISION_STEP,
    MAX_STATEMENTS,
    MAX_TITLE,
    Conversation,
    Statement,
)
from messaging.wire.assistant import ConsentReference
from messaging.wire.consent import Consent, ConsentScope, SignedConsent, member_tag
from messaging.wire.content import ConversationUpdate
from messaging.wire.identifiers import DeviceAddress, MessageId, ServiceId
from messaging.wire.limits import MAX_AUTHORS, MAX_CONVERSATION_MEMBERS, MAX_REVISION, MAX_SCOPE
from tests.messaging.client.people import Person

ANN, BOB, CEM = (ServiceId(uuid4()) for _ in range(3))
STRANGER = ServiceId(uuid4())
KEY = b"\x07" * 32
SUMMARIES, REPLIES = ConsentScope.SUMMARIES, ConsentScope.REPLIES
NOW = 10_000


def a_conversation(*members: ServiceId) -> Conversation:
    return Conversation(KEY, "trip", members or (ANN, BOB, CEM))


def a_statement(
    at: int,
    *,
    author: ServiceId = ANN,
    opted_in: bool = True,
    scopes: frozenset[ConsentScope] = frozenset(ConsentScope),
    until: int | None = None,
    key: bytes = b"key",
) -> Statement:
    """As somebody remembers it who has verified it; the conversation does not look at the signature again."""
    consent = Consent(a_conversation().id, author, at, opted_in, scopes if opted_in else frozenset(), until)
    return Statement(consent, SignedConsent(consent.encode(), bytes(64)), key)


def with_statements(*statements: Statement) -> Conversation:
    conversation = a_conversation()
    for each in statements:
        conversation = conversation.with_statement(each.consent.author, each)
    return conversation


statements = st.builds(
    a_statement,
    st.integers(1, 30),
    opted_in=st.booleans(),
    scopes=st.frozensets(st.sampled_from(ConsentScope), min_size=1),
    until=st.none() | st.integers(1, 60),
)


# --- who is in it ---


def test_every_conversation_has_a_key_of_its_own() -> None:
    one, other = Conversation.create("trip", [ANN]), Conversation.create("trip", [ANN])
    assert len(one.key) == 32
    assert one.key != other.key
    assert one.id != one.key


def test_members_hear_of_a_conversation_as_its_founder_made_it() -> None:
    founded = Conversation.create("trip", [ANN, BOB, CEM, BOB])
    assert founded.members == (ANN, BOB, CEM)
    assert Conversation.from_update(founded.as_update()) == founded
    assert founded.others(ANN) == (BOB, CEM)


def test_the_assistant_hears_of_members_whose_identity_keys_are_known_by_tags_alone() -> None:
    keys = {ANN: b"\x05" * 33, CEM: b"\x06" * 33, STRANGER: b"\x07" * 33}
    roster = a_conversation().roster(keys)
    assert roster.tags == {member_tag(KEY, member, keys[member]) for member in (ANN, CEM)}
    assert not any(member.to_bytes() in tag for member in (ANN, BOB, CEM) for tag in roster.tags)


def test_each_device_has_a_sender_key_of_its_own_in_each_conversation() -> None:
    other = replace(a_conversation(), key=b"\x08" * 32)
    names = {
        conversation.distribution_id(DeviceAddress(author, device))
        for conversation in (a_conversation(), other)
        for author in (ANN, BOB)
        for device in (1, 2)
    }
    assert len(names) == 8
    assert a_conversation().distribution_id(DeviceAddress(ANN, 1)) in names


def test_the_greatest_revision_of_a_member_stands() -> None:
    conversation = a_conversation()
    changed = conversation.with_members([ANN, BOB])
    assert (changed.revision, changed.members) == (1, (ANN, BOB))
    assert conversation.with_update(BOB, changed.as_update()) == changed
    assert changed.with_update(ANN, conversation.as_update()) is changed
    assert changed.with_update(ANN, changed.as_update()) is changed


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3)), min_size=1, max_size=6), st.randoms())
def test_two_members_who_change_it_at_once_end_with_the_same(changes: list[tuple[int, str]], random: Random) -> None:
    updates = [ConversationUpdate(KEY, title, (ANN, BOB, CEM), revision) for revision, title in changes]
    outcomes = []
    for _ in range(2):
        conversation = a_conversation()
        for update in updates:
            conversation = conversation.with_update(BOB, update)
        outcomes.append(conversation)
        random.shuffle(updates)
    assert outcomes[0] == outcomes[1]


def test_nobody_changes_it_from_outside() -> None:
    conversation = a_conversation()
    for author, update in (
        (STRANGER, conversation.with_members([STRANGER]).as_update()),
        (BOB, replace(conversation.with_members([ANN]).as_update(), conversation=bytes(32))),
    ):
        with pytest.raises(ValueError, match="stranger, or of another conversation"):
            conversation.with_update(author, update)


def test_nobody_uses_up_all_revisions_at_once() -> None:
    update = a_conversation().as_update()
    ahead = replace(update, revision=MAX_REVISION_STEP)
    assert a_conversation().with_update(BOB, ahead).revision == MAX_REVISION_STEP
    with pytest.raises(ValueError, match="too far ahead"):
        a_conversation().with_update(BOB, replace(ahead, revision=MAX_REVISION_STEP + 1))
    assert a_conversation().caught_up().revision == MAX_REVISION_STEP
    assert replace(a_conversation(), revision=MAX_REVISION - 1).caught_up().revision == MAX_REVISION
    last = replace(a_conversation(), revision=MAX_REVISION - 1).with_members([ANN])
    assert last.revision == MAX_REVISION
    with pytest.raises(ValueError, match="for ever"):
        last.with_members([ANN])


def test_members_are_as_many_as_the_wire_allows() -> None:
    members = [ServiceId(uuid4()) for _ in range(MAX_CONVERSATION_MEMBERS + 1)]
    assert len(Conversation.create("all", members[1:]).members) == MAX_CONVERSATION_MEMBERS
    update = ConversationUpdate(KEY, "all", tuple(members), 1)
    ways: list[Callable[[], object]] = [
        lambda: Conversation.create("all", members),
        lambda: a_conversation().with_members(members),
        lambda: Conversation.from_update(update),
        lambda: a_conversation().with_update(BOB, update),
    ]
    for make in ways:
        with pytest.raises(ValueError, match="too many members"):
            make()


def test_a_long_title_is_cut() -> None:
    title = "é" * (MAX_TITLE + 1)
    for conversation in (
        Conversation.create(title, [ANN]),
        Conversation.from_update(ConversationUpdate(KEY, title, (ANN,))),
        a_conversation().with_update(BOB, ConversationUpdate(KEY, title, (ANN,), 1)),
    ):
        assert conversation.title == title[:MAX_TITLE]


# --- what an author says ---


@given(st.lists(statements, min_size=1, max_size=6), st.randoms())
def test_statements_count_the_same_in_whatever_order_they_arrive(said: list[Statement], random: Random) -> None:
    before = with_statements(*said)
    random.shuffle(said)
    assert with_statements(*said) == before
    assert with_statements(*said, *said) == before


def test_the_latest_statement_stands() -> None:
    assert with_statements(a_statement(200, opted_in=False), a_statement(100)).opted_in(NOW) == frozenset()
    assert with_statements(a_statement(100, opted_in=False), a_statement(200)).opted_in(NOW) == {ANN}


def test_of_two_statements_of_one_millisecond_a_no_stands() -> None:
    assert with_statements(a_statement(100, opted_in=False), a_statement(100)).opted_in(NOW) == frozenset()


def test_a_statement_that_is_known_changes_nothing() -> None:
    conversation = with_statements(a_statement(100), a_statement(200))
    assert conversation.with_statement(ANN, a_statement(100)) is conversation


def test_of_an_author_only_the_latest_statements_are_remembered() -> None:
    said = [a_statement(at) for at in range(1, MAX_STATEMENTS + 2)]
    conversation = with_statements(*reversed(said))
    assert conversation.statements[ANN] == tuple(said[1:])
    assert not conversation.is_shared(MessageId(ANN, 1), SUMMARIES, NOW)
    assert conversation.is_shared(MessageId(ANN, 2), SUMMARIES, NOW)


def test_nobody_decides_for_an_author() -> None:
    conversation = a_conversation()
    elsewhere = a_statement(100)
    elsewhere = replace(elsewhere, consent=replace(elsewhere.consent, conversation_id=bytes(32)))
    for author, statement in (
        (STRANGER, a_statement(100, author=STRANGER)),
        (ANN, elsewhere),
        (ANN, a_statement(100, author=BOB)),
        (BOB, a_statement(100)),
    ):
        with pytest.raises(ValueError, match="stranger, or for another conversation"):
            conversation.with_statement(author, statement)


def test_who_is_out_may_still_withdraw() -> None:
    conversation = with_statements(a_statement(100)).with_members([BOB, CEM])
    assert conversation.opted_in(NOW) == frozenset()
    assert conversation.is_shared(MessageId(ANN, 150), SUMMARIES, NOW)
    conversation = conversation.with_statement(ANN, a_statement(200, opted_in=False))
    assert not conversation.is_shared(MessageId(ANN, 150), SUMMARIES, NOW)


def test_what_was_said_under_another_identity_key_counts_no_more() -> None:
    conversation = with_statements(a_statement(300), a_statement(200, key=b"new", opted_in=False))
    assert conversation.opted_in(NOW) == frozenset()
    assert [each.identity_key for each in conversation.statements[ANN]] == [b"new"]


def test_a_statement_is_found_by_the_reference_of_an_answer() -> None:
    said = [a_statement(100), a_statement(200)]
    conversation = with_statements(*said)
    for each in said:
        assert conversation.find_statement(ConsentReference(ANN, each.signed.digest())) == each
        assert conversation.find_statement(ConsentReference(BOB, each.signed.digest())) is None
    assert conversation.find_statement(ConsentReference(ANN, bytes(32))) is None


# --- what is shared ---


def test_a_message_is_shared_only_from_its_authors_consent_on() -> None:
    conversation = with_statements(a_statement(100))
    assert not conversation.is_shared(MessageId(ANN, 99), SUMMARIES, NOW)
    assert conversation.is_shared(MessageId(ANN, 100), SUMMARIES, NOW)
    assert not conversation.is_shared(MessageId(BOB, 100), SUMMARIES, NOW)


def test_a_message_is_shared_for_what_its_author_allowed_when_it_was_written_and_allows_now() -> None:
    only = frozenset({REPLIES})
    narrowed = with_statements(a_statement(100), a_statement(200, scopes=only))
    assert not narrowed.is_shared(MessageId(ANN, 150), SUMMARIES, NOW)
    assert narrowed.is_shared(MessageId(ANN, 150), REPLIES, NOW)
    widened = with_statements(a_statement(100, scopes=only), a_statement(200))
    assert not widened.is_shared(MessageId(ANN, 150), SUMMARIES, NOW)
    assert widened.is_shared(MessageId(ANN, 200), SUMMARIES, NOW)


def test_consent_ends_by_itself() -> None:
    conversation = with_statements(a_statement(100, until=500))
    for now, opted_in in ((499, {ANN}), (500, frozenset())):
        assert conversation.opted_in(now) == opted_in
        assert conversation.is_shared(MessageId(ANN, 499), SUMMARIES, now) == bool(opted_in)
    assert not conversation.is_shared(MessageId(ANN, 500), SUMMARIES, 499)


def naively_shared(said: list[Statement], at: int, scope: ConsentScope, now: int) -> bool:
    """As one would explain it: what was the rule when it was written, and what is the rule today?"""
    ordered = sorted(said, key=lambda each: (each.consent.timestamp, not each.consent.opted_in, each.signed.digest()))
    then = None
    for each in ordered:
        if each.consent.timestamp <= at:
            then = each.consent

    def allows(rule: Consent | None, moment: int) -> bool:
        if rule is None or not rule.opted_in or scope not in rule.scopes:
            return False
        return rule.expires_at is None or moment < rule.expires_at

    today = ordered[-1].consent if ordered else None
    return allows(then, at) and allows(then, now) and allows(today, now)


@settings(max_examples=300)
@given(
    said=st.lists(statements, max_size=6),
    at=st.integers(1, 40),
    scope=st.sampled_from(ConsentScope),
    now=st.integers(1, 70),
)
def test_what_is_shared_is_what_one_would_expect(said: list[Statement], at: int, scope: ConsentScope, now: int) -> None:
    expected = naively_shared(said, at, scope, now)
    assert with_statements(*said).is_shared(MessageId(ANN, at), scope, now) == expected


# --- what the assistant is asked about ---


def test_a_scope_names_shared_messages_and_only_counts_the_others() -> None:
    conversation = with_statements(a_statement(100))
    seen = [MessageId(ANN, 50), MessageId(ANN, 150), MessageId(BOB, 160), MessageId(BOB, 170), MessageId(ANN, 150)]
    scope = conversation.scope(seen, SUMMARIES, {ANN: "Ann", BOB: "Bob", STRANGER: "Who"}, NOW)
    assert scope.messages == (MessageId(ANN, 150),)
    assert (scope.not_opted_in, scope.not_asked) == (3, 0)
    assert dict(scope.names) == {ANN: "Ann"}


messages = st.builds(MessageId, st.sampled_from([ANN, BOB, CEM, STRANGER]), st.integers(1, 40))


@given(st.lists(statements, max_size=4), st.lists(messages, max_size=20), st.integers(1, 70))
def test_every_message_that_was_seen_is_asked_about_or_counted_once(
    said: list[Statement], seen: list[MessageId], now: int
) -> None:
    conversation = with_statements(*said, a_statement(5, author=BOB))
    scope = conversation.scope(seen, SUMMARIES, {}, now)
    assert len(scope.messages) + scope.not_opted_in + scope.not_asked == len(set(seen))
    assert all(conversation.is_shared(message, SUMMARIES, now) for message in scope.messages)


@pytest.mark.parametrize("more", [0, 1])
def test_of_too_many_messages_the_latest_are_asked_about(more: int) -> None:
    conversation = with_statements(a_statement(1))
    seen = [MessageId(ANN, at) for at in range(1, MAX_SCOPE + more + 1)]
    scope = conversation.scope(reversed(seen), SUMMARIES, {}, NOW)
    assert scope.messages == tuple(seen[more:])
    assert (scope.not_opted_in, scope.not_asked) == (0, more)


@pytest.mark.parametrize("more", [0, 1])
def test_of_too_many_authors_those_who_wrote_last_are_asked_about(more: int) -> None:
    authors = [ServiceId(uuid4()) for _ in range(MAX_AUTHORS + more)]
    conversation = a_conversation(*authors)
    for author in authors:
        conversation = conversation.with_statement(author, a_statement(1, author=author))
    seen = [MessageId(author, at + 1) for at, author in enumerate(authors)]
    scope = conversation.scope(seen, SUMMARIES, dict.fromkeys(authors, "name"), NOW)
    assert scope.messages == tuple(seen[more:])
    assert (scope.not_opted_in, scope.not_asked) == (0, more)
    assert set(scope.names) == set(authors[more:])


def test_it_works_with_statements_that_people_have_signed() -> None:
    person = Person.new()
    conversation = Conversation.create("trip", [person.service_id])
    statement = person.states(conversation.key, 100, scopes=[REPLIES])
    conversation = conversation.with_statement(person.service_id, statement)
    assert conversation.is_shared(MessageId(person.service_id, 100), REPLIES, NOW)
    assert not conversation.is_shared(MessageId(person.service_id, 100), SUMMARIES, NOW)

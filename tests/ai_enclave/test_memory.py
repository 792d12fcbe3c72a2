"""The enclave remembers what its authors let it, for whom they let it, within bounds, and nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ai_enclave import memory as memory_module
from ai_enclave import share as share_module
from ai_enclave.limits import (
    MAX_AGE,
    MAX_BYTES,
    MAX_BYTES_OF_AUTHOR,
    MAX_CONSENT_AHEAD,
    MAX_CONVERSATIONS,
    MAX_CONVERSATIONS_OF_AUTHOR,
    MAX_MESSAGES,
    MAX_STATEMENTS,
    MESSAGE_BYTES,
    STATEMENT_BYTES,
    TAG_BYTES,
)
from ai_enclave.memory import Denied, Memory, Recalled
from ai_enclave.share import Member, NotedConsent, bytes_of
from messaging.client.receipt_checks import MAX_CONSENT_DRIFT
from messaging.wire.assistant import ConsentReference, RefusalCode
from messaging.wire.consent import ALL_SCOPES, Consent, ConsentScope, conversation_id
from messaging.wire.content import DataMessage, Roster
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import MAX_CONTENT, MAX_CONVERSATION_MEMBERS

ANN, BOB, CID, EVE = (Member(ServiceId(UUID(int=number)), bytes([5] * 33)) for number in range(1, 5))
KEY, OTHER_KEY = bytes(32), b"\x01" * 32
SUMMARIES, REPLIES = ConsentScope.SUMMARIES, ConsentScope.REPLIES
NOW = 1_000_000_000
AGE = int(MAX_AGE.total_seconds() * 1000)
AHEAD = int(MAX_CONSENT_AHEAD.total_seconds() * 1000)


def key_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def somebody(number: int) -> Member:
    return Member(ServiceId(UUID(int=1000 + number)), bytes([5] * 33))


def named(author: Member, at: int) -> MessageId:
    return MessageId(author.service_id, at)


def accounts(*members: Member) -> set[ServiceId]:
    return {member.service_id for member in members}


def reference(author: Member, digest: bytes) -> ConsentReference:
    return ConsentReference(author.service_id, digest)


def noted(
    author: Member,
    at: int = 0,
    *,
    opted_in: bool = True,
    scopes: Iterable[ConsentScope] = ALL_SCOPES,
    until: int | None = None,
    key: bytes = KEY,
) -> NotedConsent:
    """A statement of ``author``; its digest says whose and when."""
    consent = Consent(conversation_id(key), author.service_id, at, opted_in, frozenset(scopes), until)
    return NotedConsent(consent, author.service_id.uuid.bytes + at.to_bytes(16, "big"))


def roster(*members: Member, revision: int = 1, key: bytes = KEY) -> Roster:
    return Roster(key, revision, frozenset(member.tag(key) for member in members))


def written(at: int, text: str = "x", key: bytes | None = KEY, under: Roster | None = None) -> DataMessage:
    """A message, written ``under`` a roster."""
    return DataMessage(text, at, key, None if under is None else under.digest())


def write(memory: Memory, author: Member, at: int, text: str = "x", key: bytes = KEY) -> None:
    """As an honest author does: under the roster that was told last."""
    share = memory._share(key, author)
    memory.store(author, replace(written(at, text, key), roster=None if share is None else share.roster), NOW)


def a_memory(*authors: Member, key: bytes = KEY) -> Memory:
    """One in which all of them have opted in, for everything, and count each other as members."""
    memory = Memory()
    for author in authors:
        memory.note_consent(author, key, noted(author, key=key), NOW)
        memory.note_roster(author, roster(*authors, key=key))
    return memory


def recalled(
    memory: Memory,
    requester: Member,
    *wanted: MessageId,
    scope: ConsentScope = SUMMARIES,
    now: int = NOW,
    key: bytes = KEY,
) -> Recalled:
    return memory.recall(requester, key, wanted, scope, now)


def used(
    memory: Memory,
    requester: Member,
    *wanted: MessageId,
    scope: ConsentScope = SUMMARIES,
    now: int = NOW,
    key: bytes = KEY,
) -> list[str]:
    return [held.text for held in recalled(memory, requester, *wanted, scope=scope, now=now, key=key).messages]


def counts(found: Recalled) -> tuple[int, int, int]:
    return len(found.messages), found.not_opted_in, found.not_held


def refusal(
    memory: Memory, requester: Member, scope: ConsentScope | None = SUMMARIES, now: int = NOW
) -> RefusalCode | None:
    try:
        memory.check_requester(requester, KEY, scope, now)
    except Denied as denied:
        return denied.code
    return None


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_what_an_author_who_opted_in_writes_is_kept_and_what_others_write_is_not() -> None:
    memory = a_memory(ANN)
    assert memory.store(ANN, written(1), NOW)
    assert not memory.store(BOB, written(1), NOW)
    assert not memory.store(ANN, written(1, key=OTHER_KEY), NOW)
    assert not memory.store(ANN, written(2, key=None), NOW)
    assert memory.messages_held == 1


def test_consent_reaches_messages_from_its_time_on_until_it_expires() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, 100, until=NOW + 10), NOW)
    kept = [at for at in (99, 100, NOW + 9, NOW + 10) if memory.store(ANN, written(at), NOW)]
    assert kept == [100, NOW + 9]


def test_nothing_is_kept_once_the_consent_has_expired_even_if_it_was_written_before() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, until=NOW), NOW - 1)
    assert memory.store(ANN, written(1), NOW - 1)
    assert not memory.store(ANN, written(2), NOW)


def test_nothing_is_kept_under_a_statement_without_scopes() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, scopes=()), NOW)
    assert not memory.store(ANN, written(1), NOW)


def test_a_message_that_arrives_late_is_kept_under_the_statement_it_was_written_under() -> None:
    memory = a_memory(ANN)
    memory.note_consent(ANN, KEY, noted(ANN, 100, scopes=[REPLIES]), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 200), NOW)
    assert memory.store(ANN, written(50), NOW)
    assert memory.store(ANN, written(150), NOW)
    assert used(memory, ANN, named(ANN, 50), named(ANN, 150)) == ["x"]
    assert recalled(memory, ANN, named(ANN, 50)).consents == (reference(ANN, noted(ANN).digest),)


def test_a_message_that_comes_twice_is_kept_once_as_it_came_first() -> None:
    memory = a_memory(ANN)
    assert memory.store(ANN, written(1, "first"), NOW)
    held = memory.bytes_held
    assert memory.store(ANN, written(1, "second"), NOW)
    assert used(memory, ANN, named(ANN, 1)) == ["first"]
    assert memory.bytes_held == held


def test_how_many_members_there_are_is_the_requesters_own_count() -> None:
    memory = a_memory(ANN, BOB)
    assert recalled(memory, ANN, named(BOB, 1)).members == 2
    memory.note_roster(BOB, roster(ANN, BOB, CID, revision=2))
    assert recalled(memory, ANN).members == 2
    memory.note_roster(ANN, roster(ANN, BOB, CID, EVE, revision=2))
    assert (recalled(memory, ANN).members, recalled(memory, BOB).members) == (4, 3)
    memory.note_consent(CID, KEY, noted(CID), NOW)
    assert recalled(memory, CID).members == recalled(memory, EVE).members == 0  # no roster, no statement


def test_two_authors_may_write_at_the_same_time() -> None:
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1, "ann")
    write(memory, BOB, 1, "bob")
    assert used(memory, ANN, named(BOB, 1), named(ANN, 1)) == ["ann", "bob"]


# --- what authors decide later ----------------------------------------------------------------------------------------


def test_opting_out_drops_at_once_what_was_held_and_nobody_elses() -> None:
    memory = a_memory(ANN, BOB)
    memory.store(ANN, written(1, "ann"), NOW)
    memory.store(BOB, written(2, "bob"), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 10, opted_in=False), NOW)
    assert memory.messages_held == 1
    assert used(memory, BOB, named(ANN, 1), named(BOB, 2)) == ["bob"]
    assert not memory.store(ANN, written(20), NOW)


def test_what_was_written_before_opting_out_does_not_come_back_by_opting_in_again() -> None:
    memory = a_memory(ANN)
    memory.note_consent(ANN, KEY, noted(ANN, 10, opted_in=False), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 20), NOW)
    assert not memory.store(ANN, written(5), NOW)
    assert memory.store(ANN, written(20), NOW)
    assert recalled(memory, ANN, named(ANN, 5)).not_opted_in == 1


def test_an_older_statement_never_stands_against_a_newer_one_in_whatever_order_they_come() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, 10, opted_in=False), NOW)  # from a device that was faster than the other
    assert not memory.note_consent(ANN, KEY, noted(ANN, 5), NOW)
    assert not memory.note_consent(ANN, KEY, noted(ANN, 10), NOW)
    assert refusal(memory, ANN) == RefusalCode.NOT_OPTED_IN
    assert memory.note_consent(ANN, KEY, noted(ANN, 11), NOW)
    assert refusal(memory, ANN) is None


def test_narrowing_holds_at_once_for_all_messages() -> None:
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1)
    memory.note_consent(ANN, KEY, noted(ANN, 10, scopes=[REPLIES]), NOW)
    assert used(memory, BOB, named(ANN, 1), scope=SUMMARIES) == []
    assert used(memory, BOB, named(ANN, 1), scope=REPLIES) == ["x"]


def test_widening_holds_from_then_on() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, scopes=[REPLIES]), NOW)
    memory.store(ANN, written(1, "before"), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 10), NOW)
    memory.store(ANN, written(10, "after"), NOW)
    both = named(ANN, 1), named(ANN, 10)
    assert used(memory, ANN, *both, scope=SUMMARIES) == ["after"]
    assert used(memory, ANN, *both, scope=REPLIES) == ["before", "after"]


def test_what_no_purpose_is_left_for_is_dropped() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, scopes=[REPLIES]), NOW)
    memory.store(ANN, written(1), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 10, scopes=[SUMMARIES]), NOW)
    assert memory.messages_held == 0


def test_nothing_is_used_after_the_consent_has_expired_and_it_is_dropped() -> None:
    memory = a_memory(ANN, BOB)
    memory.note_consent(ANN, KEY, noted(ANN, 1, until=NOW + 10), NOW)
    write(memory, ANN, 1)
    assert used(memory, BOB, named(ANN, 1), now=NOW + 9) == ["x"]
    assert used(memory, BOB, named(ANN, 1), now=NOW + 10) == []
    assert memory.messages_held == 0


def test_an_earlier_expiry_holds_for_what_was_written_before_it_too() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 10, until=NOW + 10), NOW)
    memory.forget_old(NOW + 10)
    assert memory.messages_held == 0


def test_a_later_expiry_holds_from_then_on() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, until=NOW + 10), NOW)
    memory.store(ANN, written(1, "before"), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 2), NOW)
    memory.store(ANN, written(2, "after"), NOW)
    assert used(memory, ANN, named(ANN, 1), named(ANN, 2), now=NOW + 10) == ["after"]
    assert memory.messages_held == 1


def test_a_statement_that_ran_out_before_its_successor_came_has_ended_what_was_under_it() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 10, until=NOW + 10), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 20), NOW + 10)
    assert memory.messages_held == 0


def test_only_so_many_statements_are_remembered_and_what_is_under_older_ones_goes_with_them() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    for at in range(2, MAX_STATEMENTS + 1):
        memory.note_consent(ANN, KEY, noted(ANN, at), NOW)
    assert memory.messages_held == 1
    memory.note_consent(ANN, KEY, noted(ANN, MAX_STATEMENTS + 1), NOW)
    assert memory.messages_held == 0
    assert memory.bytes_held == MAX_STATEMENTS * STATEMENT_BYTES + TAG_BYTES


# --- statements from the future ---------------------------------------------------------------------------------------


def test_a_statement_may_be_dated_ahead_by_as_much_as_receipts_may_show_and_allows_nothing_before() -> None:
    assert MAX_CONSENT_AHEAD <= MAX_CONSENT_DRIFT
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, NOW + AHEAD + 1), NOW)
    assert refusal(memory, ANN) == RefusalCode.NOT_OPTED_IN
    assert not memory.store(ANN, written(NOW + AHEAD + 1), NOW)
    assert refusal(memory, ANN, now=NOW + 1) is None
    assert memory.store(ANN, written(NOW + AHEAD + 1), NOW + 1)


def test_a_statement_from_the_future_ends_what_stood_before_it() -> None:
    """Its author has decided something new; what they want no longer must not be used until their clock is right."""
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1)
    memory.note_consent(ANN, KEY, noted(ANN, NOW + 2 * AHEAD, scopes=[SUMMARIES]), NOW)
    assert used(memory, BOB, named(ANN, 1)) == []
    assert used(memory, BOB, named(ANN, 1), now=NOW + AHEAD) == ["x"]


def test_opting_out_holds_at_once_however_it_is_dated() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, NOW + 1000 * AHEAD, opted_in=False), NOW)
    assert memory.messages_held == 0


# --- for whom ---------------------------------------------------------------------------------------------------------


def test_a_message_is_for_whom_its_author_counted_when_it_arrived_and_ever_since() -> None:
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1, "to both")
    memory.note_consent(CID, KEY, noted(CID), NOW)
    memory.note_roster(ANN, roster(ANN, BOB, CID, revision=2))
    write(memory, ANN, 2, "to three")
    both = named(ANN, 1), named(ANN, 2)
    assert used(memory, BOB, *both) == ["to both", "to three"]
    assert used(memory, CID, *both) == ["to three"]
    memory.note_roster(ANN, roster(ANN, CID, revision=3))
    assert used(memory, BOB, *both) == []
    memory.note_roster(ANN, roster(ANN, BOB, CID, revision=4))
    write(memory, ANN, 3, "to three again")
    assert used(memory, BOB, *both, named(ANN, 3)) == ["to three again"]


def test_without_a_roster_messages_are_their_authors_alone() -> None:
    memory = a_memory(BOB)
    memory.note_consent(ANN, KEY, noted(ANN), NOW)
    write(memory, ANN, 1)
    memory.note_roster(BOB, roster(ANN, BOB, revision=2))
    assert used(memory, ANN, named(ANN, 1)) == ["x"]
    assert used(memory, BOB, named(ANN, 1)) == []
    memory.note_roster(ANN, roster(ANN, BOB))
    assert used(memory, BOB, named(ANN, 1)) == []  # it arrived before


def test_the_roster_of_the_greatest_revision_stands() -> None:
    memory = a_memory(ANN, BOB)
    memory.note_roster(ANN, roster(ANN, revision=3))
    memory.note_roster(ANN, roster(ANN, BOB, revision=2))
    write(memory, ANN, 1)
    assert used(memory, BOB, named(ANN, 1)) == []


def test_of_two_rosters_of_one_revision_the_last_stands() -> None:
    """Their author has learnt of another change by somebody else, or of a member's key."""
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1, "to both")
    memory.note_roster(ANN, roster(ANN))
    assert used(memory, BOB, named(ANN, 1)) == []
    memory.note_roster(ANN, roster(ANN, BOB))
    write(memory, ANN, 2, "to both again")
    assert used(memory, BOB, named(ANN, 1), named(ANN, 2)) == ["to both again"]


def test_what_was_written_after_a_change_of_the_members_is_private_until_the_change_is_known() -> None:
    """A relay that drops the roster without Bob, and delivers all the rest, gets him nothing."""
    memory = a_memory(ANN, BOB)
    without_bob = roster(ANN, CID, revision=2)
    memory.store(ANN, written(1, under=without_bob), NOW)
    assert used(memory, BOB, named(ANN, 1)) == []
    assert used(memory, ANN, named(ANN, 1)) == ["x"]
    memory.note_roster(ANN, without_bob)
    memory.note_consent(CID, KEY, noted(CID), NOW)
    assert used(memory, CID, named(ANN, 1)) == []  # who knows what the relay did meanwhile
    memory.store(ANN, written(2, under=without_bob), NOW)
    assert used(memory, CID, named(ANN, 2)) == ["x"]


@pytest.mark.parametrize("revision", [1, 2], ids=["another roster of this revision", "an earlier one"])
def test_what_was_written_before_somebody_became_a_member_is_not_for_them_however_late_it_comes(revision: int) -> None:
    memory = a_memory(ANN, BOB)
    memory.note_consent(CID, KEY, noted(CID), NOW)
    memory.note_roster(ANN, roster(ANN, BOB, CID, revision=revision))
    memory.store(ANN, written(1, under=roster(ANN, BOB)), NOW)
    assert used(memory, CID, named(ANN, 1)) == used(memory, BOB, named(ANN, 1)) == []
    assert used(memory, ANN, named(ANN, 1)) == ["x"]


def test_a_message_that_names_no_roster_is_its_authors_alone() -> None:
    memory = a_memory(ANN, BOB)
    memory.store(ANN, written(1), NOW)
    assert used(memory, BOB, named(ANN, 1)) == []
    memory.note_consent(CID, KEY, noted(CID), NOW)  # who has told no roster
    memory.store(CID, written(1), NOW)
    assert used(memory, BOB, named(CID, 1)) == []


def test_a_roster_of_somebody_who_has_not_opted_in_is_nothing() -> None:
    memory = Memory()
    memory.note_roster(ANN, roster(ANN, BOB))
    assert memory.bytes_held == 0
    memory.note_consent(ANN, KEY, noted(ANN, opted_in=False), NOW)
    memory.note_roster(ANN, roster(ANN, BOB))
    assert memory.bytes_held == STATEMENT_BYTES


def test_after_opting_out_the_roster_is_told_again_even_if_it_is_the_same() -> None:
    memory = a_memory(ANN, BOB)
    memory.note_consent(ANN, KEY, noted(ANN, 10, opted_in=False), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 20), NOW)
    memory.note_roster(ANN, roster(ANN, BOB))
    write(memory, ANN, 20)
    assert used(memory, BOB, named(ANN, 20)) == ["x"]


def test_a_roster_is_of_one_conversation() -> None:
    memory = a_memory(ANN, BOB)
    memory.note_consent(ANN, OTHER_KEY, noted(ANN, key=OTHER_KEY), NOW)
    memory.note_roster(ANN, roster(ANN, BOB, revision=9))  # tags of the one conversation say nothing in another
    write(memory, ANN, 1, key=OTHER_KEY)
    assert used(memory, BOB, named(ANN, 1), key=OTHER_KEY) == []


# --- what a requester hears -------------------------------------------------------------------------------------------


def test_what_is_recalled_is_named_once_and_in_the_order_in_which_it_was_written() -> None:
    memory = a_memory(ANN)
    for at in (3, 1, 2):
        memory.store(ANN, written(at, str(at)), NOW)
    found = recalled(memory, ANN, named(ANN, 3), named(ANN, 1), named(ANN, 1), named(BOB, 2))
    assert [held.text for held in found.messages] == ["1", "3"]
    assert counts(found) == (2, 0, 1)


def test_each_message_asked_for_is_used_or_left_out_for_one_reason() -> None:
    memory = a_memory(ANN, BOB)
    memory.note_consent(CID, KEY, noted(CID, 50), NOW)
    memory.note_roster(CID, roster(ANN, BOB, CID))
    write(memory, ANN, 1)
    asked = {
        named(ANN, 1): (1, 0, 0),
        named(ANN, 2): (0, 0, 1),  # never came
        named(CID, 50): (0, 0, 1),  # the same
        named(CID, 49): (0, 1, 0),  # before Cid opted in
        named(EVE, 1): (0, 0, 1),  # Bob says that Eve has opted in; nothing is known of it here
    }
    assert all(counts(recalled(memory, BOB, message)) == expected for message, expected in asked.items())
    assert counts(recalled(memory, BOB, *asked)) == (1, 1, 3)


def test_the_consents_are_those_of_the_messages_used_each_once() -> None:
    memory = a_memory(ANN, BOB)
    memory.note_consent(ANN, KEY, noted(ANN, 10), NOW)
    for at in (1, 2, 10):
        write(memory, ANN, at)
    write(memory, BOB, 1)
    first, second = (reference(ANN, noted(ANN, at).digest) for at in (0, 10))
    assert recalled(memory, BOB, named(ANN, 1), named(ANN, 2)).consents == (first,)
    assert recalled(memory, BOB, named(ANN, 1), named(ANN, 10)).consents == (first, second)
    assert recalled(memory, BOB, named(ANN, 3)).consents == ()


@pytest.mark.parametrize("scope", [SUMMARIES, REPLIES])
@pytest.mark.parametrize("requester", [CID, EVE])
def test_nobody_learns_from_the_counts_whether_a_message_exists_that_is_not_for_them(
    requester: Member, scope: ConsentScope
) -> None:
    """Cid became a member later; Eve knows the key and the accounts, and guesses timestamps."""
    memory = a_memory(ANN, BOB)
    memory.note_consent(BOB, KEY, noted(BOB, 5, scopes=[REPLIES]), NOW)
    for stranger in (CID, EVE):
        memory.note_consent(stranger, KEY, noted(stranger), NOW)
    memory.store(ANN, written(10), NOW)
    memory.store(BOB, written(10), NOW)
    memory.note_roster(ANN, roster(ANN, BOB, CID, revision=2))
    memory.note_roster(BOB, roster(ANN, BOB, CID, revision=2))
    for author in (ANN, BOB):
        exists, does_not = (recalled(memory, requester, named(author, at), scope=scope) for at in (10, 11))
        assert counts(exists) == counts(does_not)
        assert exists.messages == ()


def test_who_has_not_opted_in_is_refused() -> None:
    memory = a_memory(ANN)
    assert refusal(memory, EVE) == RefusalCode.NOT_OPTED_IN
    memory.note_consent(ANN, KEY, noted(ANN, 10, until=NOW + 10), NOW)
    assert refusal(memory, ANN, now=NOW + 9) is None
    assert refusal(memory, ANN, now=NOW + 10) == RefusalCode.NOT_OPTED_IN
    memory.note_consent(ANN, KEY, noted(ANN, 20, opted_in=False), NOW)
    assert refusal(memory, ANN) == RefusalCode.NOT_OPTED_IN


def test_who_has_not_opted_in_for_a_scope_is_refused_it() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, scopes=[REPLIES]), NOW)
    assert refusal(memory, ANN, SUMMARIES) == RefusalCode.OUT_OF_SCOPE
    assert refusal(memory, ANN, REPLIES) is None
    assert refusal(memory, ANN, None) is None


def test_who_is_in_nobodys_roster_is_refused() -> None:
    memory = a_memory(ANN, BOB)
    memory.note_consent(EVE, KEY, noted(EVE), NOW)
    assert refusal(memory, EVE) == RefusalCode.NOT_A_MEMBER
    memory.note_roster(EVE, roster(ANN, BOB, EVE))
    assert refusal(memory, EVE) == RefusalCode.NOT_A_MEMBER
    assert refusal(memory, ANN) is None


def test_a_removed_member_is_refused_once_all_have_said_so() -> None:
    memory = a_memory(ANN, BOB, CID)
    memory.note_roster(ANN, roster(ANN, BOB, revision=2))
    assert refusal(memory, CID) is None
    memory.note_roster(BOB, roster(ANN, BOB, revision=2))
    assert refusal(memory, CID) == RefusalCode.NOT_A_MEMBER


def test_who_is_alone_asks_about_their_own_messages_whatever_strangers_say() -> None:
    """Eve knows the key; that she does not count Ann is no reason to refuse Ann, who does not count Eve."""
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.note_consent(EVE, KEY, noted(EVE), NOW)
    memory.note_roster(EVE, roster(EVE))
    assert refusal(memory, ANN) is None
    assert used(memory, ANN, named(ANN, 1)) == ["x"]


def test_strangers_who_vouch_for_each_other_get_nothing_of_the_members() -> None:
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1)
    for stranger in (CID, EVE):
        memory.note_consent(stranger, KEY, noted(stranger), NOW)
        memory.note_roster(stranger, roster(CID, EVE, ANN, BOB))
    write(memory, CID, 2)
    assert refusal(memory, EVE) is None
    assert counts(recalled(memory, EVE, named(ANN, 1), named(CID, 2))) == (1, 1, 0)
    assert memory.opted_in(EVE, KEY, NOW) == accounts(CID, EVE)
    assert memory.forget_whole(EVE, KEY) == 1
    assert used(memory, BOB, named(ANN, 1)) == ["x"]


def test_a_member_hears_who_has_opted_in_and_how_much_is_held_of_theirs() -> None:
    memory = a_memory(ANN, BOB)
    memory.note_consent(CID, KEY, noted(CID, until=NOW + 10), NOW)
    memory.note_roster(CID, roster(ANN, BOB, CID))
    memory.store(ANN, written(1), NOW)
    assert memory.opted_in(ANN, KEY, NOW + 9) == accounts(ANN, BOB, CID)
    assert memory.opted_in(ANN, KEY, NOW + 10) == accounts(ANN, BOB)
    assert memory.opted_in(ANN, OTHER_KEY, NOW) == frozenset()
    assert [memory.count_own(author, KEY, NOW) for author in (ANN, BOB, EVE)] == [1, 0, 0]
    assert memory.count_own(ANN, KEY, NOW + AGE) == 0


def test_ones_own_consent_is_the_latest() -> None:
    memory = a_memory(ANN)
    memory.note_consent(ANN, KEY, noted(ANN, 10), NOW)
    assert memory.own_consent(ANN, KEY) == reference(ANN, noted(ANN, 10).digest)
    assert memory.own_consent(BOB, KEY) is None


# --- forgetting -------------------------------------------------------------------------------------------------------


def a_full_memory() -> Memory:
    """Two members in two conversations, with one message of each in each."""
    memory = Memory()
    for key in (KEY, OTHER_KEY):
        for author in (ANN, BOB):
            memory.note_consent(author, key, noted(author, key=key), NOW)
            memory.note_roster(author, roster(ANN, BOB, key=key))
            memory.store(author, written(1, key=key), NOW)
    return memory


def held_of(memory: Memory) -> list[tuple[Member, bytes]]:
    pairs = [(author, key) for author in (ANN, BOB) for key in (KEY, OTHER_KEY)]
    return [(author, key) for author, key in pairs if memory.count_own(author, key, NOW)]


def test_an_author_has_their_messages_of_one_conversation_dropped_or_of_all() -> None:
    memory = a_full_memory()
    assert memory.forget(ANN, KEY) == 1
    assert held_of(memory) == [(ANN, OTHER_KEY), (BOB, KEY), (BOB, OTHER_KEY)]
    assert memory.forget(ANN, None) == 1
    assert held_of(memory) == [(BOB, KEY), (BOB, OTHER_KEY)]
    assert (memory.forget(ANN, None), memory.forget(EVE, KEY), memory.forget(EVE, None)) == (0, 0, 0)
    assert refusal(memory, ANN) is None  # consent stays


def test_a_member_has_a_whole_conversation_dropped() -> None:
    memory = a_full_memory()
    assert memory.forget_whole(ANN, KEY) == 2
    assert held_of(memory) == [(ANN, OTHER_KEY), (BOB, OTHER_KEY)]
    assert memory.forget_whole(ANN, key_of(7)) == 0


def test_only_what_the_requester_may_use_is_dropped_with_a_whole_conversation() -> None:
    memory = a_full_memory()
    memory.note_roster(BOB, roster(BOB, revision=2))
    assert memory.forget_whole(ANN, KEY) == 1
    assert held_of(memory) == [(ANN, OTHER_KEY), (BOB, KEY), (BOB, OTHER_KEY)]


def test_an_account_under_another_identity_key_has_no_part_in_anything() -> None:
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1)
    write(memory, BOB, 2)
    size = memory.bytes_held
    other = replace(BOB, identity_key=b"\x06" * 33)
    assert used(memory, other, named(ANN, 1), named(BOB, 2)) == []
    assert refusal(memory, other) == RefusalCode.NOT_OPTED_IN
    assert memory.own_consent(other, KEY) is None
    assert memory.opted_in(other, KEY, NOW) == frozenset()
    assert memory.count_own(other, KEY, NOW) == memory.forget(other, KEY) == memory.forget(other, None) == 0
    assert memory.forget_whole(other, KEY) == 0
    assert not memory.store(other, written(3), NOW)
    memory.note_roster(other, roster(other, revision=2))
    assert memory.bytes_held == size
    assert used(memory, BOB, named(ANN, 1), named(BOB, 2)) == ["x", "x"]


def test_a_statement_under_another_identity_key_is_somebody_elses_and_ends_what_was_before() -> None:
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1)
    write(memory, BOB, 2)
    memory.note_consent(BOB, OTHER_KEY, noted(BOB, key=OTHER_KEY), NOW)
    other = replace(BOB, identity_key=b"\x06" * 33)
    memory.note_consent(other, KEY, noted(other), NOW)
    memory.note_roster(other, roster(ANN, other))
    assert refusal(memory, other) == RefusalCode.NOT_A_MEMBER
    assert used(memory, other, named(ANN, 1), named(BOB, 2)) == []
    assert memory.opted_in(other, KEY, NOW) == accounts(BOB)
    assert memory.count_own(BOB, KEY, NOW) == 0
    assert refusal(memory, BOB) == RefusalCode.NOT_OPTED_IN
    assert memory.own_consent(BOB, OTHER_KEY) is None  # nor of any other conversation
    assert_counted(memory)
    memory.note_roster(ANN, roster(ANN, other, revision=1))  # Ann has compared safety numbers
    write(memory, ANN, 3, "to the new one")
    assert refusal(memory, other) is None
    assert used(memory, other, named(ANN, 1), named(ANN, 3)) == ["to the new one"]


def test_of_an_account_with_new_keys_nothing_is_left() -> None:
    memory = a_full_memory()
    memory.forget_author(ANN.service_id)
    assert held_of(memory) == [(BOB, KEY), (BOB, OTHER_KEY)]
    assert refusal(memory, ANN) == RefusalCode.NOT_OPTED_IN
    memory.forget_author(BOB.service_id)
    memory.forget_author(EVE.service_id)
    assert (memory.bytes_held, memory.messages_held) == (0, 0)


def test_what_is_forgotten_may_be_told_again() -> None:
    memory = a_full_memory()
    memory.forget(ANN, KEY)
    assert memory.store(ANN, written(1), NOW)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_message_is_held_for_a_day() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.store(ANN, written(2), NOW + 1)
    memory.forget_old(NOW + AGE - 1)
    assert memory.messages_held == 2
    memory.forget_old(NOW + AGE)
    assert memory.messages_held == 1
    assert used(memory, ANN, named(ANN, 2), now=NOW + AGE + 1) == []


def test_a_conversation_holds_so_many_messages_and_the_oldest_go_first() -> None:
    memory = a_memory(ANN)
    for at in range(MAX_MESSAGES + 1):
        memory.store(ANN, written(at), NOW)
    found = recalled(memory, ANN, *(named(ANN, at) for at in range(MAX_MESSAGES + 1)))
    assert [held.id.timestamp for held in found.messages] == list(range(1, MAX_MESSAGES + 1))


def test_who_writes_much_pushes_out_their_own_messages() -> None:
    memory = a_memory(ANN, BOB)
    for at in range(MAX_MESSAGES // 2):
        memory.store(BOB, written(at), NOW)
    for at in range(2 * MAX_MESSAGES):
        memory.store(ANN, written(at), NOW)
    assert memory.count_own(BOB, KEY, NOW) == MAX_MESSAGES // 2
    memory.store(BOB, written(MAX_MESSAGES), NOW)  # of two who have as much the one whose messages are older
    assert memory.count_own(BOB, KEY, NOW) == MAX_MESSAGES // 2
    assert memory.messages_held == MAX_MESSAGES


def test_an_authors_bytes_are_bounded_over_all_conversations_and_their_oldest_messages_go_first() -> None:
    memory = Memory()
    for key in (KEY, OTHER_KEY):
        memory.note_consent(ANN, key, noted(ANN, key=key), NOW)
    size = MAX_CONTENT - MESSAGE_BYTES
    fits = (MAX_BYTES_OF_AUTHOR - 2 * STATEMENT_BYTES) // MAX_CONTENT
    for at in range(fits + 1):
        memory.store(ANN, written(at, "x" * size, (KEY, OTHER_KEY)[at % 2]), NOW)
    assert memory.messages_held == fits
    assert used(memory, ANN, named(ANN, 0)) == []
    assert memory.bytes_held == 2 * STATEMENT_BYTES + fits * MAX_CONTENT


def test_huge_rosters_are_counted_and_end_with_the_place_of_who_sends_them() -> None:
    memory = a_memory(BOB)
    memory.store(BOB, written(1), NOW)
    tags = frozenset(number.to_bytes(16, "big") for number in range(MAX_CONVERSATION_MEMBERS))
    for number in range(1, MAX_CONVERSATIONS_OF_AUTHOR + 1):
        memory.note_consent(EVE, key_of(number), noted(EVE, key=key_of(number)), NOW)
        memory.note_roster(EVE, Roster(key_of(number), 1, tags))
        assert memory.bytes_held <= MAX_BYTES_OF_AUTHOR + STATEMENT_BYTES + TAG_BYTES + MESSAGE_BYTES + 1
    assert memory.own_consent(EVE, key_of(1)) is None
    assert memory.own_consent(EVE, key_of(MAX_CONVERSATIONS_OF_AUTHOR)) is not None
    assert used(memory, BOB, named(BOB, 1)) == ["x"]


def test_an_author_is_in_so_many_conversations_and_leaves_first_where_they_were_silent_longest() -> None:
    memory = Memory()
    for number in range(MAX_CONVERSATIONS_OF_AUTHOR):
        memory.note_consent(ANN, key_of(number), noted(ANN), NOW)
    memory.store(ANN, written(1, key=key_of(0)), NOW)
    memory.note_consent(ANN, key_of(MAX_CONVERSATIONS_OF_AUTHOR), noted(ANN), NOW)
    left = [number for number in range(MAX_CONVERSATIONS_OF_AUTHOR + 1) if not memory.own_consent(ANN, key_of(number))]
    assert left == [1]


def test_of_too_many_conversations_one_goes_of_who_opened_most_that_was_silent_longest() -> None:
    memory = a_memory(BOB, CID)
    memory.store(BOB, written(1), NOW)
    openers = [somebody(number) for number in range(-(-MAX_CONVERSATIONS // MAX_CONVERSATIONS_OF_AUTHOR))]
    for number in range(MAX_CONVERSATIONS - 1):
        memory.note_consent(openers[number % len(openers)], key_of(number + 10), noted(ANN), NOW)
    assert memory.own_consent(openers[0], key_of(10)) is not None
    memory.note_consent(EVE, key_of(1), noted(EVE), NOW)
    gone = [number for number in range(MAX_CONVERSATIONS - 1) if not _is_known(memory, openers, number)]
    assert gone == [0]
    assert used(memory, BOB, named(BOB, 1)) == ["x"]


def _is_known(memory: Memory, openers: list[Member], number: int) -> bool:
    return memory.own_consent(openers[number % len(openers)], key_of(number + 10)) is not None


def test_a_conversation_has_so_many_authors() -> None:
    memory = Memory()
    for number in range(MAX_CONVERSATION_MEMBERS):
        assert memory.note_consent(somebody(number), KEY, noted(somebody(number)), NOW)
    assert not memory.note_consent(ANN, KEY, noted(ANN), NOW)
    assert memory.own_consent(ANN, KEY) is None
    assert memory.note_consent(somebody(0), KEY, noted(somebody(0), 1, opted_in=False), NOW)


def test_where_all_is_full_who_takes_most_gives_way() -> None:
    assert MAX_BYTES > 2 * MAX_BYTES_OF_AUTHOR
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "MAX_BYTES", 100_000)
        memory = a_memory(BOB)
        memory.store(BOB, written(1, "bob"), NOW)
        for number in range(3):
            eve, key = somebody(number), key_of(number + 10)
            memory.note_consent(eve, key, noted(eve), NOW)
            for at in range(200):
                memory.store(eve, written(at, "x" * 100, key), NOW)
        assert memory.bytes_held <= 100_000
        assert used(memory, BOB, named(BOB, 1)) == ["bob"]
        left = [memory.count_own(somebody(number), key_of(number + 10), NOW) for number in range(3)]
        assert max(left) - min(left) <= 1


# --- laws -------------------------------------------------------------------------------------------------------------

UNIT = AHEAD // 2  # of time in these tests
AUTHORS, KEYS = (ANN, BOB, CID), (KEY, OTHER_KEY)
authors, keys = st.sampled_from(AUTHORS), st.sampled_from(KEYS)
times = st.integers(0, 12)  # in units


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, at a time."""

    key: bytes
    author: Member
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated(Event):
    consent: Consent


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted(Event):
    roster: Roster


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrote(Event):
    message: DataMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(Event):
    """``author`` had all messages of these authors in this conversation dropped."""

    authors: frozenset[Member] = field(default=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKeys(Event):
    """The account is somebody else's."""


class History:
    """A list of all that happened. Every question is answered by reading it from the start; nothing is ever bounded."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def _of(self, author: Member, key: bytes, end: int) -> list[tuple[int, Event]]:
        """What concerns one author in one conversation, since the account is theirs."""
        events = list(enumerate(self.events[:end]))
        start = max((at for at, event in events if isinstance(event, NewKeys) and event.author == author), default=-1)
        return [(at, event) for at, event in events if at > start and event.author == author and event.key == key]

    def statements(self, author: Member, key: bytes, end: int) -> list[tuple[int, Consent]]:
        """Those that were news, since the last opting out, which is one of them."""
        news: list[tuple[int, Consent]] = []
        for at, event in self._of(author, key, end):
            if isinstance(event, Stated) and all(event.consent.timestamp > known.timestamp for _, known in news):
                news.append((at, event.consent))
        start = max((index for index, (_, consent) in enumerate(news) if not consent.opted_in), default=0)
        return news[start:]

    def rosters(self, author: Member, key: bytes, end: int) -> list[tuple[int, Roster]]:
        """Those that were news, of the time for which the author has been opted in."""
        said = self.statements(author, key, end)
        since = next((at for at, consent in said if consent.opted_in), end)
        news: list[tuple[int, Roster]] = []
        for at, event in self._of(author, key, end):
            if not isinstance(event, Counted) or at < since:
                continue
            if all(event.roster.revision >= known.revision for _, known in news):
                news.append((at, event.roster))
        return news

    def under(self, author: Member, key: bytes, timestamp: int, end: int) -> Consent | None:
        known = [consent for _, consent in self.statements(author, key, end) if consent.timestamp <= timestamp]
        return known[-1] if known else None

    def allowed(self, author: Member, key: bytes, under: Consent | None, now: int, end: int) -> set[ConsentScope]:
        """The purposes for which a message under this statement may be used now."""
        said = self.statements(author, key, end)
        if under is None or not said:
            return set()
        both = (under, said[-1][1])
        if not all(consent.in_force(now) and consent.timestamp <= now + AHEAD for consent in both):
            return set()
        return set(both[0].scopes & both[1].scopes)

    def held(self, now: int, end: int) -> dict[int, tuple[Wrote, Consent]]:
        """Messages that are held, by their place in this list, and the statements that they are under."""
        found: dict[int, tuple[Wrote, Consent]] = {}
        for at, event in enumerate(self.events[:end]):
            if not isinstance(event, Wrote):
                continue
            under = self.under(event.author, event.key, event.message.timestamp, at)
            if under is None or self.has_gone(event, under, at, now, end):
                continue
            same = [w for w, _ in found.values() if replace(w, now=0, message=event.message) == replace(event, now=0)]
            twice = any(wrote.message.timestamp == event.message.timestamp for wrote in same)
            if not twice and self._was_covered(event, under, at):
                found[at] = event, under
        return found

    def _was_covered(self, wrote: Wrote, under: Consent, at: int) -> bool:
        scopes = self.allowed(wrote.author, wrote.key, under, wrote.now, at)
        return any(under.covers(wrote.message.timestamp, scope) for scope in scopes)

    def has_gone(self, wrote: Wrote, under: Consent, at: int, now: int, end: int) -> bool:
        """Whether something after ``at`` ended it, if it was held at all."""
        if now - wrote.now >= AGE or self.has_expired(under, now):
            return True
        latest = self.statements(wrote.author, wrote.key, at)[-1][1]
        for place in range(at + 1, end):
            event = self.events[place]
            if isinstance(event, NewKeys) and event.author == wrote.author:
                return True
            if isinstance(event, Dropped) and event.key == wrote.key and wrote.author in event.authors:
                return True
            if not isinstance(event, Stated) or (event.author, event.key) != (wrote.author, wrote.key):
                continue
            if event.consent.timestamp > latest.timestamp:
                if self.has_expired(latest, event.now):
                    return True
                latest = event.consent
                if not latest.opted_in or not latest.scopes & under.scopes:
                    return True
        return self.has_expired(latest, now)

    @staticmethod
    def has_expired(consent: Consent, now: int) -> bool:
        return consent.expires_at is not None and now >= consent.expires_at

    def counts(self, author: Member, key: bytes, member: Member, end: int, since: int | None = None) -> bool:
        """Whether ``author`` counts ``member`` now, and has without a break since before the event at ``since``."""
        said = self.rosters(author, key, end)
        tag = member.tag(key)
        if not said or tag not in said[-1][1].tags:
            return False
        if since is None:
            return True
        before = [roster for at, roster in said if at < since]
        after = [roster for at, roster in said if at >= since]
        return bool(before) and all(tag in roster.tags for roster in (before[-1], *after))

    def is_for(self, requester: Member, at: int, wrote: Wrote, end: int) -> bool:
        """Whether its author counted the requester when they wrote, as the enclave knew when it came, and has ever since."""
        before = self.rosters(wrote.author, wrote.key, at)
        is_its_own = bool(before) and before[-1][1].digest() == wrote.message.roster
        return is_its_own and self.counts(wrote.author, wrote.key, requester, end, since=at)

    def recall(self, requester: Member, key: bytes, scope: ConsentScope, now: int) -> tuple[set[MessageId], int, int]:
        """Of all messages that were ever written: which are used, and how many are left out, by reason."""
        end = len(self.events)
        held = self.held(now, end)
        asked = {(e.author, e.message.timestamp) for e in self.events if isinstance(e, Wrote)}
        usable, not_opted_in = set(), 0
        for author, timestamp in asked:
            if not self._of(author, key, end) or not self.statements(author, key, end):
                continue
            own = author == requester
            found = [
                (at, wrote)
                for at, (wrote, _) in held.items()
                if (wrote.author, wrote.key, wrote.message.timestamp) == (author, key, timestamp)
            ]
            under = held[found[0][0]][1] if found else self.under(author, key, timestamp, end)
            opened = scope in self.allowed(author, key, under, now, end)
            opened = opened and (bool(found) or (under is not None and under.covers(timestamp, scope)))
            if not opened or not (own or self.counts(author, key, requester, end)):
                not_opted_in += 1
            elif found and (own or self.is_for(requester, *found[0], end)):
                usable.add(named(author, timestamp))
        return usable, not_opted_in, len(asked) - len(usable) - not_opted_in


class AgainstHistory(RuleBasedStateMachine):
    """Whatever happens, the memory says what the history says."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(share_module, "MAX_STATEMENTS", 1000)
        self.memory, self.history, self.now = Memory(), History(), 3 * UNIT
        self.revisions = count()

    def teardown(self) -> None:
        self.patch.undo()

    @initialize(opted_in=st.sets(authors))
    def members(self, opted_in: set[Member]) -> None:
        for author in sorted(opted_in):
            self.state(author, KEY, 1, True, ALL_SCOPES, None)
            self.count(author, KEY, 0, set(AUTHORS))

    @rule(
        author=authors,
        key=keys,
        at=times,
        opted_in=st.sampled_from([True, True, True, False]),
        scopes=st.sampled_from([ALL_SCOPES, ALL_SCOPES, frozenset([SUMMARIES]), frozenset([REPLIES]), frozenset()]),
        until=st.none() | times,
    )
    def state(
        self,
        author: Member,
        key: bytes,
        at: int,
        opted_in: bool,
        scopes: frozenset[ConsentScope],
        until: int | None,
    ) -> None:
        expires_at = None if until is None else until * UNIT
        stated = noted(author, at * UNIT, opted_in=opted_in, scopes=scopes, until=expires_at, key=key)
        before = self.history.statements(author, key, len(self.history.events))
        news = self.memory.note_consent(author, key, stated, self.now)
        self.history.events.append(Stated(key=key, author=author, now=self.now, consent=stated.consent))
        assert news == (before != self.history.statements(author, key, len(self.history.events)))

    @rule(author=authors, key=keys, revision=st.integers(0, 6), members=st.sets(authors))
    def count(self, author: Member, key: bytes, revision: int, members: set[Member]) -> None:
        said = roster(*members, revision=revision, key=key)
        self.memory.note_roster(author, said)
        self.history.events.append(Counted(key=key, author=author, now=self.now, roster=said))

    @rule(
        author=authors,
        key=keys,
        at=times,
        text=st.sampled_from(["", "a", "ä€😀"]),
        age=st.sampled_from([0, 0, 0, 1, 2]),
    )
    def write(self, author: Member, key: bytes, at: int, text: str, age: int) -> None:
        said = self.history.rosters(author, key, len(self.history.events))
        under = said[-1 - age][1] if age < len(said) else None
        message = written(at * UNIT, text, key, under)
        kept = self.memory.store(author, message, self.now)
        self.history.events.append(Wrote(key=key, author=author, now=self.now, message=message))
        held = self.history.held(self.now, len(self.history.events))
        ids = [(wrote.author, wrote.key, wrote.message.timestamp) for wrote, _ in held.values()]
        assert kept == ((author, key, at * UNIT) in ids)

    @rule(author=authors, chosen=st.none() | keys)
    def forget(self, author: Member, chosen: bytes | None) -> None:
        for key in KEYS if chosen is None else (chosen,):
            self.history.events.append(Dropped(key=key, author=author, now=self.now, authors=frozenset([author])))
        self.memory.forget(author, chosen)

    @rule(requester=authors, key=keys)
    def forget_whole(self, requester: Member, key: bytes) -> None:
        end = len(self.history.events)
        counting = (author for author in AUTHORS if self.history.counts(author, key, requester, end))
        everybody = frozenset([requester, *counting])
        self.history.events.append(Dropped(key=key, author=requester, now=self.now, authors=everybody))
        self.memory.forget_whole(requester, key)

    @rule(author=authors)
    def change_keys(self, author: Member) -> None:
        self.history.events.append(NewKeys(key=KEY, author=author, now=self.now))
        self.memory.forget_author(author.service_id)

    @rule(by=st.sampled_from([0, 1, 1, 2, AGE // UNIT - 2]))
    def wait(self, by: int) -> None:
        self.now += by * UNIT

    @rule()
    def look_for_what_is_old(self) -> None:
        self.memory.forget_old(self.now)
        end = len(self.history.events)
        held = self.history.held(self.now, end)
        assert self.memory.messages_held == len(held)
        said = [
            len(self.history.statements(author, key, end)) * STATEMENT_BYTES
            + sum(len(last.tags) * TAG_BYTES for _, last in self.history.rosters(author, key, end)[-1:])
            for author in AUTHORS
            for key in KEYS
        ]
        texts = [MESSAGE_BYTES + bytes_of(wrote.message.body) for wrote, _ in held.values()]
        assert self.memory.bytes_held == sum(said) + sum(texts)

    @rule(requester=authors, key=keys, scope=st.sampled_from(ConsentScope))
    def ask(self, requester: Member, key: bytes, scope: ConsentScope) -> None:
        asked = {named(e.author, e.message.timestamp) for e in self.history.events if isinstance(e, Wrote)}
        found = self.memory.recall(requester, key, sorted(asked), scope, self.now)
        usable, not_opted_in, not_held = self.history.recall(requester, key, scope, self.now)
        assert {held.id for held in found.messages} == usable
        assert (found.not_opted_in, found.not_held) == (not_opted_in, not_held)
        assert sum(counts(found)) == len(asked)

    @invariant()
    def every_byte_is_counted(self) -> None:
        assert_counted(self.memory)


TestAgainstHistory = AgainstHistory.TestCase
TestAgainstHistory.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)


def assert_counted(memory: Memory) -> None:
    shares = [share for shares in memory._conversations.values() for share in shares.values()]
    for share in shares:
        texts = sum(held.size for held in share.messages.values())
        assert share.size == texts + STATEMENT_BYTES * len(share.statements) + TAG_BYTES * len(share.members)
    assert memory.bytes_held == sum(share.size for share in shares)
    assert {author: set(keys) for author, keys in memory._keys.items()} == {
        share.author.service_id: {
            key for key, others in memory._conversations.items() if share.author.service_id in others
        }
        for share in shares
    }
    assert all(memory._conversations.values())


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["in", "out", "count", "write", "write", "write"]),
            st.integers(0, 4),
            st.integers(0, 5),
            st.integers(0, 40),
        ),
        max_size=80,
    )
)
def test_no_bound_is_ever_passed_whatever_happens(steps: list[tuple[str, int, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        bounds = {"MAX_MESSAGES": 4, "MAX_CONVERSATIONS": 3, "MAX_CONVERSATIONS_OF_AUTHOR": 2, "MAX_BYTES": 20_000}
        for name, value in {**bounds, "MAX_BYTES_OF_AUTHOR": 9_000}.items():
            patch.setattr(memory_module, name, value)
        memory = Memory()
        for at, (what, number, conversation, size) in enumerate(steps):
            author, key = somebody(number), key_of(conversation)
            match what:
                case "in" | "out":
                    memory.note_consent(author, key, noted(author, at, opted_in=what == "in"), NOW)
                case "count":
                    memory.note_roster(author, Roster(key, at, frozenset(bytes([tag]) * 16 for tag in range(size))))
                case _:
                    memory.store(author, written(at, "x" * size * 50, key), NOW)
            assert_counted(memory)
            sizes = [sum(len(share.messages) for share in shares.values()) for shares in memory._conversations.values()]
            assert max(sizes, default=0) <= 4
            assert len(sizes) <= 3
            assert memory.bytes_held <= 20_000
            assert all(len(keys) <= 2 for keys in memory._keys.values())
            assert all(taken <= 9_000 for taken in memory._bytes.values())


@settings(max_examples=60, deadline=None)
@given(
    own=st.integers(1, 10),
    flood=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["in", "write", "count"])), max_size=150),
)
def test_no_flood_of_others_pushes_out_who_takes_less(own: int, flood: list[tuple[int, str]]) -> None:
    """Ann's share of a conversation of five is a fifth: so much of hers stays, whatever the other four do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "MAX_MESSAGES", 50)
        patch.setattr(memory_module, "MAX_BYTES", 120_000)
        memory = a_memory(ANN, *map(somebody, range(4)))
        for at in range(own):
            memory.store(ANN, written(at), NOW)
        for at, (number, what) in enumerate(flood):
            stranger, key = somebody(number), key_of(1000 + at)
            if what == "in":
                memory.note_consent(stranger, key, noted(stranger), NOW)
            elif what == "count":
                memory.note_roster(stranger, Roster(KEY, 10 + at, frozenset([bytes([at]) * 16])))
            else:
                memory.store(stranger, written(at, "y" * 200), NOW)
        assert memory.count_own(ANN, KEY, NOW) == own

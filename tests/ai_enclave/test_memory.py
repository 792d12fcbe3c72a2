"""The enclave remembers what its authors let it, for whom they let it, within bounds, and nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ai_enclave import memory as memory_module
from ai_enclave import share as share_module
from ai_enclave.limits import (
    DELETION_BYTES,
    MAX_AGE,
    MAX_BYTES,
    MAX_BYTES_OF_AUTHOR,
    MAX_CONSENT_AHEAD,
    MAX_CONVERSATIONS,
    MAX_CONVERSATIONS_OF_AUTHOR,
    MAX_DELETIONS,
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
from messaging.wire.content import AttachmentPointer, DataMessage, Deletion, Edit, Mention, Quote, Roster
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import MAX_CONTENT, MAX_CONVERSATION_MEMBERS
from tests.ai_enclave.reachable import reachable

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


def edited(target: int, at: int, text: str = "y", key: bytes | None = KEY, under: Roster | None = None) -> Edit:
    """Another text for the message of the time ``target``, written ``under`` a roster."""
    return Edit(target, written(at, text, key, under))


def deleted(target: int, key: bytes | None = KEY) -> Deletion:
    return Deletion(target, NOW, key)


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


# --- what authors change ----------------------------------------------------------------------------------------------

BOTH = roster(ANN, BOB)


def test_what_its_author_deletes_is_gone_at_once_and_nothing_else() -> None:
    memory = a_memory(ANN, BOB)
    memory.note_consent(ANN, OTHER_KEY, noted(ANN, key=OTHER_KEY), NOW)
    for author, at, key in ((ANN, 1, KEY), (ANN, 2, KEY), (BOB, 1, KEY), (ANN, 1, OTHER_KEY)):
        write(memory, author, at, f"{author.service_id.uuid.int} {at}", key)
    memory.delete(ANN, deleted(1))
    assert used(memory, ANN, named(ANN, 1), named(ANN, 2), named(BOB, 1)) == ["2 1", "1 2"]
    assert used(memory, ANN, named(ANN, 1), key=OTHER_KEY) == ["1 1"]
    assert_counted(memory)


def test_what_was_deleted_is_not_taken_again_whether_it_had_come_before_or_not() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    for at in (1, 2):
        memory.delete(ANN, deleted(at))
        assert not memory.store(ANN, written(at, "late"), NOW)
    memory.forget(ANN, KEY)
    memory.note_consent(ANN, KEY, noted(ANN, 1, scopes=[REPLIES]), NOW)
    assert not memory.store(ANN, written(1, "shared again"), NOW + AGE)
    assert memory.store(ANN, written(3), NOW)


def test_only_the_author_under_the_key_of_their_statements_deletes_and_edits() -> None:
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1)
    size = memory.bytes_held
    for somebody_else in (BOB, EVE, replace(ANN, identity_key=b"\x06" * 33)):
        memory.delete(somebody_else, deleted(1))
        memory.edit(somebody_else, edited(1, 2), NOW)
    for key in (OTHER_KEY, None):
        memory.delete(ANN, deleted(1, key))
        memory.edit(ANN, edited(1, 2, key=key), NOW)
    assert used(memory, BOB, named(ANN, 1)) == ["x"]
    assert memory.bytes_held == size + DELETION_BYTES  # Bob's, of a message that he may yet write
    assert not memory.store(BOB, written(1), NOW)


def test_a_deletion_is_remembered_for_as_long_as_the_message_could_still_be_taken() -> None:
    memory = a_memory(ANN)
    memory.note_consent(ANN, KEY, noted(ANN, 5, opted_in=False), NOW)
    for at in (4, 15, 20, 20):
        memory.delete(ANN, deleted(at))
    assert memory.bytes_held == STATEMENT_BYTES + 2 * DELETION_BYTES
    memory.note_consent(ANN, KEY, noted(ANN, 10, opted_in=False), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 15), NOW)
    assert not memory.store(ANN, written(20), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 16, opted_in=False), NOW)
    assert memory.bytes_held == STATEMENT_BYTES + DELETION_BYTES
    memory.note_consent(ANN, KEY, noted(ANN, 21, opted_in=False), NOW)
    assert memory.bytes_held == STATEMENT_BYTES
    memory.delete(ANN, deleted(22))
    memory.note_consent(ANN, KEY, noted(ANN, 22), NOW)
    assert not memory.store(ANN, written(22), NOW)


def test_what_is_written_at_the_moment_of_the_first_statement_is_deleted_too() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, 10), NOW)
    memory.delete(ANN, deleted(10))
    assert not memory.store(ANN, written(10), NOW)


def test_who_deletes_is_not_silent_and_pays_for_what_is_remembered() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "MAX_CONVERSATIONS_OF_AUTHOR", 2)
        patch.setattr(memory_module, "MAX_BYTES_OF_AUTHOR", 2 * STATEMENT_BYTES + MESSAGE_BYTES + 1 + DELETION_BYTES)
        memory = Memory()
        for number in (1, 2):
            memory.note_consent(ANN, key_of(number), noted(ANN, key=key_of(number)), NOW)
        memory.store(ANN, written(1, key=key_of(2)), NOW)
        memory.delete(ANN, deleted(1, key_of(1)))
        assert memory.count_own(ANN, key_of(2), NOW) == 1
        memory.delete(ANN, deleted(2, key_of(1)))
        assert memory.count_own(ANN, key_of(2), NOW) == 0
        memory.note_consent(ANN, key_of(3), noted(ANN, key=key_of(3)), NOW)
        assert [memory.own_consent(ANN, key_of(number)) is None for number in (1, 2, 3)] == [False, True, False]


def test_beyond_so_many_deletions_all_up_to_the_oldest_is_taken_for_deleted_but_what_is_held_stays() -> None:
    memory = a_memory(ANN)
    gone = range(100, 100 + 2 * MAX_DELETIONS, 2)
    for at in reversed(gone):
        memory.delete(ANN, deleted(at))
    size = memory.bytes_held
    assert memory.store(ANN, written(99), NOW)
    memory.delete(ANN, deleted(gone.stop))
    memory.delete(ANN, deleted(98))
    assert memory.bytes_held == size + MESSAGE_BYTES + 1
    assert not any(memory.store(ANN, written(at), NOW) for at in (97, 98, *gone, gone.stop))
    assert all(memory.store(ANN, written(at), NOW) for at in (99, 101, gone.stop + 1))
    assert_counted(memory)


def test_an_edit_puts_another_text_in_the_place_of_a_message() -> None:
    memory = a_memory(ANN, BOB)
    for at in (1, 2):
        write(memory, ANN, at, f"before {at}")
    memory.edit(ANN, edited(1, 9, "after", under=BOTH), NOW)
    found = recalled(memory, BOB, named(ANN, 1), named(ANN, 2), named(ANN, 9))
    assert [(held.id.timestamp, held.text) for held in found.messages] == [(1, "after"), (2, "before 2")]
    assert counts(found) == (2, 0, 1)  # the edit is no message
    assert_counted(memory)


def test_an_edited_message_goes_when_it_is_its_turn() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "MAX_MESSAGES", 2)
        memory = a_memory(ANN)
        for at in (1, 2):
            memory.store(ANN, written(at), NOW)
        memory.edit(ANN, edited(1, 9), NOW)
        memory.store(ANN, written(3), NOW)
        assert used(memory, ANN, *(named(ANN, at) for at in (1, 2, 3))) == ["x", "x"]
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.edit(ANN, edited(1, 9), NOW + AGE - 1)
    memory.forget_old(NOW + AGE)
    assert memory.messages_held == 0


@pytest.mark.parametrize(("at", "stands"), [(5, "first"), (6, "first"), (7, "second")])
def test_of_two_edits_the_later_stands_in_whatever_order_they_come(at: int, stands: str) -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.edit(ANN, edited(1, 6, "first"), NOW)
    memory.edit(ANN, edited(1, at, "second"), NOW)
    assert used(memory, ANN, named(ANN, 1)) == [stands]


def test_an_edit_that_is_not_later_than_the_message_or_of_one_that_is_not_held_is_nothing() -> None:
    memory = a_memory(ANN)
    memory.edit(ANN, edited(5, 6), NOW)
    memory.store(ANN, written(5), NOW)
    memory.edit(ANN, edited(5, 5), NOW)
    assert used(memory, ANN, named(ANN, 5)) == ["x"]
    memory.delete(ANN, deleted(5))
    memory.edit(ANN, edited(5, 6), NOW)
    assert memory.messages_held == 0


def test_an_edit_needs_consent_of_its_own_time_and_ends_the_message_without() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN, until=NOW + 10), NOW)
    for at in (1, 2):
        memory.store(ANN, written(at), NOW)
    memory.edit(ANN, edited(1, NOW + 9), NOW)
    memory.edit(ANN, edited(2, NOW + 10), NOW)
    assert used(memory, ANN, named(ANN, 1), named(ANN, 2)) == ["y"]
    assert memory.count_own(ANN, KEY, NOW) == 1
    assert_counted(memory)


def test_an_edit_is_used_for_what_its_own_statement_and_the_messages_allow() -> None:
    memory = a_memory(ANN)
    memory.note_consent(ANN, KEY, noted(ANN, 10, scopes=[REPLIES]), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 20), NOW)
    for at in (1, 2, 11):
        memory.store(ANN, written(at), NOW)
    memory.edit(ANN, edited(1, 12, "narrower"), NOW)
    memory.edit(ANN, edited(2, 21, "as wide"), NOW)
    memory.edit(ANN, edited(11, 22, "wider"), NOW)
    asked = [named(ANN, at) for at in (1, 2, 11)]
    assert used(memory, ANN, *asked, scope=REPLIES) == ["narrower", "as wide", "wider"]
    assert used(memory, ANN, *asked, scope=SUMMARIES) == ["as wide"]
    assert counts(recalled(memory, ANN, *asked)) == (
        1,
        1,
        1,
    )  # as if none of them were held, but for the one that is used
    references = recalled(memory, ANN, *asked, scope=REPLIES).consents
    assert references == (reference(ANN, noted(ANN, 10).digest), reference(ANN, noted(ANN, 20).digest))


def test_an_edit_that_no_purpose_is_left_for_ends_the_message() -> None:
    memory = Memory()
    memory.note_consent(ANN, KEY, noted(ANN), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 10, scopes=[REPLIES]), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 20, scopes=[SUMMARIES]), NOW)
    memory.store(ANN, written(1), NOW)
    assert used(memory, ANN, named(ANN, 1)) == ["x"]
    memory.edit(ANN, edited(1, 11), NOW)
    assert memory.messages_held == 0


def test_an_edited_message_of_which_no_purpose_is_left_is_dropped() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 10, scopes=[REPLIES]), NOW)
    memory.edit(ANN, edited(1, 11), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 20, scopes=[SUMMARIES]), NOW)
    assert memory.messages_held == 0


def test_an_edit_that_was_replaced_narrows_nothing() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 10, scopes=[REPLIES]), NOW)
    memory.note_consent(ANN, KEY, noted(ANN, 20), NOW)
    memory.edit(ANN, edited(1, 11, "y"), NOW)
    memory.edit(ANN, edited(1, 21, "z"), NOW)
    assert used(memory, ANN, named(ANN, 1), scope=SUMMARIES) == ["z"]


def test_an_edited_message_goes_with_each_statement_that_it_rests_on() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    for at in range(2, MAX_STATEMENTS + 1):
        memory.note_consent(ANN, KEY, noted(ANN, at), NOW)
    memory.edit(ANN, edited(1, MAX_STATEMENTS), NOW)
    assert memory.messages_held == 1
    memory.note_consent(ANN, KEY, noted(ANN, MAX_STATEMENTS + 1), NOW)
    assert memory.messages_held == 0
    memory.note_consent(BOB, KEY, noted(BOB), NOW)
    memory.store(BOB, written(1), NOW)
    memory.note_consent(BOB, KEY, noted(BOB, 2, until=NOW + 10), NOW)
    memory.edit(BOB, edited(1, 3), NOW)
    memory.note_consent(BOB, KEY, noted(BOB, 4), NOW)
    assert used(memory, BOB, named(BOB, 1), now=NOW + 9) == ["y"]
    assert used(memory, BOB, named(BOB, 1), now=NOW + 10) == []


def test_an_edit_is_for_whom_its_author_counted_from_the_message_on() -> None:
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1)
    memory.note_consent(CID, KEY, noted(CID), NOW)
    three = roster(ANN, BOB, CID, revision=2)
    memory.note_roster(ANN, three)
    memory.edit(ANN, edited(1, 2, "to all", under=three), NOW)
    assert used(memory, BOB, named(ANN, 1)) == ["to all"]
    assert used(memory, CID, named(ANN, 1)) == []  # who came after the message
    memory.note_roster(ANN, roster(ANN, CID, revision=3))
    assert used(memory, BOB, named(ANN, 1)) == []


@pytest.mark.parametrize("under", [None, BOTH, roster(ANN, BOB, CID, revision=3)], ids=["none", "earlier", "to come"])
def test_an_edit_under_a_roster_that_does_not_stand_is_its_authors_alone(under: Roster | None) -> None:
    memory = a_memory(ANN, BOB)
    write(memory, ANN, 1)
    memory.note_roster(ANN, roster(ANN, BOB, CID, revision=2))
    memory.edit(ANN, edited(1, 2, under=under), NOW)
    assert used(memory, BOB, named(ANN, 1)) == []
    assert used(memory, ANN, named(ANN, 1)) == ["y"]


def test_an_edit_that_makes_a_text_longer_makes_room_at_its_authors_cost() -> None:
    memory = a_memory(ANN, BOB)
    size = MAX_CONTENT - MESSAGE_BYTES
    fits = (MAX_BYTES_OF_AUTHOR - STATEMENT_BYTES - 2 * TAG_BYTES) // MAX_CONTENT
    memory.store(BOB, written(1, "bob"), NOW)
    for at in range(1, fits + 2):
        memory.store(ANN, written(at, "x" * (size if at < fits else 1)), NOW)
    assert memory.count_own(ANN, KEY, NOW) == fits + 1
    for at in (fits, fits + 1):
        memory.edit(ANN, edited(at, at + 9, "x" * size), NOW)
    assert memory.count_own(ANN, KEY, NOW) == fits
    assert used(memory, ANN, named(ANN, 1)) == []
    assert used(memory, BOB, named(BOB, 1)) == ["bob"]
    assert_counted(memory)


def test_the_vectors_of_a_text_go_with_it() -> None:
    memory = a_memory(ANN)
    for at in (1, 2):
        memory.store(ANN, written(at, f"told {at}"), NOW)
    for held in recalled(memory, ANN, named(ANN, 1), named(ANN, 2)).messages:
        held.vectors[held.text] = b"of " + held.text.encode()
    del held
    memory.edit(ANN, edited(1, 9, "after"), NOW)
    memory.delete(ANN, deleted(2))
    kept = reachable(memory)
    assert "after" in kept
    assert not kept & {"told 1", "told 2", b"of told 1", b"of told 2"}


def test_of_a_message_and_its_edit_nothing_but_the_text_is_kept() -> None:
    file = AttachmentPointer(2, "where", b"s" * 64, b"d" * 32, 9, "image/png", "me.png")
    quote, mention = Quote(named(BOB, 1), "as Bob said"), Mention(0, 1, EVE.service_id)
    memory = a_memory(ANN)
    message = replace(written(1, "look"), attachments=(file,), quote=quote, mentions=(mention,))
    assert memory.store(ANN, message, NOW)
    assert memory.bytes_held == STATEMENT_BYTES + TAG_BYTES + MESSAGE_BYTES + len("look")
    secret = {"where", b"s" * 64, b"d" * 32, "image/png", "me.png", "as Bob said"}
    assert not reachable(memory) & secret
    memory.edit(ANN, Edit(1, replace(message, body="see", timestamp=2)), NOW)
    assert used(memory, ANN, named(ANN, 1)) == ["see"]
    assert not reachable(memory) & {"look", *secret}


@pytest.mark.parametrize(
    ("expires_in", "held_for"),
    [(0, AGE), (1, 1000), (AGE // 1000 - 1, AGE - 1000), (AGE // 1000, AGE), (2**32 - 1, AGE)],
)
def test_a_message_is_held_no_longer_than_its_readers_keep_it(expires_in: int, held_for: int) -> None:
    memory = a_memory(ANN)
    for at, stays in ((1, expires_in), (2, 0)):
        memory.store(ANN, replace(written(at), expires_in=stays), NOW)
    assert used(memory, ANN, named(ANN, 1), now=NOW + held_for - 1) == ["x"]
    assert used(memory, ANN, named(ANN, 1), now=NOW + held_for) == []
    assert memory.count_own(ANN, KEY, NOW + held_for) == (held_for < AGE)


@pytest.mark.parametrize(("of_message", "of_edit", "held_for"), [(10, 0, 10), (10, 20, 10), (0, 3, 8), (10, 3, 8)])
def test_an_edit_may_end_a_message_earlier_and_not_later(of_message: int, of_edit: int, held_for: int) -> None:
    """The edit comes five seconds after the message."""
    memory = a_memory(ANN)
    memory.store(ANN, replace(written(1), expires_in=of_message), NOW)
    memory.edit(ANN, Edit(1, replace(written(2, "y"), expires_in=of_edit)), NOW + 5000)
    assert used(memory, ANN, named(ANN, 1), now=NOW + 1000 * held_for - 1) == ["y"]
    assert used(memory, ANN, named(ANN, 1), now=NOW + 1000 * held_for) == []


def test_an_edit_that_ended_early_ends_nothing_once_another_one_stands() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.edit(ANN, Edit(1, replace(written(2, "y"), expires_in=10)), NOW)
    memory.edit(ANN, edited(1, 3, "z"), NOW + 9999)
    assert used(memory, ANN, named(ANN, 1), now=NOW + 10_000) == ["z"]


def test_what_has_ended_is_not_edited_any_more() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, written(1), NOW)
    memory.edit(ANN, Edit(1, replace(written(2, "y"), expires_in=10)), NOW)
    memory.edit(ANN, edited(1, 3, "z"), NOW + 10_000)
    assert memory.messages_held == 0


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
    for author in (ANN, BOB):
        for at in (10, 12, 13):
            memory.store(author, written(at), NOW)
        memory.note_roster(author, roster(ANN, BOB, CID, revision=2))
        memory.edit(author, edited(12, 14), NOW)
        memory.delete(author, deleted(13))
        is_not, *are = (recalled(memory, requester, named(author, at), scope=scope) for at in (11, 10, 12, 13))
        assert {counts(found) for found in are} == {counts(is_not)}
        assert all(found.messages == () for found in are)


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
texts = st.sampled_from(["", "a", "ä€😀"])
ages = st.sampled_from([0, 0, 0, 1, 2])  # of rosters: how many came since
lives = st.sampled_from([0, 0, UNIT // 1000, 3 * UNIT // 1000])  # seconds until a message is to be deleted
numbers = st.integers(0, 30)


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
class Changed(Event):
    edit: Edit


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(Event):
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(Event):
    """``author`` had all messages of these authors in this conversation dropped."""

    authors: frozenset[Member] = field(default=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKeys(Event):
    """The account is somebody else's."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a message: its text and which event brought it, the statements that both rest on, and their ends."""

    wrote: Wrote
    text: DataMessage
    brought_by: int
    under: tuple[Consent, ...]
    ends: tuple[int, ...]

    @property
    def name(self) -> tuple[Member, bytes, int]:
        return self.wrote.author, self.wrote.key, self.wrote.message.timestamp


class History:
    """A list of all that happened. Every question is answered by reading it from the start; nothing is ever bounded."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._kept: dict[int, bool] = {}  # whether the message of an event was: the past does not change

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

    def deletions(self, author: Member, key: bytes, end: int) -> set[int]:
        """Times of messages that are gone for good."""
        said = self._of(author, key, end)
        return {e.target for at, e in said if isinstance(e, Deleted) and self.statements(author, key, at)}

    def covered(self, author: Member, key: bytes, timestamp: int, now: int, end: int) -> set[ConsentScope]:
        """The purposes for which a text of this time may be used."""
        under = self.under(author, key, timestamp, end)
        scopes = self.allowed(author, key, under, now, end)
        return {scope for scope in scopes if under is not None and under.covers(timestamp, scope)}

    def held(self, now: int, end: int) -> dict[int, Standing]:
        """Messages that are held, by their place in this list."""
        found = {at: self.standing(at, now, end) for at in range(end) if self.was_kept(at)}
        return {at: standing for at, standing in found.items() if standing is not None}

    def was_kept(self, at: int) -> bool:
        """Whether this event is a message that was taken when it came."""
        if at not in self._kept:
            event = self.events[at]
            self._kept[at] = isinstance(event, Wrote) and self._is_kept(event, at)
        return self._kept[at]

    def _is_kept(self, wrote: Wrote, at: int) -> bool:
        author, key, timestamp = wrote.author, wrote.key, wrote.message.timestamp
        twice = any(standing.name == (author, key, timestamp) for standing in self.held(wrote.now, at).values())
        gone = timestamp in self.deletions(author, key, at)
        return not twice and not gone and bool(self.covered(author, key, timestamp, wrote.now, at))

    def standing(self, at: int, now: int, end: int) -> Standing | None:
        """What is left of the message that was kept at this place."""
        wrote = self.events[at]
        assert isinstance(wrote, Wrote)
        under = self.under(wrote.author, wrote.key, wrote.message.timestamp, at)
        assert under is not None
        left: Standing | None = Standing(wrote, wrote.message, at, (under,), (self.end_of(wrote.message, wrote.now),))
        latest = self.statements(wrote.author, wrote.key, at)[-1][1]
        for place in range(at + 1, end):
            event = self.events[place]
            if left is None or self.has_ended(left, latest, event.now) or self.is_ended_by(event, wrote):
                return None
            if (event.author, event.key) != (wrote.author, wrote.key):
                continue
            if isinstance(event, Stated) and event.consent.timestamp > latest.timestamp:
                latest = event.consent
                if not latest.opted_in or not latest.scopes.intersection(*(each.scopes for each in left.under)):
                    return None
            if isinstance(event, Changed) and event.edit.target == wrote.message.timestamp:
                left = self._changed(left, event, place)
        return None if left is None or self.has_ended(left, latest, now) else left

    def _changed(self, left: Standing, changed: Changed, at: int) -> Standing | None:
        """What an edit leaves: nothing, if consent leaves it no purpose."""
        author, key, text = changed.author, changed.key, changed.edit.message
        if text.timestamp <= left.text.timestamp:
            return left
        under = self.under(author, key, text.timestamp, at)
        scopes = self.covered(author, key, text.timestamp, changed.now, at)
        if under is None or not scopes & self.allowed(author, key, left.under[0], changed.now, at):
            return None
        ends = (left.ends[0], self.end_of(text, changed.now))
        return Standing(left.wrote, text, at, (left.under[0], under), ends)

    @staticmethod
    def end_of(text: DataMessage, now: int) -> int:
        return now + min(AGE, text.expires_in * 1000 or AGE)

    @staticmethod
    def is_ended_by(event: Event, wrote: Wrote) -> bool:
        match event:
            case NewKeys():
                return event.author == wrote.author
            case Dropped():
                return event.key == wrote.key and wrote.author in event.authors
            case Deleted():
                target = (event.author, event.key, event.target)
                return target == (wrote.author, wrote.key, wrote.message.timestamp)
            case _:
                return False

    def has_ended(self, left: Standing, latest: Consent, now: int) -> bool:
        return now >= min(left.ends) or any(self.has_expired(consent, now) for consent in (*left.under, latest))

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

    def is_for(self, requester: Member, at: int, left: Standing, end: int) -> bool:
        """Whether the author counted the requester when they wrote, as the enclave knew when it came, and has ever since."""
        author, key = left.wrote.author, left.wrote.key
        before = self.rosters(author, key, left.brought_by)
        is_its_own = bool(before) and before[-1][1].digest() == left.text.roster
        return is_its_own and self.counts(author, key, requester, end, since=at)

    def recall(
        self, requester: Member, key: bytes, scope: ConsentScope, now: int
    ) -> tuple[dict[MessageId, str], int, int]:
        """Of all messages that were ever written: which are used, and how many are left out, by reason."""
        end = len(self.events)
        held = {left.name: (at, left) for at, left in self.held(now, end).items()}
        asked = {(e.author, e.message.timestamp) for e in self.events if isinstance(e, Wrote)}
        usable: dict[MessageId, str] = {}
        not_opted_in = 0
        for author, timestamp in asked:
            if not self._of(author, key, end) or not self.statements(author, key, end):
                continue
            own = author == requester
            opened = scope in self.covered(author, key, timestamp, now, end)
            if not opened or not (own or self.counts(author, key, requester, end)):
                not_opted_in += 1
                continue
            at, left = held.get((author, key, timestamp), (0, None))
            if left is None or not all(scope in self.allowed(author, key, each, now, end) for each in left.under):
                continue
            if own or self.is_for(requester, at, left, end):
                usable[named(author, timestamp)] = left.text.body
        return usable, not_opted_in, len(asked) - len(usable) - not_opted_in


class AgainstHistory(RuleBasedStateMachine):
    """Whatever happens, the memory says what the history says."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(share_module, "MAX_STATEMENTS", 1000)
        self.memory, self.history, self.now = Memory(), History(), 3 * UNIT
        self.numbers = count()

    def a_text(self, like: str) -> str:
        """One that nobody has written yet."""
        return f"{like} {next(self.numbers)}"

    def a_roster(self, author: Member, key: bytes, age: int) -> Roster | None:
        """The one that the author told last, or one from before it."""
        said = self.history.rosters(author, key, len(self.history.events))
        return said[-1 - age][1] if age < len(said) else None

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
        text=texts,
        age=ages,
        expires_in=lives,
    )
    def write(self, author: Member, key: bytes, at: int, text: str, age: int, expires_in: int) -> None:
        message = written(at * UNIT, self.a_text(text), key, self.a_roster(author, key, age))
        message = replace(message, expires_in=expires_in)
        kept = self.memory.store(author, message, self.now)
        self.history.events.append(Wrote(key=key, author=author, now=self.now, message=message))
        held = self.history.held(self.now, len(self.history.events)).values()
        assert kept == ((author, key, at * UNIT) in {left.name for left in held})

    @rule(chosen=numbers, by=st.none() | authors, at=times, text=texts, age=ages, expires_in=lives)
    def edit(self, chosen: int, by: Member | None, at: int, text: str, age: int, expires_in: int) -> None:
        author, key, target = self.some_message(chosen, by)
        another = written(at * UNIT, self.a_text(text), key, self.a_roster(author, key, age))
        said = Edit(target, replace(another, expires_in=expires_in))
        self.memory.edit(author, said, self.now)
        self.history.events.append(Changed(key=key, author=author, now=self.now, edit=said))

    @rule(chosen=numbers, by=st.none() | authors)
    def delete(self, chosen: int, by: Member | None) -> None:
        author, key, target = self.some_message(chosen, by)
        self.memory.delete(author, deleted(target, key))
        self.history.events.append(Deleted(key=key, author=author, now=self.now, target=target))

    @rule(chosen=numbers, at=times)
    def say_under_another_key(self, chosen: int, at: int) -> None:
        author, key, target = self.some_message(chosen, None)
        other = replace(author, identity_key=b"\x06" * 33)
        self.memory.edit(other, edited(target, at * UNIT, "not theirs", key), self.now)
        self.memory.delete(other, deleted(target, key))

    def some_message(self, chosen: int, by: Member | None) -> tuple[Member, bytes, int]:
        """One that was written, as of its author or ``by`` somebody else; or one that was not yet."""
        said = [event for event in self.history.events if isinstance(event, Wrote)]
        if not said or chosen == 0:
            return by or ANN, KEY, 5 * UNIT
        wrote = said[chosen % len(said)]
        return by or wrote.author, wrote.key, wrote.message.timestamp

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
        said = [self.size_of_said(author, key, end) for author in AUTHORS for key in KEYS]
        texts = [MESSAGE_BYTES + bytes_of(left.text.body) for left in held.values()]
        assert self.memory.bytes_held == sum(said) + sum(texts)
        self.nothing_else_is_reachable(held.values())

    def size_of_said(self, author: Member, key: bytes, end: int) -> int:
        statements = [consent for _, consent in self.history.statements(author, key, end)]
        rosters = [roster for _, roster in self.history.rosters(author, key, end)]
        gone = [at for at in self.history.deletions(author, key, end) if at >= statements[0].timestamp]
        tags = len(rosters[-1].tags) if rosters else 0
        return len(statements) * STATEMENT_BYTES + tags * TAG_BYTES + len(gone) * DELETION_BYTES

    def nothing_else_is_reachable(self, held: Iterable[Standing]) -> None:
        """Of all that was ever written the texts that stand are kept, their vectors perhaps, and nothing else."""
        said = {event.message.body for event in self.history.events if isinstance(event, Wrote)}
        said |= {event.edit.message.body for event in self.history.events if isinstance(event, Changed)}
        stand, kept = {left.text.body for left in held}, reachable(self.memory)
        assert kept & said == stand
        assert kept & {text.encode() for text in said} <= {text.encode() for text in stand}

    @rule(requester=authors, key=keys, scope=st.sampled_from(ConsentScope))
    def ask(self, requester: Member, key: bytes, scope: ConsentScope) -> None:
        asked = {named(e.author, e.message.timestamp) for e in self.history.events if isinstance(e, Wrote)}
        found = self.memory.recall(requester, key, sorted(asked), scope, self.now)
        usable, not_opted_in, not_held = self.history.recall(requester, key, scope, self.now)
        assert {held.id: held.text for held in found.messages} == usable
        assert (found.not_opted_in, found.not_held) == (not_opted_in, not_held)
        assert sum(counts(found)) == len(asked)
        for held in found.messages:
            held.vectors[held.text] = held.text.encode()  # as an engine would

    @invariant()
    def every_byte_is_counted(self) -> None:
        assert_counted(self.memory)


TestAgainstHistory = AgainstHistory.TestCase
TestAgainstHistory.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)


def assert_counted(memory: Memory) -> None:
    shares = [share for shares in memory._conversations.values() for share in shares.values()]
    for share in shares:
        texts = sum(held.size for held in share.messages.values())
        said = STATEMENT_BYTES * len(share.statements) + TAG_BYTES * len(share.members)
        assert share.size == texts + said + DELETION_BYTES * len(share.deleted)
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
            st.sampled_from(["in", "out", "count", "write", "write", "write", "edit", "delete"]),
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
        patch.setattr(share_module, "MAX_DELETIONS", 3)
        memory = Memory()
        for at, (what, number, conversation, size) in enumerate(steps):
            author, key = somebody(number), key_of(conversation)
            match what:
                case "in" | "out":
                    memory.note_consent(author, key, noted(author, at, opted_in=what == "in"), NOW)
                case "count":
                    memory.note_roster(author, Roster(key, at, frozenset(bytes([tag]) * 16 for tag in range(size))))
                case "edit":
                    memory.edit(author, edited(at - 1 - size % 4, at, "y" * size * 90, key), NOW)
                case "delete":
                    memory.delete(author, deleted(at - size % 4, key))
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
    flood=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["in", "write", "count", "edit", "delete"])), max_size=150
    ),
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
            elif what == "edit":
                memory.edit(stranger, edited(at - 1, at, "z" * 2000), NOW)
            elif what == "delete":
                memory.delete(stranger, deleted(at % own))
            else:
                memory.store(stranger, written(at, "y" * 200), NOW)
        assert memory.count_own(ANN, KEY, NOW) == own


Change = tuple[str, Member, int, int]  # what, by whom, of the message of which time, at which time
changes = st.tuples(st.sampled_from(["write", "edit", "delete"]), st.sampled_from([ANN, BOB]), times, times)


def change(memory: Memory, what: str, author: Member, target: int, at: int) -> None:
    match what:
        case "write":
            memory.store(author, written(target, f"{what} {target}", under=BOTH), NOW)
        case "edit":
            memory.edit(author, edited(target, at, f"{what} {target} {at}", under=BOTH), NOW)
        case _:
            memory.delete(author, deleted(target))


@settings(max_examples=150, deadline=None)
@given(said=st.lists(changes, max_size=20), order=st.randoms(use_true_random=False))
def test_what_is_deleted_is_gone_and_of_edits_the_latest_stands_in_whatever_order_all_comes(
    said: list[Change], order: Random
) -> None:
    """But for an edit that comes before its message, which is nothing."""
    memory = a_memory(ANN, BOB)
    parts = {what: [each for each in said if each[0] == what] for what in ("write", "edit", "delete")}
    mixed = [*parts["edit"], *parts["delete"]]
    order.shuffle(mixed)
    for each in (*parts["write"], *mixed):
        change(memory, *each)
    late = [*said]
    order.shuffle(late)
    for what, author, target, at in late:
        if what != "edit" and (what, author, target) in {each[:3] for each in mixed if each[0] == "delete"}:
            change(memory, what, author, target, at)
    gone = {(author, target) for what, author, target, _ in said if what == "delete"}
    expected = {}
    for author, target in {(author, target) for _, author, target, _ in parts["write"]} - gone:
        edits = [at for _, by, of, at in parts["edit"] if (by, of) == (author, target) and at > target]
        expected[named(author, target)] = f"edit {target} {max(edits)}" if edits else f"write {target}"
    asked = [named(author, target) for author in (ANN, BOB) for target in range(13)]
    assert {held.id: held.text for held in recalled(memory, BOB, *asked).messages} == expected
    assert_counted(memory)


@settings(max_examples=150, deadline=None)
@given(
    said=st.lists(
        st.one_of(
            changes,
            st.tuples(st.just("state"), st.sampled_from([ANN, BOB]), times, st.integers(0, 3)),
            st.tuples(st.just("count"), st.sampled_from([ANN, BOB]), st.integers(0, len(AUTHORS)), st.just(0)),
        ),
        max_size=20,
    ),
    requester=st.sampled_from([ANN, BOB, CID, EVE]),
    scope=st.sampled_from(ConsentScope),
)
def test_nobody_learns_from_what_is_not_covered_what_was_written_edited_or_deleted(
    said: list[Change], requester: Member, scope: ConsentScope
) -> None:
    """An enclave that got statements and rosters counts as one that got messages, and all that is said of them, too."""
    full, bare = a_memory(ANN, BOB, CID), a_memory(ANN, BOB, CID)
    scopes = (ALL_SCOPES, frozenset([SUMMARIES]), frozenset([REPLIES]), frozenset[ConsentScope]())
    for what, author, target, at in said:
        for memory in (full, bare):
            if what == "state":
                memory.note_consent(author, KEY, noted(author, target, scopes=scopes[at]), NOW)
            elif what == "count":
                memory.note_roster(author, roster(*AUTHORS[:target]))
        if what not in ("state", "count"):
            change(full, what, author, target, at)
    for author in (ANN, BOB):
        for at in range(13):
            with_it, without = (recalled(memory, requester, named(author, at), scope=scope) for memory in (full, bare))
            assert with_it.not_opted_in == without.not_opted_in
            assert with_it.messages or counts(with_it) == counts(without)

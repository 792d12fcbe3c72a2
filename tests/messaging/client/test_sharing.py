"""The assistant of a conversation: it gets what its authors allow, from then on and no longer, whoever of them dies or restarts."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from attestation import CpuType, Release, measure
from messaging.client import RelayUnreachable
from messaging.client.assistant import (
    AssistantRefused,
    AssistantSilent,
    NoAssistant,
    ReceiptRefused,
)
from messaging.client.assistants import rank
from messaging.client.history import ChatMessage
from messaging.client.receipt_checks import assess_receipt
from messaging.client.receipts import ReceiptFile
from messaging.client.sending import OUTBOX
from messaging.client.sharing import told_of, without_others
from messaging.wire.assistant import (
    ConsentReference,
    Coverage,
    Forget,
    QuestionsForMe,
    Refusal,
    RefusalCode,
    Rewrite,
    Status,
    SuggestReplies,
    Summarize,
    Summary,
    SummaryLine,
)
from messaging.wire.consent import ALL_SCOPES, ConsentScope, member_tag
from messaging.wire.content import DataMessage, Roster
from messaging.wire.data import AttachmentPointer, Deletion, Edit, Mention, Quote
from messaging.wire.frames import Response
from messaging.wire.identifiers import MessageId, ServiceId
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.enclaves import STRICT, UNSAFE
from tests.messaging.client.test_groups import can_read
from tests.messaging.client.watched import Ask, Sent, WatchedRelay, away
from tests.messaging.client.world import Person, World, a_relay, soon
from tests.relays import StartedRelay, TlsFiles
from tests.servers import Postgres


@pytest.fixture(scope="module")
async def sqlite_relay(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, postgres: Postgres, tls_files: TlsFiles
) -> AsyncIterator[StartedRelay]:
    """Stands for the relay of the same name, and serves all tests here."""
    async with a_relay(tmp_path_factory.mktemp("relay"), sqlite_template, postgres, tls_files) as started:
        yield started


@pytest.fixture
async def client_relay(sqlite_relay: StartedRelay) -> AsyncIterator[WatchedRelay]:
    """Stands for the relay of the same name: what devices ask over HTTP is watched."""
    async with WatchedRelay(sqlite_relay.url) as relay:
        yield relay


@pytest.fixture
async def world(sqlite_relay: StartedRelay, client_relay: WatchedRelay, crypto: SignalCrypto) -> AsyncIterator[World]:
    made = World(sqlite_relay, client_relay, crypto)
    yield made
    await made.close()


BOB = ServiceId(uuid4())  # who is nobody here


def tag_of(author: Person, member: Person) -> bytes:
    """What stands for a member in a roster of the only conversation."""
    return member_tag(author.key, member.service_id, member.device.identity_key)


async def all_see(people: list[Person], *opted_in: Person) -> None:
    """Wait until everybody knows that exactly these have opted in."""
    expected = {person.service_id for person in opted_in}
    for person in people:
        await soon(lambda person=person: person.sees() == expected)  # type: ignore[misc]


def clients(person: Person) -> dict[ServiceId, bytes]:
    """What a client has told which assistants, by the statement that it told."""
    [chat] = person.chats._records.chats.values()
    return {assistant: known.statement or b"" for assistant, known in chat.introduced.items()}


# --- from then on, and no longer ---


async def test_it_gets_what_its_author_writes_from_the_consent_on_and_nothing_else(world: World) -> None:
    enclave = await world.enclave()
    people = ann, bob, cem = await world.people(3)
    await ann.write("before")
    await ann.chats.opt_in(ann.key)
    await all_see(people, ann)
    await ann.write("shared")
    await bob.write("not shared")
    await soon(lambda: enclave.texts() == ["shared"])
    await soon(lambda: sorted(cem.texts()) == ["before", "not shared", "shared"])
    await ann.write("last")
    await soon(lambda: enclave.texts() == ["shared", "last"])
    assert enclave.consents(ann) == [True]
    assert (enclave.consents(bob), enclave.rosters(bob)) == ([], [])
    [roster] = enclave.rosters(ann)
    assert roster.tags == {tag_of(ann, person) for person in people}


async def test_before_it_has_proved_itself_it_gets_a_nonce_and_nothing_else(world: World) -> None:
    world.policy = STRICT
    enclave = await world.enclave()
    ann, bob = await world.people(2)
    with pytest.raises(NoAssistant, match="genuine hardware"):
        await ann.chats.opt_in(ann.key)
    await ann.write("hello")
    await soon(lambda: bob.texts() == ["hello"])
    assert (enclave.proofs(), len(enclave.got), enclave.requests()) == (1, 1, [])
    assert ann.sees() == {ann.service_id}  # the decision stands


async def test_after_opting_out_it_gets_nothing_more_and_can_read_nothing_that_follows(
    world: World, client_relay: WatchedRelay
) -> None:
    enclave = await world.enclave()
    people = ann, bob, cem = await world.people(3)
    await ann.chats.opt_in(ann.key)
    await ann.write("shared")
    await soon(lambda: enclave.texts() == ["shared"])
    await ann.chats.opt_out(ann.key)
    await all_see(people)
    client_relay.sent.clear()
    await ann.write("not shared")
    await soon(lambda: sorted(bob.texts()) == sorted(cem.texts()) == ["not shared", "shared"])
    assert enclave.consents(ann) == [True, False]
    assert enclave.texts() == ["shared"]
    [sent] = [each for each in client_relay.sends if each.to_many]
    assert not await can_read(enclave.device, sent, bob.device, ann.device)
    await ann.chats.opt_in(ann.key)
    await ann.write("shared again")
    await soon(lambda: enclave.texts() == ["shared", "shared again"])


async def test_between_two_people_it_gets_the_same_pairwise(world: World, client_relay: WatchedRelay) -> None:
    enclave = await world.enclave()
    people = ann, bob = await world.people(2)
    await ann.chats.opt_in(ann.key)
    await all_see(people, ann)
    client_relay.sent.clear()
    await ann.write("shared")
    await bob.write("not shared")
    await soon(lambda: enclave.texts() == ["shared"])
    await ann.chats.opt_out(ann.key)
    await ann.write("not shared either")
    await soon(lambda: len(bob.texts()) == 3)
    assert enclave.texts() == ["shared"]
    assert not any(sent.to_many for sent in client_relay.sent)


async def test_consent_ends_by_itself_and_takes_the_key_with_it(world: World, client_relay: WatchedRelay) -> None:
    enclave = await world.enclave()
    people = ann, bob, _ = await world.people(3)
    await ann.chats.opt_in(ann.key, expires_at=ann.clock() + 3_600_000)
    await ann.write("shared")
    await soon(lambda: enclave.texts() == ["shared"])
    got = len(enclave.got)
    for person in people:
        person.clock.ahead = 3_600_000
    assert [person.sees() for person in people] == [set()] * 3
    client_relay.sent.clear()
    await ann.write("not shared")
    await soon(lambda: bob.texts() == ["shared", "not shared"])
    [sent] = [each for each in client_relay.sends if each.to_many]
    assert not await can_read(enclave.device, sent, bob.device, ann.device)
    assert len(enclave.got) == got


async def test_consent_of_several_is_each_ones_own(world: World) -> None:
    enclave = await world.enclave()
    people = ann, bob, cem = await world.people(3)
    await asyncio.gather(ann.chats.opt_in(ann.key), bob.chats.opt_in(bob.key))
    await all_see(people, ann, bob)
    for person in people:
        await person.write(f"by {person.service_id}")
    await soon(lambda: sorted(enclave.texts()) == sorted(f"by {each.service_id}" for each in (ann, bob)))
    await ann.chats.opt_out(ann.key)
    await all_see(people, bob)
    await ann.write("not shared")
    await bob.write("shared")
    await soon(lambda: enclave.texts()[-1] == "shared")
    assert "not shared" not in enclave.texts()
    assert cem.service_id not in {sender for sender, _ in enclave.got}


async def test_who_comes_and_goes_shows_in_what_the_assistant_knows_of_the_members(world: World) -> None:
    enclave = await world.enclave()
    ann, bob, cem = await world.people(3)
    await ann.chats.opt_in(ann.key)
    dan = await world.person()
    await ann.chats.set_members(ann.key, [bob.service_id, dan.service_id])
    await ann.write("shared")
    await soon(lambda: enclave.texts() == ["shared"])
    assert [len(roster.tags) for roster in enclave.rosters(ann)] == [3, 3]
    assert tag_of(ann, dan) in enclave.rosters(ann)[-1].tags
    assert tag_of(ann, cem) not in enclave.rosters(ann)[-1].tags


async def test_who_the_members_are_is_told_before_the_first_message_that_is_written_under_it(world: World) -> None:
    enclave = await world.enclave()
    ann, bob, _ = await world.people(3)
    await ann.chats.opt_in(ann.key)
    await ann.write("to three")
    await ann.chats.set_members(ann.key, [bob.service_id])
    await ann.write("to two")
    await soon(lambda: enclave.texts() == ["to three", "to two"])
    told = [content for _, content in enclave.got if isinstance(content, Roster | DataMessage)]
    assert [type(content) for content in told] == [Roster, DataMessage] * 2
    for roster, message in zip(enclave.rosters(ann), enclave.messages(), strict=True):
        assert message.roster == roster.digest()


async def test_what_waits_for_the_assistant_names_the_members_of_its_time_after_a_crash_too(world: World) -> None:
    ann, bob, _ = await world.people(3)
    with pytest.raises(NoAssistant):
        await ann.chats.opt_in(ann.key)
    before = await ann.chats._sharing.roster(next(iter(ann.chats._records.chats.values())))
    await ann.write("to three")
    await ann.chats.set_members(ann.key, [bob.service_id])
    await ann.close()
    await ann.open()
    enclave = await world.enclave()
    await ann.chats.status(ann.key)
    await soon(lambda: enclave.texts() == ["to three"])
    assert [message.roster for message in enclave.messages()] == [before.digest()]
    assert [roster.revision for roster in enclave.rosters(ann)] == [before.revision + 1]


async def test_a_member_with_new_keys_is_counted_under_them_once_they_are_trusted_and_not_before(world: World) -> None:
    enclave = await world.enclave()
    people = ann, bob, _ = await world.people(3)
    await ann.chats.opt_in(ann.key)
    await ann.write("to the old one")
    again = await world.registered_again(bob)
    await ann.chats.write(ann.key, "to nobody of that name")
    await soon(lambda: len(enclave.texts()) == 2)
    [before] = enclave.rosters(ann)
    assert before.tags == {tag_of(ann, person) for person in people}
    await ann.chats.trust(bob.service_id, again.device.identity_key)
    await ann.chats.write(ann.key, "to the new one")
    await soon(lambda: len(enclave.texts()) == 3)
    _, after = enclave.rosters(ann)
    assert after.revision == before.revision
    assert after.tags == before.tags - {tag_of(ann, bob)} | {tag_of(ann, again)}
    assert [message.roster for message in enclave.messages()] == [before.digest()] * 2 + [after.digest()]
    told = [content for _, content in enclave.got if isinstance(content, Roster | DataMessage)]
    assert told.index(after) < told.index(enclave.messages()[-1])


async def test_another_own_device_learns_the_members_keys_before_it_says_whom_it_counts(world: World) -> None:
    enclave = await world.enclave()
    ann, bob, cem = await world.people(3)
    await ann.chats.opt_in(ann.key)
    [roster] = await soon(lambda: enclave.rosters(ann))
    laptop = await world.laptop(ann)
    await soon(lambda: laptop.chats.conversations and len(enclave.rosters(ann)) == 2)
    assert enclave.rosters(ann) == [roster, roster]
    assert roster.tags == {tag_of(ann, person) for person in (ann, bob, cem)}


async def test_a_decision_stands_although_the_clock_was_set_back(world: World) -> None:
    enclave = await world.enclave()
    ann = await world.alone()
    ann.clock.ahead = 3_600_000
    await ann.chats.opt_in(ann.key)
    await ann.close()
    ann.clock.ahead = 0
    await ann.open()
    await ann.write("shared")
    await soon(lambda: enclave.texts() == ["shared"])
    await ann.close()
    await ann.open()
    await ann.chats.opt_out(ann.key)
    await all_see([ann])
    await ann.write("not shared")
    assert enclave.texts() == ["shared"]


async def test_people_hear_of_a_consent_before_the_assistant_does(world: World, client_relay: WatchedRelay) -> None:
    enclave = await world.enclave()
    ann, bob = await world.people(2)
    [chat] = ann.chats._records.chats.values()
    await ann.chats._decide(chat, opted_in=True, scopes=ALL_SCOPES, expires_at=None)  # and then a crash
    await ann.close()
    go_on = asyncio.Event()

    async def hold(sent: Sent, ask: Ask) -> Response:
        if sent.path == f"/v1/messages/{bob.service_id}":
            await go_on.wait()
        return await ask()

    client_relay.fault = hold
    await ann.open()
    await soon(lambda: enclave.proofs() == 1)
    await asyncio.sleep(0.1)
    assert enclave.consents(ann) == []
    go_on.set()
    await soon(lambda: enclave.consents(ann) == [True])
    await all_see([bob], ann)


async def test_what_allows_nothing_is_not_said(world: World) -> None:
    ann = await world.alone()
    for scopes, until in ((set(), None), ({ConsentScope.REPLIES}, ann.clock())):
        with pytest.raises(ValueError, match="consent"):
            await ann.chats.opt_in(ann.key, scopes, expires_at=until)
    assert ann.chats.conversation(ann.key).statements == {}


# --- an assistant that is not there ---


async def test_members_get_a_message_at_once_and_an_assistant_that_was_away_gets_it_later(world: World) -> None:
    ann, bob, _ = await world.people(3)
    with pytest.raises(NoAssistant, match="none is connected"):
        await ann.chats.opt_in(ann.key)
    for text in ("one", "two"):
        await ann.write(text)
    await soon(lambda: bob.texts() == ["one", "two"])
    enclave = await world.enclave()
    ann.assistants.look_again()
    ann.chats._sharing.look_again(ann.chats._records.chats[ann.key])
    await soon(lambda: enclave.texts() == ["one", "two"])
    await ann.write("three")
    await soon(lambda: enclave.texts() == ["one", "two", "three"])


async def test_what_it_has_missed_is_not_forgotten_in_a_crash(world: World) -> None:
    ann = await world.alone()
    with pytest.raises(NoAssistant):
        await ann.chats.opt_in(ann.key)
    await ann.write("missed")
    await ann.close()
    enclave = await world.enclave()
    await ann.open()
    await soon(lambda: enclave.texts() == ["missed"])


async def test_what_it_has_missed_it_does_not_get_after_a_withdrawal(world: World) -> None:
    ann = await world.alone()
    with pytest.raises(NoAssistant):
        await ann.chats.opt_in(ann.key)
    await ann.write("missed")
    await ann.chats.opt_out(ann.key)
    enclave = await world.enclave()
    ann.assistants.look_again()
    await ann.chats.opt_in(ann.key)
    await ann.write("shared")
    await soon(lambda: enclave.texts() == ["shared"])


async def test_a_write_does_not_wait_for_an_assistant_that_says_nothing(world: World) -> None:
    enclave = await world.enclave()
    enclave.silent = True
    ann, bob = await world.people(2)
    opting_in = asyncio.ensure_future(ann.chats.opt_in(ann.key))
    await soon(lambda: enclave.got)
    began = time.monotonic()
    await ann.write("hello")
    await soon(lambda: bob.texts() == ["hello"])
    assert time.monotonic() - began < world.deadline / 2
    assert not opting_in.done()
    opting_in.cancel()
    await asyncio.gather(opting_in, return_exceptions=True)
    assert len(enclave.got) == 1


# --- restarts and moves ---


async def test_an_enclave_that_restarted_proves_itself_is_told_again_and_goes_on(world: World) -> None:
    first = await world.enclave()
    people = ann, bob, _ = await world.people(3)
    await ann.chats.opt_in(ann.key)
    await ann.write("one")
    await soon(lambda: first.texts() == ["one"])
    second = await world.enclave()
    assert second.service_id == first.service_id
    await ann.write("two")
    await soon(lambda: bob.texts() == ["one", "two"])
    await soon(lambda: second.texts() == ["two"])
    assert second.consents(ann) == [True]
    assert (second.proofs(), len(second.rosters(ann))) == (1, 1)
    await ann.write("three")
    await soon(lambda: second.texts() == ["two", "three"])
    assert ann.chats.problems() == []
    await all_see(people, ann)


async def test_who_opts_in_while_an_enclave_restarts_does_not_notice(world: World) -> None:
    await world.enclave()
    ann = await world.alone()
    await ann.assistants.choose(ann.chats.conversation(ann.key).id)
    second = await world.enclave()
    await ann.chats.opt_in(ann.key)
    await soon(lambda: second.consents(ann) == [True])


async def test_an_enclave_that_restarted_as_something_else_gets_nothing(world: World) -> None:
    first = await world.enclave()
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    second = await world.enclave()
    second.says.tee = replace(second.says.tee, measurement=measure({"release": b"2"}))
    await ann.write("not for it")
    await soon(lambda: second.proofs() == 1)
    with pytest.raises(NoAssistant, match="measurement"):
        await ann.chats.status(ann.key)
    assert len(second.got) == 1
    assert first.texts() == []


async def test_a_restarted_client_verifies_anew_and_does_not_begin_from_the_start(world: World) -> None:
    enclave = await world.enclave()
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    await ann.close()
    await ann.open()
    await soon(lambda: enclave.proofs() == 2)
    await ann.write("shared")
    await soon(lambda: enclave.texts() == ["shared"])
    assert enclave.consents(ann) == [True]


async def test_a_release_that_is_revoked_gets_nothing_more(world: World) -> None:
    enclave = await world.enclave()
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    await ann.write("one")
    await soon(lambda: enclave.texts() == ["one"])
    other = Release(name="release 2", type=CpuType.SIMULATED, measurement=measure({"release": b"2"}))
    ann.assistants.set_policy(replace(UNSAFE, releases=(other,)))
    await ann.write("two")
    with pytest.raises(NoAssistant, match="measurement"):
        await ann.chats.status(ann.key)
    assert enclave.texts() == ["one"]
    await ann.chats.opt_out(ann.key)  # of which it hears all the same: it has our messages
    await soon(lambda: enclave.consents(ann) == [True, False])


async def test_two_enclaves_members_meet_at_one_and_move_together_when_it_dies(world: World) -> None:
    enclaves = {
        enclave.service_id: enclave
        for enclave in (await world.enclave("assistant-1"), await world.enclave("assistant-2"))
    }
    people = ann, bob, _ = await world.people(3)
    await asyncio.gather(ann.chats.opt_in(ann.key), bob.chats.opt_in(bob.key))
    first, second = (enclaves[each] for each in rank(ann.chats.conversation(ann.key).id, enclaves))
    await ann.write("one")
    await bob.write("two")
    await soon(lambda: sorted(first.texts()) == ["one", "two"])
    assert second.got == []
    await world.stop(first.name)
    ann.assistants.look_again()  # as after two seconds
    assert isinstance((await ann.chats.status(ann.key)).result.kind, Status)
    assert second.consents(ann) == [True]
    await soon(lambda: second.consents(bob) == [True])  # who had a hint, and asked nothing
    await bob.write("three")
    await ann.write("four")
    await soon(lambda: sorted(second.texts()) == ["four", "three"])
    await all_see(people, ann, bob)


async def test_who_only_writes_notices_that_an_enclave_has_gone(world: World) -> None:
    enclaves = {
        enclave.service_id: enclave
        for enclave in (await world.enclave("assistant-1"), await world.enclave("assistant-2"))
    }
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    first, second = (enclaves[each] for each in rank(ann.chats.conversation(ann.key).id, enclaves))
    await world.stop(first.name)
    ann.assistants.look_again()  # as after half a minute
    await ann.write("perhaps lost")
    await soon(lambda: second.consents(ann))
    await ann.write("shared")
    await soon(lambda: second.texts() == ["shared"])


async def test_an_enclave_that_drains_is_left_and_hears_of_a_later_withdrawal(world: World) -> None:
    enclaves = {
        enclave.service_id: enclave
        for enclave in (await world.enclave("assistant-1"), await world.enclave("assistant-2"))
    }
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    first, second = (enclaves[each] for each in rank(ann.chats.conversation(ann.key).id, enclaves))
    await ann.write("one")
    await soon(lambda: first.texts() == ["one"])
    first.says.refuses = Refusal(RefusalCode.DRAINING)
    await ann.chats.summarize(ann.key, ann.named(), {})
    assert second.consents(ann) == [True]
    assert set(clients(ann)) == set(enclaves)
    await ann.chats.opt_out(ann.key)
    await soon(lambda: first.consents(ann) == second.consents(ann) == [True, False])


async def test_a_withdrawal_reaches_the_enclave_after_a_crash_and_without_new_evidence(
    world: World, client_relay: WatchedRelay
) -> None:
    enclave = await world.enclave()
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    [chat] = ann.chats._records.chats.values()
    await ann.chats._decide(chat, opted_in=False, scopes=(), expires_at=None)
    await ann.close()
    await ann.open()
    await soon(lambda: enclave.consents(ann) == [True, False])
    assert enclave.proofs() == 1
    assert len(set(clients(ann).values())) == 1


async def test_a_withdrawal_does_not_reach_an_enclave_with_other_keys(world: World) -> None:
    first = await world.enclave()
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    second = await world.enclave()
    await ann.chats.opt_out(ann.key)
    ann.wake()
    await asyncio.sleep(0.1)
    assert first.consents(ann) == [True]
    assert second.got == []


async def test_what_waits_in_the_outbox_never_reaches_an_enclave_with_other_keys(
    world: World, client_relay: WatchedRelay
) -> None:
    await world.enclave()
    ann, bob, _ = await world.people(3)
    await ann.chats.opt_in(ann.key)
    ann.device._groups._requests = replace(ann.device._groups._requests, deadline=0.1)
    client_relay.fault = away(lambda sent: sent.to_many)
    written = await ann.chats.write(ann.key, "secret")
    assert {type(error) for error in written.failed.values()} == {RelayUnreachable}
    client_relay.fault = None
    second = await world.enclave()
    second.says.tee = replace(second.says.tee, measurement=measure({"release": b"2"}))
    with pytest.raises(NoAssistant):
        await ann.chats.status(ann.key)
    await ann.device._groups.resend()
    await soon(lambda: bob.texts() == ["secret"])
    async with ann.device._store.transaction() as transaction:
        assert transaction.entries(OUTBOX) == []
    assert len(second.got) == 1


# --- own devices ---


async def test_a_device_that_joins_later_follows_its_accounts_choice(world: World) -> None:
    enclave = await world.enclave()
    people = ann, bob, _ = await world.people(3)
    await ann.chats.opt_in(ann.key)
    laptop = await world.laptop(ann)
    await soon(lambda: laptop.chats.conversations)
    await all_see([*people, laptop], ann)
    await soon(lambda: enclave.proofs() == 2)
    await laptop.write("from the laptop")
    await soon(lambda: enclave.texts() == ["from the laptop"])
    await laptop.chats.opt_out(laptop.key)
    await all_see([*people, ann], *())
    await ann.write("from the phone")
    await soon(lambda: sorted(bob.texts()) == ["from the laptop", "from the phone"])
    assert enclave.texts() == ["from the laptop"]


async def test_what_one_device_decides_the_other_makes_true(world: World) -> None:
    """The phone has told the enclave; the laptop never has, and withdraws."""
    enclave = await world.enclave()
    ann = await world.alone()
    laptop = await world.laptop(ann)
    await soon(lambda: laptop.chats.conversations)
    await laptop.close()
    await ann.chats.opt_in(ann.key)
    await ann.close()
    world.policy = STRICT
    await laptop.open()
    await soon(lambda: laptop.sees() == {ann.service_id})
    assert clients(laptop) == {}
    await laptop.chats.opt_out(laptop.key)
    assert enclave.consents(ann) == [True]
    await ann.open()
    await soon(lambda: enclave.consents(ann) == [True, False])


# --- asking ---


async def test_each_question_goes_to_the_assistant_with_what_its_authors_allow(world: World) -> None:
    enclave = await world.enclave()
    people = ann, bob, cem = await world.people(3)
    await ann.chats.opt_in(ann.key)
    await bob.chats.opt_in(bob.key, {ConsentScope.SUMMARIES})
    await all_see(people, ann, bob)
    for person in people:
        await person.write("hello")
    await soon(lambda: len(ann.texts()) == 3)
    names = {person.service_id: "somebody" for person in people}
    answered = await ann.chats.summarize(ann.key, ann.named(), names)
    assert isinstance(answered.result.kind, Summary)
    await ann.chats.questions_for_me(ann.key, ann.named(), {})
    await ann.chats.actions(ann.key, ann.named(), {})
    await ann.chats.suggest_replies(ann.key, ann.named(), {}, 2)
    summarize, questions, _, replies = enclave.requests()
    assert isinstance(summarize, Summarize)
    assert isinstance(questions, QuestionsForMe)
    assert isinstance(replies, SuggestReplies)
    for scope, authors in ((summarize.scope, [ann, bob]), (replies.scope, [ann])):
        assert {message.author for message in scope.messages} == {person.service_id for person in authors}
        assert len(scope.messages) + scope.not_opted_in == 3
    assert set(summarize.scope.names) == {ann.service_id, bob.service_id}
    await ann.chats.rewrite(ann.key, "draft", "kind")
    await ann.chats.forget(ann.key, whole=True)
    await ann.chats.forget_everything(ann.key)
    assert enclave.requests()[4:] == [Rewrite("draft", "kind"), Forget(ann.key, True), Forget(None)]
    assert cem.service_id not in {sender for sender, _ in enclave.got}


async def test_who_has_not_opted_in_or_not_to_this_is_told_so_without_asking(world: World) -> None:
    enclave = await world.enclave()
    ann, bob = await world.people(2)
    await ann.chats.opt_in(ann.key, {ConsentScope.REPLIES})
    asked = len(enclave.requests())
    for person, code in ((bob, RefusalCode.NOT_OPTED_IN), (ann, RefusalCode.OUT_OF_SCOPE)):
        with pytest.raises(AssistantRefused) as refused:
            await person.chats.summarize(person.key, [], {})
        assert refused.value.code == code
    assert len(enclave.requests()) == asked
    await ann.chats.suggest_replies(ann.key, [], {})


async def test_an_enclave_that_has_forgotten_us_is_told_again(world: World) -> None:
    enclave = await world.enclave()
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    for code, consents, proofs in ((RefusalCode.NOT_OPTED_IN, 2, 1), (RefusalCode.UNKNOWN_EVIDENCE, 3, 2)):
        enclave.says.refuses_once = [Refusal(code)]
        assert isinstance((await ann.chats.summarize(ann.key, [], {})).result.kind, Summary)
        assert len(enclave.consents(ann)) == consents
        assert enclave.proofs() == proofs


@pytest.mark.parametrize("code", [RefusalCode.NOT_OPTED_IN, RefusalCode.BUSY, RefusalCode.ENGINE_FAILED])
async def test_a_refusal_that_nothing_helps_against_is_what_one_is_told(world: World, code: RefusalCode) -> None:
    enclave = await world.enclave()
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    enclave.says.refuses = Refusal(code)
    with pytest.raises(AssistantRefused) as refused:
        await ann.chats.summarize(ann.key, [], {})
    assert refused.value.code == code
    assert len(enclave.requests()) <= 2


async def test_silence_moves_the_question_to_another_one(world: World) -> None:
    enclaves = {
        enclave.service_id: enclave
        for enclave in (await world.enclave("assistant-1"), await world.enclave("assistant-2"))
    }
    world.deadline = 0.5
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    first, second = (enclaves[each] for each in rank(ann.chats.conversation(ann.key).id, enclaves))
    first.silent = True
    await ann.chats.summarize(ann.key, [], {})
    assert len(second.requests()) == 1
    second.silent = True
    with pytest.raises(AssistantSilent):
        await ann.chats.summarize(ann.key, [], {})
    for each in (first, second):  # the first may have come back meanwhile
        assert sum(isinstance(request, Summarize) for request in each.requests()) == 2


async def test_who_asks_again_reaches_the_only_one_that_was_silent_and_is_not_made_to_wait_twice(world: World) -> None:
    only = await world.enclave()
    world.deadline = 0.5
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    only.silent = True
    with pytest.raises(AssistantSilent):
        await ann.chats.summarize(ann.key, [], {})
    assert len(only.requests()) == 1
    only.silent = False
    await ann.chats.summarize(ann.key, [], {})


# --- receipts ---


async def test_an_answer_comes_with_a_file_that_others_can_check(world: World) -> None:
    await world.enclave()
    people = ann, bob = await world.people(2)
    await ann.chats.opt_in(ann.key)
    await bob.chats.opt_in(bob.key)
    await all_see(people, ann, bob)
    answered = await ann.chats.summarize(ann.key, [], {})
    file = await ann.chats.receipt_file(ann.key, answered)
    claims = (await ann.assistants.choose(ann.chats.conversation(ann.key).id)).claims
    assert assess_receipt(ReceiptFile.parse(file.encode()), claims).errors == ()
    assert {shown.author for shown in file.consents} == {ann.service_id, bob.service_id}
    assert {shown.identity_key for shown in file.consents} == {ann.device.identity_key, bob.device.identity_key}


async def test_a_file_stays_right_when_somebody_has_other_keys_later(world: World) -> None:
    await world.enclave()
    people = ann, bob = await world.people(2)
    await ann.chats.opt_in(ann.key)
    await bob.chats.opt_in(bob.key)
    await all_see(people, ann, bob)
    answered = await ann.chats.summarize(ann.key, [], {})
    before = await ann.chats.receipt_file(ann.key, answered)
    again = await world.registered_again(bob)
    await ann.chats.trust(bob.service_id, again.device.identity_key)
    assert await ann.chats.receipt_file(ann.key, answered) == before


async def test_an_answer_that_names_a_consent_nobody_has_seen_is_dropped(world: World) -> None:
    enclave = await world.enclave()
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    [*_, known] = ann.chats.conversation(ann.key).statements[ann.service_id]
    unseen = [ConsentReference(BOB, bytes(32)), ConsentReference(BOB, known.signed.digest())]
    for reference in unseen:
        enclave.says.consents = lambda _, reference=reference: [reference]  # type: ignore[misc]
        with pytest.raises(ReceiptRefused, match="never seen"):
            await ann.chats.summarize(ann.key, [], {})
    enclave.says.consents = enclave.references
    await ann.chats.summarize(ann.key, [], {})


async def test_an_answer_under_a_consent_that_does_not_allow_it_is_dropped(world: World) -> None:
    enclave = await world.enclave()
    people = ann, bob = await world.people(2)
    await ann.chats.opt_in(ann.key)
    await bob.chats.opt_in(bob.key, {ConsentScope.REPLIES})
    await all_see(people, ann, bob)
    enclave.says.consents = enclave.all_references
    with pytest.raises(ReceiptRefused, match="does not allow this use"):
        await ann.chats.summarize(ann.key, [], {})
    await ann.chats.suggest_replies(ann.key, [], {})
    await bob.chats.opt_out(bob.key)
    await all_see(people, ann)
    with pytest.raises(ReceiptRefused, match="does not allow this use"):
        await ann.chats.suggest_replies(ann.key, [], {})
    assert enclave.consents(bob) == [True, False]


async def test_an_answer_that_cites_somebody_without_naming_their_consent_is_dropped(world: World) -> None:
    enclave = await world.enclave()
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    for author, refused in ((ann.service_id, False), (BOB, True)):
        line = SummaryLine("a line", "said", (MessageId(author, 1),))
        enclave.says.result = None
        await ann.assistants.choose(ann.chats.conversation(ann.key).id)
        enclave.says.result = Summary((line,), Coverage(1, 0, 0))
        if refused:
            with pytest.raises(ReceiptRefused, match="cites somebody"):
                await ann.chats.summarize(ann.key, [], {})
        else:
            await ann.chats.summarize(ann.key, [], {})


async def test_without_a_receipt_there_is_no_file(world: World) -> None:
    await world.enclave()
    ann = await world.alone()
    await ann.chats.opt_in(ann.key)
    with pytest.raises(ReceiptRefused, match="there is none"):
        await ann.chats.receipt_file(ann.key, await ann.chats.status(ann.key))


# --- what it gets of a message ---

KEY = b"\x07" * 32


def test_of_a_message_it_gets_the_text_and_nothing_of_others() -> None:
    pointer = AttachmentPointer(3, "k", bytes(64), bytes(32), 5, "text/plain", "note.txt")
    quote, mention = Quote(MessageId(BOB, 5), "bob's words"), Mention(0, 1, BOB)
    whole = DataMessage("text", 10, KEY, bytes(32), quote, (pointer,), (mention,), 60)
    plain = DataMessage("text", 10, KEY, bytes(32), expires_in=60)
    assert without_others(whole) == plain
    assert without_others(plain) == plain


def test_it_is_told_how_a_message_stands() -> None:
    message = ChatMessage(MessageId(BOB, 10), "text", bytes(32), quote=Quote(MessageId(BOB, 5), "words"), expires_in=60)
    plain = DataMessage("text", 10, KEY, bytes(32), expires_in=60)
    assert told_of(message, KEY, 99) == [plain]
    assert told_of(replace(message, edited=20), KEY, 99) == [plain, Edit(10, replace(plain, timestamp=20))]
    assert told_of(ChatMessage(message.id, "", deleted=True), KEY, 99) == [Deletion(10, 99, KEY)]

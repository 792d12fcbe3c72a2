"""The story of one conversation with an assistant, on both databases: three people, six devices, two enclaves, one after the other."""

from collections.abc import AsyncIterator

import pytest

from ai_enclave.engine import EmbeddedEngine
from attestation import appraise
from messaging.client.assistant import AssistantRefused
from messaging.client.receipt_checks import assess_receipt
from messaging.wire.assistant import Coverage, Replies, Status, Summary
from signal_protocol.operations import SignalCrypto
from tests.relays import StartedRelay
from tests.system.assistant.world import World, a_world


@pytest.fixture
async def story(relay: StartedRelay, crypto: SignalCrypto, engine: EmbeddedEngine) -> AsyncIterator[World]:
    """A world on SQLite, and one on PostgreSQL with Valkey."""
    async with a_world(relay, crypto, engine) as world:
        yield world
        await world.end()


async def test_people_talk_and_those_who_let_it_have_an_assistant_read_along(story: World) -> None:
    ann, bob, cem = story.everybody
    key, names = story.key, story.names
    serving, other = story.serving(), story.other()
    await ann.phone.write("Shall we go to the coast on Friday?")
    await story.nothing_is_lost()
    assert (serving.contents, other.contents) == ([], [])  # nobody has asked for an assistant yet

    await story.opt_in(ann.phone, bob.laptop)
    said = [
        await ann.phone.write("We meet on Friday at 9:30 at the north station."),
        await bob.phone.write("I will bring the tents and two lamps."),
        await cem.laptop.write("My doctor says no, but I come along."),
        await ann.laptop.write("The cabin costs 240 euros for two nights."),
        await bob.laptop.write("Ann, can you book the cabin by Wednesday?"),
    ]
    await story.nothing_is_lost()
    shared = [said[at] for at in (0, 1, 3, 4)]
    await serving.has(key, *shared)
    assert serving.messages(key).keys() == set(shared)

    summary = await ann.laptop.chats.summarize(key, ann.laptop.message_ids, names)
    replies = await ann.phone.chats.suggest_replies(key, ann.phone.message_ids, names)
    questions = await ann.phone.chats.questions_for_me(key, ann.phone.message_ids, names)
    assert isinstance(summary.result.kind, Summary)
    assert isinstance(replies.result.kind, Replies)
    assert isinstance(questions.result.kind, Summary)
    assert summary.result.kind.coverage == Coverage(used=4, not_opted_in=2, not_held=0)  # Cem's, and one from before
    assert {cite for line in summary.result.kind.lines for cite in line.cites} <= set(shared)
    assert said[4] in {cite for line in questions.result.kind.lines for cite in line.cites}
    assert replies.result.kind.texts
    file = await ann.laptop.chats.receipt_file(key, summary)
    claims = appraise(file.bundle.evidence, nonce=file.bundle.nonce, policy=story.policy, now=file.bundle.time)
    assert assess_receipt(file.without_content(), claims).errors == ()
    with pytest.raises(AssistantRefused, match="you have not opted in"):
        await cem.phone.chats.summarize(key, cem.phone.message_ids, names)

    await story.opt_out(bob.phone)
    kept = await bob.laptop.write("Of this the assistant is to know nothing.")
    await story.nothing_is_lost()
    after = await ann.phone.chats.summarize(key, ann.phone.message_ids, names)
    assert isinstance(after.result.kind, Summary)
    assert after.result.kind.coverage == Coverage(used=2, not_opted_in=5, not_held=0)

    await serving.drain()  # as for an upgrade
    for client in ann.clients:
        client.wait_at_most(0.7, serving)
    empty = await ann.laptop.chats.summarize(key, ann.laptop.message_ids, names)
    assert isinstance(empty.result.kind, Summary)
    assert empty.result.kind.coverage == Coverage(
        used=0, not_opted_in=5, not_held=2
    )  # the other one begins with nothing
    await other.knows(ann.phone.conversation, *ann.clients)
    moved = await ann.phone.write("The next train to the coast leaves at 17:40 from platform 9.")
    there = await ann.phone.chats.summarize(key, ann.phone.message_ids, names)
    status = await ann.phone.chats.status(key)
    assert isinstance(there.result.kind, Summary)
    assert isinstance(status.result.kind, Status)
    assert there.result.kind.coverage == Coverage(used=1, not_opted_in=5, not_held=2)
    assert status.result.kind.opted_in == {ann.service_id}
    assert other.messages(key).keys() == {moved}
    await story.nothing_is_lost()
    assert not {kept, said[2]} & (serving.messages(key).keys() | other.messages(key).keys())

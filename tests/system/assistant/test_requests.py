"""Who asks is answered, alone, under the engine's name, or is told why not and when to come again."""

import asyncio

import pytest

from ai_enclave.engine import EmbeddedEngine
from ai_enclave.limits import REQUESTS_BURST
from messaging.client.assistant import Answered, AssistantRefused
from messaging.wire.assistant import Forgotten, RefusalCode, Replies, Status, Summary
from tests.simulators.hostile_relay import Seen
from tests.system.assistant.desk import Desk, talk
from tests.system.assistant.world import Client, RunningEnclave, World


def sent_by(enclave: RunningEnclave, since: int) -> list[Seen]:
    """Everything that an enclave sent to anybody."""
    return [seen for seen in enclave.proxy.seen[since:] if seen.is_send]


async def test_each_kind_of_request_is_answered_to_its_requester_alone_under_the_engines_name(
    world: World, engine: EmbeddedEngine
) -> None:
    asked = await talk(world, world.serving())
    ann, key, names = world["Ann"].laptop, world.key, world.names
    since = {enclave.name: len(enclave.proxy.seen) for enclave in world.enclaves.values()}
    summary = await ann.chats.summarize(key, asked, names)
    questions = await ann.chats.questions_for_me(key, asked, names)
    actions = await ann.chats.actions(key, asked, names)
    replies = await ann.chats.suggest_replies(key, asked, names, 2)
    for answered in (summary, questions, actions):
        assert isinstance(answered.result.kind, Summary)
        assert (answered.result.kind.coverage.used, answered.result.kind.coverage.not_opted_in) == (3, 1)
        assert answered.result.kind.lines
        assert all(set(line.cites) <= set(asked[:3]) for line in answered.result.kind.lines)
    assert isinstance(replies.result.kind, Replies)
    assert 1 <= len(replies.result.kind.texts) <= 2
    assert isinstance(questions.result.kind, Summary)
    assert "book the cabin" in " ".join(line.text for line in questions.result.kind.lines)
    status, forgotten = await ann.chats.status(key), await ann.chats.forget(key)
    assert isinstance(status.result.kind, Status)
    assert (status.result.kind.own_messages, status.result.kind.generates) == (1, False)
    assert status.result.kind.opted_in == {world["Ann"].service_id, world["Bob"].service_id}
    assert forgotten.result.kind == Forgotten(1)
    assert (await ann.chats.forget(key, whole=True)).result.kind == Forgotten(2)
    assert isinstance((await ann.chats.forget_everything(key)).result.kind, Forgotten)  # of other conversations too
    assert (await ann.chats.forget_everything(key)).result.kind == Forgotten(0)
    for answered in (summary, questions, actions, replies, forgotten):
        assert (answered.result.engine, answered.result.model) == (engine.name, engine.weights_digest)
        assert answered.receipt is not None
    with pytest.raises(AssistantRefused) as refused:
        await ann.chats.rewrite(key, "see you at nine", "formal")
    assert refused.value.code == RefusalCode.NEEDS_GENERATING_ENGINE
    for enclave in world.enclaves.values():
        assert {seen.other for seen in sent_by(enclave, since[enclave.name])} <= {ann.me}
    assert len(sent_by(world.serving(), since[world.serving().name])) >= 9


async def test_twenty_requests_at_once_are_each_answered_or_refused_with_a_time(world: World) -> None:
    asked = await talk(world, world.serving())
    await world.opt_in(world["Cem"].phone)
    clients = world.clients

    async def ask(client: Client) -> Answered | AssistantRefused:
        try:
            return await client.chats.summarize(world.key, asked, world.names)
        except AssistantRefused as refused:
            return refused

    outcomes = await asyncio.gather(*(ask(clients[number % len(clients)]) for number in range(20)))
    refused = [outcome for outcome in outcomes if isinstance(outcome, AssistantRefused)]
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answered)]
    assert len(answers) >= len(world.people)
    assert {refusal.code for refusal in refused} <= {RefusalCode.QUOTA, RefusalCode.BUSY}
    assert all((refusal.retry_after or 0) >= 1 for refusal in refused)
    assert (
        len({answer.request_bytes for answer in answers}) == len({answer.receipt for answer in answers}) == len(answers)
    )


async def test_who_is_waiting_may_cancel_and_the_engine_is_never_two_peoples_at_once(desk: Desk) -> None:
    ann, bob = desk.world["Ann"], desk.world["Bob"]
    desk.engine.shut()
    served = desk.ask(ann.phone)
    await desk.engine.entered()
    sent = len(sent_by(desk.enclave, 0))
    served.cancel()
    await asyncio.wait([served])
    assert served.cancelled()
    await refused_on_the_wire(desk, sent)  # it is told in vain: nobody waits for it there
    following = desk.ask(bob.phone)
    await desk.enclave.heard(lambda: desk.enclave.contents[-1][0] == bob.phone.device.address)
    await asyncio.sleep(0.1)  # time enough to begin, were the engine taken for free
    assert desk.engine.most_inside == 1
    desk.engine.open()
    assert isinstance((await following).result.kind, Summary)
    assert desk.engine.most_inside == 1


async def refused_on_the_wire(desk: Desk, since: int) -> None:
    """Wait until an answer, to whatever it was, has left the enclave."""
    async with asyncio.timeout(10):
        while len(sent_by(desk.enclave, 0)) == since:
            await asyncio.sleep(0.005)


async def test_who_asks_too_often_is_told_when_to_come_again_and_others_are_served(desk: Desk) -> None:
    ann, bob = desk.world["Ann"].phone, desk.world["Bob"].phone
    for _ in range(REQUESTS_BURST):
        await desk.ask(ann)
    with pytest.raises(AssistantRefused) as refused:
        await desk.ask(ann)
    assert refused.value.code == RefusalCode.QUOTA
    assert 1 <= (refused.value.retry_after or 0) <= 30
    with pytest.raises(AssistantRefused, match="you have asked more often"):
        await desk.ask(desk.world["Ann"].laptop)  # it is the same user
    assert isinstance((await desk.ask(bob)).result.kind, Summary)


async def test_who_would_be_answered_too_late_is_told_so_at_once(desk: Desk) -> None:
    ann, bob = desk.world["Ann"].phone, desk.world["Bob"].phone
    desk.engine.shut()
    served = desk.ask(ann)
    await desk.engine.entered()
    bob.judge(only=[desk.enclave.name], deadline=0.9)  # less than a first service is taken to need
    with pytest.raises(AssistantRefused) as refused:
        await desk.ask(bob)
    assert refused.value.code == RefusalCode.BUSY
    assert (refused.value.retry_after or 0) >= 1
    desk.engine.open()
    assert isinstance((await served).result.kind, Summary)

"""Members of a conversation come to the same enclave without talking about it, and go on together when it is gone."""

from math import ceil

import pytest

from ai_enclave.engine import EmbeddedEngine
from messaging.client.assistant import RETRY_AFTER, AssistantRefused
from messaging.wire.assistant import RefusalCode, Scope, Status, Summary
from messaging.wire.assistants import ListedAssistant
from tests.simulators.hostile_relay import Passing
from tests.system.assistant.desk import Desk
from tests.system.assistant.world import RunningEnclave, World, until

SHORT = 0.7  # seconds for which clients wait for who does not answer


async def all_share_with(world: World, enclave: RunningEnclave) -> None:
    """Every device writes; all of it has to come to this enclave."""
    written = [await client.write(f"for {enclave.name}") for client in world.clients]
    await enclave.has(world.key, *written)
    await world.nothing_is_lost()


async def all_opt_in(world: World) -> None:
    await world.opt_in(*(person.phone for person in world.everybody))


async def test_all_devices_of_all_members_come_to_the_same_enclave(world: World) -> None:
    for _ in range(2):
        await all_opt_in(world)
        await all_share_with(world, world.serving())
        assert world.other().messages(world.key) == {}
        chosen = [(await client.assistants.choose(client.conversation.id)).service_id for client in world.clients]
        assert chosen == [world.serving().service_id] * len(world.clients)
        await world.meet()  # and in another conversation


def nothing(_: Passing) -> list[Passing]:
    """What a relay passes on that keeps a connection and drops all that comes through it."""
    return []


@pytest.mark.parametrize("how", ["it ends without a word", "it is cut off", "it is connected and mute"])
async def test_when_an_enclave_is_gone_who_asks_moves_and_all_others_follow_the_hint(
    new_world: World, how: str
) -> None:
    world = new_world
    ann, bob, cem = world.everybody
    await all_opt_in(world)
    gone, left = world.serving(), world.other()
    await all_share_with(world, gone)
    world.clock.passed += ceil(RETRY_AFTER.total_seconds() * 1000)  # they verified it a while ago
    for client in world.clients:
        client.wait_at_most(SHORT, gone)
    match how:
        case "it ends without a word":
            await gone.stop()
        case "it is cut off":
            await gone.proxy.__aexit__()  # its network is gone; it does not know yet
        case _:
            gone.proxy.rules.append(nothing)  # the directory lists it as if nothing had happened
    meanwhile = await bob.laptop.write("nobody knows yet")
    answered = await ann.phone.chats.summarize(world.key, ann.phone.message_ids, world.names)
    assert isinstance(answered.result.kind, Summary)
    await left.knows(ann.phone.conversation, *world.clients)  # they heard from Ann's telephone where it shares now
    await all_share_with(world, left)
    assert meanwhile in cem.laptop.texts


async def test_an_enclave_that_drains_says_so_finishes_what_it_accepted_and_refuses_what_is_new(
    new_desk: Desk, engine: EmbeddedEngine
) -> None:
    world, enclave, desk = new_desk.world, new_desk.enclave, new_desk
    ann, bob = world["Ann"].phone, world["Bob"].phone
    told = await bob.assistants.choose(bob.conversation.id)
    desk.engine.shut()
    accepted = desk.ask(ann)
    await desk.engine.entered()
    enclave.stopping.drain.set()
    await until(lambda: _listed(world, enclave, online=True, accepting=False))
    with pytest.raises(AssistantRefused) as refused:
        await told.summarize(Scope(world.key, desk.asked))
    assert refused.value.code == RefusalCode.DRAINING

    other = await world.start_enclave("assistant-2", engine)
    bob.assistants.look_again()
    elsewhere = await desk.ask(bob)  # the other one takes it, which knows nothing yet
    assert isinstance(elsewhere.result.kind, Summary)
    assert elsewhere.result.kind.coverage.not_held == 3
    assert bob.assistants.ready(bob.conversation.id) is bob.assistants.get(other.service_id)

    desk.engine.open()
    finished = await accepted
    assert isinstance(finished.result.kind, Summary)
    assert finished.result.kind.coverage.used == 3
    await enclave.ended()
    await until(lambda: _listed(world, enclave, online=False, accepting=False))


async def _listed(world: World, enclave: RunningEnclave, *, online: bool, accepting: bool) -> bool:
    """Whether the directory says so of an enclave."""
    said = ListedAssistant(name=enclave.name, service_id=str(enclave.service_id), online=online, accepting=accepting)
    return said in await world.client_relay.assistants()


async def test_a_device_that_heard_answers_to_another_before_it_met_the_enclave_uses_it_too(new_world: World) -> None:
    world = new_world
    ann, serving = world["Ann"], world.serving()
    ann.laptop.judge(only=["nobody"])
    await world.opt_in(ann.phone)
    await serving.knows(ann.phone.conversation, ann.phone)
    await ann.phone.chats.status(world.key)  # both devices get the frames of evidence and status
    assert await ann.laptop.device.trusted_identity(serving.service_id) == serving.identity_key
    ann.laptop.judge()
    assert isinstance((await ann.laptop.chats.status(world.key)).result.kind, Status)
    await serving.has(world.key, await ann.laptop.write("from the device that had never asked"))

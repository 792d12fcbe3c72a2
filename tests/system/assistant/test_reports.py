"""What an operator sees of a real enclave: where it runs, as appraised now, and its load in steps; and nothing else of it."""

import asyncio
from collections.abc import Callable

from messaging.console.appraisal import SIMULATED, PolicyAppraiser
from messaging.relay.admin.assistants import AssistantDetails, OneAssistant
from messaging.relay.admin.desk import Desk, act, look
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.wire.assistants import AssistantLoad
from tests.desks import a_desk, an_operator
from tests.system.assistant.world import PATIENCE, RunningEnclave, World


async def shown(desk: Desk, enclave: RunningEnclave) -> AssistantDetails:
    one = OneAssistant(aci=str(enclave.service_id.uuid))
    found: AssistantDetails = await look(desk, VIEWS["assistants.show"], an_operator(), one)
    return found


async def until_shown(
    desk: Desk, enclave: RunningEnclave, holds: Callable[[AssistantDetails], bool]
) -> AssistantDetails:
    """Look until it is so: a report is sent in the background."""
    async with asyncio.timeout(PATIENCE):
        while not holds(found := await shown(desk, enclave)):
            await asyncio.sleep(0.05)
    return found


async def test_it_reports_where_it_runs_and_when_it_drains_and_the_operator_sees_it(new_world: World) -> None:
    world = new_world
    async with a_desk(world.relay, appraise=PolicyAppraiser(world.policy)) as desk:
        enclave = world.serving()
        found = await until_shown(desk, enclave, lambda seen: seen.evidence.verdict != "unread")
        assert (found.evidence.verdict, found.evidence.notice) == ("simulated", SIMULATED)
        assert all(step.passed for step in found.evidence.steps)
        assert found.evidence.release == world.policy.releases[0].name
        assert found.load == AssistantLoad(waiting=0, serving=0, conversations=0, memory_mib=0)
        assert (found.state, found.accepting) == ("ready", True)

        before = found.reported_at
        await enclave.drain()
        left = await shown(desk, enclave)
        assert (left.state, left.accepting) == ("draining", False)
        assert before is not None
        assert left.reported_at is not None
        assert left.reported_at > before
        assert left.evidence_at == found.evidence_at, "one that drains has no new evidence"


async def test_its_messages_are_in_the_load_as_a_step_alone(new_world: World) -> None:
    world = new_world
    ann = world["Ann"].phone
    await world.opt_in(ann)
    written = await ann.write("at noon, by the fountain")
    enclave = world.serving()
    await enclave.has(world.key, written)
    async with a_desk(world.relay, appraise=PolicyAppraiser(world.policy)) as desk:
        await enclave.drain()
        found = await shown(desk, enclave)
    assert found.load == AssistantLoad(waiting=0, serving=0, conversations=10, memory_mib=16)


async def test_clients_leave_an_assistant_that_an_operator_has_drained(new_world: World) -> None:
    world = new_world
    ann, drained = world["Ann"].phone, world.serving()
    async with a_desk(world.relay) as desk:
        one = OneAssistant(aci=str(drained.service_id.uuid))
        await act(desk, ACTIONS["assistants.drain"], an_operator(), one, reason="new release")
    listed = {each.name: each.accepting for each in await world.client_relay.assistants()}
    assert listed == {drained.name: False, world.other().name: True}
    ann.assistants.look_again()
    chosen = await ann.assistants.choose(ann.conversation.id)
    assert chosen.service_id == world.other().service_id

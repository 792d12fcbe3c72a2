"""An enclave that starts again knows nothing and says so; clients prove it anew and go on, and nobody has to tell them."""

from collections.abc import AsyncIterator

import pytest

from messaging.wire.assistant import AssistantRequest, Coverage, EvidenceRequest, Status, Summary
from messaging.wire.content import AssistantCall, ProfileKeyUpdate
from tests.system.assistant.world import World


@pytest.fixture
async def world(world_of_module: World) -> AsyncIterator[World]:
    """One of this module, in a new conversation."""
    await world_of_module.begin()
    yield world_of_module
    await world_of_module.end()


async def test_clients_prove_an_enclave_that_restarted_and_go_on_by_themselves(world: World) -> None:
    ann, bob, cem = world.everybody
    await world.opt_in(ann.phone, bob.phone)
    before = [await client.write(f"before the restart, writes {client.name}") for client in world.clients]
    old = world.serving()
    await old.has(world.key, *before[:4])
    first = await ann.phone.chats.status(world.key)
    await old.stop()
    new = await world.start_enclave(old.name)
    assert new.service_id == old.service_id
    assert new.identity_key != old.identity_key

    # The applications write, as ever, and do nothing else.
    after = [await client.write(f"after the restart, writes {client.name}") for client in world.clients]
    await world.nothing_is_lost()
    await new.has(world.key, *after[:4])
    assert new.messages(world.key).keys() == set(after[:4])
    for client in (*ann.clients, *bob.clients):
        contents = [content for who, content in new.contents if who == client.device.address]
        contents = [content for content in contents if not isinstance(content, ProfileKeyUpdate)]
        assert isinstance(contents[0], AssistantCall)
        assert isinstance(AssistantRequest.parse(contents[0].request).kind, EvidenceRequest)
    assert cem.service_id not in {who.service_id for who, _ in new.contents}

    answered = await ann.laptop.chats.summarize(world.key, ann.laptop.message_ids, world.names)
    second = await ann.phone.chats.status(world.key)
    assert isinstance(answered.result.kind, Summary)
    assert isinstance(first.result.kind, Status)
    assert isinstance(second.result.kind, Status)
    assert answered.result.kind.coverage == Coverage(used=4, not_opted_in=4, not_held=4)
    assert {cite for line in answered.result.kind.lines for cite in line.cites} <= set(after)
    assert second.result.kind.started_at > first.result.kind.started_at
    assert max(message.timestamp for message in before) < second.result.kind.started_at
    assert second.result.kind.own_messages == 2


async def test_a_question_to_an_enclave_that_restarted_is_answered_without_a_word_of_the_application(
    world: World,
) -> None:
    ann, bob, _ = world.everybody
    await world.opt_in(ann.phone, bob.phone)
    written = [await client.write("before the restart") for client in (*ann.clients, *bob.clients)]
    old = world.serving()
    await old.has(world.key, *written)
    await world.other().stop()
    await old.stop()
    await world.start_enclave(old.name)
    answered = await ann.phone.chats.summarize(world.key, ann.phone.message_ids, world.names)
    assert isinstance(answered.result.kind, Summary)
    assert answered.result.kind.coverage == Coverage(used=0, not_opted_in=0, not_held=4)
    assert answered.result.kind.lines == ()

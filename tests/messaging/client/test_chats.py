"""Conversations as people have them: real devices, a real relay, and enclaves that write down what they get."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from messaging.client import Relay
from messaging.wire.consent import ConsentScope
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.conftest import Link, Register
from tests.messaging.client.watched import WatchedRelay
from tests.messaging.client.world import Person, World, soon, until
from tests.relays import StartedRelay


@pytest.fixture
async def client_relay(sqlite_relay: StartedRelay) -> AsyncIterator[WatchedRelay]:
    """Stands for the relay of the same name: what devices ask over HTTP is watched."""
    async with WatchedRelay(sqlite_relay.url) as relay:
        yield relay


@pytest.fixture
async def world(
    sqlite_relay: StartedRelay, client_relay: WatchedRelay, crypto: SignalCrypto, register: Register
) -> AsyncIterator[World]:
    made = World(sqlite_relay, client_relay, crypto, register)
    yield made
    await made.close()


async def test_everybody_learns_the_conversation_and_what_is_said_in_it(world: World) -> None:
    people = await world.people(3)
    ann, bob, cem = people
    for person in people:
        conversation = person.chats.conversation(person.key)
        assert (conversation.title, conversation.members) == ("trip", tuple(each.service_id for each in people))
        assert person.chats.untold(person.key) == frozenset()
    await ann.write("one")
    await soon(lambda: bob.texts() == ["one"])
    await bob.write("two")
    await soon(lambda: cem.texts() == ["one", "two"])
    await soon(lambda: ann.texts() == ["one", "two"])


async def test_the_assistant_gets_what_its_author_writes_from_the_consent_on_and_nothing_else(world: World) -> None:
    enclave = await world.enclave()
    ann, bob, cem = await world.people(3)
    await ann.write("before")
    await ann.chats.opt_in(ann.key)
    for person in (ann, bob, cem):
        await soon(lambda person=person: person.sees() == {ann.service_id})  # type: ignore[misc]
    await ann.write("shared")
    await bob.write("not shared")
    await soon(lambda: enclave.texts() == ["shared"])
    await soon(lambda: sorted(cem.texts()) == ["before", "not shared", "shared"])
    assert enclave.consents(ann) == [True]
    assert enclave.texts() == ["shared"]

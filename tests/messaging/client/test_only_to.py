"""What is meant for one identity key goes to no other, however long it waits and whoever has come to be trusted meanwhile."""

from collections.abc import AsyncIterator

import pytest

from messaging.client import Device, IdentityChanged, RelayUnreachable
from messaging.client.groups import OUTBOX as GROUP_OUTBOX
from messaging.client.sending import OUTBOX, Outgoing, plaintext_of, queue
from tests.messaging.client.conftest import Register
from tests.messaging.client.test_groups import GROUP, ids, introduce, many, next_from, read, text
from tests.messaging.client.watched import WatchedRelay, away
from tests.relays import StartedRelay

ANN, BOB, CID = "+4915550000241", "+4915550000242", "+4915550000243"
ANOTHER_KEY = b"\x05" + bytes(32)


@pytest.fixture
async def client_relay(sqlite_relay: StartedRelay) -> AsyncIterator[WatchedRelay]:
    async with WatchedRelay(sqlite_relay.url) as relay:
        yield relay


@pytest.fixture
async def three(register: Register) -> tuple[Device, Device, Device]:
    people = await register(ANN), await register(BOB), await register(CID)
    await introduce(people)
    return people


async def entries(device: Device) -> int:
    async with device._store.transaction() as transaction:
        return len(transaction.entries(OUTBOX)) + len(transaction.entries(GROUP_OUTBOX))


async def test_a_message_for_the_present_key_arrives(three: tuple[Device, Device, Device]) -> None:
    ann, bob, _ = three
    await ann.fetch_identity(bob.service_id)
    await ann.send(bob.service_id, text("for you"), only_to=bob.identity_key)
    assert await read(bob) == ["for you"]


async def test_a_message_for_another_key_is_not_sent_and_not_kept(three: tuple[Device, Device, Device]) -> None:
    ann, bob, _ = three
    with pytest.raises(IdentityChanged):
        await ann.send(bob.service_id, text("not for you"), only_to=ANOTHER_KEY)
    assert await entries(ann) == 0
    await ann.send(bob.service_id, text("for you"))
    assert await read(bob) == ["for you"]


async def test_what_waits_is_dropped_when_another_key_is_trusted_by_then(three: tuple[Device, Device, Device]) -> None:
    ann, bob, _ = three
    await ann.fetch_identity(bob.service_id)
    async with ann._store.transaction() as transaction:  # as after a crash before anything was encrypted
        waiting = Outgoing(bob.service_id, 1, plaintext_of(text("for the one before")), only_to=ANOTHER_KEY)
        queue(transaction, waiting)
    await ann.send(bob.service_id, text("next"))
    assert await read(bob) == ["next"]
    assert await entries(ann) == 0


async def test_what_was_encrypted_for_the_old_key_can_only_be_read_with_it(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, _ = three
    await ann.fetch_identity(bob.service_id)
    client_relay.fault = away()
    with pytest.raises(RelayUnreachable):
        await ann.send(bob.service_id, text("for the one before"), only_to=bob.identity_key)
    client_relay.fault = None
    await ann.trust(bob.service_id, ANOTHER_KEY)
    with pytest.raises(IdentityChanged):
        await ann.send(bob.service_id, text("for somebody new"))
    assert await read(bob) == ["for the one before"]


async def test_in_a_group_who_has_another_key_gets_neither_message_nor_sender_key(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    only_to = {cid.service_id: ANOTHER_KEY}
    failed = await ann.send_to_group(GROUP, ids(bob, cid), text("not for cid"), only_to=only_to)
    assert [*failed] == ids(cid)
    assert isinstance(failed[cid.service_id], IdentityChanged)
    assert await read(bob) == ["not for cid"]
    await ann.send(cid.service_id, text("cid hears of nothing else"))
    assert (await next_from(cid)).content == text("cid hears of nothing else")


async def test_in_a_group_the_key_is_rotated_when_a_holder_has_another_identity(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    await ann.fetch_identity(cid.service_id)
    with_cid = {cid.service_id: cid.identity_key}
    assert await ann.send_to_group(GROUP, ids(bob, cid), text("for both"), only_to=with_cid) == {}
    assert (await read(bob), await read(cid)) == (["for both"], ["for both"])
    await ann.trust(cid.service_id, ANOTHER_KEY)
    failed = await ann.send_to_group(GROUP, ids(bob, cid), text("for bob"), only_to=with_cid)
    assert [*failed] == ids(cid)
    assert await read(bob) == ["for bob"]
    assert len(many(client_relay)) == 2


async def test_a_group_message_that_waits_goes_to_the_old_key_or_to_nobody(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    await ann.fetch_identity(cid.service_id)
    client_relay.fault = away()
    with pytest.raises(RelayUnreachable):
        await ann.send_to_group(GROUP, ids(bob, cid), text("late"), only_to={cid.service_id: cid.identity_key})
    await ann.trust(cid.service_id, ANOTHER_KEY)
    client_relay.fault = None
    assert await ann.send_to_group(GROUP, ids(bob), text("next")) == {}
    assert await read(bob, 2) == ["late", "next"]
    await ann.trust(cid.service_id, cid.identity_key)
    await ann.send(cid.service_id, text("nothing came before this"))
    assert (await next_from(cid)).content == text("nothing came before this")

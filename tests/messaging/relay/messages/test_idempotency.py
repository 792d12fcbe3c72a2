"""A send that is repeated with its key is answered as the first time, and nothing is sent twice."""

import asyncio

import pytest
from hypothesis import given
from hypothesis.strategies import binary, text

from messaging.relay.errors import InvalidRequest
from messaging.relay.http import Call
from messaging.relay.messages.idempotency import Once, once_of
from tests.devices import Device, MakePeer, message_for, messages_for
from tests.relays import Relays

KEY = {"Idempotency-Key": "a key of my own making"}


async def contents(device: Device) -> list[bytes]:
    async with device.socket() as socket:
        found = []
        while (request := await socket.request()).path == "/api/v1/message":
            found.append(request.body or b"")
        return found


async def test_a_repeated_send_is_stored_once_and_answered_alike(alice: Device, bob: Device) -> None:
    path, body = f"/v1/messages/{bob.aci}", message_for(bob, b"once")
    replies = [await alice.call("PUT", path, body, **KEY) for _ in range(3)]
    assert [(reply.status, reply.body) for reply in replies] == [(200, replies[0].body)] * 3
    assert len(await contents(bob)) == 1


async def test_two_at_once_are_one(alice: Device, bob: Device) -> None:
    path, body = f"/v1/messages/{bob.aci}", message_for(bob, b"once")
    replies = await asyncio.gather(*(alice.call("PUT", path, body, **KEY) for _ in range(8)))
    assert {reply.status for reply in replies} == {200}
    assert len(await contents(bob)) == 1


async def test_the_answer_stands_even_when_the_devices_have_changed(alice: Device, bob: Device) -> None:
    path, body = f"/v1/messages/{bob.aci}", message_for(bob, b"once")
    assert (await alice.call("PUT", path, body, **KEY)).status == 200
    await bob.link()
    assert (await alice.call("PUT", path, body, **KEY)).status == 200
    assert (await alice.call("PUT", path, body)).status == 409


async def test_a_send_that_failed_is_not_remembered(alice: Device, bob: Device) -> None:
    laptop, path = await bob.link(), f"/v1/messages/{bob.aci}"
    assert (await alice.call("PUT", path, messages_for(bob), **KEY)).status == 409
    assert (await alice.call("PUT", path, messages_for(bob, laptop), **KEY)).status == 200


async def test_a_key_stands_for_one_request_of_one_sender(alice: Device, bob: Device) -> None:
    path = f"/v1/messages/{bob.aci}"
    assert (await alice.call("PUT", path, message_for(bob, b"one"), **KEY)).status == 200
    other = await alice.call("PUT", path, message_for(bob, b"two"), **KEY)
    assert (other.status, other.json()) == (422, {"code": "idempotency_key_reused"})
    assert (
        await bob.call("PUT", path.replace(str(bob.aci), str(alice.aci)), message_for(alice, b"x"), **KEY)
    ).status == 200
    assert len(await contents(bob)) == 1


async def test_a_key_has_a_length(relays: Relays, peer_of: MakePeer) -> None:
    peer = peer_of(await relays.start("sqlite"))
    alice, bob = await peer.register(), await peer.register()
    path, body = f"/v1/messages/{bob.aci}", message_for(bob, b"x")
    for size, status in ((15, 422), (16, 200), (128, 200), (129, 422)):
        assert (await alice.call("PUT", path, body, **{"Idempotency-Key": "k" * size})).status == status


@given(text(min_size=16, max_size=128), binary())
def test_any_key_is_taken_or_refused(key: str, body: bytes) -> None:
    call = Call("PUT", "/", {"idempotency-key": key}, body)
    try:
        assert isinstance(once_of(call, "scope"), Once)
    except InvalidRequest:
        assert not (key.isascii() and key.isprintable())


def test_without_the_header_there_is_no_key() -> None:
    assert once_of(Call("PUT", "/"), "scope") is None
    with pytest.raises(InvalidRequest):
        once_of(Call("PUT", "/", {"idempotency-key": ""}), "scope")

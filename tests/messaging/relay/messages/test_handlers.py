"""``PUT /v1/messages``: who may send what to whom, and that it is all or nothing."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from messaging.relay.limits import Bucket, Limit
from messaging.wire.envelope import EnvelopeType
from messaging.wire.identifiers import ServiceId
from messaging.wire.json import encode_base64
from messaging.wire.limits import MAX_CONTENT
from tests.devices import Body, Device, MakePeer, NewDevice, Peer, basic, message_for
from tests.relays import UNLIMITED, Relays


async def test_a_message_is_delivered_with_what_the_relay_knows_of_it(alice: Device, bob: Device) -> None:
    sent = await alice.send(bob, b"ciphertext", timestamp=1_700_000_000_000, urgent=False)
    assert (sent.status, sent.json()) == (200, {"needsSync": False})
    async with bob.socket() as socket:
        _, envelope = await socket.envelope()
    assert envelope.content == b"ciphertext"
    assert envelope.type is EnvelopeType.CIPHERTEXT
    assert envelope.source == alice.address
    assert envelope.destination == bob.aci
    assert envelope.client_timestamp == 1_700_000_000_000
    assert envelope.server_timestamp > 1_700_000_000_000
    assert not envelope.urgent


async def test_a_sealed_message_does_not_say_who_sent_it(peer: Peer, bob: Device) -> None:
    body = message_for(bob, b"sealed", type=EnvelopeType.UNIDENTIFIED_SENDER)
    key = {"Unidentified-Access-Key": encode_base64(bob.known.access_key)}
    assert (await peer.call("PUT", f"/v1/messages/{bob.aci}", body, key)).status == 200
    async with bob.socket() as socket:
        _, envelope = await socket.envelope()
    assert (envelope.type, envelope.source) == (EnvelopeType.UNIDENTIFIED_SENDER, None)


async def test_the_phone_number_identity_can_be_written_to(alice: Device, bob: Device) -> None:
    assert (await alice.call("PUT", f"/v1/messages/{bob.pni}", message_for(bob, b"to the number"))).status == 200
    async with bob.socket() as socket:
        _, envelope = await socket.envelope()
    assert envelope.destination == bob.pni


@pytest.mark.parametrize("key", [None, b"wrong" + bytes(11), b"short"])
async def test_without_the_access_key_nobody_writes_unidentified(peer: Peer, bob: Device, key: bytes | None) -> None:
    headers = {} if key is None else {"Unidentified-Access-Key": encode_base64(key)}
    refused = await peer.call("PUT", f"/v1/messages/{bob.aci}", message_for(bob, b"sealed"), headers)
    assert (refused.status, refused.body) == (401, b"")


async def test_who_opened_their_account_to_all_can_be_written_to_with_any_key(peer: Peer) -> None:
    open_to_all = await peer.register(unrestricted=True)
    key = {"Unidentified-Access-Key": encode_base64(bytes(16))}
    path = f"/v1/messages/{open_to_all.aci}"
    assert (await peer.call("PUT", path, message_for(open_to_all, b"sealed"), key)).status == 200


async def test_an_unknown_account_looks_like_a_wrong_key_to_who_is_unidentified(peer: Peer, bob: Device) -> None:
    nobody = ServiceId(uuid4())
    key = {"Unidentified-Access-Key": encode_base64(bob.known.access_key)}
    unknown = await peer.call("PUT", f"/v1/messages/{nobody}", message_for(bob, b"sealed"), key)
    to_number = await peer.call("PUT", f"/v1/messages/{bob.pni}", message_for(bob, b"sealed"), key)
    assert [(reply.status, reply.body) for reply in (unknown, to_number)] == [(401, b"")] * 2


async def test_an_unknown_account_is_not_found_by_who_is_known(alice: Device, bob: Device) -> None:
    for nobody in (str(uuid4()), "PNI:" + str(uuid4()), "not-an-account"):
        refused = await alice.call("PUT", f"/v1/messages/{nobody}", message_for(bob, b"hello"))
        assert (refused.status, refused.body) == (404, b"")


async def test_wrong_credentials_are_not_taken_for_none(peer: Peer, bob: Device) -> None:
    headers = {
        "Authorization": basic(str(bob.address), "wrong"),
        "Unidentified-Access-Key": encode_base64(bob.known.access_key),
    }
    assert (await peer.call("PUT", f"/v1/messages/{bob.aci}", message_for(bob, b"x"), headers)).status == 401


def a_message(bob: Device, **changes: Any) -> dict[str, Any]:
    return {
        "type": 1,
        "destinationDeviceId": 1,
        "destinationRegistrationId": bob.known.registration_id,
        "content": "YQ==",
        **changes,
    }


async def test_a_stale_registration_is_reported_before_a_missing_device(alice: Device, bob: Device) -> None:
    stale = a_message(bob, destinationRegistrationId=bob.known.registration_id % 16380 + 1)
    extra = a_message(bob, destinationDeviceId=3)
    path = f"/v1/messages/{bob.aci}"
    refused = await alice.call("PUT", path, {"messages": [stale, extra], "timestamp": 1})
    assert (refused.status, refused.json()) == (410, {"staleDevices": [1]})
    refused = await alice.call("PUT", path, {"messages": [extra], "timestamp": 1})
    assert (refused.status, refused.json()) == (409, {"missingDevices": [1], "extraDevices": [3]})


async def test_nothing_is_stored_unless_every_device_matches(alice: Device, bob: Device) -> None:
    both = {"messages": [a_message(bob), a_message(bob, destinationDeviceId=2)], "timestamp": 1}
    assert (await alice.call("PUT", f"/v1/messages/{bob.aci}", both)).status == 409
    async with bob.socket() as socket:
        await socket.queue_empty()


async def test_to_oneself_the_sending_device_is_left_out(alice: Device) -> None:
    refused = await alice.send(alice, b"note to self")
    assert (refused.status, refused.json()) == (409, {"missingDevices": [], "extraDevices": [1]})
    to_number = await alice.call("PUT", f"/v1/messages/{alice.pni}", message_for(alice, b"note"))
    assert to_number.status == 403


async def test_a_body_that_breaks_a_rule_is_refused(alice: Device, bob: Device) -> None:
    one = a_message(bob)
    broken: list[Body] = [
        [],
        {"messages": [], "timestamp": 1},
        {"messages": [{"type": 1}], "timestamp": 1},
        {"messages": [a_message(bob, content="")], "timestamp": 1},
        {"messages": [a_message(bob, content="%%%")], "timestamp": 1},
        {"messages": [a_message(bob, type=5)], "timestamp": 1},
        {"messages": [a_message(bob, type=99)], "timestamp": 1},
        {"messages": [a_message(bob, destinationDeviceId=0)], "timestamp": 1},
        {"messages": [a_message(bob, destinationDeviceId=128)], "timestamp": 1},
        {"messages": [a_message(bob, destinationRegistrationId=-1)], "timestamp": 1},
        {"messages": [one, one], "timestamp": 1},
        {"messages": [one], "timestamp": -1},
        {"messages": [one], "timestamp": 8_640_000_000_000_001},
        {"messages": [one], "timestamp": 1, "urgent": "yes"},
    ]
    for body in broken:
        refused = await alice.call("PUT", f"/v1/messages/{bob.aci}", body)
        assert (refused.status, refused.json()["code"]) == (422, "invalid"), body


async def test_what_is_not_json_is_malformed(alice: Device, bob: Device) -> None:
    refused = await alice.call("PUT", f"/v1/messages/{bob.aci}", b'{"messages": [')
    assert (refused.status, refused.json()) == (400, {"code": "malformed"})


async def test_content_has_a_largest_size(alice: Device, bob: Device) -> None:
    assert (await alice.send(bob, bytes(MAX_CONTENT))).status == 200
    refused = await alice.send(bob, bytes(MAX_CONTENT + 1))
    assert (refused.status, refused.json()) == (413, {"code": "too_large"})


async def test_a_message_for_those_who_are_online_does_not_wait_for_long(
    relays: Relays, alice: Device, bob: Device
) -> None:
    async with bob.socket() as socket:
        await socket.queue_empty()
        await alice.send(bob, b"typing", online=True)
        [content] = await socket.receive(1)
    assert content == b"typing"


async def test_a_sender_and_a_receiver_have_a_limit_of_their_own(
    relays: Relays, backend: str, peer_of: MakePeer
) -> None:
    limits = {**UNLIMITED, Limit.MESSAGES: Bucket(2, 1000)}
    peer = peer_of(await relays.start(backend, limits=limits))
    alice, bob, carol = [await peer.register() for _ in range(3)]
    statuses = [(await alice.send(bob, b"x")).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert (await alice.send(carol, b"x")).status == 200
    assert (await carol.send(bob, b"x")).status == 200
    refused = await alice.send(bob, b"x")
    assert 0 < int(refused.headers["retry-after"]) <= 1000
    assert refused.json() == {"code": "rate_limited"}


async def test_what_is_sent_to_an_assistant_is_counted_by_network_address_and_silences_it_for_nobody_else(
    relays: Relays, backend: str, peer_of: MakePeer
) -> None:
    few = Bucket(1000, 1000)
    limits = {**UNLIMITED, Limit.INBOUND_MESSAGE_BYTES: few, Limit.ASSISTANT_MESSAGE_BYTES: few}
    peer = peer_of(await relays.start(backend, limits=limits, plain_http_behind_a_proxy=True))
    assistant, bob = await peer.register_assistant("assistant-1", NewDevice()), await peer.register()

    async def send(to: Device, address: str, size: int) -> int:
        headers = {
            "X-Forwarded-For": address,
            "Unidentified-Access-Key": encode_base64(to.known.access_key),
        }
        body = message_for(to, bytes(size), type=EnvelopeType.UNIDENTIFIED_SENDER)
        return (await peer.call("PUT", f"/v1/messages/{to.aci}", body, headers)).status

    assert await send(assistant, "192.0.2.1", 1000) == 200
    assert await send(assistant, "192.0.2.1", 1) == 429
    assert await send(assistant, "192.0.2.2", 999) == 200
    assert await send(assistant, "192.0.2.2", 1) == 200
    assert await send(bob, "192.0.2.1", 1000) == 200
    assert await send(bob, "192.0.2.2", 1) == 429  # a person's is counted for the person, wherever it comes from


async def test_the_order_of_each_sender_survives_concurrent_senders(peer: Peer, bob: Device) -> None:
    senders = [await peer.register() for _ in range(5)]

    async def send_ten(number: int, sender: Device) -> None:
        for count in range(10):
            assert (await sender.send(bob, f"{number}.{count}".encode())).status == 200

    async with bob.socket() as socket:
        await socket.queue_empty()
        sending = asyncio.gather(*(send_ten(number, sender) for number, sender in enumerate(senders)))
        received = [content.decode() for content in await socket.receive(50)]
        await sending
    for number in range(5):
        assert [entry for entry in received if entry.startswith(f"{number}.")] == [f"{number}.{n}" for n in range(10)]

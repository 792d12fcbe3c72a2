"""What delivery offers beyond Signal's contract, over sockets: receipts, parking, gaps, a cursor, markers, low prekeys."""

import asyncio
import base64
import json
from dataclasses import replace

from messaging.relay.limits import Bucket, Limit
from messaging.wire import frames
from messaging.wire.envelope import EnvelopeType
from messaging.wire.keys import SetKeysRequest
from messaging.wire.limits import MAX_DELIVERIES, MAX_MARKER
from tests.devices import Device, MakePeer, NewDevice, Socket, kyber_prekey, message_for, one_time_prekey
from tests.relays import UNLIMITED, Relays

SOON = 0.3  # seconds: what a device answered is written down by then, though nobody waits for it


async def refuse_next(device: Device) -> None:
    """Receive an envelope and say that it could not be handled."""
    async with device.socket() as socket:
        request, _ = await socket.envelope()
        await socket.answer(request, 500)
        await asyncio.sleep(SOON)


async def drop_at_next(device: Device, notices: str = "gaps") -> None:
    """Receive an envelope and go without a word, as a program that crashed."""
    async with device.socket(x_subrosa_notices=notices) as socket:
        await socket.envelope()
    await asyncio.sleep(SOON)


async def only_queue_empty(socket: Socket) -> None:
    await socket.queue_empty()
    assert await socket.silent()


async def test_the_sender_of_an_unsealed_message_gets_a_receipt_from_each_device(alice: Device, bob: Device) -> None:
    await alice.send(bob, b"hello", timestamp=1234)
    async with alice.socket() as sender, bob.socket() as receiver:
        await sender.queue_empty()
        assert await receiver.receive(1) == [b"hello"]
        request, receipt = await sender.envelope()
        assert receipt.type is EnvelopeType.SERVER_DELIVERY_RECEIPT
        assert (receipt.source, receipt.client_timestamp, receipt.content) == (bob.address, 1234, b"")
        await sender.answer(request)
        await receiver.queue_empty()
        assert await receiver.silent()  # a receipt gets no receipt


async def test_a_sealed_sender_and_ones_own_devices_get_no_receipt(alice: Device, bob: Device) -> None:
    key = {"Unidentified-Access-Key": base64.b64encode(bob.known.access_key).decode()}
    await alice.peer.call("PUT", f"/v1/messages/{bob.aci}", message_for(bob, b"sealed", type=6), key)
    laptop = await alice.link()
    await laptop.send(alice, b"sync")
    for device in (bob, alice):
        async with device.socket() as socket:
            await socket.receive(1)
            await socket.queue_empty()
    for device in (alice, laptop):
        async with device.socket() as socket:
            await only_queue_empty(socket)


async def test_what_a_device_refuses_five_times_is_parked_and_stops_nobody(alice: Device, bob: Device) -> None:
    await alice.send(bob, b"poison")
    await alice.send(bob, b"fine")
    for _ in range(MAX_DELIVERIES):
        await refuse_next(bob)
    async with bob.socket() as socket:
        assert await socket.receive(1) == [b"fine"]
        await socket.queue_empty()
    [parked] = (await bob.call("GET", "/v1/messages/parked")).json()["messages"]
    assert (parked["sequence"], parked["deliveries"]) == (1, MAX_DELIVERIES)
    assert parked["size"] > len(b"poison")


async def test_what_a_device_dies_of_five_times_is_parked_too(alice: Device, bob: Device) -> None:
    await alice.send(bob, b"poison")
    for _ in range(MAX_DELIVERIES):
        await drop_at_next(bob)
    async with bob.socket(x_subrosa_notices="gaps") as socket:
        request = await socket.request()
        assert (request.path, json.loads(request.body or b"")) == (
            "/api/v1/queue/gap",
            {"first": 1, "last": 1, "reason": "parked"},
        )
        await socket.answer(request)
        await socket.queue_empty()
    await asyncio.sleep(SOON)
    async with bob.socket(x_subrosa_notices="gaps") as socket:
        await only_queue_empty(socket)  # told once


async def test_a_device_that_hears_of_no_gaps_loses_nothing_by_a_bad_line(alice: Device, bob: Device) -> None:
    await alice.send(bob, b"patience")
    for _ in range(MAX_DELIVERIES + 2):
        await drop_at_next(bob, notices="")
    async with bob.socket() as socket:
        assert await socket.receive(1) == [b"patience"]


async def test_a_parked_message_is_tried_again_or_dropped(alice: Device, bob: Device) -> None:
    for content in (b"one", b"two"):
        await alice.send(bob, content)
        for _ in range(MAX_DELIVERIES):
            await refuse_next(bob)
    async with bob.socket() as socket:
        await socket.queue_empty()
        retried = await asyncio.gather(*(bob.set("POST", "/v1/messages/parked/1/retry") for _ in range(3)))
        assert sorted(retried) == [204, 404, 404]
        assert await socket.receive(1) == [b"one"]
    assert await alice.set("DELETE", "/v1/messages/parked/2") == 404  # another device's
    assert await bob.set("DELETE", "/v1/messages/parked/2") == 204
    assert await bob.set("DELETE", "/v1/messages/parked/2") == 404
    assert await bob.set("DELETE", "/v1/messages/parked/two") == 404
    assert (await bob.call("GET", "/v1/messages/parked")).json() == {"messages": []}


async def test_a_device_resumes_behind_its_cursor(alice: Device, bob: Device) -> None:
    for number in range(4):
        await alice.send(bob, b"%d" % number)
    async with bob.socket() as socket:
        frames = [(await socket.envelope())[0] for _ in range(4)]  # read, and never acknowledged
    cursors = [frame.headers["x-subrosa-cursor"] for frame in frames]
    assert [cursor.split("-")[1] for cursor in cursors] == ["1", "2", "3", "4"]
    async with bob.socket(x_subrosa_resume_after=cursors[2]) as socket:
        assert await socket.receive(1) == [b"3"]
        await socket.queue_empty()
    await asyncio.sleep(SOON)
    async with bob.socket() as socket:
        await only_queue_empty(socket)


async def test_a_cursor_from_the_future_loses_nothing_that_comes(alice: Device, bob: Device) -> None:
    await alice.send(bob, b"old")
    async with bob.socket() as socket:
        request, _ = await socket.envelope()
    tag = request.headers["x-subrosa-cursor"].split("-")[0]
    async with bob.socket(x_subrosa_resume_after=f"{tag}-999999") as socket:
        await socket.queue_empty()
        await alice.send(bob, b"new")
        assert await socket.receive(1) == [b"new"]


async def test_a_cursor_of_another_mailbox_makes_nobody_lose_anything(alice: Device, bob: Device) -> None:
    for number in range(3):
        await alice.send(bob, b"%d" % number)
    async with bob.socket() as socket:
        cursor = [(await socket.envelope())[0] for _ in range(3)][-1].headers["x-subrosa-cursor"]
    again = await bob.peer.register(NewDevice(number=bob.known.number))
    await alice.send(again, b"for the new one")
    for old in (cursor, "3", "-3", "x-3", f"{cursor}x", ""):
        async with again.socket(x_subrosa_resume_after=old) as socket:
            _, envelope = await socket.envelope()
            assert envelope.content == b"for the new one"


async def test_a_device_resumes_on_another_relay(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
    alice, bob = await here.register(), await here.register()
    for number in range(3):
        await alice.send(bob, b"%d" % number)
    async with bob.socket() as socket:
        request, _ = await socket.envelope()
    cursor = request.headers["x-subrosa-cursor"]
    async with Device(there, bob.known, bob.aci, bob.pni).socket(x_subrosa_resume_after=cursor) as socket:
        assert await socket.receive(2) == [b"1", b"2"]


async def test_a_marker_comes_back_behind_what_was_there(alice: Device, bob: Device) -> None:
    async with bob.socket() as socket:
        await socket.queue_empty()
        for number in range(3):
            await alice.send(bob, b"%d" % number)
        await socket.ask("PUT", "/v1/messages/marker/here-1")
        seen: list[str | int] = []
        while len(seen) < 5:
            frame = await socket.frame()
            seen.append(getattr(frame, "path", None) or frame.status)  # type: ignore[union-attr]  # a response has one
            if getattr(frame, "path", "") == "/api/v1/queue/marker":
                assert frame.body == b"here-1"
        assert seen.index("/api/v1/queue/marker") > max(n for n, path in enumerate(seen) if path == "/api/v1/message")
        assert 204 in seen


async def test_a_marker_has_a_form(bob: Device) -> None:
    async with bob.socket() as socket:
        await socket.queue_empty()
        for marker in ("", "a b", "ä" * 3 + "!", "m" * (MAX_MARKER + 1)):
            assert (await socket.call("PUT", f"/v1/messages/marker/{marker}")).status == 400
    assert await bob.set("PUT", "/v1/messages/marker/m") == 404  # it belongs to a socket


async def test_markers_are_counted_and_answered_like_any_request(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("sqlite", limits={**UNLIMITED, Limit.REQUESTS: Bucket(4, 1000)})
    bob = await peer_of(await relays.serve(replace(settings, limits=UNLIMITED))).register()
    limited = Device(peer_of(await relays.serve(settings)), bob.known, bob.aci, bob.pni)
    async with limited.socket() as socket:
        await socket.queue_empty()
        statuses = set[int]()
        for number in range(6):
            await socket.ask("PUT", f"/v1/messages/marker/{number}")
        while len(statuses) < 2:
            frame = await socket.frame()
            if isinstance(frame, frames.Response):
                statuses.add(frame.status)
    assert statuses == {204, 429}


async def test_a_device_that_wishes_is_told_when_prekeys_run_low(alice: Device, bob: Device) -> None:
    keys = SetKeysRequest(
        pre_keys=tuple(map(one_time_prekey, range(20))),
        pq_pre_keys=tuple(kyber_prekey(bob.known.identity, number) for number in range(20)),
    )
    await bob.upload(keys)
    async with bob.socket(x_subrosa_notices="prekeys, gaps") as socket:
        told = [await socket.request() for _ in range(2)]
        low = [request for request in told if request.path == "/api/v1/keys/low"]
        assert [json.loads(request.body or b"") for request in low] == [{"identity": "pni", "count": 0, "pqCount": 0}]
        assert (await alice.call("GET", f"/v2/keys/{bob.aci}/1")).status == 200
        bodies = [json.loads((await socket.request()).body or b"") for _ in range(2)]
        assert {"identity": "aci", "count": 19, "pqCount": 19} in bodies


async def test_a_story_goes_to_devices_that_want_stories(alice: Device, bob: Device) -> None:
    path = f"/v1/messages/{bob.aci}?story=true"
    assert (await alice.peer.call("PUT", path, message_for(bob, b"story"))).status == 200
    unknown = path.replace(str(bob.aci), str(bob.aci)[:-4] + "0000")
    assert (await alice.peer.call("PUT", unknown, message_for(bob, b"story"))).status == 200  # no oracle
    async with bob.socket(x_signal_receive_stories="true") as socket:
        _, envelope = await socket.envelope()
        assert envelope.story
    async with bob.socket() as socket:
        await only_queue_empty(socket)
    await asyncio.sleep(SOON)
    async with bob.socket(x_signal_receive_stories="true") as socket:
        await only_queue_empty(socket)  # dropped by the connection that did not want it

"""A sender who is told that devices are missing or stale may get their bundles with the answer."""

from dataclasses import replace

from messaging.relay.limits import Bucket, Limit
from tests.devices import Device, MakePeer, NewDevice, messages_for
from tests.relays import UNLIMITED, Relays


async def test_bundles_of_missing_devices_come_with_the_409(alice: Device, bob: Device) -> None:
    laptop, path = await bob.link(), f"/v1/messages/{bob.aci}"
    plain = await alice.call("PUT", path, messages_for(bob))
    asked = await alice.call("PUT", f"{path}?bundles=true", messages_for(bob))
    assert (plain.status, asked.status) == (409, 409)
    assert "bundles" not in plain.json()
    [bundle] = asked.json()["bundles"]
    assert (bundle["deviceId"], bundle["registrationId"]) == (2, laptop.known.registration_id)


async def test_bundles_of_stale_devices_come_with_the_410(alice: Device, bob: Device) -> None:
    await bob.peer.register(NewDevice(number=bob.known.number))
    asked = await alice.call("PUT", f"/v1/messages/{bob.aci}?bundles=true", messages_for(bob))
    assert (asked.status, asked.json()["staleDevices"]) == (410, [1])
    assert [bundle["deviceId"] for bundle in asked.json()["bundles"]] == [1]


async def test_bundles_are_rationed(relays: Relays, peer_of: MakePeer) -> None:
    limits = {**UNLIMITED, Limit.REPAIR_BUNDLES: Bucket(1, 60)}
    peer = peer_of(await relays.start("sqlite", limits=limits))
    alice, bob = await peer.register(), await peer.register()
    await bob.link()
    found = [await alice.call("PUT", f"/v1/messages/{bob.aci}?bundles=true", messages_for(bob)) for _ in range(2)]
    assert [reply.status for reply in found] == [409, 409]
    assert ["bundles" in reply.json() for reply in found] == [True, False]


async def test_an_extra_device_needs_no_bundle(alice: Device, bob: Device) -> None:
    extra = replace(bob, device_id=2)
    asked = await alice.call("PUT", f"/v1/messages/{bob.aci}?bundles=true", messages_for(bob, extra))
    assert asked.json() == {"missingDevices": [], "extraDevices": [2]}


async def test_bundles_count_as_fetched(relays: Relays, peer_of: MakePeer) -> None:
    limits = {**UNLIMITED, Limit.PREKEYS_PER_CALLER: Bucket(1, 600, fail_open=True)}
    peer = peer_of(await relays.start("sqlite", limits=limits))
    alice, bob, carol = [await peer.register() for _ in range(3)]
    for device in (bob, carol):
        await device.link()
    found = [
        await alice.call("PUT", f"/v1/messages/{device.aci}?bundles=true", messages_for(device))
        for device in (bob, carol)
    ]
    assert ["bundles" in reply.json() for reply in found] == [True, False]
    assert await alice.set("GET", f"/v2/keys/{carol.aci}/*") == 429

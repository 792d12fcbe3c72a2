"""What is known of accounts from memory, and how sends find out that it is out of date."""

import base64
from dataclasses import dataclass

import pytest

from messaging.relay.accounts.directory import MAX_AGE_SECONDS, Directory, Entry
from messaging.relay.database import Database, normalise_url, open_database
from messaging.wire.envelope import EnvelopeType
from messaging.wire.identifiers import IdentityKind, ServiceId
from tests.devices import Device, MakePeer, NewDevice, Peer, message_for
from tests.relays import Relays, StartedRelay


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def behind(relay: StartedRelay) -> Database:
    return open_database(normalise_url(relay.settings.database_url))


async def look(directory: Directory, device: Device) -> Entry | None:
    """As a send does: in memory first."""
    return directory.known(device.aci) or await directory.read(device.aci)


async def test_an_entry_is_read_once_and_again_when_it_is_old_or_asked_for(behind: Database, bob: Device) -> None:
    clock = Clock()
    directory = Directory(behind, clock)
    first = await look(directory, bob)
    assert first is not None
    assert first.account.aci == bob.aci.uuid
    assert first.registered(IdentityKind.ACI) == {1: bob.known.registration_id}
    assert await look(directory, bob) is first
    assert await directory.read(bob.aci) is not first
    clock.now = MAX_AGE_SECONDS + 1
    assert (await look(directory, bob)) is not first
    await behind.close()


async def test_both_identities_lead_to_the_account_and_who_does_not_exist_is_not_kept(
    behind: Database, bob: Device
) -> None:
    directory = Directory(behind, Clock())
    assert bob.pni is not None
    found = await directory.find_all([bob.aci, bob.pni, ServiceId(bob.aci.uuid, IdentityKind.PNI)], fresh=False)
    assert {each.account.aci for each in found.values()} == {bob.aci.uuid}
    assert found.keys() == {bob.aci, bob.pni}
    await behind.close()


async def test_the_number_of_entries_is_bounded(behind: Database, alice: Device, bob: Device) -> None:
    directory = Directory(behind, Clock(), capacity=1)
    first = await look(directory, alice)
    await look(directory, bob)
    assert await look(directory, alice) is not first
    await behind.close()


async def test_what_changes_on_one_relay_is_known_to_sends_on_the_other_at_once(
    relays: Relays, peer_of: MakePeer
) -> None:
    """Without Redis: nothing tells the other relay, and still no send goes by what was."""
    settings = await relays.settings("postgresql", redis_url=None)
    here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
    alice, bob = await here.register(), await here.register()
    on_the_other = Device(there, alice.known, alice.aci, alice.pni)
    assert (await on_the_other.send(bob, b"known now")).status == 200

    linked = await bob.link()
    told = await on_the_other.send(bob, b"to one of two")
    assert (told.status, told.json()["missingDevices"]) == (409, [linked.device_id])

    assert (await bob.call("DELETE", f"/v1/devices/{linked.device_id}")).status == 204
    assert (await on_the_other.send(bob, b"to one again")).status == 200

    await here.register(NewDevice(number=bob.known.number))
    assert (await on_the_other.send(bob, b"to the old one")).status == 410


async def test_a_sender_that_is_replaced_elsewhere_sends_no_more(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql", redis_url=None)
    here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
    alice, bob = await here.register(), await here.register()
    on_the_other = Device(there, alice.known, alice.aci, alice.pni)
    assert (await on_the_other.send(bob, b"logged in, and remembered")).status == 200
    await here.register(NewDevice(number=alice.known.number))
    assert (await on_the_other.send(bob, b"with the old password")).status == 401


async def test_an_access_key_that_is_changed_elsewhere_opens_no_more(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql", redis_url=None)
    here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
    bob = await here.register()
    assert await sealed(there, bob, bob.known.access_key) == 200
    other = bytes(16)
    attributes = {
        "fetchesMessages": True,
        "registrationId": bob.known.registration_id,
        "pniRegistrationId": bob.known.registration_id,
        "unidentifiedAccessKey": "AAAAAAAAAAAAAAAAAAAAAA==",
        "capabilities": {},
    }
    assert (await bob.call("PUT", "/v1/accounts/attributes", attributes)).status in (200, 204)
    assert await sealed(there, bob, bob.known.access_key) == 401
    assert await sealed(there, bob, other) == 200


async def sealed(peer: Peer, to: Device, key: bytes) -> int:
    headers = {"Unidentified-Access-Key": base64.b64encode(key).decode()}
    return (
        await peer.call(
            "PUT", f"/v1/messages/{to.aci}", message_for(to, b"sealed", type=EnvelopeType.UNIDENTIFIED_SENDER), headers
        )
    ).status

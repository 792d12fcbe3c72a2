"""Reports of spam: only who received an envelope can report its sender, and each report counts once."""

import base64
from uuid import UUID, uuid4

from messaging.relay.database import normalise_url, open_database
from messaging.relay.messages.reports import count_reporters
from messaging.wire.envelope import Envelope
from tests.devices import Device, message_for
from tests.relays import StartedRelay


async def received(by: Device) -> Envelope:
    async with by.socket() as socket:
        request, envelope = await socket.envelope()
        await socket.answer(request)
    return envelope


async def reporters(relay: StartedRelay, of: UUID) -> int:
    database = open_database(normalise_url(relay.settings.database_url))
    async with database.read() as db:
        count = await count_reporters(db, of)
    await database.close()
    return count


async def test_a_report_counts_once_and_only_with_its_token(relay: StartedRelay, alice: Device, bob: Device) -> None:
    await alice.send(bob, b"buy now")
    envelope = await received(bob)
    assert envelope.report_token is not None
    right = {"token": base64.b64encode(envelope.report_token).decode()}
    path = f"/v1/messages/report/{alice.aci}/{envelope.guid}"
    for device, where, body in (
        (bob, path, None),
        (bob, path, {"token": "AAAAAAAAAAAAAAAAAAAAAA=="}),
        (alice, path, right),  # somebody else's token
        (bob, f"/v1/messages/report/{alice.aci}/{uuid4()}", right),
        (bob, f"/v1/messages/report/{bob.aci}/{envelope.guid}", right),
    ):
        assert await device.set("POST", where, body) == 202
        assert await reporters(relay, alice.aci.uuid) == 0
    for _ in range(2):
        assert await bob.set("POST", path, right) == 202
        assert await reporters(relay, alice.aci.uuid) == 1


async def test_what_is_no_report_is_refused(alice: Device) -> None:
    guid = uuid4()
    assert await alice.set("POST", f"/v1/messages/report/nobody/{guid}") == 404
    assert await alice.set("POST", f"/v1/messages/report/{guid}/{str(guid)[1:]}") == 404
    assert await alice.set("POST", f"/v1/messages/report/{guid}/{guid}", {"token": "A" * 88}) == 422


async def test_a_sealed_envelope_has_no_token(alice: Device, bob: Device) -> None:
    key = {"Unidentified-Access-Key": base64.b64encode(bob.known.access_key).decode()}
    await alice.peer.call("PUT", f"/v1/messages/{bob.aci}", message_for(bob, b"sealed", type=6), key)
    assert (await received(bob)).report_token is None

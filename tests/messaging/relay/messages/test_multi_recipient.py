"""One sealed message to many, over HTTP: access, devices, what each gets, and that it is stored once."""

import base64
import json
from uuid import uuid4

from sqlalchemy import func, select

from messaging.relay.database import normalise_url, open_database
from messaging.relay.limits import Bucket, Limit
from messaging.relay.messages.tables import EnvelopeRow, PayloadRow
from messaging.wire.limits import MAX_BODY, MAX_CONTENT
from tests.devices import Device, MakePeer, NewDevice, Reply
from tests.relays import UNLIMITED, Relays, StartedRelay

SHARED = b"s" * 40
PATH = "/v1/messages/multi_recipient?ts=7&online=false&urgent=false"


def entry(*devices: Device, registration_id: int | None = None, device_id: int | None = None) -> bytes:
    """One recipient of an upload of version 0x22."""
    found = devices[0].aci.uuid.bytes
    for number, device in enumerate(devices, start=1):
        more = 0x8000 if number < len(devices) else 0
        registration = registration_id or device.known.registration_id
        found += bytes([device_id or device.device_id]) + (registration | more).to_bytes(2, "big")
    return found + bytes([len(devices)]) * 48


def upload(*entries: bytes, shared: bytes = SHARED) -> bytes:
    return b"\x22" + bytes([len(entries)]) + b"".join(entries) + shared


def combined(*devices: Device) -> dict[str, str]:
    key = bytes(16)
    for device in devices:
        key = bytes(a ^ b for a, b in zip(key, device.known.access_key, strict=True))
    return {"Unidentified-Access-Key": base64.b64encode(key).decode()}


async def send(relay_of: Device, body: bytes, headers: dict[str, str], path: str = PATH) -> Reply:
    mrm = {"Content-Type": "application/vnd.signal-messenger.mrm"}
    return await relay_of.peer.call("PUT", path, body, {**mrm, **headers})


async def test_each_device_gets_its_view_and_the_payload_is_stored_once(
    relay: StartedRelay, alice: Device, bob: Device
) -> None:
    laptop = await bob.link()
    sent = await send(alice, upload(entry(alice), entry(bob, laptop)), combined(alice, bob))
    assert (sent.status, sent.json()) == (200, {"uuids404": []})
    database = open_database(normalise_url(relay.settings.database_url))
    async with database.read() as db:
        assert (await db.execute(select(func.count()).select_from(PayloadRow))).scalar_one() == 1
        assert (await db.execute(select(func.max(func.length(EnvelopeRow.data))))).scalar_one() < 100
    await database.close()
    for device, key in ((alice, b"\x01"), (bob, b"\x02"), (laptop, b"\x02")):
        async with device.socket() as socket:
            _, envelope = await socket.envelope()
        assert envelope.content == b"\x22" + key * 48 + SHARED
        assert (envelope.source, envelope.client_timestamp, envelope.urgent) == (None, 7, False)
        assert envelope.destination == device.aci


async def test_the_keys_of_all_recipients_are_needed(alice: Device, bob: Device) -> None:
    body = upload(entry(alice), entry(bob))
    assert (await send(alice, body, combined(alice))).status == 401
    assert (await send(alice, body, {})).status == 401
    assert (await send(alice, body, {"Group-Send-Token": "AAAA"})).status == 401
    stranger = upload(entry(alice), uuid4().bytes + b"\x01\x00\x01" + bytes(48))
    assert (await send(alice, stranger, combined(alice))).status == 404
    assert await nothing_waits(alice, bob)


async def test_an_account_that_anybody_may_send_to_adds_no_key(relays: Relays, peer_of: MakePeer) -> None:
    peer = peer_of(await relays.start("sqlite"))
    alice, open_to_all = await peer.register(), await peer.register(unrestricted=True)
    assert (await send(alice, upload(entry(alice), entry(open_to_all)), combined(alice))).status == 200


async def test_mismatched_accounts_are_told_before_stale_ones(alice: Device, bob: Device) -> None:
    laptop = await bob.link()
    keys = combined(alice, bob)
    both = await send(alice, upload(entry(alice, registration_id=1), entry(bob)), keys)
    missing = {"uuid": str(bob.aci), "devices": {"missingDevices": [2], "extraDevices": []}}
    assert (both.status, both.body) == (409, json_of([missing]))
    extra = await send(alice, upload(entry(alice, device_id=9), entry(bob, laptop)), keys)
    wrong = {"uuid": str(alice.aci), "devices": {"missingDevices": [1], "extraDevices": [9]}}
    assert (extra.status, extra.body) == (409, json_of([wrong]))
    stale = await send(alice, upload(entry(alice, registration_id=1), entry(bob, laptop)), keys)
    old = {"uuid": str(alice.aci), "devices": {"staleDevices": [1]}}
    assert (stale.status, stale.body) == (410, json_of([old]))
    assert await nothing_waits(alice, bob, laptop)


async def test_a_recipient_left_out_on_purpose_gets_nothing(alice: Device, bob: Device) -> None:
    left_out = bob.aci.uuid.bytes + b"\x00"
    assert (await send(alice, upload(entry(alice), left_out), combined(alice, bob))).status == 200
    assert await nothing_waits(bob)


async def test_a_story_needs_no_key_and_knows_no_stranger(alice: Device, bob: Device) -> None:
    story = PATH + "&story=true"
    body = upload(entry(alice), uuid4().bytes + b"\x01\x00\x01" + bytes(48))
    assert (await send(bob, body, {}, story)).status == 200
    assert (await send(bob, body, {"Group-Send-Token": "AAAA"}, story)).status == 400
    async with alice.socket(x_signal_receive_stories="true") as socket:
        _, envelope = await socket.envelope()
        assert envelope.story


async def test_an_account_by_both_of_its_identities_is_refused(alice: Device) -> None:
    assert alice.pni is not None
    one = entry(alice)[16:]
    both = b"\x23\x02" + b"\x00" + alice.aci.uuid.bytes + one + b"\x01" + alice.pni.uuid.bytes + one + SHARED
    assert (await send(alice, both, {}, PATH + "&story=true")).status == 400
    assert await nothing_waits(alice)


async def test_what_is_no_upload_is_refused(alice: Device) -> None:
    keys = combined(alice)
    for body in (b"", b"\x22\x00" + SHARED, upload(entry(alice), entry(alice)), b"\x21" + upload(entry(alice))[1:]):
        assert (await send(alice, body, keys)).status == 400
    for query in ("ts=8640000000000001", "ts=-1", "ts=x", "online=perhaps"):
        path = f"/v1/messages/multi_recipient?{query}"
        assert (await send(alice, upload(entry(alice)), keys, path)).status == 400


async def test_sizes_are_bounded(alice: Device) -> None:
    keys, prefix = combined(alice), 49
    largest = upload(entry(alice), shared=b"s" * (MAX_CONTENT - prefix))
    assert (await send(alice, largest, keys)).status == 200
    assert (await send(alice, largest + b"s", keys)).status == 413
    assert (await send(alice, b"\x22" * (MAX_BODY + 1), keys)).status == 413


async def test_a_send_to_many_is_repeated_without_effect(alice: Device, bob: Device) -> None:
    headers = {**combined(alice, bob), "Idempotency-Key": "0123456789abcdef"}
    body = upload(entry(alice), entry(bob))
    for _ in range(3):
        assert (await send(alice, body, headers)).status == 200
    async with bob.socket() as socket:
        await socket.envelope()
        await socket.queue_empty()
    assert (await send(alice, upload(entry(alice)), {**headers, **combined(alice)})).status == 422


async def test_what_goes_to_an_assistant_among_many_is_counted_by_network_address(
    relays: Relays, backend: str, peer_of: MakePeer
) -> None:
    limits = {**UNLIMITED, Limit.ASSISTANT_MESSAGE_BYTES: Bucket(100, 1000)}
    peer = peer_of(await relays.start(backend, limits=limits, plain_http_behind_a_proxy=True))
    alice, assistant = await peer.register(), await peer.register_assistant("assistant-1", NewDevice())
    both, keys = upload(entry(alice), entry(assistant)), combined(alice, assistant)
    first, second = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
    assert (await send(alice, both, {**keys, **first})).status == 200
    assert (await send(alice, both, {**keys, **first})).status == 429
    assert (await send(alice, both, {**keys, **second})).status == 200
    assert (await send(alice, upload(entry(alice)), {**combined(alice), **first})).status == 200


async def nothing_waits(*devices: Device) -> bool:
    for device in devices:
        async with device.socket() as socket:
            await socket.queue_empty()
    return True


def json_of(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()

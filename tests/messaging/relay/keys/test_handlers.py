"""Prekeys: uploaded with proof, counted, and each one-time key handed out once."""

import asyncio
from uuid import uuid4

import pytest

from messaging.relay.limits import Bucket, Limit
from messaging.wire.identifiers import IdentityKind
from messaging.wire.json import decode_base64, encode_base64
from messaging.wire.keys import PreKeyResponse, SetKeysRequest, prekeys_path, repeated_use_digest
from tests.bots import register_bot
from tests.devices import Device, MakePeer, NewDevice, Peer, kyber_prekey, one_time_prekey, signed_prekey
from tests.relays import UNLIMITED, Relays

NOBODY = uuid4()


async def bundle_of(reader: Device, owner: Device) -> PreKeyResponse:
    return PreKeyResponse.from_json((await reader.call("GET", prekeys_path(owner.aci))).body)


async def test_a_new_device_has_what_it_registered_with(alice: Device, bob: Device) -> None:
    bundle = await bundle_of(bob, alice)
    [device] = bundle.devices
    assert bundle.identity_key == alice.known.identity.public
    assert (device.device_id, device.registration_id) == (1, alice.known.registration_id)
    assert device.pre_key is None
    assert (await alice.call("GET", "/v2/keys")).json() == {"count": 0, "pqCount": 0}


async def test_one_time_keys_go_out_oldest_first_and_then_the_last_resort_serves(alice: Device, bob: Device) -> None:
    ec = tuple(one_time_prekey(key_id) for key_id in (30, 10, 20))
    kyber = tuple(kyber_prekey(alice.known.identity, key_id) for key_id in (6, 5))
    assert (await alice.upload(SetKeysRequest(pre_keys=ec, pq_pre_keys=kyber))).status == 204
    assert (await alice.call("GET", "/v2/keys")).json() == {"count": 3, "pqCount": 2}
    devices = [(await bundle_of(bob, alice)).devices[0] for _ in range(4)]
    assert [device.pre_key for device in devices] == [*ec, None]
    assert [device.pq_pre_key for device in devices[:2]] == list(kyber)
    assert devices[2].pq_pre_key == devices[3].pq_pre_key
    assert devices[2].pq_pre_key.key_id == 1  # the last-resort key of the registration
    assert (await alice.call("GET", "/v2/keys")).json() == {"count": 0, "pqCount": 0}


async def test_an_upload_replaces_its_kind_and_leaves_the_others(alice: Device, bob: Device) -> None:
    await alice.upload(SetKeysRequest(pre_keys=(one_time_prekey(1), one_time_prekey(2))))
    await alice.upload(SetKeysRequest(pre_keys=(one_time_prekey(3),)))
    assert (await alice.call("GET", "/v2/keys")).json() == {"count": 1, "pqCount": 0}
    last_resort = kyber_prekey(alice.known.identity, 40)
    await alice.upload(SetKeysRequest(pq_last_resort_pre_key=last_resort))
    [device] = (await bundle_of(bob, alice)).devices
    assert device.pre_key is not None
    assert (device.pre_key.key_id, device.pq_pre_key, device.signed_pre_key.key_id) == (3, last_resort, 1)


async def test_the_two_identities_have_keys_of_their_own(alice: Device, bob: Device) -> None:
    await alice.upload(SetKeysRequest(pre_keys=(one_time_prekey(1),)), IdentityKind.PNI)
    assert (await alice.call("GET", "/v2/keys?identity=aci")).json()["count"] == 0
    assert (await alice.call("GET", "/v2/keys?identity=PNI")).json()["count"] == 1
    assert (await bundle_of(bob, alice)).devices[0].pre_key is None
    assert (await alice.call("GET", "/v2/keys?identity=other")).status == 400
    signed_by_the_other = SetKeysRequest(signed_pre_key=signed_prekey(alice.known.identity))
    assert (await alice.upload(signed_by_the_other, IdentityKind.PNI)).status == 422


async def test_twenty_at_once_get_twenty_different_keys(alice: Device, bob: Device) -> None:
    ec = tuple(one_time_prekey(key_id) for key_id in range(20))
    kyber = tuple(kyber_prekey(alice.known.identity, key_id) for key_id in range(100, 120))
    await alice.upload(SetKeysRequest(pre_keys=ec, pq_pre_keys=kyber))
    bundles = await asyncio.gather(*(bundle_of(bob, alice) for _ in range(20)))
    taken = [bundle.devices[0].pre_key for bundle in bundles]
    assert {key.key_id for key in taken if key} == set(range(20))
    assert {bundle.devices[0].pq_pre_key.key_id for bundle in bundles} == set(range(100, 120))


async def test_a_key_without_proof_or_form_is_refused_and_nothing_is_stored(alice: Device) -> None:
    forger = NewDevice().identity
    no_point = one_time_prekey(1).model_copy(update={"public_key": b"\x05" + b"\xff" * 32})
    for keys in (
        SetKeysRequest(signed_pre_key=signed_prekey(forger), pre_keys=(one_time_prekey(1),)),
        SetKeysRequest(pq_last_resort_pre_key=kyber_prekey(forger), pre_keys=(one_time_prekey(1),)),
        SetKeysRequest(pq_pre_keys=(kyber_prekey(alice.known.identity, 1), kyber_prekey(forger, 2))),
        SetKeysRequest(pre_keys=(no_point,)),
    ):
        refused = await alice.upload(keys)
        assert (refused.status, refused.json()) == (422, {"code": "invalid_signature"})
    assert (await alice.call("GET", "/v2/keys")).json() == {"count": 0, "pqCount": 0}


async def test_an_id_stands_once_in_an_upload(alice: Device) -> None:
    refused = await alice.upload(SetKeysRequest(pre_keys=(one_time_prekey(1), one_time_prekey(1))))
    assert (refused.status, refused.json()) == (422, {"code": "invalid", "fields": ["preKeys"]})


@pytest.mark.parametrize("path", ["/v2/keys", "/v2/keys?identity=pni", "/v2/keys/signed"])
async def test_only_the_device_itself_uploads(peer: Peer, path: str) -> None:
    assert (await peer.call("PUT", path, {})).status == 401


async def test_one_device_can_be_asked_for(alice: Device, bob: Device) -> None:
    assert len((await bob.call("GET", f"/v2/keys/{alice.aci}/1")).json()["devices"]) == 1
    for device, status in (("2", 404), ("128", 422), ("x", 422)):
        assert (await bob.call("GET", f"/v2/keys/{alice.aci}/{device}")).status == status
    unknown = await bob.call("GET", f"/v2/keys/{NOBODY}/*")
    assert (unknown.status, unknown.body) == (404, b"")


async def test_the_access_key_opens_the_bundle_to_who_is_unidentified(peer: Peer, alice: Device) -> None:
    async def status(service_id: object, key: bytes | None, device: str = "*") -> int:
        headers = {} if key is None else {"Unidentified-Access-Key": encode_base64(key)}
        return (await peer.call("GET", f"/v2/keys/{service_id}/{device}", headers=headers)).status

    right = alice.known.access_key
    assert await status(alice.aci, right) == 200
    assert await status(alice.aci, bytes(16)) == 401
    assert await status(alice.aci, None) == 401
    assert await status(alice.pni, right) == 401
    assert await status(NOBODY, right) == 401
    assert await status(alice.aci, right, "2") == 401


async def test_an_account_without_a_number_has_no_second_identity(peer: Peer) -> None:
    assistant = await peer.register_assistant("scribe", NewDevice())
    assert (await assistant.call("GET", "/v2/keys?identity=pni")).status == 400
    assert (await assistant.upload(SetKeysRequest(pre_keys=(one_time_prekey(1),)))).status == 204


async def test_one_caller_fetches_six_times_and_then_waits(relays: Relays, backend: str, peer_of: MakePeer) -> None:
    peer = peer_of(await relays.start(backend, limits={**UNLIMITED, Limit.PREKEYS: Bucket(6, 600)}))
    alice, bob, carol = [await peer.register() for _ in range(3)]
    statuses = [(await bob.call("GET", prekeys_path(alice.aci))).status for _ in range(7)]
    assert statuses == [200] * 6 + [429]
    assert (await carol.call("GET", prekeys_path(alice.aci))).status == 200
    again = await peer.register(NewDevice(number=alice.known.number, registration_id=alice.known.registration_id + 1))
    one_device = await bob.call("GET", prekeys_path(again.aci, 1))
    assert decode_base64(one_device.json()["identityKey"]) == again.known.identity.public


async def test_both_sides_compare_their_repeated_use_keys(alice: Device) -> None:
    signed, last_resort = signed_prekey(alice.known.identity), kyber_prekey(alice.known.identity)
    await alice.upload(SetKeysRequest(signed_pre_key=signed, pq_last_resort_pre_key=last_resort))
    digest = repeated_use_digest(alice.known.identity.public, signed, last_resort)
    other = repeated_use_digest(alice.known.identity.public, signed, kyber_prekey(alice.known.identity))
    for sent, status in ((digest, 200), (other, 409), (digest[1:], 422)):
        body = {"identityType": "aci", "digest": encode_base64(sent)}
        assert (await alice.call("POST", "/v2/keys/check", body)).status == status
    pni = {"identityType": "PNI", "digest": encode_base64(digest)}
    assert (await alice.call("POST", "/v2/keys/check", pni)).status == 409


async def test_fetches_by_strangers_are_limited_by_target(relays: Relays, peer_of: MakePeer) -> None:
    limits = {**UNLIMITED, Limit.PREKEYS_PER_TARGET: Bucket(2, 60)}
    peer = peer_of(await relays.start("sqlite", limits=limits))
    alice, bob = await peer.register(), await peer.register()

    async def fetch(device: Device) -> int:
        key = {"Unidentified-Access-Key": encode_base64(device.known.access_key)}
        return (await peer.call("GET", f"/v2/keys/{device.aci}/*", headers=key)).status

    assert [await fetch(alice) for _ in range(3)] == [200, 200, 429]
    assert await fetch(bob) == 200
    assert (
        await bob.call("GET", f"/v2/keys/{alice.aci}/*")
    ).status == 200  # who says who they are has a bucket of their own


async def test_whoever_may_fetch_prekeys_sees_who_is_a_bot(peer: Peer, alice: Device, bob: Device) -> None:
    bot = await register_bot(peer)

    async def seen(device: Device, path: str, headers: dict[str, str]) -> object:
        reply = await peer.call("GET", path, headers=headers)
        assert reply.status == 200
        assert len(reply.json()["devices"]) == 1
        return reply.json().get("bot", "not said")

    for device, mark in ((bot, True), (alice, "not said")):
        sealed = {"Unidentified-Access-Key": encode_base64(device.known.access_key)}
        for wanted in ("1", "*"):
            assert await seen(device, f"/v2/keys/{device.aci}/{wanted}", sealed) == mark
            assert await seen(device, f"/v2/keys/{device.aci}/{wanted}", bob.authorization) == mark
        assert await seen(device, f"/v2/keys/{device.pni}/1", bob.authorization) == mark


async def test_one_caller_fetches_from_so_many_targets_and_a_bot_from_fewer(
    relays: Relays, backend: str, peer_of: MakePeer
) -> None:
    limits = {**UNLIMITED, Limit.PREKEYS_PER_CALLER: Bucket(3, 600, fail_open=True)}
    bot_limits = {Limit.PREKEYS_PER_CALLER: Bucket(2, 600, fail_open=True)}
    peer = peer_of(await relays.start(backend, limits=limits, bot_limits=bot_limits))
    alice, bot, strangers = await peer.register(), await register_bot(peer), [await peer.register() for _ in range(4)]
    for caller, passed in ((alice, 3), (bot, 2)):
        replies = [await caller.call("GET", prekeys_path(stranger.aci)) for stranger in strangers]
        assert [reply.status for reply in replies] == [200] * passed + [429] * (4 - passed)
        assert f'"prekeysPerCaller";q={passed};w={passed * 600}' in replies[0].headers["ratelimit-policy"]
    sealed = {"Unidentified-Access-Key": encode_base64(strangers[0].known.access_key)}
    found = await peer.call("GET", prekeys_path(strangers[0].aci), headers=sealed)
    assert (
        found.status == 200
    )  # who shows the target's access key is no stranger to it, and nobody's account is counted
